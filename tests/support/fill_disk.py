"""Fills a store row by row, for tests of what reads one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kbetl.records import Sample, code_hash, hash_point, sample_hash
from kbetl.samples import fields
from kbetl.store import Store

TIME = "2026-11-22T10:00:00.000Z"


def digest(prefix: str, text: object) -> str:
    """A hash of the right shape for what has no content of its own."""
    return f"{prefix}:" + hashlib.sha256(str(text).encode()).hexdigest()


class Filling:
    """A store that is open for writing; every method adds one row and gives its key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store.open(path)
        self.run_id = self.store.begin_run("ingest", {})
        self.tasks: dict[str, str] = {}

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def add(self, table: str, **row: Any) -> int:
        """One row of a table."""
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        cursor = self.store.connection.execute(f"insert into {table} ({names}) values ({marks})", row)
        return cursor.lastrowid or 0

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement gives."""
        return self.store.connection.execute(statement).fetchall()

    def sample(self, row: dict[str, Any], kind: str = "rollout") -> str:
        """A sample with the identity that its row has."""
        sample = sample_of(row, kind)
        columns = {name: getattr(sample, name) for name in Sample.__slots__}
        self.add("samples", **columns)
        return sample.hash

    def rollout(self, module_name: str | None, reward: float | None, text: str = "") -> str:
        """A rollout that differs from others by name, reward or text."""
        row: dict[str, Any] = {"completion": [{"role": "assistant", "content": text}], "reward": reward}
        return self.sample(row if module_name is None else {**row, "module_name": module_name})

    def module(self, name: str, python_code: str = "pass\n") -> str:
        """A module."""
        return self.sample({"module_name": name, "python_code": python_code}, "module")

    def source(self, name: str, *hashes: str) -> int:
        """A source that holds these samples in this order."""
        source_id = self.add("sources", name=name, uri=name, kind="file", ingested_at=TIME)
        for position, sample in enumerate(hashes):
            self.add("source_samples", source_id=source_id, position=position, sample_hash=sample)
        return source_id

    def task(self, name: str = "difficulty", *, model: str = "m", in_use: bool = True, **columns: Any) -> str:
        """A task; a rating of good rollouts unless the columns say otherwise."""
        task_hash = digest("t1", (name, model, sorted(columns.items())))
        row = {
            "about": "rollout",
            "parameters": "{}",
            "restriction": "reward > :min_reward",
            "reader": "{}",
            "template": "{{ completion }}",
            **columns,
        }
        self.add(
            "tasks",
            hash=task_hash,
            name=name,
            model=model,
            in_use=int(in_use),
            created_at=TIME,
            run_id=self.run_id,
            **row,
        )
        return task_hash

    def answer(self, request: object, content: str | None, **columns: Any) -> str:
        """An answer to a request of its own."""
        text = json.dumps({"model": "m", "messages": [str(request)]}, separators=(",", ":"), sort_keys=True)
        request_hash = "r1:" + hashlib.sha256(text.encode()).hexdigest()
        row = {
            "attempt": 0,
            "try": 0,
            "model": "m",
            "host": "localhost",
            "finish_reason": "stop",
            "latency_ms": 1.0,
            "run_id": self.run_id,
            "answered_at": TIME,
            "request": text,
            "response": "{}",
            **columns,
        }
        self.add("answers", request_hash=request_hash, content=content, **row)
        return request_hash

    def outcome(
        self, sample: str, task: str, status: str = "ok", value: str | None = None, **columns: Any
    ) -> None:
        """What a task concluded, with an answer of its own unless `request_hash` is given."""
        if "request_hash" not in columns:
            columns["request_hash"] = self.answer((sample, task), value, cost_usd=0.5)
        row = {
            "attempt": 0,
            "try": None if columns["request_hash"] is None else 0,
            "parser_version": "1",
            "decided_at": TIME,
            "reason": None if status == "ok" else f"because {status}",
            **columns,
        }
        if status != "ok":
            value = None
        self.add("outcomes", sample_hash=sample, task_hash=task, status=status, value=value, **row)


def sample_of(row: dict[str, Any], kind: str) -> Sample:
    """The sample that a row is."""
    text = json.dumps(row, ensure_ascii=False)
    hash_, name, code = sample_hash(row), fields.module_name(row), fields.python_code(row)
    code_digest = None if code is None else code_hash(code)
    return Sample(
        hash=hash_,
        kind=kind,  # type: ignore[arg-type]
        module_name=name,
        code_hash=code_digest,
        code_point=hash_point(code_digest, name, hash_),
        name_point=hash_point(name, code_digest, hash_),
        reward=fields.reward(row),
        nonfinite=None,
        row=text,
    )
