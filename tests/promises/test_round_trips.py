"""A rollout is the same sample from a run directory, from every export of it, and from the Hub."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from any_rows import ROWS, VALUES
from conftest import Run, clean_environment
from fake_hub import FakeHub
from hypothesis import given
from hypothesis import strategies as st

from kbetl.cli import run as kbetl
from kbetl.dataset.arrow import batches_of, columns_of, write_parquet
from kbetl.json_codec import read_json
from kbetl.readers.parquet_rows import raw_rows
from kbetl.records import sample_hash

RUNS = Path(__file__).parents[1] / "data" / "rollouts"
SHAPES = ["", *sorted(folder.name for folder in RUNS.iterdir())]
"""The runs of each tool and version, and first all of them in one dataset: columns of mixed types."""


def hashes(database: Path) -> set[str]:
    with sqlite3.connect(database) as plain:
        found = {row[0] for row in plain.execute("select hash from samples where kind = 'rollout'")}
    plain.close()
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_exports_hold_the_samples_that_were_recorded(tmp_path, monkeypatch, shape):
    """Lines, Parquet, a folder with splits; each into a store of its own."""
    monkeypatch.chdir(tmp_path)
    assert kbetl(["synth", "record", str(RUNS / shape), "-q"]) == 0
    recorded = hashes(tmp_path / "kbetl.db")
    assert recorded
    for target, *options in (("rows.jsonl.gz",), ("rows.parquet",), ("folder", "--splits")):
        assert kbetl(["export", "evals", "--all-sources", "-q", "-o", target, *options]) == 0
        assert kbetl(["ingest", target, "-q", "-d", f"{target}.db"]) == 0
        assert hashes(tmp_path / f"{target}.db") == recorded


def test_an_export_of_an_export_is_the_same_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kbetl(["synth", "record", str(RUNS), "-q"]) == 0
    assert kbetl(["export", "evals", "--all-sources", "-q", "-o", "rows.parquet"]) == 0
    assert kbetl(["ingest", "rows.parquet", "-q", "-d", "other.db"]) == 0
    assert (
        kbetl(["export", "evals", "--source", "rows.parquet", "-q", "-o", "2.parquet", "-d", "other.db"]) == 0
    )
    assert Path("2.parquet").read_bytes() == Path("rows.parquet").read_bytes()


def test_the_hub_holds_the_samples_that_were_recorded(run: Run, tmp_path: Path):
    assert run("synth", "record", RUNS).returncode == 0
    recorded = hashes(tmp_path / "kbetl.db")
    with FakeHub() as hub:
        pushed = run("push", "evals", "--all-sources", env=hub.environment)
        assert pushed.returncode == 0, pushed.stderr
        (repo,) = hub.repos
        read = run("ingest", repo, "-d", "other.db", env=hub.environment)
        assert read.returncode == 0, read.stderr
    assert hashes(tmp_path / "other.db") == recorded


BY_DATASETS = """
import datasets, pathlib, sys
for number, file in enumerate(sys.argv[1:]):
    rows = datasets.load_dataset("json", data_files=file, split="train")
    rows.to_parquet(f"by_datasets/{number}.parquet")
"""


def test_rows_that_datasets_read_and_wrote_are_the_same_samples(run: Run, tmp_path: Path):
    """Those of each tool that writes rows, with all its columns: objects without keys, lists of nothing.

    Numbers have nine decimals: `datasets` rounds to ten where it reads JSON by way of pandas.
    """
    files = []
    for number, run_file in enumerate(sorted(RUNS.rglob("results.jsonl"))):
        rows = [json.loads(line, parse_float=lambda text: round(float(text), 9)) for line in run_file.open()]
        files.append(tmp_path / f"{number}.jsonl")
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(files) == 9
    (tmp_path / "by_datasets").mkdir()
    subprocess.run(
        [sys.executable, "-c", BY_DATASETS, *map(str, files)],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path)),
        check=True,
        capture_output=True,
    )
    assert run("synth", "record", *files).returncode == 0
    recorded = hashes(tmp_path / "kbetl.db")
    read = run("ingest", "by_datasets", "-d", "other.db")
    assert read.returncode == 0, read.stderr
    assert hashes(tmp_path / "other.db") == recorded


ANY_ROWS = st.lists(ROWS, min_size=1, max_size=3) | st.lists(
    st.fixed_dictionaries({"completion": st.just("a")}, optional={"a": VALUES, "b": VALUES}),
    min_size=1,
    max_size=4,
)


@given(ANY_ROWS)
def test_whatever_values_rows_hold_parquet_gives_them_back(rows: list[dict[str, Any]]) -> None:
    file = io.BytesIO()
    columns = columns_of(rows)
    write_parquet(file, columns, batches_of([(row, 1) for row in rows], columns))
    file.seek(0)
    read = [sample_hash(read_json(raw.text).value) for raw in raw_rows(file, "rows.parquet")]
    assert read == [sample_hash(row) for row in rows]
