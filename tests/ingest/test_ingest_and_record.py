"""What `synth record` has recorded and what `ingest` has read stay in their source, whichever comes next."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kbetl.cli import run as kbetl


def trace(number: int, answer: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"Convert {number}"}
    said = {"role": "assistant", "content": f"import triton # {number} {answer}"}
    return {
        "task": {"data": {"idx": number, "prompt": asked["content"]}},
        "nodes": [
            {"parent": None, "sampled": False, "message": asked},
            {"parent": 0, "sampled": True, "message": said},
        ],
    }


EPISODES = [{"env": {"id": "kb"}, "traces": [trace(number, 0), trace(number, 1)]} for number in range(3)]
TRACES = [trace(number, 2) for number in range(3)]
ROLLOUTS = [{"example_id": n, "completion": f"import triton # {n}", "reward": 0.9} for n in range(3)]
ANSWERS = [{"completion": f"import triton # no example {n}", "reward": 0.9} for n in range(3)]
MODULES = [{"module_name": f"M{n}", "python_code": f"class M{n}: pass"} for n in range(3)]
FILES = {
    "episodes": [EPISODES],
    "traces": [TRACES],
    "rollouts": [ROLLOUTS],
    "rollouts and answers without an example": [[*ROLLOUTS, *ANSWERS]],
    "rollouts and modules": [[*ROLLOUTS, *MODULES]],
    "a file of each": [EPISODES, TRACES, ROLLOUTS, ANSWERS, MODULES],
}
COMMANDS = {"ingest": ["ingest", "run"], "record": ["synth", "record", "run", "--as", "run"]}


def places(database: str) -> dict[str, set[str]]:
    """The samples of each source."""
    store = sqlite3.connect(database)
    found: dict[str, set[str]] = {}
    for name, sample in store.execute(
        "select name, sample_hash from source_samples join sources on sources.id = source_id"
    ):
        found.setdefault(name, set()).add(sample)
    store.close()
    return found


@pytest.mark.parametrize("order", [("record", "ingest"), ("ingest", "record")], ids="-".join)
@pytest.mark.parametrize("what", FILES)
def test_the_other_command_removes_no_row_from_a_source(tmp_path, monkeypatch, what, order):
    """Each command says of each row what it says in a fresh store, and none takes out what the other gave."""
    monkeypatch.chdir(tmp_path)
    for number, rows in enumerate(FILES[what]):
        path = Path("run", str(number), "results.jsonl")
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fresh = {
        name: (
            kbetl([*words, "-q", "-d", f"{name}.db"]),
            places(f"{name}.db") if Path(f"{name}.db").exists() else {},
        )
        for name, words in COMMANDS.items()
    }

    had: dict[str, set[str]] = {}
    for command in (*order, *order):
        status = kbetl([*COMMANDS[command], "-q"])
        now = places("kbetl.db")
        assert all(samples <= now.get(name, set()) for name, samples in had.items()), command
        assert all(samples <= now.get(name, set()) for name, samples in fresh[command][1].items()), command
        assert status in (fresh[command][0], 0)
        had = now
    wanted: set[str] = set()
    for _, sources in fresh.values():
        wanted.update(*sources.values())
    assert set().union(*had.values()) == wanted
    assert kbetl(["check", "-q"]) == 0
