"""`kbetl.open_store`: what a command exports, from Python, and nothing that writes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from enrich_case import Case, module_of

import kbetl
from kbetl.errors import ConfigError, EmptyDataset, KbetlError, StoreError

pytest_plugins = ["enrich_fixtures"]

TASK = """+++
name = "helpfulness"
about = "rollout"
answer = { tag = "n", min = 1, max = 9007199254740993, integer = true }
+++
{{ module_name }}?
"""
LARGE = 2**53 + 1


@pytest.fixture
def path(rated: Case) -> Path:
    """Six rated rollouts; Module0 to Module4 have a second label, Module4 a large one."""
    (rated.folder / "helpfulness.md").write_text(TASK)
    numbers = {4: LARGE, 5: "none"}
    rated.llm.content = lambda asked: f"<n>{numbers.get(module_of(asked), module_of(asked) + 1)}</n>"
    assert rated.enrich("--task", "./helpfulness.md").status == 3
    return rated.folder / "kbetl.db"


def test_rows_labels_and_frames_are_what_a_command_exports(path, rated):
    """Row for row, with the same types; integers stay exact beside a missing one."""
    assert rated.kbetl("export", "filtered", "-o", "f.jsonl", "--with", "helpfulness").status == 0
    exported = [json.loads(line) for line in (path.parent / "f.jsonl").read_text().splitlines()]
    with kbetl.open_store(path) as store:
        assert list(store.rows("filtered", with_=["helpfulness"])) == exported
        some = store.rows("filtered", with_=["helpfulness"], where="helpfulness in (2, 3)")
        assert [row["helpfulness"] for row in some] == [2, 3]
        labels = dict(store.labels("helpfulness"))
        assert sorted(labels.values()) == [1, 2, 3, 4, LARGE]
        frame = store.dataframe("filtered", with_=["helpfulness", "difficulty"])
        assert list(frame.columns) == list(exported[0])
        assert frame["helpfulness"].dtype == "Int64"
        assert sorted(frame["helpfulness"].dropna()) == [1, 2, 3, 4, LARGE]
        assert frame["helpfulness"].isna().sum() == 1
        assert frame["difficulty"].dtype == "string"


def test_the_database_reads_and_nothing_else(path):
    """Pragmas that read are there for sqlite-utils; no statement, pragma or method writes."""
    before = path.read_bytes()
    with kbetl.open_store(str(path)) as store:
        database = store.db
        assert database["samples"].count == 6
        assert "helpfulness" in [column.name for column in database["selectable"].columns]
        assert "samples_by_hash" in [index.name for index in database["samples"].indexes]
        assert {"labels", "task_helpfulness"} <= set(database.view_names())
        for statement in (
            "delete from outcomes",
            "create temp table mine (a)",
            "attach 'other.db' as other",
            "pragma query_only = off",
            "pragma user_version = 9",
            "pragma journal_mode = delete",
            "pragma writable_schema = on",
            "select load_extension('x')",
        ):
            with pytest.raises(sqlite3.DatabaseError):
                database.execute(statement)
    assert path.read_bytes() == before


def test_what_cannot_be_meant_raises_one_line(path, tmp_path, monkeypatch):
    """As the commands say it."""
    with pytest.raises(StoreError, match="no store at"):
        kbetl.open_store(tmp_path / "none.db")
    store = kbetl.open_store(path)
    for call, kind, message in (
        (lambda: list(store.rows("nothing")), ConfigError, "no dataset 'nothing'; there are filtered"),
        (lambda: list(store.rows("filtered", with_="helpfulness")), ConfigError, "it is a list of names"),
        (lambda: list(store.rows("filtered", with_=["style"])), ConfigError, "no task in use has that name"),
        (lambda: list(store.rows("filtered", where="colour")), ConfigError, "no such column: colour"),
        (lambda: list(store.labels("style")), ConfigError, "no task in use has that name"),
        (lambda: store.dataframe("filtered", where="reward > 9"), EmptyDataset, "no row satisfies"),
    ):
        with pytest.raises(KbetlError, match=message) as raised:
            call()
        assert isinstance(raised.value, kind)
        assert "\n" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="dataframe needs pandas; run: pip install pandas"):
        store.dataframe("filtered")


def test_import_kbetl_loads_nothing_else():
    code = "import sys, kbetl; print([name for name in sys.modules if name.startswith('kbetl.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kbetl.nothing
