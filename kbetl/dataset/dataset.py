"""Dataset: which rows are meant. Opened: the rows, while the store stands still."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from kbetl.config import command_line
from kbetl.dataset.registry import DATASETS, DatasetEntry
from kbetl.errors import ConfigError
from kbetl.json_codec import SplicedText, append_keys, json_bytes, stored_value
from kbetl.store import Store
from kbetl.store.datasets import (
    By,
    DatasetQuery,
    RolloutRow,
    Split,
    SyntheticRow,
    features_of_sources,
    mixed_sources,
    open_rows,
    other_labels,
    peculiarities,
    rank_each,
    rank_rows,
    rollout_rows,
    row_positions,
    rows_by_split,
    source_ids,
    synthetic_rows,
    why_empty_rows,
)

RANDOM_SEED = 42
RANDOM_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Dataset:
    """Which dataset, made of what."""

    name: str
    """A key of DATASETS."""
    sources: tuple[str, ...] = ()
    """Names of the sources whose samples the dataset's rules apply to; empty for the whole store."""
    all_sources: bool = False
    """That rows of several sources are meant to mix."""
    where: str | None = None
    """SQL over the columns of `selectable`; of the dataset's rows those for which it holds."""
    is_decontaminated: bool = False
    """That samples which are like a problem of a benchmark are left out."""
    by: By = "name"
    """What `unique` keeps one row of."""
    splits: bool | None = None
    """Whether rows are on a side; None: as its entry says."""
    random_split: bool = False
    """Sides as `datasets` draws them with test_size=0.1 and seed=42, in its order; not group-safe."""

    @property
    def condition(self) -> str | None:
        """What must hold of a row, as SQL over `selectable`; None if nothing must."""
        if not self.is_decontaminated:
            return self.where
        # The line's end closes a comment of the user's.
        return "contaminated = 0" if self.where is None else f"contaminated = 0 and ({self.where}\n)"

    @property
    def entry(self) -> DatasetEntry:
        """What the registry says of it."""
        return DATASETS[self.name]

    @property
    def is_split(self) -> bool:
        return self.random_split or (self.entry.is_split if self.splits is None else self.splits)


class Row(NamedTuple):
    """One row of a dataset; None where there is no such thing."""

    sample_hash: str
    module_name: str | None
    reward: float | None
    """The newest known."""
    difficulty: str | None
    text: bytes
    """One JSON object in UTF-8 on one line: the row's own text with our columns appended."""


@dataclass(slots=True)
class DatasetRows:
    """The rows of a dataset. Only valid inside `open_dataset`."""

    dataset: Dataset
    counts: Mapping[Split | None, int]
    """Rows on each side, also where that is none; one entry with key None where there are no splits."""
    declared: tuple[str | None, ...]
    """What the sources say of their columns (`sources.features`), one entry for each."""
    notes: list[str]
    """What is worth saying of these rows, a line each."""
    store: Store
    replaced: set[str] = field(default_factory=set)
    """Labels of ours that a row had as columns itself, and lost to ours; of the rows read so far."""
    why_empty: str | None = None
    """Why there are no rows, and what to run; None where there are some."""

    @property
    def total(self) -> int:
        """Rows on all sides."""
        return sum(self.counts.values())

    def rows(self, split: Split | None = None) -> Iterator[Row]:
        """The rows of one side, in order; of a dataset without splits, all rows. One in memory at a time."""
        if not self.dataset.entry.has_completions:
            for described in synthetic_rows(self.store, split):
                yield _synthetic(described)
        else:
            for rollout in rollout_rows(self.store, split):
                yield self._rollout(rollout)

    def every_row(self) -> Iterator[Row]:
        """The rows of all sides, one side after the other."""
        for split in self.counts:
            yield from self.rows(split)

    def _rollout(self, row: RolloutRow) -> Row:
        ours: dict[str, str | float | None] = {}
        if self.dataset.entry.has_labels:
            ours = {"difficulty": row.difficulty, "evaluation_raw": row.evaluation_raw}
        if row.score is not None:
            ours["reward"] = row.score
        is_new = row.has_labels == 0 and row.score is None
        spliced = append_keys(row.text, ours, is_new=is_new) if ours else SplicedText(row.text, ())
        self.replaced.update(column for column in spliced.replaced if column != "reward")
        return Row(row.sample_hash, row.module_name, row.reward, row.difficulty, spliced.text)


@contextlib.contextmanager
def open_dataset(store: Store, dataset: Dataset) -> Iterator[DatasetRows]:
    """A dataset's rows, chosen, split and counted; the store stands still until it is closed.

    Raises ConfigError for an unknown source, for a `where` that SQLite does not take, and where rows of
    several sources of rollouts would mix without being asked to.
    """
    check_sources(store, dataset)
    ids = source_ids(store, dataset.sources) if dataset.sources else None
    if dataset.is_decontaminated and not store.rows("benchmarks/benchmarks"):
        raise ConfigError(
            "--decontaminated: no benchmark was read yet; `kbetl contamination --against FILE` reads one"
        )
    choice = query_of(dataset.entry, ids, dataset.condition, dataset.by)
    with open_rows(store, choice):
        _split(store, dataset)
        counts = _counts(store, is_split=dataset.is_split)
        declared = tuple(features_of_sources(store, choice))
        why = why_empty(store, dataset)
        yield DatasetRows(dataset, counts, declared, _notes(store, choice), store, why_empty=why)


def query_of(
    entry: DatasetEntry, source_ids: Sequence[int] | None, where: str | None = None, by: By = "name"
) -> DatasetQuery:
    """The rows of a dataset as the store chooses them."""
    return DatasetQuery(entry.view, entry.select_rows, entry.kind, source_ids, where, by)


def check_sources(store: Store, dataset: Dataset) -> None:
    """Raises ConfigError for an unknown source, and where rows of several sources of rollouts would mix."""
    source_ids(store, dataset.sources)
    if not dataset.entry.has_completions or dataset.all_sources or dataset.sources:
        return
    names = mixed_sources(store)
    if names:
        raise ConfigError(
            f"{store.path} holds rollouts of {len(names)} sources: {', '.join(names)}. "
            "Say which one with --source NAME, or --all-sources to mix them"
        )


def _split(store: Store, dataset: Dataset) -> None:
    if dataset.random_split:
        rank_each(store, _drawn(list(row_positions(store))))
    elif dataset.is_split:
        rank_rows(store, is_split=True)


def _drawn(positions: list[int]) -> Iterator[tuple[int, Split, int]]:
    """Each position with its side and its rank there: `train_test_split(test_size=0.1, seed=42)`."""
    import numpy

    permutation = numpy.random.default_rng(RANDOM_SEED).permutation(len(positions))
    first_of_train = -(-len(positions) // round(1 / RANDOM_SHARE))
    for drawn, index in enumerate(permutation.tolist()):
        if drawn < first_of_train:
            yield positions[index], "validation", drawn
        else:
            yield positions[index], "train", drawn - first_of_train


def _counts(store: Store, *, is_split: bool) -> dict[Split | None, int]:
    found = rows_by_split(store)
    if not is_split:
        return {None: found.get(None, 0)}
    return {"train": found.get("train", 0), "validation": found.get("validation", 0)}


def _notes(store: Store, choice: DatasetQuery) -> list[str]:
    found = peculiarities(store, choice)
    notes = {
        "rows are in no source any more; --source NAME leaves them out": found.sourceless,
        "repeats in a source: a row is in the dataset once": found.repeats,
        "rows had NaN or infinite numbers, which are null": found.nonfinite,
        "rows have a reward that came later than the row": found.scored,
    }
    return [f"{number:,} {text}" for text, number in notes.items() if number]


def why_empty(store: Store, dataset: Dataset) -> str | None:
    """Why no row of the open dataset is chosen, and what to run; None if one is."""
    if sum(rows_by_split(store).values()):
        return None
    entry = dataset.entry
    found = why_empty_rows(store, entry.task)
    run = partial(command_line, store.path)
    of = f" of {', '.join(dataset.sources)}" if dataset.sources else ""
    if not found.eligible:
        why = f"there is no {entry.kind}{of} in {store.path}; run: {run('ingest')}"
    elif entry.kind == "module" and entry.task is not None and not found.answered:
        others = _others(store, entry.task)
        by = f" of the task in use; {others}" if others else f"; run: {run('prompts')}"
        why = f"none of {found.eligible:,} modules{of} has a specification{by}"
    elif entry.task is not None and not found.good:
        why = (
            f"none of {found.eligible:,} rollouts{of} has a reward above {found.min_reward}; "
            f"see: {run('status')}"
        )
    elif entry.task is not None and not found.answered:
        others = _others(store, entry.task)
        by = f" by the task in use; {others}" if others else f"; run: {run('enrich')}"
        why = f"none of {found.good:,} rollouts{of} with a good reward is rated{by}"
    elif dataset.condition is not None:
        why = f"no row satisfies {dataset.condition!r}"
    else:
        why = f"no rollout with a good reward has a rating that could be read; see: {run('status')}"
    return f"the dataset {dataset.name} is empty: {why}"


def _others(store: Store, task: str) -> str:
    """Whose labels there are that no dataset uses, and how to use them; empty where there are none."""
    return "; ".join(
        f"{other.samples:,} are labelled by {other.model}, to use those: "
        + command_line(store.path, "use", task, "--task-hash", other.task_hash[:15])
        for other in other_labels(store, task)
    )


def _synthetic(row: SyntheticRow) -> Row:
    columns = {
        "prompt": row.prompt,
        "module_name": row.module_name,
        "python_code": row.python_code,
        "triton_code": row.triton_code,
        "uuid": None if row.uuid is None else stored_value(row.uuid),
    }
    return Row(row.sample_hash, row.module_name, None, None, json_bytes(columns))
