"""Opens a dataset of a store and reads its rows, in order and by split, from one snapshot of the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

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
    dataset_notes,
    features_of_sources,
    mixed_sources,
    open_rows,
    other_labels,
    rank_each,
    rank_rows,
    rollout_rows,
    row_positions,
    rows_by_split,
    source_ids,
    synthetic_rows,
    why_empty_rows,
)
from kbetl.store.task_labels import TaskLabels, label_notes, labels_in_use, labels_of_sample

# The seed and share of the original scripts: `train_test_split(test_size=0.1, seed=42)`.
RANDOM_SEED = 42
RANDOM_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Dataset:
    """Selects a dataset, its sources and its splits."""

    name: str
    """A key of DATASETS."""
    sources: tuple[str, ...] = ()
    """Names of the sources whose samples the dataset's rules apply to; empty for the whole store."""
    all_sources: bool = False
    """Whether rows of several sources of rollouts may be mixed."""
    where: str | None = None
    """SQL condition on the columns of `selectable` that rows must satisfy; None for no condition."""
    is_decontaminated: bool = False
    """Whether samples that are like a problem of a benchmark are left out."""
    by: By = "name"
    """Whether `unique` keeps one row per name or per code."""
    splits: bool | None = None
    """Whether rows are split into train and validation; None for the default of the dataset."""
    with_labels: tuple[str, ...] = ()
    """Names of tasks in use whose labels are columns after the others."""
    random_split: bool = False
    """Whether to split as `datasets` does with test_size=0.1 and seed=42, in its order; not group-safe."""

    @property
    def condition(self) -> str | None:
        """What must hold of a row, as SQL over `selectable`; None if nothing must."""
        if not self.is_decontaminated:
            return self.where
        # The line's end closes a comment of the user's.
        return "contaminated = 0" if self.where is None else f"contaminated = 0 and ({self.where}\n)"

    @property
    def entry(self) -> DatasetEntry:
        """The dataset's entry in the registry."""
        return DATASETS[self.name]

    @property
    def is_split(self) -> bool:
        """Whether rows are split into train and validation."""
        return self.random_split or (self.entry.is_split if self.splits is None else self.splits)


class Row(NamedTuple):
    """One row of a dataset; a field is None if the row has no such value."""

    sample_hash: str
    module_name: str | None
    reward: float | None
    """The newest reward of the sample."""
    difficulty: str | None
    text: bytes
    """A JSON object in UTF-8 on one line: the row's own text with our columns appended."""
    labels: Mapping[str, Any]
    """Those of `Dataset.with_labels`, which are in the text too; None for a label that is missing."""
    field_map: str | None = None
    """The map that the row is read by; None for none."""


@dataclass(slots=True)
class DatasetRows:
    """The rows of a dataset, valid inside `open_dataset`."""

    dataset: Dataset
    counts: Mapping[Split | None, int]
    """Number of rows per split, also 0; one entry with key None if there are no splits."""
    declared: tuple[str | None, ...]
    """The declared column types of each source (`sources.features`)."""
    notes: list[str]
    """Remarks on these rows for the user, a line each."""
    store: Store
    labels: Sequence[TaskLabels] = ()
    """The labels that are added to each row."""
    overwritten_columns: set[str] = field(default_factory=set)
    """Columns of the rows read so far that our labels of the same name replace."""
    why_empty: str | None = None
    """Why there are no rows, and what to run; None if there are some."""

    @property
    def total(self) -> int:
        """The number of rows in all splits."""
        return sum(self.counts.values())

    def rows(self, split: Split | None = None) -> Iterator[Row]:
        """Yields the rows of one split in order, all rows if `split` is None and there are no splits."""
        if self.dataset.entry.kind == "module":
            for described in synthetic_rows(self.store, split):
                yield _synthetic(described, self._labels_of(described.sample_hash))
        else:
            for rollout in rollout_rows(self.store, split):
                yield self._rollout(rollout)

    def every_row(self) -> Iterator[Row]:
        """Yields the rows of all splits, one split after the other."""
        for split in self.counts:
            yield from self.rows(split)

    def _labels_of(self, sample_hash: str) -> dict[str, Any]:
        return labels_of_sample(self.store, self.labels, sample_hash) if self.labels else {}

    def _rollout(self, row: RolloutRow) -> Row:
        ours: dict[str, Any] = {}
        if self.dataset.entry.has_labels:
            ours = {"difficulty": row.difficulty, "evaluation_raw": row.evaluation_raw}
        labels = self._labels_of(row.sample_hash)
        ours |= labels
        if row.score is not None:
            ours["reward"] = row.score
        is_new = row.has_labels == 0 and row.score is None and not labels
        spliced = append_keys(row.text, ours, is_new=is_new) if ours else SplicedText(row.text, ())
        self.overwritten_columns.update(column for column in spliced.overwritten if column != "reward")
        return Row(
            row.sample_hash, row.module_name, row.reward, row.difficulty, spliced.text, labels, row.field_map
        )


@contextlib.contextmanager
def open_dataset(store: Store, dataset: Dataset) -> Iterator[DatasetRows]:
    """Selects, splits and counts a dataset's rows, from one snapshot of the store until it is closed.

    Raises ConfigError for an unknown source, for a `where` that is no valid SQL, for labels that are not in
    use, and if rows of several sources of rollouts would be mixed without `all_sources`.
    """
    check_sources(store, dataset)
    labels = labels_in_use(store, dataset.with_labels)
    ids = source_ids(store, dataset.sources) if dataset.sources else None
    if dataset.is_decontaminated:
        _check_is_judged(store)
    choice = query_of(dataset.entry, ids, dataset.condition, dataset.by)
    with open_rows(store, choice):
        _split(store, dataset)
        counts = _counts(store, is_split=dataset.is_split)
        declared = tuple(features_of_sources(store, choice))
        why = why_empty(store, dataset)
        notes = [*_notes(store, choice), *label_notes(store, labels)]
        yield DatasetRows(dataset, counts, declared, notes, store, labels, why_empty=why)


def _check_is_judged(store: Store) -> None:
    if not store.rows("benchmarks/benchmarks"):
        raise ConfigError(
            "--decontaminated: no benchmark was read yet; `kbetl contamination --against FILE` reads one"
        )
    unjudged = store.rows("benchmarks/unjudged_codes")[0][0]
    if unjudged:
        raise ConfigError(
            f"--decontaminated: {unjudged:,} codes are not compared with the benchmarks yet; "
            "run `kbetl contamination`"
        )


def query_of(
    entry: DatasetEntry, source_ids: Sequence[int] | None, where: str | None = None, by: By = "name"
) -> DatasetQuery:
    """Returns the store's query for the rows of a dataset."""
    return DatasetQuery(entry.view, entry.select_rows, entry.kind, source_ids, where, by)


def check_sources(store: Store, dataset: Dataset) -> None:
    """Raises ConfigError for an unknown source, and if rows of several sources of rollouts would be mixed."""
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
    """Yields each position, its split and its rank there, as `train_test_split(test_size=0.1, seed=42)`."""
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
    found = dataset_notes(store, choice)
    notes = {
        "rows are in no source any more; --source NAME leaves them out": found.sourceless,
        "repeats in a source: a row is in the dataset once": found.repeats,
        "rows had NaN or infinite numbers, which are null": found.nonfinite,
        "rows have a reward that came later than the row": found.scored,
    }
    return [f"{number:,} {text}" for text, number in notes.items() if number]


def why_empty(store: Store, dataset: Dataset) -> str | None:
    """Returns why the open dataset has no row, and what to run; None if it has one."""
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
    """Returns which labels no dataset uses, and how to use them; an empty text if there are none."""
    return "; ".join(
        f"{other.samples:,} are labelled by {other.model}, to use those: "
        + command_line(store.path, "use", task, "--task-hash", other.task_hash[:15])
        for other in other_labels(store, task)
    )


def _synthetic(row: SyntheticRow, labels: Mapping[str, Any]) -> Row:
    columns = {
        "prompt": row.prompt,
        "module_name": row.module_name,
        "python_code": row.python_code,
        "triton_code": row.triton_code,
        "uuid": None if row.uuid is None else stored_value(row.uuid),
        **labels,
    }
    return Row(row.sample_hash, row.module_name, None, None, json_bytes(columns), labels)
