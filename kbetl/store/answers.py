"""What was asked and what came of it: tasks, answers, outcomes."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kbetl.errors import ConfigError
from kbetl.records import Completion, Outcome, Request
from kbetl.store.generated_views import check_label_columns
from kbetl.store.store import Store, now


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as the store has it."""

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


class Usage(NamedTuple):
    """The average usage of the newest answers of a model; a value is None if no answer reports it."""

    tokens_per_character: float | None
    completion_tokens: float | None
    cost_usd: float | None


def add_task(store: Store, task: Mapping[str, Any], run_id: int) -> None:
    """Stores a task; see `sql/queries/answers.sql` for its fields. Call within a transaction.

    Raises ConfigError if a label of it would have the name of another column of `selectable`.
    """
    check_label_columns(store.connection, task["name"], task["reader"])
    store.execute("answers/add_task", {**task, "run_id": run_id, "created_at": now()})
    store.remake_views()


def tasks_named(store: Store, name: str) -> list[StoredTask]:
    """The tasks of a name, the one in use first, then the newest."""
    return [
        StoredTask(
            task_hash, model, json.loads(parameters), bool(in_use), system, template, reader, created_at
        )
        for task_hash, model, parameters, in_use, system, template, reader, created_at in store.rows(
            "answers/tasks_named", {"name": name}
        )
    ]


def stored_task(store: Store, name: str) -> tuple[Any, ...] | None:
    """The columns of `answers/stored_task` of the task of a name that is in use, else of the newest."""
    found = store.rows("answers/stored_task", {"name": name})
    return found[0] if found else None


class InUse(NamedTuple):
    """A task that came into use with its first outcome that is ok, or went out of it with its last."""

    name: str
    model: str
    hash: str

    def as_text(self) -> str:
        """For a person: the datasets follow."""
        return f"{self.name}: the datasets use the labels of {self.model} ({self.hash[:15]}) from now on"


def use_first_tasks(store: Store, labelled: Iterable[str]) -> list[InUse]:
    """Puts tasks in use, by their hashes, if none of their name is; returns those.

    Each has an outcome that is ok. A task whose label has the name of another's column, which came into use
    meanwhile, stays out of use: `kbetl use` says why. Call within the transaction that records it.
    """
    used = []
    for task_hash in labelled:
        for *row, reader in store.execute("answers/use_first_task", {"hash": task_hash}).fetchall():
            first = InUse(*row)
            try:
                check_label_columns(store.connection, first.name, reader)
            except ConfigError:
                store.execute("use/retire_tasks", {"name": first.name})
            else:
                used.append(first)
    if used:
        store.remake_views()
    return used


def retire_unlabelled(store: Store) -> list[InUse]:
    """Puts the tasks that have no label any more out of use; returns those. Call within a transaction."""
    retired = [InUse(*row) for row in store.execute("answers/retire_unlabelled").fetchall()]
    if retired:
        store.remake_views()
    return retired


def newest_answers(store: Store, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], StoredAnswer]:
    """The newest stored answer that is a completion, by (request hash, attempt); no entry without one."""
    found = store.rows("answers/newest_answers", {"attempts": json.dumps(attempts)})
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


class NewAnswer(NamedTuple):
    """One try that came back, to be stored."""

    request: Request
    attempt: int
    completion: Completion
    run_id: int


def add_answers(store: Store, tries: Iterable[NewAnswer], at: str) -> None:
    """Stores tries, whatever they are worth, each as the next of its attempt. Call within a transaction."""
    store.execute_many(
        "answers/add_answer",
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


def last_try(store: Store, request_hash: str, attempt: int) -> int | None:
    """The number of the newest stored try at an attempt; None if none is stored."""
    found: int | None = store.rows("answers/newest_try", {"request_hash": request_hash, "attempt": attempt})[
        0
    ][0]
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


class NewOutcome(NamedTuple):
    """What a task concluded about a sample, to be stored."""

    outcome: Outcome
    is_answered: bool
    """Whether it comes from the newest answer to its request, if the outcome names no try."""


def record_outcomes(
    store: Store, decisions: Sequence[NewOutcome], at: str, *, labelled_before: Container[str] = ()
) -> list[InUse]:
    """Records what a task concluded; replaces what it concluded before. Call within a transaction.

    Returns the tasks that come into use by it: those with an outcome that is ok, if none of their name is.
    `labelled_before` are hashes of tasks that need no look, as one with an ok outcome was recorded already.
    """
    store.execute_many(
        "answers/set_outcome",
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
    return use_first_tasks(store, (each for each in labelled if each not in labelled_before))


def fail_again(store: Store, task_hash: str, samples: Iterable[tuple[str, int]]) -> None:
    """Counts one more failure of samples, by hash and attempt, that had failed before, and of no others."""
    store.execute_many(
        "answers/fail_again",
        (
            {"sample_hash": sample_hash, "task_hash": task_hash, "attempt": attempt}
            for sample_hash, attempt in samples
        ),
    )


def usage_of(store: Store, model: str, limit: int = 200) -> Usage:
    """The average usage of the newest `limit` answers of a model."""
    return Usage(*store.rows("answers/token_ratio", {"model": model, "limit": limit})[0])
