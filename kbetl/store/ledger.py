"""What was asked and what came of it: tasks, answers, outcomes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kbetl.records import Completion, Outcome, Request
from kbetl.store.core import Store, now


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as the store remembers it."""

    hash: str
    model: str
    parameters: Mapping[str, Any]
    in_use: bool
    system: str | None
    template: str
    reader: str
    created_at: str


class StoredAnswer(NamedTuple):
    """An answer that is there already, as far as a reader needs it."""

    try_number: int
    completion: Completion
    run_id: int
    """The run that paid for it."""


class Waiting(NamedTuple):
    """One sample that a run asks."""

    position: int
    sample_hash: str
    why: str
    """`new`, or the status that is asked again."""
    reward: float | None
    row: bytes
    """The row's JSON text in UTF-8."""
    attempt: int = 0


class WaitingGroup(NamedTuple):
    """How many samples wait for one reason; `other_task` is the task that rated them before, if any."""

    why: str
    other_task: str | None
    samples: int


class Usage(NamedTuple):
    """What the newest answers of a model took on average; None where none told it."""

    tokens_per_character: float | None
    completion_tokens: float | None
    cost_usd: float | None


def add_task(store: Store, task: Mapping[str, Any], run_id: int) -> None:
    """Remembers a task; see `sql/queries/add_task.sql` for its fields. Call within a transaction."""
    store.execute("add_task", {**task, "run_id": run_id, "created_at": now()})


def tasks_named(store: Store, name: str) -> list[StoredTask]:
    """The tasks of a name, the one in use first, then the newest."""
    return [
        StoredTask(
            task_hash, model, json.loads(parameters), bool(in_use), system, template, reader, created_at
        )
        for task_hash, model, parameters, in_use, system, template, reader, created_at in store.rows(
            "tasks_named", {"name": name}
        )
    ]


class InUse(NamedTuple):
    """A task that came into use with its first outcome that is ok."""

    name: str
    model: str
    hash: str

    def as_text(self) -> str:
        """For a person: the datasets follow."""
        return f"{self.name}: the datasets use the labels of {self.model} ({self.hash[:15]}) from now on"


def use_first_tasks(store: Store, labelled: Iterable[str]) -> list[InUse]:
    """Puts tasks in use, by their hashes, if none of their name is; gives those.

    Each has an outcome that is ok. Call within the transaction that records it.
    """
    return [
        InUse(*row)
        for task_hash in labelled
        for row in store.execute("use_first_task", {"hash": task_hash}).fetchall()
    ]


def newest_answers(store: Store, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], StoredAnswer]:
    """The newest stored answer that is a completion, by (request hash, attempt); none, no entry."""
    found = store.rows("newest_answers", {"attempts": json.dumps(attempts)})
    return {(request_hash, attempt): _stored_answer(answer) for request_hash, attempt, *answer in found}


def _stored_answer(answer: Sequence[Any]) -> StoredAnswer:
    number, run_id, host, finish_reason, refusal, content, reasoning, *counts = answer
    prompt_tokens, completion_tokens, reasoning_tokens, latency_ms = counts
    completion = Completion(
        response="",
        host=host,
        latency_ms=latency_ms,
        content=content,
        reasoning=reasoning,
        finish_reason=finish_reason,
        refusal=refusal,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        reasoning_tokens=reasoning_tokens,
    )
    return StoredAnswer(number, completion, run_id)


class Kept(NamedTuple):
    """One try that came back, to be kept."""

    request: Request
    attempt: int
    completion: Completion
    run_id: int


def add_answers(store: Store, tries: Iterable[Kept], at: str) -> None:
    """Keeps tries, whatever they are worth, each as the next of its attempt. Call within a transaction."""
    store.execute_many(
        "add_answer",
        (
            {
                "request_hash": request.hash,
                "attempt": attempt,
                "model": request.model,
                "request": request.text,
                "run_id": run_id,
                "answered_at": at,
                "served_model": None if completion.served_model == request.model else completion.served_model,
                **{name: getattr(completion, name) for name in _COMPLETION_COLUMNS},
            }
            for request, attempt, completion, run_id in tries
        ),
    )


def newest_try(store: Store, request_hash: str, attempt: int) -> int | None:
    """The number of the newest try at an attempt; None where none came back."""
    found: int | None = store.rows("newest_try", {"request_hash": request_hash, "attempt": attempt})[0][0]
    return found


_COMPLETION_COLUMNS = (
    "host",
    "finish_reason",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_usd",
    "latency_ms",
    "fault",
    "refusal",
    "content",
    "reasoning",
    "sent",
    "response",
)


class Decided(NamedTuple):
    """What a task concluded about a sample, to be kept."""

    outcome: Outcome
    is_answered: bool
    """Whether the newest answer to its request settled it, where the outcome names no try."""


def set_outcomes(store: Store, decisions: Sequence[Decided], at: str) -> list[InUse]:
    """Records what a task concluded, in place of what it concluded before. Call within a transaction.

    Gives the tasks that come into use by it: those with an outcome that is ok, if none of their name is.
    """
    store.execute_many(
        "set_outcome",
        (
            {
                "sample_hash": outcome.sample_hash,
                "task_hash": outcome.task_hash,
                "attempt": outcome.attempt,
                "status": outcome.status,
                "try": outcome.try_number,
                "is_answered": is_answered,
                "request_hash": outcome.request_hash,
                "parser_version": outcome.parser_version,
                "decided_at": at,
                "reason": outcome.reason,
                "value": outcome.value,
            }
            for outcome, is_answered in decisions
        ),
    )
    labelled = dict.fromkeys(outcome.task_hash for outcome, _ in decisions if outcome.status == "ok")
    return use_first_tasks(store, labelled)


def fail_again(store: Store, task_hash: str, samples: Iterable[tuple[str, int]]) -> None:
    """Counts one more failure of samples, by hash and attempt, that had failed before, and of no others."""
    store.execute_many(
        "fail_again",
        (
            {"sample_hash": sample_hash, "task_hash": task_hash, "attempt": attempt}
            for sample_hash, attempt in samples
        ),
    )


PARKED_AFTER = 3
"""Runs in a row that a sample failed in, after which a plain run asks it no more."""


class Selection:
    """The samples a run is about, and those of them that it asks, as temp tables on disk."""

    rows_query = "waiting_rows"
    """What gives those that wait, with their rows."""

    def __init__(self, store: Store, task_hash: str, attempts: int = 1) -> None:
        """`attempts` answers are wanted about each sample."""
        self.store = store
        self.task_hash = task_hash
        self.attempts = attempts
        self.waiting = 0
        """Samples that the run asks, each as often as it asks; set by `wait`."""
        self.missing = 0
        """Samples that it would ask without a limit; set by `wait`."""
        self.parked = 0
        """Samples that failed too often in a row to be asked once more; set by `wait`."""
        self.handed_out = 0
        """Samples that wait for a batch file instead; set by `wait`."""
        self.empty = 0
        """Rollouts without an answer; set by `drop_empty`."""
        with store.explained():
            for query in (
                "drop_waiting",
                "drop_chosen",
                "drop_seen",
                "chosen_table",
                "waiting_table",
                "seen_table",
            ):
                store.execute(query)

    @property
    def chosen(self) -> int:
        """Samples that the run is about."""
        found: int = self.store.rows("count_chosen")[0][0]
        return found

    def choose(self, sample_hashes: Iterator[str]) -> None:
        """Takes the samples in the order in which they come."""
        with self.store.transaction(writes=False):
            self.store.execute_many("add_chosen", ({"sample_hash": each} for each in sample_hashes))

    def keep_sources(self, source_ids: Sequence[int]) -> None:
        """Leaves only samples of these sources."""
        with self.store.explained():
            self.store.execute("keep_sources", {"source_ids": json.dumps(list(source_ids))})

    def drop_empty(self) -> None:
        """Leaves out rollouts without an answer."""
        with self.store.explained():
            self.empty = self.store.execute("drop_empty_rollouts").rowcount

    def wait(
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

        What failed in PARKED_AFTER runs in a row is left out where new ones are wanted.
        What waits for a batch file is left out, but where the run `takes_back` what was handed out.
        `wants_rollouts` counts as new what was answered and has not become a rollout.
        `before_run` leaves out what an answer of that run or a later one settled.
        """
        with self.store.explained():
            cursor = self.store.execute(
                "fill_waiting",
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
                self.parked = self.store.execute("leave_parked", values).rowcount
                self.waiting = self.missing = self.missing - self.parked
            if not takes_back and self.store.rows("any_handed_out")[0][0]:
                self.handed_out = self.store.execute(
                    "leave_handed_out", {"task_hash": self.task_hash}
                ).rowcount
                self.waiting = self.missing = self.missing - self.handed_out
            if limit is not None and limit < self.missing:
                self.store.execute("cut_waiting", {"limit": limit})
                self.waiting = limit

    def wait_for_rollouts(self, batch_id: int) -> None:
        """Finds instead what a batch file answered and has not become a rollout."""
        with self.store.explained():
            values = {"task_hash": self.task_hash, "batch_id": batch_id}
            self.waiting = self.missing = self.store.execute("fill_waiting_answered", values).rowcount

    def is_first(self, request_hash: str, attempt: int = 0) -> bool:
        """Whether an attempt at a request is met for the first time."""
        with self.store.explained():
            key = {"request_hash": request_hash, "attempt": attempt}
            return self.store.execute("add_seen", key).rowcount == 1

    def groups(self, name: str) -> list[WaitingGroup]:
        """How many samples wait, by reason."""
        return [
            WaitingGroup(*row)
            for row in self.store.rows("waiting_by_why", {"task_hash": self.task_hash, "name": name})
        ]

    def next(self, after: int, limit: int = 256, limit_bytes: int = 4 * 2**20) -> list[Waiting]:
        """The next samples after a position: at most `limit`, or rows that make `limit_bytes` together."""
        found: list[Waiting] = []
        size = 0
        with self.store.explained():
            for row in self.store.execute(self.rows_query, {"after": after, "limit": limit}):
                found.append(Waiting(*row))
                size += len(found[-1].row)
                if size >= limit_bytes:
                    break
        return found

    def by_status(self) -> dict[str, int]:
        """How many of the chosen samples have each status now."""
        return dict(
            self.store.rows("chosen_by_status", {"task_hash": self.task_hash, "attempts": self.attempts})
        )


def usage_of(store: Store, model: str, limit: int = 200) -> Usage:
    """What the newest `limit` answers of a model took."""
    return Usage(*store.rows("token_ratio", {"model": model, "limit": limit})[0])
