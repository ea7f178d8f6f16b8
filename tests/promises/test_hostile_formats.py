"""JSON, CSV and Parquet files that are not as they should be: rows are kept, faults are named."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Run
from hostile_case import CSV, GOOD, lines, module, seen, write_parquet

JSON_FILES: dict[str, tuple[str, list[str], list[tuple[int, str]]]] = {
    "a list": (json.dumps([module("A"), module("B")]), ["A", "B"], []),
    "a list over many lines": (json.dumps([module("A"), module("B")], indent=2), ["A", "B"], []),
    "one row": (json.dumps(module("A")), ["A"], []),
    "one row over many lines": (json.dumps(module("A"), indent=2), ["A"], []),
    "a row per line": (lines(module("A"), module("B")), ["A", "B"], []),
    "a row per line, one broken": (GOOD + '\n{"a": "\n' + GOOD, ["Good", "Good"], [(2, "not JSON")]),
    "rows without anything between": (GOOD + GOOD + "\n" + GOOD, ["Good"], [(1, "not JSON: Extra data")]),
    "a broken row": (f"[{GOOD},\n{{nope}},\n{GOOD}]", ["Good", "Good"], [(2, "not JSON")]),
    "a row that is a number": (f"[{GOOD}, 1]", ["Good"], [(1, "a number, not an object")]),
    "no value": (f"[{GOOD},,\n{GOOD}]", ["Good", "Good"], [(1, "no value beside a comma")]),
    "a comma at the end": (f"[{GOOD},\n]", ["Good"], [(2, "no value beside a comma")]),
    "a list that is cut in a row": (f"[{GOOD},\n{GOOD[:-20]}", ["Good"], [(2, "in the middle of this row")]),
    "a list that is cut after a row": (f"[{GOOD}\n", ["Good"], [(2, "no closing bracket")]),
    "text after the list": (f"[{GOOD}]\n\nmore", ["Good"], [(3, "text after the end of the list")]),
    "a stray brace": (f"[{GOOD},\n{GOOD}}},\n{GOOD}]", ["Good", "Good"], [(2, "not JSON: Extra data")]),
    "brackets in texts": (
        json.dumps([{**module("A"), "text": '"]}[{\\", '}, module("B")]),
        ["A", "B"],
        [],
    ),
    "a line end in a text": (f'[{{"a": "\n"}},\n{GOOD}]', ["Good"], [(1, "Invalid control character")]),
    "a table by columns": (
        json.dumps({"module_name": {"0": "A"}, "python_code": {"0": "a"}}),
        [],
        [(1, "Write one row per line")],
    ),
    "a table in three parts": (
        json.dumps({"columns": ["module_name"], "index": [0], "data": [["A"]]}),
        [],
        [(1, "Write one row per line")],
    ),
}


@pytest.mark.parametrize("what", JSON_FILES)
def test_json_file_gives_its_rows_and_names_its_faults(run: Run, tmp_path: Path, what: str) -> None:
    content, names, faults = JSON_FILES[what]
    tmp_path.joinpath("rows.json").write_text(content)

    result = run("ingest", "rows.json")

    assert result.returncode == (3 if faults else 0), result.stderr
    found = seen(tmp_path)
    assert found.names == names
    assert [location for location, _ in found.rejected] == [f"rows.json:{line}" for line, _ in faults]
    for (_, reason), (_, part) in zip(found.rejected, faults, strict=True):
        assert part in reason


def test_row_of_many_lines_is_stored_on_one(run: Run, tmp_path: Path) -> None:
    tmp_path.joinpath("rows.json").write_text(json.dumps([module("A")], indent=4))

    run("ingest", "rows.json")

    with sqlite3.connect(tmp_path / "kbetl.db") as store:
        ((row,),) = store.execute("select row from samples")
    assert "\n" not in row
    assert json.loads(row) == module("A")


CSV_FILES: dict[str, tuple[bytes, list[str], list[tuple[int, str]]]] = {
    "a byte order mark": (b"\xef\xbb\xbf" + f"{CSV}A,a,1\n".encode(), ["A"], []),
    "windows line ends": (f"{CSV}A,a,1\nB,b,2\n".replace("\n", "\r\n").encode(), ["A", "B"], []),
    "a cell over lines": (f'{CSV}A,"a\n\nb",1\nB,b\nC,c,1'.encode(), ["A", "C"], [(5, "2 cells where")]),
    "too many cells": (f"{CSV}A,a,1,2\nB,b,2\n".encode(), ["B"], [(2, "4 cells where the header names 3")]),
    "blank lines": (f"{CSV}\nA,a,1\n\n".encode(), ["A"], []),
    "bytes that are no UTF-8": (
        CSV.encode() + b"A,\xe9,1\nB,b,2\n",
        ["B"],
        [(2, "byte 0xe9")],
    ),
    "a quote that is never closed": (
        f'{CSV}A,a,1\nB,"b,2\n'.encode(),
        ["A"],
        [(3, "unexpected end")],
    ),
    "text after a quote": (f'{CSV}A,"a"b,1\nB,b,2\n'.encode(), ["B"], [(2, "not CSV")]),
    "a long cell": (f"{CSV}A,{'a' * 200_000},1\n".encode(), ["A"], []),
    "empty code": (f"{CSV}A,,1\n".encode(), [], [(2, "a module without code")]),
}


@pytest.mark.parametrize("what", CSV_FILES)
def test_csv_file_gives_its_rows_and_names_its_faults(run: Run, tmp_path: Path, what: str) -> None:
    content, names, faults = CSV_FILES[what]
    tmp_path.joinpath("rows.csv").write_bytes(content)

    result = run("ingest", "rows.csv")

    assert result.returncode == (3 if faults else 0), result.stderr
    found = seen(tmp_path)
    assert found.names == names
    assert [location for location, _ in found.rejected] == [f"rows.csv:{line}" for line, _ in faults]
    for (_, reason), (_, part) in zip(found.rejected, faults, strict=True):
        assert part in reason


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a,b,a", "rows.csv:1: two columns are called 'a'"),
        ("a,,b", "rows.csv:1: column 2 has no name"),
    ],
)
def test_csv_header_that_does_not_name_each_column_once_is_refused(
    run: Run, tmp_path: Path, header: str, reason: str
) -> None:
    tmp_path.joinpath("rows.csv").write_text(f"{header}\n1,2,3\n")

    result = run("ingest", "rows.csv")

    assert result.returncode == 1
    assert reason in result.stderr


def test_list_in_pythons_spelling_is_not_taken_for_text(run: Run, tmp_path: Path) -> None:
    cells = io.StringIO()
    csv.writer(cells).writerows([["completion"], [str([{"role": "assistant", "content": "a"}])]])
    tmp_path.joinpath("rows.csv").write_text(cells.getvalue())

    result = run("ingest", "rows.csv")

    assert result.returncode == 3
    assert "column 'completion' holds Python's spelling" in result.stderr


def test_parquet_without_its_end_is_an_error_of_one_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(write_parquet(path, [module("A")])[:-10])

    result = run("ingest", "rows.parquet")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("kbetl: rows.parquet: not a whole Parquet file: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "kbetl.db").exists() or seen(tmp_path).names == []


def test_damaged_group_of_parquet_rows_is_named_and_the_others_are_kept(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{**module(f"M{n}"), "noise": os.urandom(500).hex()} for n in range(30)]
    content = bytearray(write_parquet(path, rows, row_group_size=10, compression="zstd"))
    about = pq.ParquetFile(path).metadata.row_group(1)
    for number in range(about.num_columns):
        start = about.column(number).dictionary_page_offset or about.column(number).data_page_offset
        content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)

    result = run("ingest", "rows.parquet")

    assert result.returncode == 3
    found = seen(tmp_path)
    assert found.names == [f"M{n}" for n in (*range(10), *range(20, 30))]
    ((location, reason),) = found.rejected
    assert location == "rows.parquet:11"
    assert reason.startswith("rows 11 to 20 cannot be read")


def test_parquet_value_without_json_spelling_refuses_its_row(run: Run, tmp_path: Path) -> None:
    rows = [{**module("A"), "raw": None}, {**module("B"), "raw": b"\x00\x01"}, {**module("C"), "raw": None}]
    write_parquet(tmp_path / "rows.parquet", rows)

    result = run("ingest", "rows.parquet")

    assert result.returncode == 3
    found = seen(tmp_path)
    assert found.names == ["A", "C"]
    assert found.rejected == [
        (
            "rows.parquet:2",
            "column 'raw': it holds bytes that are no text; leave it out, or write it as text (base64)",
        )
    ]


def test_nan_in_parquet_is_null_and_named(run: Run, tmp_path: Path) -> None:
    rows = [{"completion": "a", "reward": float("nan"), "more": [{"x": float("inf")}]}]
    write_parquet(tmp_path / "rows.parquet", rows)

    run("ingest", "rows.parquet")

    with sqlite3.connect(tmp_path / "kbetl.db") as store:
        ((paths, row),) = store.execute("select nonfinite, row from samples")
    assert json.loads(paths) == ["$.reward", "$.more[0].x"]
    assert json.loads(row) == {"completion": "a", "reward": None, "more": [{"x": None}]}
