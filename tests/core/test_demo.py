"""`kbetl demo`: the whole pipeline without a key and without a network."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from conftest import ROOT, Run
from old_stores import old_store

from kbetl.store import Store

BEST = [
    ("GatedFeedForward", 1.34, "high"),
    ("UnitRows", 1.21, "medium"),
    ("SplitHeads", 1.02, "low"),
    ("Attention", 0.99, "high"),
    ("ShiftedSquare", 0.97, "low"),
    ("ScaledTanh", 0.93, "low"),
    ("Projection", 0.91, "medium"),
    ("DepthwiseBlock", 0.9, "high"),
    ("RowSoftmax", 0.88, "medium"),
    ("MaskedMean", 0.87, "medium"),
]


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(statement).fetchall()


def test_demo_fills_a_store_that_plain_sqlite_reads(run: Run, tmp_path: Path) -> None:
    result = run("demo")

    assert result.returncode == 0, result.stderr
    store = tmp_path / "kbetl-demo.db"
    assert rows(store, "select module_name, reward, difficulty from unique_best") == BEST
    assert rows(store, "select count(*) from synthetic") == [(12,)]
    assert rows(store, "select distinct model, host from answers") == [("offline/2", "offline")]
    lines = (ROOT / "data" / "sample.jsonl").read_text().splitlines()
    assert rows(store, "select count(*) from samples") == [(len(lines),)]


def test_demo_makes_its_store_anew(run: Run, tmp_path: Path) -> None:
    """Twice the same, and the second time as if there had been no first."""
    assert run("demo").stdout == run("demo").stdout
    assert rows(tmp_path / "kbetl-demo.db", "select count(*) from runs where command = 'demo'") == [(4,)]


@pytest.mark.parametrize("schema", [1, 2])
def test_demo_makes_the_store_of_an_older_kbetl_anew(run: Run, tmp_path: Path, schema: int) -> None:
    """What an earlier demo made is no store to migrate, nor one to refuse."""
    path = old_store(tmp_path / "kbetl-demo.db", schema)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("update runs set command = 'demo' where id = (select min(id) from runs)")
        connection.commit()
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert rows(path, "select count(*) from samples") == [(30,)]


def test_demo_leaves_its_rows_to_try(run: Run, tmp_path: Path) -> None:
    """What it names next works as pasted."""
    shown = run("demo").stdout
    rows_left = (tmp_path / "rollouts.jsonl").read_bytes()
    assert rows_left == (ROOT / "data" / "sample.jsonl").read_bytes()
    assert "  kbetl ingest rollouts.jsonl && kbetl enrich -m offline --dry-run\n" in shown
    assert run("ingest", "rollouts.jsonl").returncode == 0
    assert "would ask 12 of 12 samples" in run("enrich", "-m", "offline", "--dry-run").stdout


def test_demo_leaves_a_file_of_the_user_alone(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "rollouts.jsonl"
    mine.write_text("{}\n")
    done = run("demo")
    assert (done.returncode, mine.read_text()) == (0, "{}\n")
    assert "8. rollouts.jsonl: a file of yours, left as it is\n" in done.stdout
    assert "  kbetl ingest YOUR.jsonl && " in done.stdout


def test_demo_leaves_the_stores_of_the_user_alone(run: Run, tmp_path: Path) -> None:
    """Neither the variable nor the option makes it delete a store that no demo made."""
    assert run("ingest", ROOT / "data" / "sample.jsonl", "-d", "mine.db").returncode == 0
    before = (tmp_path / "mine.db").read_bytes()

    assert run("demo", env={"KBETL_DATABASE": "mine.db"}).returncode == 0
    refused = run("demo", "-d", "mine.db")

    assert refused.returncode == 1
    assert "mine.db is not the store of an earlier demo" in refused.stderr
    assert (tmp_path / "mine.db").read_bytes() == before


def test_demo_goes_on_after_one_that_was_cut_short(run: Run, tmp_path: Path) -> None:
    """An empty file, and a store in which nothing has run, are nobody's."""
    (tmp_path / "kbetl-demo.db").touch()
    assert run("demo").returncode == 0
    (tmp_path / "kbetl-demo.db").unlink()
    Store.open(tmp_path / "kbetl-demo.db").close()
    assert run("demo").returncode == 0


def test_every_rating_of_the_demo_is_told_by_query(run: Run) -> None:
    run("demo")
    found = json.loads(run("query", "-d", "kbetl-demo.db", "select difficulty from filtered").stdout)
    assert len(found) == 12
    assert {row["difficulty"] for row in found} == {"low", "medium", "high"}
