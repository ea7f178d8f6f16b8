"""A power cut at any moment: only what was synced is certain, and of the rest any part may be there."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import clean_environment
from disk import Change, Disk, changes, compiled, watched
from enrich_case import Case, Lateness, ended, rollouts, started, write_rows
from old_stores import LATER, MIGRATES, content, later_sql, old_store, version

from kbetl.store import Store

pytest_plugins = ["enrich_fixtures"]

__all__ = ["later_sql"]
SAMPLES = 80
CUTS = 16
RERUN_EVERY = 8


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """Where the folder as a power cut leaves it is put."""
    return tmp_path / "cut"


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def whole(path: Path) -> None:
    """Opens as a store does, and its pages, references and views are sound."""
    with Store.open(path) as store:
        assert store.connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert store.connection.execute("pragma foreign_key_check").fetchall() == []
        assert store.changed_views() == []


def moments(done: list[Change], count: int) -> Iterator[int]:
    """Numbers of changes before which the power is cut, the same each time; the last is after all."""
    yield from sorted(random.Random(1).sample(range(len(done)), min(count, len(done))))
    yield len(done)


def lucks(number: int) -> tuple[random.Random | None, ...]:
    """Only what was synced; and twice by luck some of the rest."""
    return (None, random.Random(f"{number} a"), random.Random(f"{number} b"))


def test_a_power_cut_loses_no_answer_that_was_there_for_a_moment(case, shim, cut, tmp_path):
    """The bound of a kill holds: delivered 50 ms before, kept; and only what is missing is asked again."""
    folder = tmp_path / "run"
    folder.mkdir()
    case = Case(folder, case.llm)
    case.ingest(rollouts(SAMPLES))
    disk, log = Disk(folder), tmp_path / "log"
    case.llm.latency_s = 0.2
    arguments = ["enrich", "-b", case.llm.url, "-m", "m", "-c", 8]
    with Lateness() as lateness, started(folder, *arguments, **watched(shim, folder, log)) as process:
        done = ended(process)
    assert done.status == 0, done.err
    delivered = [(each.at, case.llm.requests[each.index].prompt) for each in case.llm.answered]
    seen, at = changes(log), 0
    for turn, number in enumerate(moments(seen, CUTS)):
        while at < number:
            disk.do(seen[at])
            at += 1
        cut_at = seen[number].at if number < len(seen) else float("inf")
        for luck in lucks(number):
            kept = kept_in(disk.cut(cut, luck) / "kbetl.db")
            assert set(kept.values()) <= {1}
            early = {prompt for when, prompt in delivered if when < cut_at - lateness.allowance_s}
            assert early <= kept.keys()
        if turn % RERUN_EVERY == 0:
            case.llm.latency_s = 0.0
            again = Case(cut, case.llm).enrich()
            assert (again.status, again.requests) == (0, SAMPLES - kept.total())
    assert at == len(seen)


def kept_in(path: Path) -> Counter[str]:
    """The questions that a store has answers to; the store is sound."""
    whole(path)
    return Counter(
        prompt for (prompt,) in rows(path, "select request ->> '$.messages[0].content' from answers")
    )


def test_a_new_store_is_there_whole_or_not_at_all(shim, cut, tmp_path):
    """Its name in the folder, too, is synced before the command ends; and then every row is there."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_rows(tmp_path / "rows.jsonl", rollouts(30))
    disk, log = Disk(folder), tmp_path / "log"
    with started(folder, "ingest", "../rows.jsonl", **watched(shim, folder, log)) as process:
        assert ended(process).status == 0
    seen = changes(log)
    for number, change in enumerate(seen):
        if number % 4 == 0:
            for luck in lucks(number):
                path = disk.cut(cut, luck) / "kbetl.db"
                if path.exists():
                    whole(path)
        disk.do(change)
    path = disk.cut(cut) / "kbetl.db"
    whole(path)
    assert rows(path, "select count(*) from source_samples") == [(30,)]


def test_a_migration_is_done_or_not(shim, cut, tmp_path, later_sql):
    """With every row as it was; and where it is done, the backup is on the disk."""
    folder = tmp_path / "run"
    folder.mkdir()
    old_store(folder / "kbetl.db")
    before = shutil.copy(folder / "kbetl.db", tmp_path / "before.db")
    held = {name: found for name, found in content(before, before).items() if name != "runs"}
    disk, log = Disk(folder), tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", MIGRATES, folder / "kbetl.db", later_sql],
        env=clean_environment(**watched(shim, folder, log)),
        input="\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    versions = set()
    seen, at = changes(log), 0
    for number in moments(seen, CUTS):
        while at < number:
            disk.do(seen[at])
            at += 1
        for luck in lucks(number):
            path = disk.cut(cut, luck) / "kbetl.db"
            assert rows(path, "pragma integrity_check") == [("ok",)]
            versions.add(version(path))
            now = content(path, before)
            assert {name: now[name] for name in now if name != "runs"} == held
            if version(path) == LATER:
                backup = cut / "kbetl.db.schema1.backup"
                assert content(backup, before) | held == content(backup, before)
                assert rows(path, "select count(host) > 0 from runs") == [(1,)]
    assert versions == {1, LATER}


def test_a_disk_forgets_what_was_not_synced(shim, cut, tmp_path):
    """The simulation can fail: what SQLite does not sync is lost, and a part of it tears the file."""
    folder = tmp_path / "run"
    folder.mkdir()
    writes = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "connection.execute('pragma synchronous = off'); connection.execute('create table t (x)');"
        "[connection.execute('insert into t values (randomblob(3000))') for _ in range(20)]"
    )
    log = tmp_path / "log"
    disk = Disk(folder)
    subprocess.run(
        [sys.executable, "-c", writes, folder / "t.db"],
        env=clean_environment(**watched(shim, folder, log)),
        check=True,
    )
    for change in changes(log):
        disk.do(change)
    assert list(disk.cut(cut).iterdir()) == []
    torn = 0
    for number in range(20):
        path = disk.cut(cut, random.Random(number)) / "t.db"
        with contextlib.suppress(sqlite3.DatabaseError):
            torn -= rows(path, "select count(*) from t") == [(20,)] and rows(
                path, "pragma integrity_check"
            ) == [("ok",)]
        torn += 1
    assert torn > 0
