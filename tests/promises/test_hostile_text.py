"""Text from outside is inert: SQL, HTML, formulas, escape codes, paths, templates, in rows and answers."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from enrich_case import Case, rollout, rollouts

pytest_plugins = ["enrich_fixtures"]

SQL = "x'); drop table answers; --"
HOSTILE = {
    "sql": SQL,
    "quotes": "\"'`; delete from samples where 1=1 --",
    "html": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "formula": "=cmd|' /C calc'!A0",
    "at formula": "@SUM(1+1)*cmd",
    "minus formula": "-2+3+cmd|' /C calc'!A0",
    "escape": "\x1b]0;owned\x07\x1b[31mred\x1b[2J\x9b1m",
    "direction": "a\u202etxt.exe\u2066",
    "template": "{{ reward }} {% for x in y %} {{ ''.__class__ }} ${HOME} %(x)s {0}",
    "path": "../../../etc/passwd",
    "nul": "a\x00b",
    "newlines": "a\r\nb\u2028c\x0bd",
}


def check_whole(case: Case, tables: list[tuple[str]]) -> None:
    """Nothing that stood in a text was run, made or dropped."""
    assert tables_of(case) == tables
    assert case.rows("pragma integrity_check") == [("ok",)]


def tables_of(case: Case) -> list[tuple[str]]:
    """The names of what the store defines, but for the view of a task, which comes with its first label."""
    return case.rows(  # type: ignore[return-value]
        "select name from sqlite_schema where name <> 'task_difficulty' order by name"
    )


def check_shown(text: str) -> None:
    """No control character but line breaks and tabs, and nothing that turns the direction of text."""
    assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_row_is_asked_about_stored_and_exported_as_it_is(case, kind):
    """In its name, its code and an unknown column; whatever shows it shows it harmlessly."""
    text = HOSTILE[kind]
    row = rollout(1, module_name=text, python_code=f"class A: pass  # {text}", **{text: text})
    case.ingest([row, rollout(2)])
    before = tables_of(case)
    assert case.enrich().status == 0
    assert sum(text in asked.prompt for asked in case.llm.requests) == 1
    stored = [json.loads(found) for (found,) in case.rows("select row from samples")]
    assert row in stored
    assert case.kbetl("export", "evals", "-o", "out.jsonl").status == 0
    lines = (case.folder / "out.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == [row, rollout(2)]
    for arguments in (
        ("status",),
        ("dedupe",),
        ("query", "-t", "select module_name, difficulty from filtered"),
        ("enrich", "-b", case.llm.url, "-m", "n", "--dry-run"),
    ):
        shown = case.kbetl(*arguments)
        assert "Traceback" not in shown.text
        check_shown(shown.text)
    check_whole(case, before)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_answer_is_kept_whole_and_shown_harmlessly(case, kind):
    """As a label it is none, as a text it is the value; the export holds just that."""
    text = HOSTILE[kind]
    case.ingest([rollout(1)])
    before = tables_of(case)
    case.llm.content = lambda asked: f"<difficulty>{text}</difficulty>"
    rated = case.enrich()
    assert rated.status == 3
    assert case.statuses() == {"unparsed": 1}
    assert case.rows("select content from answers") == [(f"<difficulty>{text}</difficulty>",)]
    for shown in (rated, case.kbetl("status")):
        assert "Traceback" not in shown.text
        check_shown(shown.text)
    check_whole(case, before)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_errors_are_one_line_without_codes(case, kind):
    from fake_llm import error_reply

    case.ingest(rollouts(1))
    before = tables_of(case)
    case.llm.faults.append(error_reply(400, HOSTILE[kind]))
    run = case.enrich()
    assert run.status == 3
    assert case.statuses() == {"failed": 1}
    check_shown(run.text)
    check_shown(case.rows("select reason from outcomes")[0][0])
    check_whole(case, before)


def test_no_cell_of_a_csv_is_a_formula(case):
    """Rows and columns alike; what begins with a sign and is a number stays one."""
    case.ingest([rollout(number, note=text) for number, text in enumerate(HOSTILE.values())])
    assert case.kbetl("export", "evals", "-o", "out.csv").status == 0
    with (case.folder / "out.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert [cell for cell in cells if cell.startswith(("=", "@", "+", "\t", "\r", "-"))] == []
    assert any(cell.startswith("'=cmd") for cell in cells)


@pytest.mark.parametrize(
    "name", ["../evil", "/nowhere/evil", "a/../../b", "x\ny", SQL, "=1+1", "\x1b[31mred"]
)
def test_a_hostile_name_of_a_source_is_a_name_and_no_path(case, name):
    outside = sorted(Path(case.folder).parent.iterdir())
    run = case.ingest([rollout(1)], "rows.jsonl", "--as", name)
    assert "Traceback" not in run.text
    check_shown(run.text)
    if run.status == 0:
        assert case.rows("select name from sources") == [(name,)]
        assert case.kbetl("export", "evals", "--source", name, "-o", "out.jsonl").status == 0
        check_shown(case.kbetl("status").text)
    assert sorted(Path(case.folder).parent.iterdir()) == outside


def test_a_where_clause_of_a_hostile_name_reads_and_writes_nothing_else(case):
    case.ingest(rollouts(2))
    before = tables_of(case)
    for where in (SQL, "1; drop table samples", "attach 'x.db' as x", "(select load_extension('x'))"):
        run = case.enrich("--where", where)
        assert run.status in (1, 2)
        assert run.requests == 0
        assert "Traceback" not in run.text
    assert not (case.folder / "x.db").exists()
    check_whole(case, before)


BYTES = os.fsdecode(b"x\xff")
IN_BYTES = {
    "ingest": (["ingest", "rows.jsonl", "-d", f"{BYTES}.db"], 0),
    "query": (["query", "select count(*) from samples", "-r", "-d", f"{BYTES}.db"], 0),
    "check": (["check", "-d", f"{BYTES}.db"], 0),
    "merge": (["merge", f"{BYTES}.db"], 0),
    "contamination": (["contamination", "--against", f"{BYTES}.jsonl"], 3),
    "synth score": (["synth", "score", f"{BYTES}.jsonl"], 3),
    "export": (["export", "evals", "-o", f"{BYTES}2.jsonl"], 0),
    "report": (["report", "-o", f"{BYTES}.html"], 0),
    "batch read": (["batch", "read", f"{BYTES}.jsonl"], 3),
    "batch write": (["batch", "write", "enrich", BYTES, "-m", "m"], 2),
}


def test_a_file_may_have_any_bytes_in_its_name(case):
    """It is read or written as it is, and spelled out where it is shown; the store keeps text alone."""
    case.ingest(rollouts(2))
    Path(case.folder / f"{BYTES}.jsonl").write_bytes((case.folder / "rows.jsonl").read_bytes())
    for name, (arguments, status) in IN_BYTES.items():
        done = case.kbetl(*arguments)
        assert (name, done.status) == (name, status), done.text
        if status:
            assert "\\xff" in done.text or "\\udcff" in done.text, done.text
    assert case.rows("select name from benchmarks") == [("x\\udcff",)]
    assert not (case.folder / BYTES).exists()
