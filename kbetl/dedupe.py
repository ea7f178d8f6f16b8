"""The report on `unique`: what it keeps of `filtered`, and what grouping by name or by code drops."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbetl.dataset.dataset import Dataset, query_of, why_empty
from kbetl.store import ReportRow, Store
from kbetl.store.datasets import By, open_rows, rollout_sources, source_ids
from kbetl.text import plain_text

TOP = 10
LISTED = 10
NAME_CHARACTERS = 80
# Rewards from here on are shown with an exponent.
MOST_PLAIN = 1e6
_CHOICES: tuple[By, ...] = ("name", "code")


@dataclass(frozen=True, slots=True)
class DedupeReport:
    """What one choice keeps, and what both drop."""

    by: By
    sources: Sequence[str]
    """The sources of the rows; without --source all that hold rollouts."""
    counts: Mapping[By, ReportRow]
    """What grouping by name and by code makes of the rows, as `dedupe/unique_counts` counts it."""
    top: Sequence[ReportRow]
    names: Sequence[ReportRow]
    """The first module names that stand over different code; each row has the total of all such names."""
    codes: Sequence[ReportRow]
    """The first codes that stand under several module names, likewise."""
    why_empty: str | None = None
    """Why the dataset has no rows, and what to run; None if it has some."""

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        counts = self.counts[self.by]
        return {
            "by": self.by,
            "sources": list(self.sources),
            "rows": counts["rows"],
            "kept": counts["kept"],
            "reduction_percent": _reduction_percent(counts),
            "reward_lowest": counts["lowest"],
            "reward_highest": counts["highest"],
            "top": self.top,
            "choices": {by: self.counts[by] for by in _CHOICES},
            "names_over_different_code": _total(self.names),
            "first_names_over_different_code": _without_total(self.names),
            "codes_under_several_names": _total(self.codes),
            "first_codes_under_several_names": _without_total(self.codes),
        }

    def lines(self) -> list[str]:
        """The report for people."""
        counts = self.counts[self.by]
        lines = [
            f"unique by {self.by}: {counts['kept']:,} of {counts['rows']:,} rows of filtered kept, "
            f"reduction {_reduction_percent(counts)} %"
        ]
        if self.why_empty is not None:
            lines.append(self.why_empty)
        if counts["kept"] and counts["lowest"] is not None and counts["highest"] is not None:
            lines.append(f"reward from {_reward(counts['lowest'])} to {_reward(counts['highest'])}")
            lines += ["", f"the first {len(self.top)}:", *map(_top_line, self.top)]
        return [*lines, "", *self._choice_lines(), *self._name_lines(), *self._code_lines()]

    def _choice_lines(self) -> list[str]:
        return [
            "by {by}: keeps {kept:,} rows, drops {dropped:,}; with them {lost_codes:,} of {codes:,} "
            "different codes and {lost_names:,} of {names:,} names".format(
                by=by, dropped=self.counts[by]["rows"] - self.counts[by]["kept"], **self.counts[by]
            )
            for by in _CHOICES
        ]

    def _name_lines(self) -> list[str]:
        return [
            f"names that hide different code: {_first_of(self.names)}",
            *(
                f"  {_name(row['module_name'])}: {row['codes']:,} codes in {row['rows']:,} rows"
                for row in self.names
            ),
        ]

    def _code_lines(self) -> list[str]:
        lines = [f"codes under several names: {_first_of(self.codes)}"]
        for row in self.codes:
            names = ", ".join(map(_name, row["names"][:LISTED]))
            lines.append(f"  {row['code_hash'][:11]}: {names} in {row['rows']:,} rows")
        return lines


def dedupe(database: Path, by: By = "name", sources: Sequence[str] = ()) -> DedupeReport:
    """Returns the report on `unique`, of all rows or of those of some sources; the store is only read.

    Raises StoreError if there is no store, ConfigError for an unknown source.
    """
    with Store.read(database) as store:
        ids = source_ids(store, sources) if sources else None
        unique = Dataset("unique", tuple(sources), by=by)
        other: By = "code" if by == "name" else "name"
        with open_rows(store, query_of(unique.entry, ids, by=other)):
            (other_counts,) = store.named_rows("dedupe/unique_counts")
        with open_rows(store, query_of(unique.entry, ids, by=by)):
            (counts,) = store.named_rows("dedupe/unique_counts")
            codes = store.named_rows("dedupe/codes_over_names", {"limit": LISTED})
            return DedupeReport(
                by,
                list(sources) or rollout_sources(store),
                {by: counts, other: other_counts},
                store.named_rows("dedupe/unique_top", {"limit": TOP}),
                store.named_rows("dedupe/names_over_codes", {"limit": LISTED}),
                [{**row, "names": json.loads(row["names"])} for row in codes],
                why_empty(store, unique),
            )


def _total(rows: Sequence[ReportRow]) -> int:
    return int(rows[0]["total"]) if rows else 0


def _without_total(rows: Sequence[ReportRow]) -> list[ReportRow]:
    return [{key: value for key, value in row.items() if key != "total"} for row in rows]


def _first_of(rows: Sequence[ReportRow]) -> str:
    total = _total(rows)
    return f"{total:,}{f', the first {LISTED}:' if total > LISTED else ''}"


def _reduction_percent(counts: ReportRow) -> float:
    return round(100 * (1 - counts["kept"] / counts["rows"]), 1) if counts["rows"] else 0.0


def _top_line(row: ReportRow) -> str:
    return f"  {_reward(row['reward'])}  {row['difficulty']:<6}  {_name(row['module_name'] or '(no name)')}"


def _reward(value: float) -> str:
    """The reward with four decimals, or with an exponent if that is shorter."""
    return f"{value:.4f}" if abs(value) < MOST_PLAIN else f"{value:.4e}"


def _name(name: str) -> str:
    """The first characters of a name: one from outside may be a page long."""
    shown = plain_text(name)
    return shown if len(shown) <= NAME_CHARACTERS else f"{shown[:NAME_CHARACTERS]}..."
