"""The same rows are the same samples in every input format: kind of file, encoding, packing, tool."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from conftest import Run, clean_environment
from hypothesis import given, settings
from hypothesis import strategies as st

from kbetl.json_codec import read_json
from kbetl.readers import rows_of_file
from kbetl.records import sample_hash

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12).map(
    lambda text: f"x{text}\u2028y"
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}),
    min_size=1,
    max_size=2,
)
FLAT = {
    "module_name": TEXT,
    "python_code": TEXT,
    "reward": st.none() | st.floats(0, 1),
    "example_id": st.integers(0, 2**40),
}
NESTED = {
    **FLAT,
    "completion": MESSAGES,
    "tags": st.lists(TEXT, max_size=2),
    "info": st.fixed_dictionaries({"a": TEXT}),
}


def rows_like(fields: dict[str, Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=20)


def _lines(rows: Sequence[dict[str, Any]], **how: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, **how) + "\n" for row in rows)


def _csv(rows: Sequence[dict[str, Any]], separator: str = ",", head: str = "") -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return head + text.getvalue()


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _ipc(table: pa.Table, new: Callable[..., Any]) -> bytes:
    file = io.BytesIO()
    with new(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _pandas(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """As after a filter: an index without a name that is no range."""
    return pd.DataFrame(rows, index=[3 * number + 7 for number in range(len(rows))])


def _with_index(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"__index_level_0__": number, "Unnamed: 0": number + 1, **row} for number, row in enumerate(rows)]


ANY_DOORS: dict[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    "a.jsonl": lambda rows: _lines(rows).encode(),
    "ascii.jsonl": lambda rows: "".join(json.dumps(row) + "\r\n" for row in rows).encode(),
    "mark.jsonl": lambda rows: _lines(rows).encode("utf-8-sig"),
    "pretty.jsonl": lambda rows: _lines(rows, indent=2).encode(),
    "unindented.jsonl": lambda rows: _lines(rows, indent=0).encode(),
    "both.jsonl": lambda rows: (_lines(rows[:1]) + _lines(rows[1:], indent="\t")).encode(),
    "list.jsonl": lambda rows: json.dumps(list(rows), indent=1).encode(),
    "utf16.jsonl": lambda rows: _lines(rows).encode("utf-16"),
    "pretty16.jsonl": lambda rows: _lines(rows, indent=4).encode("utf-16"),
    "utf16be.jsonl": lambda rows: ("\ufeff" + _lines(rows)).encode("utf-16-be"),
    "unmarked16.jsonl": lambda rows: _lines(rows).encode("utf-16-le"),
    "utf32.json": lambda rows: json.dumps(list(rows)).encode("utf-32"),
    "list.json": lambda rows: json.dumps(list(rows)).encode(),
    "pretty.json": lambda rows: _lines(rows, indent=2).encode(),
    "index.jsonl": lambda rows: _lines(_with_index(rows)).encode(),
    "a.jsonl.gz": lambda rows: gzip.compress(_lines(rows).encode("utf-16")),
    "a.jsonl.zst": lambda rows: zstandard.compress(_lines(rows).encode()),
    "skipped.jsonl.zst": lambda rows: (
        b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstandard.compress(_lines(rows).encode())
    ),
    "a.parquet": lambda rows: _parquet(_table(rows)),
    "a.parquet.zst": lambda rows: zstandard.compress(_parquet(_table(rows))),
    "pandas.parquet": lambda rows: _parquet(pa.Table.from_pandas(_pandas(rows))),
    "index.parquet": lambda rows: _parquet(_table(_with_index(rows))),
    "stream.arrow": lambda rows: _ipc(_table(rows), pa.ipc.new_stream),
    "file.arrow": lambda rows: _ipc(_table(rows), pa.ipc.new_file),
    "file.feather.gz": lambda rows: gzip.compress(_ipc(_table(rows), pa.ipc.new_file)),
}
FLAT_DOORS: dict[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    **ANY_DOORS,
    "a.csv": lambda rows: _csv(rows).encode(),
    "mark.csv": lambda rows: _csv(rows).encode("utf-8-sig"),
    "utf16.csv": lambda rows: _csv(rows, "\t").encode("utf-16"),
    "semicolons.csv": lambda rows: _csv(rows, ";").encode(),
    "told.csv": lambda rows: _csv(rows, ";", head="sep=;\r\n").encode(),
    "bars.csv": lambda rows: _csv(rows, "|").encode(),
    "tabs.tsv": lambda rows: _csv(rows, "\t").encode(),
    "pandas.csv": lambda rows: _pandas(rows).to_csv().encode(),
    "pandas.csv.gz": lambda rows: gzip.compress(_pandas(rows).to_csv(sep=";").encode()),
}


def hashes_of(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    found = list(rows_of_file(path, path.name))
    assert [raw.fault for raw in found] == [None] * len(found)
    return [sample_hash(read_json(raw.text).value) for raw in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@settings(max_examples=15, deadline=None)
@given(rows=rows_like(NESTED))
def test_rows_are_the_same_samples_in_every_format(folder: Path, rows: list[dict[str, Any]]) -> None:
    wanted = [sample_hash(row) for row in rows]
    for name, write in ANY_DOORS.items():
        assert hashes_of(folder / name, write(rows)) == wanted, name


@settings(max_examples=15, deadline=None)
@given(rows=rows_like(FLAT))
def test_flat_rows_are_the_same_samples_through_csv_too(folder: Path, rows: list[dict[str, Any]]) -> None:
    wanted = [sample_hash(row) for row in rows]
    for name, write in FLAT_DOORS.items():
        assert hashes_of(folder / name, write(rows)) == wanted, name


SAVE = """
import json, datasets
rows = [json.loads(line) for line in open("rows.jsonl")]
made = datasets.Dataset.from_list(rows)
made.save_to_disk("plain", num_shards=2)
datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk("splits")
kept = datasets.load_from_disk("plain")
change = lambda row: {"module_name": row["module_name"] + " changed"}
kept.map(change, cache_file_name="plain/cache-0123.arrow")
kept.filter(lambda row: row["reward"] > 0.5).save_to_disk("filtered")
"""


def test_folder_of_save_to_disk_gives_its_rows_and_nothing_that_lies_beside(run: Run, tmp_path: Path) -> None:
    rows = [
        {"module_name": f"M{n}", "python_code": "class M: pass", "reward": n / 4, "tags": ["a"]}
        for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text(_lines(rows))
    subprocess.run(
        [sys.executable, "-c", SAVE],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path)),
        check=True,
        capture_output=True,
    )

    result = run("ingest", "rows.jsonl", "plain", "splits", "filtered")

    assert result.returncode == 0, result.stderr
    counts = [line.partition(": ")[2].partition(" (")[0] for line in result.stdout.splitlines()]
    assert counts == [
        f"read {n}, new {new}, known {n - new}, rejected 0" for n, new in ((4, 4), (4, 0), (5, 0), (1, 0))
    ]
    assert (
        "plain/cache-0123.arrow: skipped, no file of the dataset that state.json describes" in result.stderr
    )
    with sqlite3.connect(tmp_path / "kbetl.db") as store:
        features = store.execute("select features from sources where name = 'plain'").fetchone()[0]
    assert json.loads(features)["module_name"] == {"dtype": "string", "_type": "Value"}


NS = 1_700_000_000_123_456_789
ARROW_VALUES: dict[str, tuple[pa.Array, list[Any]]] = {
    "decimals": (
        pa.array([Decimal("0.95"), Decimal("1.00"), None], pa.decimal128(3, 2)),
        [0.95, 1, None],
    ),
    "decimals beyond a double": (
        pa.array([Decimal("0.12345678901234567890"), Decimal("0.5")], pa.decimal128(38, 20)),
        ["0.12345678901234567890", 0.5],
    ),
    "whole decimals": (pa.array([Decimal(10**30 + 1)], pa.decimal128(38, 0)), [10**30 + 1]),
    "maps": (
        pa.array([[("a", 1), ("b", None)], [], None], pa.map_(pa.string(), pa.int64())),
        [{"a": 1, "b": None}, {}, None],
    ),
    "maps by number": (pa.array([[(1, "x")]], pa.map_(pa.int64(), pa.string())), [{"1": "x"}]),
    "lists of structs with decimals": (
        pa.array(
            [[{"x": Decimal("0.5"), "y": "a"}, None]],
            pa.list_(pa.struct({"x": pa.decimal128(3, 2), "y": pa.string()})),
        ),
        [[{"x": 0.5, "y": "a"}, None]],
    ),
    "maps of lists of times": (
        pa.array(
            [[("k", [dt.datetime(2024, 1, 2, 3, 4, 5)])]], pa.map_(pa.string(), pa.list_(pa.timestamp("ms")))
        ),
        [{"k": ["2024-01-02T03:04:05"]}],
    ),
    "dates": (pa.array([dt.date(2024, 1, 2)], pa.date32()), ["2024-01-02"]),
    "timestamps": (
        pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 6)], pa.timestamp("us")),
        ["2024-01-02T03:04:05.000006"],
    ),
    "timestamps with nanoseconds": (
        pa.array([NS, NS // 1000 * 1000], pa.timestamp("ns")),
        ["2023-11-14T22:13:20.123456789", "2023-11-14T22:13:20.123456"],
    ),
    "timestamps in a zone": (
        pa.array([NS], pa.timestamp("ns", "Europe/Berlin")),
        ["2023-11-14T23:13:20.123456789+01:00"],
    ),
    "times": (pa.array([dt.time(1, 2, 3)], pa.time32("s")), ["01:02:03"]),
    "times with nanoseconds": (pa.array([3_723_000_000_001], pa.time64("ns")), ["01:02:03.000000001"]),
    "durations": (pa.array([1_500, -250, 0], pa.duration("ms")), ["PT1.5S", "-PT0.25S", "PT0S"]),
    "intervals": (pa.array([(1, 2, 3_000_000_000)], pa.month_day_nano_interval()), ["P1M2DT3S"]),
    "uuids": (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), [str(uuid.UUID(int=5))]),
    "text as bytes": (pa.array(["é\n漢".encode()], pa.binary()), ["é\n漢"]),
    "categories": (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    "half floats": (pa.array([0.5], pa.float16()), [0.5]),
    "large integers": (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
}
UNSPELLED: dict[str, tuple[pa.Array, str]] = {
    "bytes": (pa.array([b"\x89PNG\r\n"]), "bytes that are no text"),
    "bytes that are UTF-8 by chance": (pa.array([b"\x00\x01"]), "bytes that are no text"),
    "bytes of one length": (pa.array([b"abcd"], pa.binary(4)), "bytes that are no text"),
    "an image": (pa.array([{"bytes": b"\xff\xd8", "path": "a.jpg"}]), "bytes that are no text"),
    "a key twice": (
        pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
        'its map has the key "a" twice',
    ),
    "a year beyond 9999": (pa.array([2**53], pa.timestamp("s")), "a date or time beyond the year 9999"),
    "a day beyond 9999": (pa.array([2**30], pa.date32()), "a date or time beyond the year 9999"),
}


def _written(values: pa.Array, kind: str) -> bytes:
    table = pa.table({"completion": ["a"] * len(values), "value": values})
    return _parquet(table) if kind == "parquet" else _ipc(table, pa.ipc.new_stream)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("what", ARROW_VALUES)
def test_each_arrow_type_has_one_spelling(tmp_path: Path, what: str, kind: str) -> None:
    values, wanted = ARROW_VALUES[what]
    if kind == "parquet" and pa.types.is_interval(values.type):
        pytest.skip("Parquet has no such type")
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(_written(values, kind))

    found = list(rows_of_file(path, path.name))

    assert [raw.fault for raw in found] == [None] * len(wanted)
    assert [json.loads(raw.text)["value"] for raw in found] == wanted


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("what", UNSPELLED)
def test_value_without_a_spelling_refuses_its_row_by_its_column(tmp_path: Path, what: str, kind: str) -> None:
    values, reason = UNSPELLED[what]
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(_written(pa.concat_arrays([values, pa.nulls(1, values.type)]), kind))

    bad, good = rows_of_file(path, path.name)

    assert bad.line == 1
    assert bad.fault is not None
    assert bad.fault.startswith("column 'value': ")
    assert reason in bad.fault
    assert json.loads(good.text) == {"completion": "a", "value": None}


def test_index_that_has_a_name_and_one_that_is_text_are_content() -> None:
    row = {"completion": "a"}
    for content in ({"index": 1}, {"id": 1}, {"Unnamed: 0": "x"}, {"Unnamed: 1": 1}, {"__index__": 1}):
        assert sample_hash({**row, **content}) != sample_hash(row)
    for place in (
        {"__index_level_1__": "x"},
        {"Unnamed: 0": 5},
        {"Unnamed: 0.1": 5},
        {"__index_level_0__": 5},
    ):
        assert sample_hash({**row, **place}) == sample_hash(row)


BROKEN_OBJECTS = {
    "a cut line before good ones": ('{"a": 1,\n{"completion": "a"}\n{"completion": "b"}\n', [1, 2, 3]),
    "a cut line before one over several lines": (
        '{"a":\n{"completion": "a"}\n{\n"completion": "b"\n}\n',
        [1, 2, 3],
    ),
    "an object that is not JSON": ('{\n "a": 1,,\n "b": [\n ]\n}\n{"completion": "a"}\n', [1, 6]),
    "an object that is cut": ('{"completion": "a"}\n{\n "a": 1,\n "b": [\n', [1, 2]),
    "brackets in texts": ('{"completion":\n "}{]["\n}\n{"completion": "\\"{"}\n', [1, 4]),
}


@pytest.mark.parametrize("what", BROKEN_OBJECTS)
def test_objects_over_several_lines_hide_no_row(tmp_path: Path, what: str) -> None:
    text, starts = BROKEN_OBJECTS[what]
    (tmp_path / "rows.jsonl").write_text(text)
    assert [raw.line for raw in rows_of_file(tmp_path / "rows.jsonl", "rows.jsonl")] == starts


@pytest.mark.parametrize(
    ("header", "said"),
    [("a;b\tc", "semicolons or tabs may part its columns"), ("prompt;a\tmodule_name", "semicolons or tabs")],
)
def test_csv_that_may_be_parted_by_two_marks_is_refused(
    run: Run, tmp_path: Path, header: str, said: str
) -> None:
    (tmp_path / "rows.csv").write_text(f"{header}\n1;2\t3\n")
    result = run("ingest", "rows.csv")
    assert result.returncode == 1
    assert said in result.stderr


def test_zstandard_with_a_long_window_is_read(run: Run, tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    text = "".join(_lines([{"module_name": f"M{n}", "python_code": "class M: pass"}]) for n in range(3))
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "rows.jsonl.zst").write_bytes(compressor.compress(text.encode()) + compressor.flush())
    result = run("ingest", "rows.jsonl.zst")
    assert result.returncode == 0, result.stderr
    assert "new 3" in result.stdout


def repeated(kind: str) -> bytes:
    """400 rows of 1 MB that the file holds once."""
    text, count = "a long shared prompt " * 50_000, 400
    values = pa.array([text] * count)
    table = pa.table({"completion": [str(n) for n in range(count)], "prompt": values})
    if kind == "dictionary.arrow":
        return _ipc(table.set_column(1, "prompt", values.dictionary_encode()), pa.ipc.new_stream)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=count)
    return file.getvalue()


PEAK = """
import re, sys
from pathlib import Path
from kbetl.readers import rows_of_file
assert all(raw.fault is None for raw in rows_of_file(Path(sys.argv[1]), sys.argv[1]))
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.parametrize("kind", ["dictionary.parquet", "dictionary.arrow"])
def test_text_that_a_file_holds_once_is_not_held_for_each_row(tmp_path: Path, kind: str) -> None:
    (tmp_path / kind).write_bytes(repeated(kind))
    peak_mb = subprocess.run(
        [sys.executable, "-c", PEAK, kind],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        check=True,
    ).stdout
    assert int(peak_mb) < 150 + 8 * 2
