"""Converts the rows of a dataset to a format, for the files of `export` and of `push`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kbetl.dataset.column_types import DeclaredType, declared_columns
from kbetl.dataset.dataset import DatasetRows
from kbetl.errors import BadRow
from kbetl.export.formats import FORMATS, UNREAD_REASONING, converter, has_unread_reasoning
from kbetl.samples.fields import LABELS
from kbetl.store.datasets import Split
from kbetl.text import hidden_line, plain_text

SHOWN = 10
"""Rows left out that are listed one by one."""


@dataclass(slots=True)
class LeftOut:
    """Counts rows that a format cannot express."""

    reasons: Counter[str] = field(default_factory=Counter)
    """Number of rows by reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """The reasons of the first few rows, by sample hash."""

    def add(self, sample_hash: str, reason: str) -> None:
        """Counts one row."""
        self.reasons[reason] += 1
        if len(self.examples) < SHOWN:
            self.examples[sample_hash] = reason

    def lines(self) -> list[str]:
        """Returns the lines on the first few rows, and on each reason with its number of rows."""
        lines = [f"left out {sample}: {reason}" for sample, reason in self.examples.items()]
        hidden = sum(self.reasons.values()) - len(self.examples)
        return [
            *lines,
            *hidden_line(hidden, "rows"),
            *(f"left out {number:,} rows: {why}" for why, number in self.reasons.most_common()),
        ]

    def why(self) -> str:
        """Returns the most frequent reasons in one line."""
        return "; ".join(f"{number:,} rows: {why}" for why, number in self.reasons.most_common(3))


class DatasetSource:
    """The rows of a dataset in a format; a RowSource, which can be read several times."""

    def __init__(self, dataset: DatasetRows, format_: str = "rows", *, has_reasoning: bool = True) -> None:
        is_plain = FORMATS[format_].columns is None
        self.dataset = dataset
        self.format = format_
        self.splits: Sequence[Split | None] = list(dataset.counts)
        self.declared: dict[str, DeclaredType] = declared_columns(dataset.declared) if is_plain else {}
        self.declared |= {label.name: label.column_type for label in dataset.labels}
        ours = (*(LABELS if is_plain else ()), *(label.name for label in dataset.labels))
        self.last: Sequence[str] = list(dict.fromkeys(ours))
        self.left_out: dict[Split | None, LeftOut] = {}
        """Rows that were left out when a split was last read."""
        self._dropped_columns: set[str] = set()
        self._convert = converter(format_, has_reasoning=has_reasoning, left_out=self._dropped_columns)
        self._has_reasoning_as_is = is_plain and has_reasoning
        self._has_unread_reasoning = False

    def texts(self, split: Split | None) -> Iterator[bytes]:
        """Yields the rows of one split that the format can express."""
        left_out = self.left_out[split] = LeftOut()
        for row in self.dataset.rows(split):
            if self._has_reasoning_as_is and not self._has_unread_reasoning:
                self._has_unread_reasoning = has_unread_reasoning(row.text)
            try:
                yield self._convert(row)
            except BadRow as bad:
                left_out.add(row.sample_hash, plain_text(str(bad)))

    def all_left_out(self) -> LeftOut:
        """Returns the rows left out of all splits that were read."""
        found = LeftOut()
        for side in self.left_out.values():
            found.reasons += side.reasons
            found.examples |= dict(list(side.examples.items())[: SHOWN - len(found.examples)])
        return found

    @property
    def notes(self) -> list[str]:
        """Remarks on the rows that were read, a line each."""
        found = []
        if self._dropped_columns:
            found.append(f"columns left out with the reasoning: {', '.join(sorted(self._dropped_columns))}")
        if self._has_unread_reasoning:
            found.append(UNREAD_REASONING)
        return found
