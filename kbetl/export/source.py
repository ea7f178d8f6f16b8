"""The rows of a dataset as texts in a format: what `export` writes to files and `push` to the Hub."""

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
from kbetl.text import plain_text

SHOWN = 10


@dataclass(slots=True)
class LeftOut:
    """Rows that a format cannot carry."""

    reasons: Counter[str] = field(default_factory=Counter)
    """With how many rows each kept out."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first few, by hash, with the reason."""

    def add(self, sample_hash: str, reason: str) -> None:
        """One more."""
        self.reasons[reason] += 1
        if len(self.examples) < SHOWN:
            self.examples[sample_hash] = reason

    def lines(self) -> list[str]:
        """The first few, and each reason with its number, a line each."""
        lines = [f"left out {sample}: {reason}" for sample, reason in self.examples.items()]
        hidden = sum(self.reasons.values()) - len(self.examples)
        if hidden:
            lines.append(f"... and {hidden:,} more rows")
        return [*lines, *(f"left out {number:,} rows: {why}" for why, number in self.reasons.most_common())]

    def why(self) -> str:
        """The most frequent reasons, in one line."""
        return "; ".join(f"{number:,} rows: {why}" for why, number in self.reasons.most_common(3))


class DatasetSource:
    """A dataset's rows in a format; they can be read again and again, one side at a time."""

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
        """What the format could not carry when a side was read last."""
        self._gone: set[str] = set()
        self._convert = converter(format_, has_reasoning=has_reasoning, left_out=self._gone)
        self._has_reasoning_as_is = is_plain and has_reasoning
        self._has_unread_reasoning = False

    def texts(self, split: Split | None) -> Iterator[bytes]:
        """The rows of one side that the format can carry."""
        left_out = self.left_out[split] = LeftOut()
        for row in self.dataset.rows(split):
            if self._has_reasoning_as_is and not self._has_unread_reasoning:
                self._has_unread_reasoning = has_unread_reasoning(row.text)
            try:
                yield self._convert(row)
            except BadRow as bad:
                left_out.add(row.sample_hash, plain_text(str(bad)))

    def all_left_out(self) -> LeftOut:
        """Of all sides that were read."""
        found = LeftOut()
        for side in self.left_out.values():
            found.reasons += side.reasons
            found.examples |= dict(list(side.examples.items())[: SHOWN - len(found.examples)])
        return found

    @property
    def notes(self) -> list[str]:
        """What is worth saying of the rows that were read, a line each."""
        gone = f"columns left out with the reasoning: {', '.join(sorted(self._gone))}"
        return [*([gone] if self._gone else []), *([UNREAD_REASONING] if self._has_unread_reasoning else [])]
