"""`kbetl run`: every stage in order, each doing only what is missing."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from conftest import ROOT, Run

TOML = """
[ingest]
sources = ["rollouts.jsonl"]
[enrich]
model = "offline"
[prompts]
model = "offline"
[lengths]
tokenizer = "{tokenizer}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with rows and a configuration that needs no network."""
    shutil.copy(ROOT / "data" / "sample.jsonl", tmp_path / "rollouts.jsonl")
    (tmp_path / "kbetl.toml").write_text(TOML.format(tokenizer=ROOT / "data" / "tokenizer"))
    return tmp_path


def count(folder: Path, statement: str) -> object:
    with sqlite3.connect(folder / "kbetl.db") as connection:
        return connection.execute(statement).fetchone()[0]


def test_run_does_every_stage_and_the_second_finds_nothing_to_do(run: Run, folder: Path) -> None:
    first = run("run")

    assert first.returncode in (0, 3), first.stderr
    stages = [line.removeprefix("== kbetl ") for line in first.stdout.splitlines() if line.startswith("== ")]
    exports = ["export filtered", "export unique", "export synthetic"]
    assert stages == ["ingest", "enrich", "prompts", "dedupe", "lengths", *exports]
    assert count(folder, "select count(*) from filtered") == 12
    assert count(folder, "select count(*) from synthetic") == 12
    assert count(folder, "select count(*) from lengths") == 18
    outputs = {path.name: path.read_bytes() for path in (folder / "outputs").iterdir()}
    assert len(outputs) == 3
    assert len(outputs["filtered_dataset-filtered.jsonl"].splitlines()) == 10
    assert "nothing was missing" not in first.stdout

    second = run("run")

    assert second.returncode == first.returncode
    assert second.stdout.splitlines()[-1] == "nothing was missing: no new row, no new answer, no new count"
    assert {path.name: path.read_bytes() for path in (folder / "outputs").iterdir()} == outputs


def test_test_mode_asks_about_five_samples_and_pushes_nothing(run: Run, folder: Path) -> None:
    with (folder / "kbetl.toml").open("a") as file:
        file.write('[push]\nowner = "nobody"\n')

    result = run("run", env={"TEST_MODE": "true"})

    assert result.returncode in (0, 3), result.stderr
    assert count(folder, "select count(*) from outcomes") == 10
    assert "TEST_MODE: nothing is pushed" in result.stderr
    assert "== kbetl push" not in result.stdout


def test_without_a_table_push_nothing_is_pushed(run: Run, folder: Path) -> None:
    assert "== kbetl push" not in run("run").stdout


def test_a_stage_that_fails_ends_the_run_and_says_what_was_done(run: Run, folder: Path) -> None:
    (folder / "kbetl.toml").write_text('[ingest]\nsources = ["rollouts.jsonl"]\n')

    result = run("run")

    assert result.returncode == 1
    assert "no key: PRIME_API_KEY is not set" in result.stderr
    assert result.stdout.splitlines()[-1] == "done: ingest"
    assert count(folder, "select count(*) from samples") == 30


def test_rows_that_are_rejected_are_left_over_and_the_rest_goes_on(run: Run, folder: Path) -> None:
    with (folder / "rollouts.jsonl").open("a") as file:
        file.write("{broken\n")

    result = run("run")

    assert result.returncode == 3
    assert "something is left over of: ingest" in result.stdout
    assert count(folder, "select count(*) from filtered") == 12


def test_a_stage_has_the_options_of_its_table_and_of_the_store_named(run: Run, folder: Path) -> None:
    with (folder / "kbetl.toml").open("a") as file:
        file.write('[export]\nformat = "rows"\n')
    text = (folder / "kbetl.toml").read_text()
    (folder / "kbetl.toml").write_text(
        text.replace('[prompts]\nmodel = "offline"', '[prompts]\nmodel = "offline"\nlimit = 2')
    )

    run("run", "-d", "other.db")

    found = json.loads(run("query", "-d", "other.db", "select count(*) as n from synthetic").stdout)
    assert found == [{"n": 2}]
    assert not (folder / "kbetl.db").exists()
