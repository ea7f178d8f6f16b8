"""What the tests of lengths share: rollouts, a tokenizer, and the report on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fill_disk import Filling

from kbetl.lengths import Chosen, LengthReport, measure
from kbetl.resources import data_path

DEMO = data_path("tokenizer")
LINES = data_path("sample.jsonl").read_bytes().splitlines()
ROLLOUTS: list[dict[str, Any]] = [row for line in LINES if "completion" in (row := json.loads(line))]
ALL = Chosen("samples")


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the demo's tokenizer, with another template."""

    def make(template: str, name: str = "tokenizer") -> Path:
        copy = tmp_path / name
        shutil.copytree(DEMO, copy)
        (copy / "chat_template.jinja").write_text(template, encoding="utf-8")
        return copy

    return make


def rollout(*completion: dict[str, Any], prompt: Any = "Do it.", **columns: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": list(completion), "reward": 1.0, **columns}


def said(content: Any = "Done.", **columns: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **columns}


def counted(store: Filling, folder: Path, *rows: dict[str, Any]) -> LengthReport:
    for row in rows:
        store.sample(row)
    return measure(store.store, str(folder), ALL)


IGNORES_REASONING = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
