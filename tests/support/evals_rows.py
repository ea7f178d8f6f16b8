"""Rows shaped like the evals data, with everything in them that made the original scripts stumble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fill_disk import Filling, sample_of

Row = dict[str, Any]

UNREAD = 8
"""The row whose rating cannot be read."""

RATINGS = ("low", "medium", "high")


def code(name: str, body: str = "x") -> str:
    """PyTorch source of a module."""
    return f"class {name}(nn.Module):\n    def forward(self, x):\n        return {body}\n"


def evals_row(number: int, name: str, reward: float | None, python_code: str, **columns: Any) -> Row:
    """One rollout as the converter of the evals data writes it; the name stands in `info` alone."""
    answer = f"<answer>kernel {number}</answer>"
    said = {"role": "assistant", "content": answer, "reasoning": f"thinking about row {number} at length"}
    row = {
        "example_id": number,
        "prompt": [{"role": "user", "content": f"Write a kernel for {name}."}],
        "completion": [said],
        "task": "default",
        "reward": reward,
        "generation_ms": 1.5 + number,
        "scoring_ms": 2.0,
        "total_ms": 3.5 + number,
        "info": {"module_name": name, "python_code": python_code, "triton_code": "..."},
        "answer": "",
        "speedup_reward": 0.0,
        "num_turns": 1.0,
        "oai_tools": None,
    }
    return {**row, **columns}


def evals_rows() -> list[Row]:
    """Ties, one name over two codes, one code under two names, several turns, no reasoning, no reward."""
    relu, gelu, attention = code("Act", "relu(x)"), code("Act", "gelu(x)"), code("Attention", "x @ x")
    turns = [
        {"role": "assistant", "content": "first try", "reasoning": "a first thought, which was wrong"},
        {"role": "user", "content": "it fails"},
        {"role": "assistant", "content": "<answer>second try</answer>", "reasoning": "a second thought"},
    ]
    return [
        evals_row(0, "Act", 0.9, relu),
        evals_row(1, "Act", 0.97, gelu),
        evals_row(2, "Attention", 1.0, attention),
        evals_row(3, "Attention", 1.0, attention),  # a tie with the row before
        evals_row(4, "Low", 0.85, code("Low")),  # just the threshold
        evals_row(5, "Turns", 0.97, code("Turns", "x + 1"), completion=turns, num_turns=2.0),
        evals_row(
            6, "Plain", 1, code("Plain", "x - 1"), completion=[{"role": "assistant", "content": "bare"}]
        ),
        evals_row(7, "NoReward", None, code("NoReward")),
        evals_row(8, "Unread", 0.99, code("Unread", "x * 2")),  # its rating cannot be read
        evals_row(9, "Act2", 0.97, relu),  # the code of row 0 under another name
        evals_row(10, "Nothing", 0.99, code("Nothing"), completion=[]),
        evals_row(11, "Act", 0.97, gelu, example_id=11),  # a tie with row 1
    ]


def rated(store: Filling, rows: list[Row]) -> list[str]:
    """Stores rows and rates those above 0.85; gives their hashes in order."""
    task = store.tasks.get("difficulty") or store.task()
    store.tasks["difficulty"] = task
    hashes = []
    for row in rows:
        sample = sample_of(row, "rollout").hash
        hashes.append(sample)
        if store.rows(f"select 1 from samples where hash = '{sample}'"):
            continue
        store.sample(row)
        if row["reward"] is None or row["reward"] <= 0.85:
            continue
        if row["example_id"] == UNREAD:
            store.outcome(sample, task, "unparsed", request_hash=store.answer(sample, "no idea"))
        else:
            store.outcome(sample, task, value=RATINGS[row["example_id"] % 3])
    return hashes


def store_with(path: Path, **sources: list[Row]) -> Filling:
    """A store with these sources, in this order."""
    store = Filling(path)
    for name, rows in sources.items():
        store.source(name, *rated(store, rows))
    return store
