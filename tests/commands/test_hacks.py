"""`kbetl hacks`: what is stored of solutions, once per code, and what `--where` makes of it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from evals_rows import evals_row

from kbetl.cli import run
from kbetl.dataflow import hacks

MODULE = "import torch\nclass Add(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n"
SOLUTION = """import torch
import triton
import triton.language as tl

@triton.jit
def add_one(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.load(x_ptr + i) + 1)

class AddNew(torch.nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        add_one[(1,)](x, out, BLOCK=16)
        return out
"""
CHEAT = SOLUTION.replace("return out", "return torch.zeros_like(x)")


def said(text: str) -> dict[str, Any]:
    return {"completion": [{"role": "assistant", "content": text}]}


def solved(code: str) -> dict[str, Any]:
    return said(f"so:\n```python\n{code}```\n")


ROWS = [
    evals_row(0, "Add", 0.9, MODULE, **solved(SOLUTION), speedup_reward=3.0),
    evals_row(1, "Add", 0.8, MODULE, **solved(SOLUTION), speedup_reward=3.6),
    evals_row(2, "Add", 0.7, MODULE, **solved(CHEAT)),
    evals_row(3, "Add", 0.6, MODULE, **said("I would not.")),
    evals_row(4, "Add", 0.5, MODULE, **said("```python\ndef f(:\n```\x1b[2J")),
]


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    """What plain SQLite reads."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(json.dumps(row) for row in ROWS)
    Path("rollouts.jsonl").write_text(text, encoding="utf-8")
    assert run(["ingest", "rollouts.jsonl", "-q"]) == 0
    return tmp_path / "kbetl.db"


def test_flags_by_rollout(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row per rollout, read once; filters tell the clean from what nobody read."""
    by_reward = "select reward, flags, worst from hacks order by reward desc"
    assert rows(store, by_reward) == [(reward, None, "unchecked") for reward in (0.9, 0.8, 0.7, 0.6, 0.5)]
    capsys.readouterr()

    assert run(["hacks", "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert (report["read"], report["new_solutions"]) == (5, 4)
    assert report["rollouts"] == {"hack": 3, "clean": 2}
    assert rows(store, by_reward) == [
        (0.9, "", None),
        (0.8, "", None),
        (0.7, "constant_output,result_unused", "hack"),
        (0.6, "no_code", "hack"),
        (0.5, "does_not_parse", "hack"),
    ]
    line = "select line, evidence from hack_flags where flag = 'constant_output'"
    assert rows(store, line) == [(14, "return torch.zeros_like(x)")]
    assert rows(store, "select count(*) from selectable where worst is null") == [(2,)]
    assert rows(store, "select count(*) from selectable where flags like '%unused%'") == [(1,)]
    checks = (
        "select speedup, operators, launches, ceiling, implausible from reward_checks order by speedup desc"
    )
    assert rows(store, checks)[:2] == [(3.6, 1, 1, 3.5, 1), (3.0, 1, 1, 3.5, 0)]
    assert rows(store, "select sum(implausible) from reward_checks") == [(3,)]

    assert run(["hacks"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "hacks: read 0 rollouts, 0 new solutions",
        "5 rollouts: hack 3, suspect 0, clean 2",
    ]


def test_a_newer_checker_reads_all_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts have a version; the newest takes the place of the older ones."""
    assert run(["hacks", "-q"]) == 0
    monkeypatch.setattr("kbetl.hacks.CHECKER_VERSION", hacks.CHECKER_VERSION + 1)
    assert run(["hacks", "-q"]) == 0
    versions = "select distinct version from findings"
    assert rows(store, versions) == [(hacks.CHECKER_VERSION + 1,)]


def test_a_speed_up_is_a_number(store: Path) -> None:
    """A text is none; without the module 10 is the ceiling, as nothing says how many operators it has."""
    lines: list[dict[str, Any]] = [
        {**evals_row(10 + at, "Lone", 0.1, "", **solved(SOLUTION)), "speedup_reward": speedup, "info": None}
        for at, speedup in enumerate([2.5, 11, "3 times", True])
    ]
    Path("lone.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert run(["ingest", "lone.jsonl", "-q"]) == 0
    assert run(["hacks", "-q"]) == 0
    checks = "select speedup, ceiling, implausible from reward_checks where operators is null"
    known = f"{checks} and speedup > 0 order by speedup"
    assert rows(store, known) == [(2.5, 10, 0), (11, 10, 1)]


def test_a_map_says_where_the_module_stands(store: Path) -> None:
    """A rollout whose map changes is read again: what is known of its module decides flags."""
    row = {"q": "faster", "a": solved(CHEAT)["completion"][0]["content"], "src": MODULE, "called": "Add"}
    Path("pairs.jsonl").write_text(json.dumps(row), encoding="utf-8")
    ingest = ["ingest", "pairs.jsonl", "-q", "--map", "prompt=q", "--map", "completion=a"]
    mapped = "select flags from hacks join mapped_samples using (sample_hash)"
    assert run(ingest) == 0
    assert run(["hacks", "-q"]) == 0
    assert rows(store, mapped) == [("result_unused",)]
    assert run([*ingest, "--map", "python_code=src", "--map", "module_name=called"]) == 0
    assert rows(store, mapped) == [(None,)]
    assert run(["hacks", "-q"]) == 0
    assert rows(store, mapped) == [("constant_output,result_unused",)]


def test_no_store_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made where there is no store."""
    assert run(["hacks", "-d", str(tmp_path / "none.db")]) == 1
    assert "none.db" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()
