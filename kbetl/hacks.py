"""Reads the code of rollouts for solutions that cheat, and stores what it finds by code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kbetl.dataflow.hacks import CHECKER_VERSION, Checked, check_solution
from kbetl.dataflow.source import solution_code
from kbetl.json_codec import stored_value
from kbetl.samples.fields import module_name, python_code
from kbetl.samples.reading import read_row, stored_map
from kbetl.store import Store

# Rows that are read and checked together: one transaction each, and some megabytes.
_PAGE_ROWS = 100


class FlagCount(NamedTuple):
    """A flag, and how many rollouts have it."""

    flag: str
    level: str
    rollouts: int


class _Solution(NamedTuple):
    """What a rollout holds, and what reading it needs."""

    sample_hash: str
    code: str | None
    module_name: str
    module_code: str | None

    @property
    def hash(self) -> str:
        """Of what decides the findings, as SHA-256 in hexadecimal."""
        text = json.dumps([self.code, self.module_name, self.module_code], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class HackReport:
    """What was read now, and what is known of all rollouts."""

    read: int
    """Rollouts that were read now."""
    checked: int
    """Different solutions among them that were new."""
    rollouts: Mapping[str, int]
    """All rollouts by their worst flag: `hack`, `suspect`, `clean`."""
    flags: list[FlagCount] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "read": self.read,
            "new_solutions": self.checked,
            "rollouts": dict(self.rollouts),
            "flags": [one._asdict() for one in self.flags],
            "exit_status": 0,
            "next": ['kbetl export unique -o FILE --where "worst is null"'],
        }

    def lines(self) -> list[str]:
        """For a person."""
        counts = ", ".join(f"{kind} {self.rollouts.get(kind, 0):,}" for kind in ("hack", "suspect", "clean"))
        total = sum(self.rollouts.values())
        lines = [
            f"hacks: read {self.read:,} rollouts, {self.checked:,} new solutions",
            f"{total:,} rollouts: {counts}",
        ]
        return lines + [f"  {one.flag:<22}{one.level:<9}{one.rollouts:>8,}" for one in self.flags]


def find_hacks(store: Store) -> HackReport:
    """Checks the solutions that no checker of this version has read, and reports on all."""
    counts = {"read": 0, "new_solutions": 0}
    with store.run("hacks", {"checker_version": CHECKER_VERSION}, counts=lambda: counts):
        after = ""
        while page := list(_page(store, after)):
            counts["read"] += len(page)
            counts["new_solutions"] += _check(store, page)
            after = page[-1].sample_hash
    return HackReport(
        counts["read"],
        counts["new_solutions"],
        dict(store.rows("findings/counts_by_worst")),
        [FlagCount(*row) for row in store.rows("findings/counts_by_flag")],
    )


def _page(store: Store, after: str) -> Iterator[_Solution]:
    parameters = {"version": CHECKER_VERSION, "after": after, "limit": _PAGE_ROWS}
    for sample_hash, completion, text, map_ in store.rows("findings/unchecked_rollouts", parameters):
        row = read_row(stored_value(text), stored_map(map_)).row
        code = None if completion is None else solution_code(completion)
        yield _Solution(sample_hash, code, module_name(row) or "", python_code(row))


def _check(store: Store, page: list[_Solution]) -> int:
    """Checks and stores a page; gives how many solutions were new."""
    new: dict[str, Checked] = {}
    for one in page:
        known = {"solution_hash": one.hash, "version": CHECKER_VERSION}
        if one.hash not in new and not store.rows("findings/is_checked", known):
            new[one.hash] = check_solution(one.code, one.module_name, one.module_code)
    with store.transaction():
        store.execute_many("findings/add_finding", (_columns(key, checked) for key, checked in new.items()))
        store.execute_many(
            "findings/add_solution",
            ({"sample_hash": one.sample_hash, "solution_hash": one.hash} for one in page),
        )
    return len(new)


def _columns(solution_hash: str, checked: Checked) -> dict[str, object]:
    findings = [one._asdict() for one in checked.findings]
    return {
        "solution_hash": solution_hash,
        "version": CHECKER_VERSION,
        "findings": json.dumps(findings, ensure_ascii=True, separators=(",", ":")),
        "launches": checked.launches,
        "operators": checked.operators,
    }
