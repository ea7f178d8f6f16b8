"""What the tests of push share: a Hub, a store with four datasets, and the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Result, Run
from fake_hub import FakeHub
from fill_disk import Filling

from kbetl.store import Store

FILTERED = "siro1/kernelbook-glm4_7-evals-filtered"
SYNTHETIC = "siro1/kernelbook-synthetic-tasks"
TRAIN = "data/train-00000-of-00001.parquet"
Push = Callable[..., Result]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


@pytest.fixture
def push(run: Run, hub: FakeHub) -> Push:
    """`kbetl push ARGUMENTS` to the Hub of the test, with short waits."""

    def run_push(*arguments: object, env: dict[str, str] | None = None) -> Result:
        return run("push", "--first-wait-s", "0.001", *arguments, env={**hub.environment, **(env or {})})

    return run_push


def rollout(number: int) -> dict[str, Any]:
    return {
        "example_id": number,
        "prompt": [{"role": "user", "content": f"é {number}"}],
        "completion": [
            {"role": "assistant", "content": "kernel\n", "reasoning": "so" if number % 2 else None}
        ],
        "reward": 0.9 + number % 3 / 100 if number % 4 else 0.25,
        "info": {"module_name": f"M{number // 2}", "python_code": f"class M: x = {number // 2}"},
        "num_turns": 1.0,
        "oai_tools": None,
    }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Forty rollouts, thirty of them good and rated, and three modules with a specification."""
    with Filling(tmp_path / "kbetl.db") as filling:
        task, prompts = filling.task(), filling.task("prompts", about="module", restriction=None)
        hashes = [filling.sample(rollout(number)) for number in range(40)]
        for number, sample in enumerate(hashes):
            if number % 4:
                filling.outcome(sample, task, value=("low", "medium", "high")[number % 3])
        modules = [
            filling.sample({"module_name": f"M{n}", "python_code": f"y = {n}", "uuid": n}, "module")
            for n in range(3)
        ]
        for module in modules:
            filling.outcome(module, prompts, value=f"Write {module}")
        filling.source("evals", *hashes)
        filling.source("book", *modules)
    return tmp_path / "kbetl.db"


def writes(hub: FakeHub) -> list[str]:
    return [request for request in hub.requests if not request.startswith(("GET", "HEAD"))]


def commits(hub: FakeHub) -> int:
    return sum("/commit/" in request for request in hub.requests)


def runs(store: Path) -> list[tuple[Any, ...]]:
    with Store.read(store) as reading:
        query = "select command, status, counts, options from runs where command = 'push' order by id"
        return reading.connection.execute(query).fetchall()
