"""`--with TASK`: labels as columns of their type, in every kind of file and format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from enrich_case import Case, module_of, rollout

pytest_plugins = ["enrich_fixtures"]

FORMS = {
    "helpfulness": '{ tag = "n", min = 1, max = 5, integer = true }',
    "share": '{ tag = "n", min = 0, max = 9 }',
    "facts": '{ json = { properties = { score = { type = "integer" } } } }',
    "prompt": '{ tag = "n" }',
}


def answer(asked: Any) -> str:
    """Nothing that can be read for Module4."""
    number = module_of(asked)
    if number == 4:
        return "?"
    return f'{{"score": {number}}}' if asked.prompt.startswith("facts") else f"<n>{number}</n>"


@pytest.fixture
def labelled(case: Case) -> Case:
    """Four rated rollouts, Module1 to Module4, that three tasks and one more were asked about."""
    asked = [{"role": "user", "content": "Write a kernel."}]
    assert case.ingest(rollout(number, prompt=asked) for number in range(1, 5)).status == 0
    assert case.enrich().status == 0
    case.llm.content = answer
    for name, form in FORMS.items():
        head = f'+++\nname = "{name}"\nabout = "rollout"\nanswer = {form}\n+++\n'
        text = f"{head}{name} of {{{{ module_name }}}}?\n"
        (case.folder / f"{name}.md").write_text(text)
        assert case.enrich("--task", f"./{name}.md").status == 3
    return case


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


WITH = ("--with", "helpfulness", "--with", "./share.md", "--with", "facts", "--with", "helpfulness")


def test_labels_are_columns_behind_the_row(labelled):
    """Typed, in the order asked for, null where there is none, which is said; the row stays as it was."""
    case, out = labelled, labelled.folder / "out.jsonl"
    plain = case.kbetl("export", "evals", "-o", "plain.jsonl")
    run = case.kbetl("export", "evals", "-o", "out.jsonl", *WITH)
    assert (plain.status, run.status) == (0, 0)
    said = [line for line in run.err.splitlines() if line.startswith("column ")]
    assert [line.split(" (t1:")[0] for line in said] == [
        f"column {name} has the labels of m" for name in ("helpfulness", "share", "facts")
    ]
    assert all(line.endswith("; 1 rows have none") for line in said)
    for number, (row, text) in enumerate(
        zip(lines(out), (case.folder / "plain.jsonl").read_text().splitlines(), strict=True), 1
    ):
        there = number != 4
        assert list(row)[-3:] == ["helpfulness", "share", "facts"]
        assert (row["helpfulness"], row["share"]) == ((number, float(number)) if there else (None, None))
        assert isinstance(row["helpfulness"], int) == there
        assert row["facts"] == ({"score": number} if there else None)
        assert out.read_text().splitlines()[number - 1].startswith(text[:-1])


def test_parquet_and_csv_have_the_types(labelled):
    """An integer column stays one, also where some label is missing, or every one."""
    case = labelled
    assert case.kbetl("export", "filtered", "-o", "out.parquet", "--no-splits", *WITH).status == 0
    schema = pq.read_schema(case.folder / "out.parquet")
    assert [str(schema.field(name).type) for name in ("helpfulness", "share", "facts")] == [
        "int64",
        "double",
        "struct<score: int64>",
    ]
    assert schema.names[-5:] == ["difficulty", "evaluation_raw", "helpfulness", "share", "facts"]
    where = ("--where", "module_name = 'Module4'")
    assert case.kbetl("export", "evals", "-o", "none.parquet", *WITH, *where).status == 0
    assert str(pq.read_schema(case.folder / "none.parquet").field("helpfulness").type) == "int64"
    assert case.kbetl("export", "evals", "-o", "out.csv", *WITH).status == 0
    with (case.folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["helpfulness"], row["facts"]) for row in rows] == [
        *((str(number), f'{{"score":{number}}}') for number in (1, 2, 3)),
        ("", ""),
    ]


def test_trainer_formats_and_kbetl_toml(labelled):
    """`with` of [export] holds for formats too; the other columns stay as they were."""
    case = labelled
    (case.folder / "kbetl.toml").write_text('[export]\nwith = ["helpfulness"]\nformat = "messages"\n')
    assert case.kbetl("export", "evals", "-o", "out.jsonl").status == 0
    for number, row in enumerate(lines(case.folder / "out.jsonl"), 1):
        assert list(row)[-2:] == ["difficulty", "helpfulness"]
        assert row["helpfulness"] == (number if number != 4 else None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("evals", "--with", "nothing"),
            "labels of 'nothing': no task in use has that name; in use are: difficulty",
        ),
        (
            ("evals", "--with", "prompt", "--format", "prompt-completion"),
            "--with prompt: evals as prompt-completion",
        ),
        (("synthetic", "--with", "prompt"), "--with prompt: synthetic as rows has a column of that name"),
        (("evals", "--with", "share"), "labels of 'share': the task is not in use; run: kbetl use share"),
    ],
)
def test_labels_that_cannot_be_added_are_refused(labelled, arguments, message):
    """One line, exit 2, no file."""
    case = labelled
    if "share" in arguments:
        case.change("update tasks set in_use = 0 where name = 'share'")
        case.kbetl("batch", "status", "--offline")
    run = case.kbetl("export", *arguments, "-o", "out.jsonl")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert message in run.err
    assert not (case.folder / "out.jsonl").exists()
