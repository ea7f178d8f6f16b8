"""What the store knows of lengths: which rollouts wait to be measured, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kbetl.store.datasets import DatasetQuery, choose_rows
from kbetl.store.store import Store

# Usual sequence lengths of trainers, in tokens.
USUAL = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


def seq_len(total_tokens: int) -> int:
    """The usual value that covers a length in tokens; beyond the largest the next multiple of that.

    The view `seq_len_advice` says the same in SQL.

    >>> [seq_len(length) for length in (0, 1024, 1025, 131073)]
    [1024, 1024, 2048, 262144]
    """
    largest = USUAL[-1]
    return next((usual for usual in USUAL if total_tokens <= usual), -(-total_tokens // largest) * largest)


class Unmeasured(NamedTuple):
    """A rollout that waits to be measured."""

    position: int
    sample_hash: str
    row: bytes
    field_map: str | None = None
    """The map that the row is read by; None for none."""


class Length(NamedTuple):
    """What was measured of a rollout; the three counts are None only if the template refused it."""

    sample_hash: str
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    unreached: tuple[str, ...] = ()
    """Fields whose text the rendered text lacks."""
    refusal: str | None = None
    """Why the template refused it."""


class LengthCounts(NamedTuple):
    """What is known of the chosen, in samples and tokens; rollouts = measured + refused + waiting."""

    rollouts: int
    measured: int
    refused: int
    unreached: int
    prompt_tokens: int
    completion_tokens: int


class HistogramBin(NamedTuple):
    """Samples of one length and difficulty; `difficulty` is None for those that are not rated."""

    difficulty: str | None
    total_tokens: int
    samples: int


class FieldFault(NamedTuple):
    """A reason or a field, in how many samples, and one of them."""

    what: str
    samples: int
    example: str


class LengthStore:
    """The rollouts of a dataset, and their lengths by one tokenizer and template.

    A tokenizer is its `template_hash`: what was measured under another name is not measured again, and the
    name by which the store has it stays.
    """

    def __init__(self, store: Store, tokenizer: str, template_hash: str) -> None:
        self._store = store
        self._key = {"tokenizer": tokenizer, "template_hash": template_hash}
        self._use_known_name()

    def choose(self, query: DatasetQuery) -> None:
        """Selects the rollouts of a dataset; of some sources alone, before its rules apply, unless None."""
        self._store.connection.execute("pragma temp_store = file")
        with self._store.transaction(writes=False):
            for statement in (
                "lengths/drop_measuring",
                "lengths/drop_eligible",
                "lengths/drop_dataset_rows",
                "lengths/measuring_table",
                "datasets/eligible_table",
                "datasets/dataset_rows_table",
            ):
                self._store.execute(statement)
            choose_rows(self._store, query)
            self._store.execute("lengths/measure_rows")
            self._store.execute("lengths/drop_eligible")
            self._store.execute("lengths/drop_dataset_rows")

    def waiting(self) -> int:
        """How many of the chosen were not measured yet."""
        found: int = self._store.rows("lengths/count_unmeasured", self._key)[0][0]
        return found

    def next(self, after: int, limit: int, limit_bytes: int) -> list[Unmeasured]:
        """The next unmeasured after a position: at most `limit`, or rows that make `limit_bytes` together."""
        found: list[Unmeasured] = []
        size = 0
        with self._store.translate_errors():
            for row in self._store.execute(
                "lengths/unmeasured_rows", {**self._key, "after": after, "limit": limit}
            ):
                found.append(Unmeasured(*row))
                size += len(found[-1].row)
                if size >= limit_bytes:
                    break
        return found

    def add(self, lengths: Iterable[Length]) -> None:
        """Stores what was measured, in one transaction."""
        with self._store.transaction():
            self._use_known_name()  # another process may have given one meanwhile
            self._store.execute_many(
                "lengths/add_length", ({**self._key, **_columns(each)} for each in lengths)
            )

    def _use_known_name(self) -> None:
        (known,) = self._store.rows("lengths/tokenizer_name", self._key)[0]
        self._key["tokenizer"] = known or self._key["tokenizer"]

    def counts(self) -> LengthCounts:
        """How much of the chosen was measured."""
        return LengthCounts(*self._store.rows("lengths/chosen_lengths", self._key)[0])

    def histogram(self) -> list[HistogramBin]:
        """The measured by length and difficulty, shortest first."""
        return [HistogramBin(*row) for row in self._store.rows("lengths/chosen_histogram", self._key)]

    def refusals(self) -> list[FieldFault]:
        """Why rollouts were refused, the commonest first."""
        return [FieldFault(*row) for row in self._store.rows("lengths/chosen_refusals", self._key)]

    def unreached(self) -> list[FieldFault]:
        """Fields whose text is not in the rendered text, the commonest first."""
        return [FieldFault(*row) for row in self._store.rows("lengths/chosen_unreached", self._key)]


class WithoutLength(NamedTuple):
    """Samples that have no completion to measure."""

    modules: int
    records: int


def samples_without_length(store: Store, source_ids: Sequence[int] | None) -> WithoutLength:
    """How many samples of these sources, or of all, have no completion."""
    return WithoutLength(*store.rows("lengths/samples_without_length", _sources(source_ids))[0])


def _sources(source_ids: Sequence[int] | None) -> dict[str, str | None]:
    return {"source_ids": None if source_ids is None else json.dumps(list(source_ids))}


def _columns(length: Length) -> dict[str, object]:
    fields = json.dumps(list(length.unreached), ensure_ascii=False) if length.unreached else None
    return {**length._asdict(), "unreached": fields}
