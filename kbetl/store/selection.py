"""Which samples a run asks about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kbetl.store.store import Store


class PendingSample(NamedTuple):
    """One sample that a run asks."""

    position: int
    sample_hash: str
    why: str
    """`new`, or the status that is asked again."""
    reward: float | None
    row: bytes
    """The row's JSON text in UTF-8."""
    attempt: int = 0
    field_map: str | None = None
    """The map that the row is read by; None for none."""


class PendingGroup(NamedTuple):
    """How many samples wait for one reason; `other_task` is the task that rated them before, if any."""

    why: str
    other_task: str | None
    samples: int


class Selection:
    """The samples a run is about, and those of them that it asks, as temp tables on disk."""

    rows_query = "selection/waiting_rows"
    """The query of the pending samples with their rows."""

    def __init__(self, store: Store, task_hash: str, attempts: int = 1) -> None:
        """`attempts` answers are wanted about each sample."""
        self.store = store
        self.task_hash = task_hash
        self.attempts = attempts
        self.waiting = 0
        """Samples that the run asks, each as often as it asks; set by `fill`."""
        self.missing = 0
        """Samples that it would ask without a limit; set by `fill`."""
        self.parked = 0
        """Samples that failed too often in a row to be asked once more; set by `fill`."""
        self.handed_out = 0
        """Samples that are pending in a batch file instead; set by `fill`."""
        self.empty = 0
        """Rollouts without an answer; set by `drop_without_completion`."""
        with store.translate_errors():
            for query in (
                "selection/drop_waiting",
                "selection/drop_chosen",
                "selection/drop_seen",
                "selection/chosen_table",
                "selection/waiting_table",
                "selection/seen_table",
            ):
                store.execute(query)

    @property
    def chosen(self) -> int:
        """Samples that the run is about."""
        found: int = self.store.rows("selection/count_chosen")[0][0]
        return found

    def choose(self, sample_hashes: Iterator[str]) -> None:
        """Selects samples, in the order in which they come."""
        with self.store.transaction(writes=False):
            self.store.execute_many("selection/add_chosen", ({"sample_hash": each} for each in sample_hashes))

    def restrict_to_sources(self, source_ids: Sequence[int]) -> None:
        """Leaves only samples of these sources."""
        with self.store.translate_errors():
            self.store.execute("selection/keep_sources", {"source_ids": json.dumps(list(source_ids))})

    def drop_without_completion(self) -> None:
        """Leaves out rollouts without an answer."""
        with self.store.translate_errors():
            self.empty = self.store.execute("selection/drop_empty_rollouts").rowcount

    def fill(
        self,
        statuses: Sequence[str],
        *,
        wants_new: bool,
        wants_rollouts: bool = False,
        limit: int | None = None,
        before_run: int | None = None,
        takes_back: bool = False,
    ) -> None:
        """Finds what a run asks: samples with one of the statuses again, `wants_new` those without any.

        What failed in PARKED_AFTER runs in a row is left out if new ones are wanted.
        What is pending in a batch file is left out, unless the run `takes_back` what was handed out.
        `wants_rollouts` counts as new what was answered and has not become a rollout.
        `before_run` leaves out samples that have an outcome from an answer of that run or a later one.
        """
        with self.store.translate_errors():
            cursor = self.store.execute(
                "selection/fill_waiting",
                {
                    "task_hash": self.task_hash,
                    "attempts": self.attempts,
                    "statuses": json.dumps(list(statuses)),
                    "wants_new": int(wants_new),
                    "wants_rollouts": int(wants_rollouts),
                    "before_run": before_run,
                },
            )
            self.waiting = self.missing = cursor.rowcount
            if wants_new:
                values = {"task_hash": self.task_hash, "parked_after": PARKED_AFTER}
                self.parked = self.store.execute("selection/leave_parked", values).rowcount
                self.waiting = self.missing = self.missing - self.parked
            if not takes_back and self.store.rows("batches/any_handed_out")[0][0]:
                self.handed_out = self.store.execute(
                    "selection/leave_handed_out", {"task_hash": self.task_hash}
                ).rowcount
                self.waiting = self.missing = self.missing - self.handed_out
            if limit is not None and limit < self.missing:
                self.store.execute("selection/cut_waiting", {"limit": limit})
                self.waiting = limit

    def fill_unrecorded_rollouts(self, batch_id: int) -> None:
        """Finds instead what a batch file answered and has not become a rollout."""
        with self.store.translate_errors():
            values = {"task_hash": self.task_hash, "batch_id": batch_id}
            self.waiting = self.missing = self.store.execute(
                "selection/fill_waiting_answered", values
            ).rowcount

    def is_first(self, request_hash: str, attempt: int = 0) -> bool:
        """Whether an attempt at a request is met for the first time."""
        with self.store.translate_errors():
            key = {"request_hash": request_hash, "attempt": attempt}
            return self.store.execute("selection/add_seen", key).rowcount == 1

    def groups(self, name: str) -> list[PendingGroup]:
        """How many samples wait, by reason."""
        return [
            PendingGroup(*row)
            for row in self.store.rows(
                "selection/waiting_by_why", {"task_hash": self.task_hash, "name": name}
            )
        ]

    def next(self, after: int, limit: int = 256, limit_bytes: int = 4 * 2**20) -> list[PendingSample]:
        """The next samples after a position: at most `limit`, or rows that make `limit_bytes` together."""
        found: list[PendingSample] = []
        size = 0
        with self.store.translate_errors():
            for row in self.store.execute(self.rows_query, {"after": after, "limit": limit}):
                found.append(PendingSample(*row))
                size += len(found[-1].row)
                if size >= limit_bytes:
                    break
        return found

    def by_status(self) -> dict[str, int]:
        """How many of the chosen samples have each status now."""
        return dict(
            self.store.rows(
                "selection/chosen_by_status", {"task_hash": self.task_hash, "attempts": self.attempts}
            )
        )


# Runs in a row that a sample failed in, after which a plain run asks it no more.
PARKED_AFTER = 3
