"""Exit status 3 is what this invocation left over; what was left over before is said, and is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from batch_case import answer_file, completion, openai_result, write_lines
from conftest import ROOT
from enrich_case import Case, rollout, rollouts

from kbetl.errors import BudgetReached, ConfigError, KbetlError, exit_status_after, exit_status_for

pytest_plugins = ["enrich_fixtures"]

UNREADABLE = "no rating in here"
STYLE = """+++
name = "style"
about = "rollout"
answer = { tag = "style", one_of = ["%s", "plain"] }
+++
What style is {{ module_name }}?
"""


class Row(NamedTuple):
    """A command, and its exit status when it is given again and again."""

    name: str
    arguments: Sequence[str]
    statuses: Sequence[int]
    prepare: Callable[[Case], object]
    said: str = ""
    """What the last of them says all the same."""


def unreadable(case: Case) -> None:
    case.ingest(rollouts(4))
    case.llm.content = lambda asked: UNREADABLE


def asked_before(case: Case) -> None:
    unreadable(case)
    assert case.enrich().status == 3


def failing(case: Case) -> None:
    case.ingest(rollouts(4))
    case.llm.faults = lambda asked: "400" if "Module1" in asked.prompt else None


def without_field(case: Case) -> None:
    case.ingest([*rollouts(3), rollout(3, python_code=None)])


def modules(case: Case) -> None:
    case.ingest([{"module_name": "A", "python_code": "class A:\n    pass\n"}])
    case.llm.faults = lambda asked: "length"


def in_batch(case: Case) -> Path:
    unreadable(case)
    assert case.kbetl("batch", "write", "enrich", "b", "-m", "m").status == 0
    return next((case.folder / "b").iterdir())


def batch_unreadable(case: Case) -> None:
    answer_file(
        in_batch(case), case.folder / "r.jsonl", lambda line: openai_result(line, completion(UNREADABLE))
    )


def batch_odd_line(case: Case) -> None:
    results = answer_file(in_batch(case), case.folder / "r.jsonl")
    write_lines(case.folder / "r.jsonl", [*results, {"custom_id": "of somebody else"}])


def asked_for(count: int) -> list[dict[str, object]]:
    """Rollouts with what was asked, as trainers take them."""
    return [rollout(number, prompt=[{"role": "user", "content": "Write it."}]) for number in range(count)]


def without_answer(case: Case) -> None:
    """The last of them has no assistant's text, which `messages` cannot carry."""
    case.ingest([*asked_for(3), rollout(3, completion=[{"role": "user", "content": "kernel?"}])])


def template_refuses(case: Case) -> None:
    """A template that refuses one of the rollouts."""
    folder = case.folder / "tokenizer"
    folder.mkdir()
    for file in (ROOT / "data" / "tokenizer").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "tokenizer_config.json"
    template = (
        "{% for m in messages %}{% if 'kernel 3' in m.content %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    case.ingest(asked_for(5))


def style_narrowed(case: Case) -> None:
    """Labels that the changed task file no longer reads."""
    case.ingest(rollouts(3))
    case.llm.content = lambda asked: "<style>good</style>"
    (case.folder / "style.md").write_text(STYLE % "good")
    assert case.enrich("--task", "./style.md").status == 0
    (case.folder / "style.md").write_text(STYLE % "odd")


def whole_pipeline(case: Case) -> None:
    """A run of which `enrich` cannot read an answer."""
    unreadable(case)
    (case.folder / "kbetl.toml").write_text(
        f'[ingest]\nsources = ["rows.jsonl"]\n[enrich]\nbase_url = "{case.llm.url}"\nmodel = "m"\n'
        f'[prompts]\nmodel = "offline"\n[lengths]\ntokenizer = "{ROOT / "data" / "tokenizer"}"\n'
    )


def scores(case: Case) -> None:
    case.ingest(rollouts(1))
    write_lines(case.folder / "scores.jsonl", [{"sample_hash": "s1:none", "reward": 1}])


ENRICH = ("enrich", "-b", "URL", "-m", "m")
SYNTH = ("synth", "run", "-b", "URL", "-m", "m")
TABLE = [
    Row("unparsed", ENRICH, (3, 0, 0), unreadable, "left over: unparsed 4"),
    Row("asked again", (*ENRICH, "--retry", "unparsed"), (3, 3), asked_before),
    Row("failed, then parked", ENRICH, (3, 3, 3, 0), failing, "left over: failed 1"),
    Row("a field is lacking", ENRICH, (3, 3, 3, 0), without_field, "left over: failed 1"),
    Row("nothing asked", (*ENRICH, "-n", "0"), (0, 0), unreadable),
    Row("budget", (*ENRICH, "--max-tokens-total", "0"), (3, 3), unreadable, "budget reached"),
    Row("prompts", ("prompts", *ENRICH[1:]), (3, 0), modules, "left over: truncated 1"),
    Row("synth run", SYNTH, (3, 0), modules, "left over: truncated 1"),
    Row("dry run", (*ENRICH, "--dry-run"), (0, 0), unreadable),
    Row("batch read", ("batch", "read", "r.jsonl"), (3, 0), batch_unreadable),
    Row("batch read of an odd line", ("batch", "read", "r.jsonl"), (3, 3), batch_odd_line, "rejected 1"),
    Row("batch fetch of nothing", ("batch", "fetch"), (0,), unreadable),
    Row(
        "export",
        ("export", "evals", "-o", "x.jsonl", "--format", "messages"),
        (3, 3),
        without_answer,
        "out 1",
    ),
    Row("lengths", ("lengths", "--tokenizer", "./tokenizer"), (3, 0), template_refuses, "1 sample refused: "),
    Row("reparse", ("reparse", "./style.md"), (3, 0), style_narrowed, "0 labels change"),
    Row(
        "reparse --dry-run", ("reparse", "./style.md", "--dry-run"), (0, 0), style_narrowed, "3 labels change"
    ),
    Row("score", ("synth", "score", "scores.jsonl"), (3, 3), scores, "refused 1"),
    Row("run", ("run",), (3, 0), whole_pipeline, "left over: unparsed 4"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_what_this_invocation_left_over_is_3(case: Case, row: Row) -> None:
    row.prepare(case)
    arguments = [case.llm.url if word == "URL" else word for word in row.arguments]
    done = [case.kbetl(*arguments) for _ in row.statuses]
    assert [each.status for each in done] == list(row.statuses), done[-1].text
    assert row.said in done[-1].text


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.arguments[:1] == ("enrich",)], ids=lambda row: row.name
)
def test_a_run_keeps_the_status_it_ended_with(case: Case, row: Row) -> None:
    row.prepare(case)
    done = [case.enrich(*row.arguments[5:]).status for _ in row.statuses]
    dry = "--dry-run" in row.arguments
    kept = [status for (status,) in case.rows("select status from runs where task is not null order by id")]
    assert kept[-len(done) :] == ([] if dry else done)


@pytest.mark.parametrize(
    ("left_over", "failed", "status"),
    [((), False, 0), ((0, {}, None, ""), [], 0), ((0, 2), False, 3), ((), True, 1), ((1,), ["a"], 1)],
)
def test_one_function_says_how_a_command_ended(left_over, failed, status):
    assert exit_status_for(*left_over, failed=failed) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KbetlError("x"), 1),
        (ConfigError("x"), 2),
        (BudgetReached("x"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(), 1),
    ],
)
def test_an_error_has_the_status_of_its_kind(error, status):
    assert exit_status_after(error) == status
