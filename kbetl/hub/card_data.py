"""What the store knows of a dataset that is pushed: everything that its card says."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbetl.dataset.dataset import DatasetRows, query_of
from kbetl.store import ReportRow
from kbetl.store.datasets import source_ids

_DIFFICULTIES = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card of a dataset is made of. Counts are in rows or samples."""

    dataset: str
    rows: Mapping[str, int]
    """By split."""
    settings: Mapping[str, float | str]
    sources: Sequence[ReportRow]
    """`read` counts rejected rows too; `revision` and `split` are None for a source not on the Hub."""
    stages: ReportRow
    task: ReportRow | None
    """The task in use, its texts by their SHA-256."""
    outcomes: Mapping[str, int]
    """Of the task in use, by status."""
    difficulties: Mapping[str, int]
    rewards: Mapping[int, float]
    """By percentile; empty if no row has a reward."""
    reward_tenths: Mapping[int | None, int]
    """Rows by tenths of reward, as the query `card/card_reward_tenths` counts them."""
    lengths: Mapping[tuple[str, str, int], Mapping[int, int]]
    """Tokens by percentile, for each tokenizer, template hash and number of rows measured."""
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
        sources=store.named_rows("card/card_sources", {"source_ids": choice.sources, "kind": choice.kind}),
        stages=store.named_rows("card/card_stages", {"task": name})[0],
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


def _task(opened: DatasetRows, name: str | None) -> ReportRow | None:
    for row in opened.store.named_rows("card/card_task", {"task": name}):
        return {**row, "template": _sha256(row["template"]), "system": _sha256(row["system"])}
    return None


def _sha256(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _in_order(difficulties: Mapping[str, int]) -> dict[str, int]:
    known = [name for name in _DIFFICULTIES if name in difficulties]
    others = [name for name in difficulties if name not in known]
    return {name: difficulties[name] for name in (*known, *others)}


def _lengths(opened: DatasetRows) -> dict[tuple[str, str, int], dict[int, int]]:
    found: dict[tuple[str, str, int], dict[int, int]] = {}
    for tokenizer, template_hash, rows, percentile, tokens in opened.store.rows("card/card_lengths"):
        found.setdefault((tokenizer, template_hash, rows), {})[percentile] = tokens
    return found


def _origins(opened: DatasetRows) -> tuple[Counter[str], Counter[str | None]]:
    """The rows by the model and by the licence that they name."""
    models, licences = Counter[str](), Counter[str | None]()
    for model, text, rows in opened.store.rows("card/card_origins"):
        if model is not None:
            models[str(model)] += rows
        licences[_licence(text)] += rows
    return models, licences


def _licence(text: str | None) -> str | None:
    """One text for a row's `licenses`, a list or a text as JSON; None if it is empty."""
    if text is None:
        return None
    value = json.loads(text)
    parts = value if isinstance(value, list) else [value]
    return ", ".join(part if isinstance(part, str) else json.dumps(part) for part in parts) or None
