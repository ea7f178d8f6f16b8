"""Which rows make a dataset, in which order and on which side of a split; and the rows themselves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kbetl.errors import ConfigError
from kbetl.store.generated_views import make_dataset_view
from kbetl.store.store import Store
from kbetl.store.user_sql import select_samples

By = Literal["name", "code"]
Split = Literal["train", "validation"]

SPLITS: tuple[Split, ...] = ("train", "validation")
_TABLES = ("datasets/eligible_table", "datasets/dataset_rows_table", "datasets/wanted_table")


class RolloutRow(NamedTuple):
    """One row of `filtered`, `unique`, `evals` or `records`; a value is None if the row has none."""

    sample_hash: str
    module_name: str | None
    reward: float | None
    """The newest reward of the rollout."""
    difficulty: str | None
    evaluation_raw: str | None
    score: float | None
    """A reward that came later than the row and differs from the row's own."""
    has_labels: int | None
    """0 if no column of the row has the name of a label of ours; None if that was not checked."""
    text: bytes
    """The row's own JSON text in UTF-8."""
    field_map: str | None = None
    """The map that the row is read by; None for none."""


class SyntheticRow(NamedTuple):
    """One row of `synthetic`; a value is None if the module has no such field."""

    sample_hash: str
    prompt: str
    module_name: str | None
    python_code: str | None
    triton_code: str | None
    uuid: str | None
    """JSON text: a number stays a number."""


class DatasetNotes(NamedTuple):
    """How many of a dataset's rows have a property that the user is to know of."""

    sourceless: int
    """In no source any more."""
    repeats: int
    """More positions in a source than one; the row is in the dataset once."""
    nonfinite: int
    """With numbers that were NaN or infinite, and are null."""
    scored: int
    """With a reward that came later than the row and differs from its own."""


@dataclass(frozen=True, slots=True)
class DatasetQuery:
    """Which rows: those of a dataset, made of the samples of some sources."""

    view: str
    """The public view of the dataset."""
    select_rows: str
    """The query that chooses its rows; one that reads `dataset_view` reads that view."""
    kind: str
    """Of the samples that it is made of: module, rollout or record."""
    source_ids: Sequence[int] | None = None
    """None for the whole store, also for samples that are in no source."""
    where: str | None = None
    """The user's own condition on the dataset's rows, over the columns of `selectable`."""
    by: By = "name"
    """What `unique` keeps one row of."""

    @property
    def sources(self) -> str | None:
        """`source_ids` as a JSON list, for the queries; None for the whole store."""
        return None if self.source_ids is None else json.dumps(list(self.source_ids))


def source_ids(store: Store, names: Sequence[str]) -> list[int]:
    """The ids of sources. Raises ConfigError for a name that is none."""
    known = {name: source_id for source_id, name in store.rows("datasets/sources_named")}
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none yet; kbetl ingest makes the first"
            raise ConfigError(f"--source {name!r}: no such source; there are: {there}")
    return [known[name] for name in names]


def rollout_sources(store: Store) -> list[str]:
    """The names of the sources that hold rollouts."""
    return [name for _, name in store.rows("datasets/rollout_sources")]


def mixed_sources(store: Store) -> list[str]:
    """The names of sources whose rollouts would mix in one dataset; empty if one source holds all of them."""
    names = [name for (name,) in store.rows("datasets/mixed_sources")]
    return names if len(names) > 1 else []


@contextlib.contextmanager
def open_rows(store: Store, choice: DatasetQuery) -> Iterator[None]:
    """Selects a dataset's rows; inside, the store does not change and the functions below read them.

    The selection is in temporary tables, also on a connection that only reads, and is dropped at the
    end. One selection at a time. Raises ConfigError for a `where` that SQLite refuses.
    """
    connection = store.connection
    with store.translate_errors():
        is_query_only = connection.execute("pragma query_only").fetchone()[0]
        connection.execute("pragma query_only = off")
        connection.execute("begin")
        try:
            _fill(store, choice)
            yield
        finally:
            connection.execute("rollback")
            connection.execute(f"pragma query_only = {int(is_query_only)}")


def rank_rows(store: Store, *, is_split: bool) -> None:
    """The rows keep the dataset's order; with splits they are on the side where `splits` has them."""
    store.execute("datasets/rank_rows", {"is_split": int(is_split)})


def row_positions(store: Store) -> Iterator[int]:
    """The positions of the rows in the dataset, ascending, with gaps."""
    for (position,) in store.execute("datasets/row_positions"):
        yield position


def rank_each(store: Store, ranks: Iterable[tuple[int, Split, int]]) -> None:
    """Puts rows on a side: position, split, and rank within the split."""
    store.execute_many(
        "datasets/rank_row",
        ({"position": position, "split": split, "rank": rank} for position, split, rank in ranks),
    )


def rows_by_split(store: Store) -> dict[Split | None, int]:
    """How many rows are on which side; the side is None if the dataset is not split."""
    return dict(store.rows("datasets/rows_by_split"))


def rollout_rows(store: Store, split: Split | None) -> Iterator[RolloutRow]:
    """The rows of one side of `filtered`, `unique`, `evals` or `records`, in order, one at a time."""
    with store.translate_errors():
        for row in store.execute("datasets/rollout_rows", {"split": split}):
            yield RolloutRow(*row)


def synthetic_rows(store: Store, split: Split | None) -> Iterator[SyntheticRow]:
    """The rows of one side of `synthetic`, in order, one at a time."""
    with store.translate_errors():
        for row in store.execute("datasets/synthetic_rows", {"split": split}):
            yield SyntheticRow(*row)


def dataset_notes(store: Store, choice: DatasetQuery) -> DatasetNotes:
    """Counts the selected rows that the user is to know of."""
    return DatasetNotes(*store.rows("datasets/dataset_notes", {"source_ids": choice.sources})[0])


def features_of_sources(store: Store, choice: DatasetQuery) -> list[str | None]:
    """What each source of the selected samples declares of its columns, as JSON; None if it declares none."""
    parameters = {"source_ids": choice.sources, "kind": choice.kind}
    return [features for (features,) in store.rows("datasets/features_of_sources", parameters)]


def _fill(store: Store, choice: DatasetQuery) -> None:
    for table in _TABLES:
        store.execute(table)
    choose_rows(store, choice)
    if choice.where is not None:
        _keep_where(store, choice.kind, choice.where)
    rank_rows(store, is_split=False)


def choose_rows(store: Store, choice: DatasetQuery) -> None:
    """Fills `eligible` and `dataset_rows`, which are there and empty; the user's own condition aside."""
    make_dataset_view(store.connection, choice.view)
    store.execute("datasets/fill_eligible", {"kind": choice.kind, "source_ids": choice.sources})
    store.execute(choice.select_rows, {"by": choice.by})


def _keep_where(store: Store, kind: str, where: str) -> None:
    """Keeps the rows that a condition holds for; it runs on a connection of its own, which can only read."""
    parameters = {"min_reward": float(store.setting("min_reward"))}
    with store.guarded() as guarded:
        found = select_samples(guarded, [kind], [where], parameters, with_prompts=True)
        store.execute_many("datasets/add_wanted", ({"sample_hash": sample_hash} for sample_hash in found))
    store.execute("datasets/keep_wanted")


class WhyNoRows(NamedTuple):
    """What a dataset without rows could have been made of, in samples."""

    eligible: int
    good: int
    """With a reward above min_reward."""
    answered: int
    min_reward: float


class Longest(NamedTuple):
    """The longest row of a dataset by one tokenizer and template, which measured all rows."""

    tokenizer: str
    total_tokens: int


def why_empty_rows(store: Store, task: str | None) -> WhyNoRows:
    """What the chosen dataset could have been made of; `task` is the one whose outcomes it uses."""
    return WhyNoRows(*store.rows("datasets/why_no_rows", {"task": task})[0])


class OtherLabels(NamedTuple):
    """Labels that are there and that no dataset uses."""

    model: str
    task_hash: str
    samples: int


def other_labels(store: Store, task: str) -> list[OtherLabels]:
    """Who labelled the eligible samples by a task of that name that is not in use; the most first."""
    return [OtherLabels(*row) for row in store.rows("datasets/other_labels", {"task": task})]


def longest_rows(store: Store) -> list[Longest]:
    """The lengths of the longest selected row; empty if not all rows are measured."""
    return [Longest(*row) for row in store.rows("datasets/longest_rows")]
