"""The report on `unique`: what it keeps of `filtered`, and what grouping by name or by code drops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbetl.dataset.dataset import Dataset, query_of, why_empty
from kbetl.store import Store
from kbetl.store.datasets import (
    By,
    CodeOverNames,
    NameOverCodes,
    UniqueCounts,
    UniqueRow,
    codes_over_names,
    names_over_codes,
    open_rows,
    rollout_sources,
    source_ids,
    unique_counts,
    unique_top,
)
from kbetl.text import plain_text

TOP = 10
LISTED = 10
NAME_CHARACTERS = 80
MOST_PLAIN = 1e6
"""Rewards from here on are shown with an exponent."""


@dataclass(frozen=True, slots=True)
class DedupeReport:
    """What one choice keeps, and what both drop."""

    by: By
    sources: Sequence[str]
    """The sources that rows come from; all that hold rollouts unless some were named."""
    counts: UniqueCounts
    other: UniqueCounts
    """The same with the other choice."""
    top: Sequence[UniqueRow]
    names: int
    """Module names that stand over different code."""
    first_names: Sequence[NameOverCodes]
    codes: int
    """Codes that stand under several module names."""
    first_codes: Sequence[CodeOverNames]
    why_empty: str | None = None
    """Why there are no rows, and what to run; None where there are some."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        by_name, by_code = self._by_choice()
        return {
            "by": self.by,
            "sources": list(self.sources),
            "rows": self.counts.rows,
            "kept": self.counts.kept,
            "reduction_percent": _reduction_percent(self.counts),
            "reward_lowest": self.counts.lowest,
            "reward_highest": self.counts.highest,
            "top": [row._asdict() for row in self.top],
            "choices": {"name": by_name._asdict(), "code": by_code._asdict()},
            "names_over_different_code": self.names,
            "first_names_over_different_code": [row._asdict() for row in self.first_names],
            "codes_under_several_names": self.codes,
            "first_codes_under_several_names": [row._asdict() for row in self.first_codes],
        }

    def lines(self) -> list[str]:
        """For a person."""
        counts = self.counts
        lines = [
            f"unique by {self.by}: {counts.kept:,} of {counts.rows:,} rows of filtered kept, "
            f"reduction {_reduction_percent(counts)} %"
        ]
        if self.why_empty is not None:
            lines.append(self.why_empty)
        if counts.kept and counts.lowest is not None and counts.highest is not None:
            lines.append(f"reward from {_reward(counts.lowest)} to {_reward(counts.highest)}")
            lines += ["", f"the first {len(self.top)}:", *map(_top_line, self.top)]
        return [*lines, "", *self._choice_lines(), *self._name_lines(), *self._code_lines()]

    def _by_choice(self) -> tuple[UniqueCounts, UniqueCounts]:
        return (self.counts, self.other) if self.by == "name" else (self.other, self.counts)

    def _choice_lines(self) -> list[str]:
        return [
            f"by {choice}: keeps {counts.kept:,} rows, drops {counts.rows - counts.kept:,}; with them "
            f"{counts.lost_codes:,} of {counts.codes:,} different codes "
            f"and {counts.lost_names:,} of {counts.names:,} names"
            for choice, counts in zip(("name", "code"), self._by_choice(), strict=True)
        ]

    def _name_lines(self) -> list[str]:
        lines = [f"names that hide different code: {self.names:,}{_shown(self.names)}"]
        lines += [
            f"  {_name(row.module_name)}: {row.codes:,} codes in {row.rows:,} rows"
            for row in self.first_names
        ]
        return lines

    def _code_lines(self) -> list[str]:
        lines = [f"codes under several names: {self.codes:,}{_shown(self.codes)}"]
        for row in self.first_codes:
            names = ", ".join(map(_name, row.names[:LISTED]))
            lines.append(f"  {row.code_hash[:11]}: {names} in {row.rows:,} rows")
        return lines


def dedupe(database: Path, by: By = "name", sources: Sequence[str] = ()) -> DedupeReport:
    """The report on `unique`, of all rows or of those of some sources; the store is only read.

    Raises StoreError where there is no store, ConfigError for an unknown source.
    """
    with Store.read(database) as store:
        ids = source_ids(store, sources) if sources else None
        unique = Dataset("unique", tuple(sources), by=by)
        with open_rows(store, query_of(unique.entry, ids, by="code" if by == "name" else "name")):
            other = unique_counts(store)
        with open_rows(store, query_of(unique.entry, ids, by=by)):
            names, first_names = names_over_codes(store, LISTED)
            codes, first_codes = codes_over_names(store, LISTED)
            return DedupeReport(
                by,
                list(sources) or rollout_sources(store),
                unique_counts(store),
                other,
                unique_top(store, TOP),
                names,
                first_names,
                codes,
                first_codes,
                why_empty(store, unique),
            )


def _reduction_percent(counts: UniqueCounts) -> float:
    return round(100 * (1 - counts.kept / counts.rows), 1) if counts.rows else 0.0


def _top_line(row: UniqueRow) -> str:
    return f"  {_reward(row.reward)}  {row.difficulty:<6}  {_name(row.module_name or '(no name)')}"


def _reward(value: float) -> str:
    """With four decimals, as long as that is short."""
    return f"{value:.4f}" if abs(value) < MOST_PLAIN else f"{value:.4e}"


def _name(name: str) -> str:
    """Its first characters: a name from outside may be a page long."""
    shown = plain_text(name)
    return shown if len(shown) <= NAME_CHARACTERS else f"{shown[:NAME_CHARACTERS]}..."


def _shown(number: int) -> str:
    return f", the first {LISTED}:" if number > LISTED else ""
