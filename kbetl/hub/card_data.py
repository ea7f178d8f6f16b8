"""What the store knows of a dataset that is pushed: everything that its card says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kbetl.dataset.dataset import DatasetRows, query_of
from kbetl.store.datasets import source_ids

_DIFFICULTIES = ("low", "medium", "high")


class Source(NamedTuple):
    """Where samples came from; `revision` and `split` are None for what is not on the Hub."""

    name: str
    kind: str
    uri: str
    revision: str | None
    split: str | None
    read: int
    """Rows, rejected ones included."""
    rejected: int
    samples: int
    """Different samples of the kind that the dataset is made of."""


class Stages(NamedTuple):
    """How many samples came how far."""

    samples: int
    meant: int
    """Those that the task is about: rollouts above min_reward, or all modules."""
    unasked: int
    """Those of `meant` that have no outcome."""
    filtered: int


class Task(NamedTuple):
    """The task in use, its texts by their SHA-256."""

    name: str
    hash: str
    model: str
    parameters: str
    template_sha256: str
    system_sha256: str | None


class Length(NamedTuple):
    """Lengths by one tokenizer and template, of so many rows, in tokens by percentile."""

    tokenizer: str
    template_hash: str
    rows: int
    total_tokens: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card of a dataset is made of. Counts are in rows or samples."""

    dataset: str
    rows: Mapping[str, int]
    """By split."""
    settings: Mapping[str, float | str]
    sources: Sequence[Source]
    stages: Stages
    task: Task | None
    outcomes: Mapping[str, int]
    """Of the task in use, by status."""
    difficulties: Mapping[str, int]
    rewards: Mapping[int, float]
    """By percentile; empty where no row has a reward."""
    reward_tenths: Mapping[int | None, int]
    """As `sql/queries/card_reward_tenths.sql` says."""
    lengths: Sequence[Length]
    models: Mapping[str, int]
    """What the rows name as the model that wrote them."""
    licences: Mapping[str | None, int]
    """By licence, or several joined by comma; None: rows without one."""
    notes: Sequence[str]

    @property
    def total(self) -> int:
        """Rows in all splits."""
        return sum(self.rows.values())


def read_facts(opened: DatasetRows, rows: Mapping[str, int], notes: Sequence[str]) -> Facts:
    """What the store knows of the dataset that is open; `rows` by split as they were written."""
    store = opened.store
    dataset = opened.dataset
    ids = source_ids(store, dataset.sources) if dataset.sources else None
    choice = query_of(dataset.entry, ids)
    name = dataset.entry.task
    models, licences = _origins(opened)
    return Facts(
        dataset=dataset.name,
        rows=rows,
        settings=dict(store.rows("card/all_settings")),
        sources=[
            Source(*row)
            for row in store.rows("card/card_sources", {"source_ids": choice.sources, "kind": choice.kind})
        ],
        stages=Stages(*store.rows("card/card_stages", {"task": name})[0]),
        task=_task(opened, name),
        outcomes=dict(store.rows("card/card_outcomes", {"task": name})),
        difficulties=_in_order(dict(store.rows("card/card_difficulties"))),
        rewards=dict(store.rows("card/card_rewards")),
        reward_tenths=dict(store.rows("card/card_reward_tenths")),
        lengths=_lengths(opened),
        models=models,
        licences=licences,
        notes=notes,
    )


def _task(opened: DatasetRows, name: str | None) -> Task | None:
    if name is None:
        return None
    for task_hash, model, parameters, template, system in opened.store.rows("card/card_task", {"task": name}):
        return Task(name, task_hash, model, parameters, _sha256(template), system and _sha256(system))
    return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _in_order(difficulties: Mapping[str, int]) -> dict[str, int]:
    known = [name for name in _DIFFICULTIES if name in difficulties]
    others = [name for name in difficulties if name not in known]
    return {name: difficulties[name] for name in (*known, *others)}


def _lengths(opened: DatasetRows) -> list[Length]:
    found: dict[tuple[str, str, int], dict[int, int]] = {}
    for tokenizer, template_hash, rows, percentile, tokens in opened.store.rows("card/card_lengths"):
        found.setdefault((tokenizer, template_hash, rows), {})[percentile] = tokens
    return [Length(*key, tokens) for key, tokens in found.items()]


class _Origins(NamedTuple):
    models: dict[str, int]
    licences: dict[str | None, int]


def _origins(opened: DatasetRows) -> _Origins:
    models: dict[str, int] = {}
    licences: dict[str | None, int] = {}
    for model, text, rows in opened.store.rows("card/card_origins"):
        if model is not None:
            models[str(model)] = models.get(str(model), 0) + rows
        licence = _licence(text)
        licences[licence] = licences.get(licence, 0) + rows
    return _Origins(models, licences)


def _licence(text: str | None) -> str | None:
    """One text for a row's `licenses`, a list or a text as JSON; None where there is nothing in it."""
    if text is None:
        return None
    value = json.loads(text)
    parts = value if isinstance(value, list) else [value]
    return ", ".join(part if isinstance(part, str) else json.dumps(part) for part in parts) or None
