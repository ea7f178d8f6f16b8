"""`kbetl tasks`: what there is, a new file, the file of a stored task, and a question tried out."""

from __future__ import annotations

import json
import shlex

import pytest
from enrich_case import Case
from fake_llm import Asked

from kbetl.tasks import load_task
from kbetl.tasks.task_writer import task_text

pytest_plugins = ["enrich_fixtures"]

ROWS = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(6)]
NEW = (
    "tasks",
    "new",
    "helpfulness",
    "--about",
    "rollout",
    "--question",
    "How helpful is it?",
    "--answer",
    "1-5",
)


def rate(asked: Asked) -> str:
    return f"Well. <helpfulness>{1 + len(asked.prompt) % 5}</helpfulness>"


@pytest.fixture
def asking(case: Case) -> Case:
    """Six rollouts and a file of a task about them."""
    case.llm.content = rate
    assert case.ingest(ROWS).status == 0
    assert case.kbetl(*NEW).status == 0
    return case


def test_new_file_is_asked_as_it_is(asking):
    """From options to labels, without a line written by hand."""
    assert asking.enrich("--task", "./helpfulness.md").requests == 6
    assert asking.statuses() == {"ok": 6}
    text = (asking.folder / "helpfulness.md").read_text()
    assert text.count("\n# ") >= 6
    refused = asking.kbetl(*NEW)
    assert (refused.status, "is there already" in refused.err) == (2, True)


ANSWERS = {
    "1-5": '{"integer":true,"max":5,"min":1,"tag":"t"}',
    "low,high": '{"one_of":["low","high"],"tag":"t"}',
    "text": '{"tag":"t"}',
    "/[A-Z]+/": '{"pattern":"[A-Z]+","tag":"t"}',
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_form_of_an_answer_is_a_file_that_loads(case, answer):
    case.ingest([{"text": "a", "n": 1}])
    made = case.kbetl("tasks", "new", "t", "--about", "record", "--question", "What?", "--answer", answer)
    assert made.out == "t.md: try it with: kbetl tasks test ./t.md\n"
    task = load_task(str(case.folder / "t.md"))
    assert (task.about, task.format_spec) == (("record",), ANSWERS[answer])
    assert "{{ text }}" in task.template
    assert "{{ n }}" not in task.template


def test_fields_with_types_are_a_schema(case):
    made = case.kbetl(
        *(
            "tasks",
            "new",
            "t",
            "--about",
            "module",
            "--question",
            "What?",
            "--answer",
            "score:integer,why:text",
        )
    )
    assert made.status == 0
    schema = json.loads(load_task(str(case.folder / "t.md")).format_spec)["json"]
    assert schema["properties"] == {"score": {"type": "integer"}, "why": {"type": "string"}}
    assert schema["required"] == ["score", "why"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("t", "--about", "rollout", "--question", "What?"), "--answer is missing"),
        (
            ("t", "--about", "kernel", "--question", "What?", "--answer", "text"),
            "--about 'kernel': choose from",
        ),
        (("t", "--about", "rollout", "--question", "What?", "--answer", "maybe"), "is no form of an answer"),
        (("T t", "--about", "rollout", "--question", "What?", "--answer", "text"), "key 'name' is 'T t'"),
    ],
)
def test_what_cannot_be_a_task_is_one_line(case, options, reason):
    refused = case.kbetl("tasks", "new", *options)
    assert (refused.status, refused.err.count("\n"), reason in refused.err) == (2, 1, True), refused.err
    assert list(case.folder.glob("*.md")) == []


def test_test_shows_the_exact_requests_and_asks_nothing(asking):
    shown = asking.kbetl("tasks", "test", "./helpfulness.md", "-n", "2", "-m", "m", "-b", asking.llm.url)
    assert (shown.status, shown.requests) == (0, 0)
    assert shown.out.count("[user]\n") == 2
    assert "would ask 2 of 6 samples" in shown.out
    asking.enrich("--task", "./helpfulness.md", "-n", "2")
    for each in asking.llm.requests:
        assert each.prompt in shown.out
    assert 'model m, parameters {"max_tokens": 512, "temperature": 0.0}' in shown.out


def test_test_asks_just_these_and_a_run_pays_for_the_rest_alone(asking):
    """Answers stay; no label does, and the task does not come into use by being tried out."""
    tried = asking.kbetl(
        "tasks", "test", "./helpfulness.md", "-n", "2", "--ask", "-m", "m", "-b", asking.llm.url
    )
    assert (tried.status, tried.requests) == (0, 2)
    values = [1 + len(each.prompt) % 5 for each in asking.llm.requests]
    for value in values:
        assert f"answer: Well. <helpfulness>{value}</helpfulness>\nvalue: {value}\n" in tried.out
    assert asking.rows("select count(*) from outcomes") == [(0,)]
    assert asking.rows("select count(*) from answers") == [(2,)]
    assert asking.rows("select max(in_use) from tasks") == [(0,)]
    assert asking.enrich("--task", "./helpfulness.md", model="m").requests == 4
    assert asking.statuses() == {"ok": 6}
    assert asking.rows("select in_use from tasks") == [(1,)]


def test_status_goes_on_with_what_was_tried_out_by_the_same_command(asking):
    """`tasks test` has no --resume: asked again, it shows what is there."""
    asking.llm.content = lambda asked: "no answer"
    words = ("tasks", "test", "./helpfulness.md", "-n", "1", "--ask", "-m", "m", "-b", asking.llm.url)
    assert asking.kbetl(*words).status == 3
    (line,) = [each for each in asking.kbetl("status").out.splitlines() if "not finished" in each]
    shown = shlex.split(line.partition("; ")[2])
    again = asking.kbetl(*shown[1:])
    assert (again.status, again.requests, shown[1:]) == (3, 0, list(words))


def test_a_task_is_named_by_its_name_in_the_store_too(asking):
    assert asking.enrich("--task", "./helpfulness.md").requests == 6
    shown = asking.kbetl("tasks", "show", "helpfulness")
    assert shown.status == 0
    again = asking.folder / "again.md"
    again.write_text(shown.out)
    written, stored = load_task(str(asking.folder / "helpfulness.md")), load_task(str(again))
    assert stored.hash("m") == written.hash("m")
    assert (stored.about, stored.answer_format, stored.where) == (
        written.about,
        written.answer_format,
        written.where,
    )
    (asking.folder / "helpfulness.md").unlink()
    asking.ingest([*ROWS, {"prompt": "And?", "completion": "No."}])
    assert asking.enrich("--task", "helpfulness").requests == 1
    assert asking.kbetl("reparse", "helpfulness", "--dry-run").status == 0
    assert asking.kbetl("use", "./again.md").out.startswith("helpfulness: 7 labels of ")
    listed = asking.kbetl("tasks").out.splitlines()
    assert listed[0].startswith("helpfulness: about rollouts, ")
    assert listed[0].endswith(" in use, 7 outcomes, 7 ok")
    assert [line.partition(":")[0] for line in listed] == ["helpfulness", "difficulty", "kernels", "prompts"]
    unknown = asking.enrich("--task", "nope")
    assert (unknown.status, "in kbetl.db: helpfulness. A file of your own" in unknown.err) == (2, True)


@pytest.mark.parametrize("name", ["difficulty", "kernels", "prompts"])
def test_a_shown_task_has_the_hash_of_its_file(tmp_path, name):
    path = tmp_path / "task.md"
    task = load_task(name)
    path.write_text(task_text(task))
    assert load_task(str(path)).hash("m") == task.hash("m")
    assert load_task(str(path)).closing == task.closing
