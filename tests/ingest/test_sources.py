"""What a source keeps and loses when it is read again, and which sources are refused."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run


def text(numbers: range) -> str:
    rows = ({"module_name": f"M{n}", "python_code": f"class M{n}: pass  # {n * 7919}"} for n in numbers)
    return "".join(json.dumps(row) + "\n" for row in rows)


def held(folder: Path, source: str) -> list[str]:
    """The modules of a source in order."""
    with sqlite3.connect(folder / "kbetl.db") as store:
        found = store.execute(
            "select module_name from source_samples join samples on hash = sample_hash"
            " join sources on sources.id = source_id where sources.name = ? order by position",
            (source,),
        )
        return [name for (name,) in found]


ALL = [f"M{n}" for n in range(50)]
KEPT = "read only in part; it keeps the rows it had"


def test_cut_file_takes_no_row_from_its_source(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress(text(range(50)).encode()))
    assert run("ingest", "rows.jsonl.gz").returncode == 0
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    for _ in range(2):
        result = run("ingest", "rows.jsonl.gz")
        assert result.returncode == 3
        assert f"rows.jsonl.gz: {KEPT}\n" in result.stderr
        assert held(tmp_path, "rows.jsonl.gz") == ALL

    file.write_bytes(gzip.compress(text(range(50)).encode()))
    result = run("ingest", "rows.jsonl.gz")
    assert (result.returncode, result.stderr) == (0, "")


def test_cut_file_gives_its_rows_where_there_were_none(run: Run, tmp_path: Path) -> None:
    """Nothing is said of rows that the source never had."""
    whole = gzip.compress(text(range(50)).encode(), mtime=0)
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])

    result = run("ingest", "rows.jsonl.gz")

    found = held(tmp_path, "rows.jsonl.gz")
    assert result.returncode == 3
    assert 0 < len(found) < 50
    assert found == ALL[: len(found)]
    assert KEPT not in result.stderr


def test_file_without_a_good_row_takes_no_row_from_its_source(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text(range(50)))
    assert run("ingest", "rows.jsonl").returncode == 0
    file.write_text('{"completion": 1}\n' * 50)

    result = run("ingest", "rows.jsonl")

    assert result.returncode == 3
    assert f"rows.jsonl: {KEPT}\n" in result.stderr
    assert held(tmp_path, "rows.jsonl") == ALL


def test_damaged_parquet_takes_no_row_from_its_source(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rows = [json.loads(line) for line in text(range(50)).splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=10, compression="gzip")
    assert run("ingest", "rows.parquet").returncode == 0
    chunk = pq.ParquetFile(file).metadata.row_group(2).column(1)
    damaged = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    damaged[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    file.write_bytes(damaged)

    result = run("ingest", "rows.parquet")

    assert result.returncode == 3
    assert f"rows.parquet: {KEPT}\n" in result.stderr
    assert held(tmp_path, "rows.parquet") == ALL


def test_unreadable_file_of_a_folder_takes_no_row_from_it(run: Run, tmp_path: Path) -> None:
    """And its fault is named once, where it stands."""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text(text(range(2)))
    (folder / "b.csv").write_text("module_name,python_code\nM2,class M2: pass\n")
    assert run("ingest", "rows").returncode == 0
    (folder / "b.csv").write_text("module_name,module_name\nM2,class M2: pass\n")

    result = run("ingest", "rows")

    assert result.returncode == 3
    assert result.stderr.splitlines() == [
        f"rows: {KEPT}",
        "rows/b.csv:1: two columns are called 'module_name'",
    ]
    assert held(tmp_path, "rows") == ["M0", "M1", "M2"]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (range(1, 50), "1 sample is no longer in this source"),
        (range(40, 60), "40 samples are no longer in this source"),
        (range(60, 62), "50 samples are no longer in this source"),
    ],
)
def test_samples_that_leave_a_source_are_counted(run: Run, tmp_path: Path, numbers: range, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text(range(50)))
    run("ingest", "rows.jsonl")
    file.write_text(text(numbers))

    result = run("ingest", "rows.jsonl")

    assert (result.returncode, result.stderr) == (0, f"rows.jsonl: {said}\n")
    assert held(tmp_path, "rows.jsonl") == [f"M{n}" for n in numbers]


def test_rows_in_another_order_leave_no_source(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text(range(50)))
    run("ingest", "rows.jsonl")
    file.write_text(text(range(49, -1, -1)))

    result = run("ingest", "rows.jsonl")

    assert (result.returncode, result.stderr) == (0, "")
    assert held(tmp_path, "rows.jsonl") == ALL[::-1]


@pytest.mark.parametrize(
    ("arguments", "toml", "message"),
    [
        ([""], "", "a SOURCE is empty"),
        (["rows.jsonl", ""], "", "a SOURCE is empty"),
        (["rows.jsonl", "--as", ""], "", "--as is empty"),
        (["rows.jsonl", "--as", " "], "", "--as is empty"),
        (["rows.jsonl", "--as", "a\nb"], "", "--as 'a\\nb' has line breaks or control characters"),
        ([], "[ingest]\nsources = []\n", "[ingest] sources is empty"),
        ([], '[ingest]\nsources = [""]\n', "a SOURCE is empty"),
    ],
)
def test_empty_names_are_wrong_usage(
    run: Run, tmp_path: Path, arguments: list[str], toml: str, message: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(text(range(1)))
    (tmp_path / "kbetl.toml").write_text(toml)

    result = run("ingest", *arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert not (tmp_path / "kbetl.db").exists()
