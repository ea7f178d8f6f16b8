"""How many statements a row and an answer take, and how many bytes they write: pinned, without a clock.

A figure may fall; one that has to rise is raised here, with the reason in the commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from enrich_case import Case, rollouts

pytest_plugins = ["enrich_fixtures"]

FRAME_BYTES = 4096 + 24
"""A page in the WAL, with its header."""


ASKED = {"prompt": [{"role": "user", "content": "Write a kernel."}]}


@dataclass
class Counted:
    """What commands did to the store while they were watched."""

    statements: int = 0
    wal_bytes: int = 0

    def __sub__(self, other: Counted) -> Counted:
        return Counted(self.statements - other.statements, self.wal_bytes - other.wal_bytes)


@contextmanager
def counted(case: Case) -> Iterator[Counted]:
    """Counts statements of all connections, and WAL bytes; a reader keeps the WAL from beginning anew."""
    found = Counted()
    connect = sqlite3.connect

    def count(_statement: str) -> None:
        found.statements += 1

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    with closing(connect(case.folder / "kbetl.db")) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from samples").fetchall()
        before = wal_bytes(case.folder)
        sqlite3.connect = traced  # type: ignore[assignment]
        try:
            yield found
        finally:
            sqlite3.connect = connect
        found.wal_bytes = wal_bytes(case.folder) - before


def wal_bytes(folder: Path) -> int:
    return (folder / "kbetl.db-wal").stat().st_size


def store_made(case: Case) -> None:
    """A store with what a first command leaves besides rows."""
    case.ingest([{**rollouts(1)[0], **ASKED}], "first.jsonl")
    assert case.enrich().status == 0


def ingesting(case: Case, first: int, count: int) -> Counted:
    with counted(case) as found:
        assert case.ingest(rollouts(first + count)[first:], f"{first}.jsonl").status == 0
    return found


def asking(case: Case, first: int, count: int) -> Counted:
    case.ingest(rollouts(first + count)[first:], f"{first}.jsonl")
    with counted(case) as found:
        assert case.enrich("-c", 1).requests == count
    return found


def exporting(case: Case, first: int, count: int) -> Counted:
    case.ingest([{**row, **ASKED} for row in rollouts(first + count)[first:]], f"{first}.jsonl")
    with counted(case) as found:
        arguments = ("export", "evals", "--all-sources", "-o", "x.jsonl", "--format", "messages")
        assert case.kbetl(*arguments).status == 0
    return found


def per_row(case: Case, do: Any, rows: int) -> tuple[float, float]:
    """Statements and bytes of one row more: a large amount less a small one."""
    store_made(case)
    do(case, 10, 10)  # what a first run alone does
    small = do(case, 100, rows)
    large = do(case, 10_000, 3 * rows)
    more = large - small
    return more.statements / (2 * rows), more.wal_bytes / (2 * rows)


@pytest.mark.parametrize(
    ("do", "rows", "statements", "bytes_written"),
    [
        (ingesting, 400, 3.01, 1_550),  # sample, facts, temporary table; 1,539 bytes of a small rollout
        (asking, 30, 5.5, 75_000),  # one commit for each answer, as none waits: 18 pages
        (exporting, 200, 0, 0),
    ],
    ids=["ingest", "answer", "export"],
)
def test_a_row_takes_no_more_statements_and_bytes_than_before(case, do, rows, statements, bytes_written):
    taken = per_row(case, do, rows)
    assert (taken[0] <= statements, taken[1] <= bytes_written) == (True, True), taken


def reading_again(case: Case, first: int, count: int) -> Counted:
    case.ingest(rollouts(first + count)[first:], f"{first}.jsonl")
    with counted(case) as found:
        assert case.kbetl("ingest", f"{first}.jsonl").status == 0
    return found


def test_a_known_row_takes_a_statement_and_writes_nothing(case):
    """One puts it into the temporary table; lines are looked up by the thousand."""
    taken = per_row(case, reading_again, 400)
    assert (taken[0] <= 1.01, taken[1]) == (True, 0), taken


def test_a_first_ingest_looks_up_no_line(case):
    asked: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(asked.append)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    try:
        case.ingest(rollouts(100))
    finally:
        sqlite3.connect = connect
    assert not [statement for statement in asked if "known_lines on" in statement]
