"""What the tests of export formats share: rows with reasoning, and what an export writes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evals_rows import Row, evals_row, store_with

from kbetl.cli import run

CODE = "class A: pass"
METADATA = ("sample_hash", "module_name", "reward", "difficulty")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(content: Any, **fields: Any) -> Row:
    return {"role": "assistant", "content": content, **fields}


def exported(rows: list[Row], *arguments: str, status: int = 0) -> list[Row]:
    """The lines of an export of rows, each rated; less the columns that say which row it is."""
    store_with(Path("kbetl.db"), evals=rows)
    assert run(["export", "filtered", "-o", "f.jsonl", *arguments]) == status
    found = [json.loads(line) for line in Path("f.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in METADATA} for row in found]


def row_with(*completion: Row, number: int = 0, **columns: Any) -> Row:
    return evals_row(number, "A", 1.0, CODE, completion=list(completion), **columns)


ASK = {"role": "user", "content": "Write a kernel for A."}
THOUGHT = "a thought of some length"
ANSWER = "<answer>code</answer>"
