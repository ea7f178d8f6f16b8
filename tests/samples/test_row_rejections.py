"""Rejected rows: a line for each reason, known by their content, and what was meant."""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kbetl.cli import run as kbetl

GOOD = {"module_name": "A", "python_code": "class A: pass"}
TYPO = {"compleiton": "import triton", "reward": 0.5}
BROKEN = {"completion": 5, "reward": 0.5}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name: str, *rows: Any) -> None:
    Path(name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def rejected() -> list[tuple[str, bytes | None]]:
    with sqlite3.connect("kbetl.db") as store:
        found = store.execute(
            "select location, content_hash from rejected_rows order by source_id, position"
        ).fetchall()
    store.close()
    return found


BAD: dict[str, tuple[str, str | bytes]] = {
    "a completion that is none": ("rows.jsonl", json.dumps(BROKEN) + "\n" + json.dumps(GOOD)),
    "no JSON": ("rows.jsonl", "{nope}\n" + json.dumps(GOOD)),
    "an object over several lines": (
        "rows.jsonl",
        json.dumps({"completion": {"a": 1}}, indent=2) + "\n" + json.dumps(GOOD),
    ),
    "an element of a list": ("rows.json", json.dumps([5, GOOD])),
    "a comma too many": ("rows.json", f"[,{json.dumps(GOOD)}]"),
    "a record with too few cells": ("rows.csv", "module_name,python_code\nA\nA,class A: pass\n"),
    "a record that is no UTF-8": ("rows.csv", b"module_name,python_code\nA,\xff\nA,class A: pass\n"),
}


@pytest.mark.parametrize("what", BAD)
def test_row_that_was_rejected_before_is_said_and_is_no_3(what, capfd):
    """Also in another place, under another name; the content alone counts."""
    name, content = BAD[what]
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert kbetl(["ingest", name]) == 3
    assert "read 2, new 1, known 0, rejected 1" in capfd.readouterr().out
    ((_, content_hash),) = rejected()
    assert content_hash is not None
    Path(f"other-{name}").write_bytes(Path(name).read_bytes())
    for again in (name, f"other-{name}", name):
        assert kbetl(["ingest", again]) == 0
        said = capfd.readouterr()
        assert "read 2, new 0, known 1, rejected 1" in said.out
        assert said.err == f"{again}: 1 rejected row was rejected before; the table rejected_rows says why\n"
    with sqlite3.connect("kbetl.db") as store:
        counts = json.loads(store.execute("select counts from runs order by id desc").fetchone()[0])
    assert counts[name]["rejected_before"] == 1


def test_hash_of_a_rejected_row_is_that_of_its_bytes():
    write("rows.jsonl", BROKEN, GOOD)
    assert kbetl(["ingest", "rows.jsonl", "-q"]) == 3
    assert rejected() == [("rows.jsonl:1", sha256(json.dumps(BROKEN).encode()).digest())]


def test_another_row_in_the_place_of_a_rejected_one_is_3():
    write("rows.jsonl", BROKEN, GOOD)
    assert kbetl(["ingest", "rows.jsonl", "-q"]) == 3
    write("rows.jsonl", {**BROKEN, "reward": 0.6}, GOOD)
    for status in (3, 0):
        assert kbetl(["ingest", "rows.jsonl", "-q"]) == status
    assert len(rejected()) == 1


def test_rows_rejected_before_their_content_was_kept_are_known_from_the_next_time_on():
    write("rows.jsonl", BROKEN, GOOD)
    assert kbetl(["ingest", "rows.jsonl", "-q"]) == 3
    with sqlite3.connect("kbetl.db") as store:
        store.execute("update rejected_rows set content_hash = null")
    store.close()
    for status in (3, 0):
        assert kbetl(["ingest", "rows.jsonl", "-q"]) == status


def test_file_that_is_cut_is_left_over_each_time():
    table = pa.Table.from_pylist([{**GOOD, "uuid": n} for n in range(20)])
    pq.write_table(table, "rows.parquet", row_group_size=10, compression="none", use_dictionary=False)
    whole = Path("rows.parquet").read_bytes()
    start = pq.ParquetFile("rows.parquet").metadata.row_group(1).column(0).data_page_offset
    Path("rows.parquet").write_bytes(whole[:start] + b"\xff" * 30 + whole[start + 30 :])
    for _ in range(2):
        assert kbetl(["ingest", "rows.parquet", "-q"]) == 3


def test_ten_rows_of_one_reason_are_one_line_with_three_places(capfd):
    write(
        "rows.jsonl",
        *({**BROKEN, "reward": n} for n in range(10)),
        GOOD,
        "{",
        {"completion": "a", "reward": "x"},
    )
    assert kbetl(["ingest", "rows.jsonl"]) == 3
    first, second, third = capfd.readouterr().err.splitlines()
    assert first.startswith("10 rows: field 'completion' is a number, not text or a list of messages")
    assert first.endswith("(rows.jsonl:1, rows.jsonl:2, rows.jsonl:3 and 7 more)")
    assert second.startswith("rows.jsonl:12: not JSON")
    assert third.startswith("rows.jsonl:13: field 'reward' is text")


MEANT = {
    "Completion": ({"Completion": "a"}, "completion"),
    "completions": ({"completions": "a"}, "completion"),
    "compleiton": (TYPO, "completion"),
    "pyton_code": ({"module_name": "A", "pyton_code": "a"}, "python_code"),
    "modul_name": ({"modul_name": "A", "python_code": "a"}, "module_name"),
}


@pytest.mark.parametrize("key", MEANT)
def test_field_of_a_record_that_is_nearly_known_is_named(key, capfd):
    row, meant = MEANT[key]
    write("rows.jsonl", row)
    assert kbetl(["ingest", "rows.jsonl"]) == 0
    said = capfd.readouterr()
    assert f"'{key}': did you mean '{meant}'?" in said.err
    assert said.out == "rows.jsonl: read 1, new 1, known 0, rejected 0 (records 1)\n"


@pytest.mark.parametrize("key", ["score", "rewrad", "Reward"])
def test_rollouts_without_a_reward_are_counted_with_what_was_meant(key, capfd):
    rows = [{"completion": f"a {n}", key: 0.5} for n in range(3)]
    pq.write_table(pa.Table.from_pylist([*rows, {"completion": "b"}]), "rows.parquet")
    assert kbetl(["ingest", "rows.parquet"]) == 0
    assert capfd.readouterr().err == (
        f"rows.parquet: 4 new rollouts have no reward; 3 of them have '{key}': did you mean 'reward'?\n"
    )
    write("rows.jsonl", {"sample_hash": "s1:0", key: 0.5})
    assert kbetl(["synth", "score", "rows.jsonl"]) == 3
    assert f"'{key}': did you mean 'reward'?" in capfd.readouterr().err
