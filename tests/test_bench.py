"""The benchmark runs: few rows, one round, no figure is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import clean_environment


def test_a_stage_is_measured_beside_its_floor(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "ingest", "ingest-again", "enrich", "--rows", "20"]
    more = ["--rounds", "1", "--json", str(tmp_path / "figures.json"), "--folder", str(tmp_path)]
    subprocess.run(
        [*command, *more],
        cwd=Path(__file__).parents[1],
        env=clean_environment(HOME=str(tmp_path)),
        check=True,
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [line["stage"] for line in figures["lines"]] == ["ingest", "ingest-again", "enrich"]
    for line in figures["lines"]:
        assert line["input_bytes"] > 100_000
        assert {kind: len(rounds) for kind, rounds in line["rounds"].items()} == {"kbetl": 1, "floor": 1}
    assert [each.name for each in tmp_path.iterdir() if each.is_dir() and any(each.iterdir())] == []
