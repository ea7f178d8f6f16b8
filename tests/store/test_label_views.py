"""Labels as rows: `labels`, a view `task_NAME` of each task in use, and columns of `selectable`."""

from __future__ import annotations

import json
import sqlite3

import pytest
from enrich_case import Case, Result, module_of, rollouts

from kbetl.resources import view_columns
from kbetl.store import Store
from kbetl.store.answers import use_first_tasks

pytest_plugins = ["enrich_fixtures"]

TASK = """+++
name = "{name}"
about = "rollout"
answer = {answer}
+++
{name} of {{{{ module_name }}}}?
"""
JSON = (
    '{ json = { type = "object", required = ["score"], properties = { score = { type = "integer" }, '
    '"a \\"b\\" %é" = { type = "string" }, sure = { type = "boolean" } } } }'
)
ANSWERS = {
    "helpfulness": ('{ tag = "n", min = 1, max = 5, integer = true }', lambda n: f"<n>{n}</n>"),
    "share": ('{ tag = "n", min = 0, max = 1 }', lambda n: f"<n>0.{n}0</n>"),
    "note-2": ('{ tag = "n" }', lambda n: f"<n>note {n}</n>"),
    "facts": (JSON, lambda n: json.dumps({"score": n, 'a "b" %é': f"x{n}", "sure": n > 2})),
    "kinds": ('{ json = { type = "array" } }', lambda n: f"[{n}]"),
}


def ask(case: Case, name: str, *, answer: str | None = None, model: str = "m"):
    form, content = ANSWERS[name]
    (case.folder / f"{name}.md").write_text(TASK.format(name=name, answer=answer or form), encoding="utf-8")
    case.llm.content = lambda asked: content(module_of(asked))
    return case.enrich("--task", f"./{name}.md", model=model)


@pytest.fixture
def labelled(case: Case) -> Case:
    """Five rollouts, Module1 to Module5, asked by every kind of task."""
    assert case.ingest(rollouts(6)[1:]).status == 0
    for name in ANSWERS:
        assert ask(case, name).status == 0
    return case


def test_labels_are_typed_views_and_columns_to_select_by(labelled):
    """Integer, number, text, fields of JSON; plain sqlite3 reads them; a writer finds nothing to remake."""
    case = labelled
    views = case.rows(
        "select name from sqlite_schema where type = 'view' and name like 'task\\_%' escape '\\'"
    )
    assert sorted(views) == sorted((f"task_{name}",) for name in ANSWERS)
    typed = {
        "helpfulness": [(1, "integer")],
        "share": [(0.1, "real")],
        "note-2": [("note 1", "text")],
        "kinds": [("[1]", "text")],
    }
    for name, first in typed.items():
        assert case.rows(f'select value, typeof(value) from "task_{name}" order by value limit 1') == first
    assert case.rows('select score, typeof(score), "a ""b"" %é", sure from task_facts order by score') == [
        (number, "integer", f"x{number}", int(number > 2)) for number in range(1, 6)
    ]
    assert case.rows(
        "select task, count(*), min(status), min(in_use) from labels group by task order by task"
    ) == [(name, 5, "ok", 1) for name in sorted(ANSWERS)]
    wanted = {
        "helpfulness >= 4": [4, 5],
        "share < 0.25 and helpfulness > 1": [2],
        "\"note-2\" = 'note 3'": [3],
        "facts_score = 5 or facts_sure = 0": [1, 2, 5],
        '"facts_a ""b"" %é" = \'x4\'': [4],
    }
    for where, modules in wanted.items():
        run = case.kbetl("export", "evals", "-o", "out.jsonl", "--where", where)
        assert run.status == 0, run.err
        rows = [json.loads(line) for line in (case.folder / "out.jsonl").read_text().splitlines()]
        assert [row["module_name"] for row in rows] == [f"Module{number}" for number in modules]
    assert case.enrich("--task", "./share.md", "--where", "helpfulness = 2", "--dry-run").status == 0
    with Store.read(case.folder / "kbetl.db") as store:
        assert store.changed_views() == []
    plan = case.rows("explain query plan select sample_hash from selectable where kind = 'rollout'")
    assert not [step for *_, step in plan if "outcomes" in step]


def test_a_label_that_is_not_in_use_is_refused_with_the_way_to_use_it(labelled):
    """Also in double quotes, where SQLite reads a name that is no column as text; nothing is written."""
    case = labelled
    case.change("update tasks set in_use = 0 where name = 'helpfulness'")
    for where in ("helpfulness >= 4", '"helpfulness" >= 4', "samples.helpfulness >= 4"):
        run = case.kbetl("export", "evals", "-o", "none.jsonl", "--where", where)
        if run.status == 1:  # the first: somebody changed the table, and no writer has seen it
            assert "Any writing command remakes them" in run.err
            assert case.kbetl("batch", "status", "--offline").status == 0
            run = case.kbetl("export", "evals", "-o", "none.jsonl", "--where", where)
        assert (run.status, run.err) == (
            2,
            f"kbetl: where {where!r}: the task helpfulness is not in use; run: kbetl use helpfulness\n",
        )
    assert not (case.folder / "none.jsonl").exists()
    assert case.rows("select name from sqlite_schema where name = 'task_helpfulness'") == []
    assert case.kbetl("use", "helpfulness").status == 0
    assert case.kbetl("export", "evals", "-o", "some.jsonl", "--where", "helpfulness >= 4").status == 0


def test_views_follow_how_answers_are_read(labelled):
    """`reparse` with another form; labels of another model; a view of somebody else stays."""
    case = labelled
    case.change("create view task_mine as select 1 as one")
    (case.folder / "share.md").write_text(TASK.format(name="share", answer='{ tag = "n" }'))
    assert case.kbetl("reparse", "./share.md", "--yes").status == 0
    assert case.rows("select distinct typeof(value) from task_share") == [("text",)]
    assert ask(case, "helpfulness", model="other").status == 0
    assert case.rows("select count(*) from labels where task = 'helpfulness' and in_use = 0") == [(5,)]
    assert case.kbetl("use", "helpfulness", "-m", "other").status == 0
    assert case.rows("select distinct model from labels where task = 'helpfulness' and in_use = 1") == [
        ("other",)
    ]
    assert case.rows("select one from task_mine") == [(1,)]


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("reward", '{ tag = "n" }', "key 'name' is 'reward', a column that --where has already"),
        ("facts", "{ json = { properties = { A = {}, a = {} } } }", "the property 'a' cannot be a column"),
        ("facts", '{ json = { properties = { "x\\u0000" = {} } } }', "cannot be a column of the labels"),
        ("facts", "{ json = { properties = { Value = {} } } }", "the property 'Value' cannot be a column"),
        (
            "task",
            "{ json = { properties = { hash = {} } } }",
            "'task_hash', which is one of the view selectable",
        ),
        ("kinds", '{ tag = "n", min = 1, max = 2, integer = 1 }', "answer.integer is 1"),
    ],
)
def test_names_that_cannot_be_columns_are_refused_before_anything_is_asked(case, name, answer, message):
    """One line, exit 2."""
    case.ingest(rollouts(1))
    (case.folder / "task.md").write_text(TASK.format(name=name, answer=answer), encoding="utf-8")
    run = case.enrich("--task", "./task.md")
    assert (run.status, run.requests, run.err.count("\n")) == (2, 0, 1)
    assert message in run.err
    assert case.rows("select count(*) from tasks") == [(0,)]


CLASHING = '{ json = { properties = { b = { type = "integer" } } } }'
PLAIN = '{ tag = "n" }'
REFUSED = (
    "task a: its labels would be the column 'a_b', which is one of the task a_b; rename the task, "
    "or the field in its JSON schema"
)


def test_no_label_stands_where_another_task_has_one(case):
    """Neither by `use`, nor read otherwise (exit 2, nothing changes), nor by a first answer."""
    case.ingest(rollouts(2))
    state = "select name, template, in_use, reader from tasks order by 1, 2"

    def ask_of(name: str, form: str, what: str = "", command: str = "enrich") -> Result:
        (case.folder / "task.md").write_text(TASK.format(name=name, answer=form) + what)
        case.llm.content = lambda _: f'<n>{name}</n> {{"b": 1}}' if form == PLAIN else '{"b": 1}'
        if command == "enrich":
            return case.enrich("--task", "./task.md", model="m")
        return case.kbetl(command, "./task.md", "--yes")

    assert ask_of("a", PLAIN).status == 0
    assert ask_of("a", CLASHING, "as JSON").status == 0  # beside the first, and not in use
    assert ask_of("a_b", PLAIN).status == 0
    before = case.rows(state)
    (other,) = case.rows("select hash from tasks where name = 'a' and in_use = 0")[0]
    for refused in (case.kbetl("use", "a", "--task-hash", other), ask_of("a", CLASHING, command="reparse")):
        assert (refused.status, refused.err) == (2, f"kbetl: {REFUSED}\n")
    assert case.rows(state) == before
    assert case.rows("select distinct a_b from selectable") == [("a_b",)]
    case.change("update tasks set in_use = 0 where name = 'a'")
    with Store.open(case.folder / "kbetl.db") as store, store.transaction():
        assert use_first_tasks(store, [other]) == []
    assert case.rows("select name from tasks where in_use = 1") == [("a_b",)]


def test_the_check_on_names_knows_every_column(tmp_path):
    """The table refuses what the task file refuses; `difficulty` is a column of its own."""
    with Store.open(tmp_path / "kbetl.db") as store:
        run_id = store.begin_run("enrich", {})
        insert = (
            "insert into tasks"
            " (hash, name, about, model, parameters, in_use, reader, created_at, run_id, template,"
            " label_name)"
            " values ('t1:' || hex(zeroblob(32)), ?1, 'rollout', 'm', '{}', 0, '{}', '', ?2, '', ?1)"
        )
        for name in {*view_columns("selectable"), "", "Upper", "a b", "a" * 65} - {"difficulty"}:
            with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
                store.connection.execute(insert, (name, run_id))
        store.connection.execute(insert, ("difficulty", run_id))
