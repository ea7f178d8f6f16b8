"""Reads what a store holds now, and finds what to run next."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kbetl.config import command_line
from kbetl.errors import LEFT_OVER
from kbetl.rerun import RECORD, Told, asking_words, recording_words
from kbetl.store import Store, is_locked
from kbetl.store.datasets import mixed_sources
from kbetl.store.reservations import OrphanedReservations, orphaned_reservations
from kbetl.store.selection import PARKED_AFTER

_TAKEN = ("task", "model", "base_url", "base_urls", "rollouts", "api_key_var")
"""What `--resume` has to be told again, to be seen for what it is; it knows the rest."""


def read_status(database: Path) -> Status:
    """What the store holds now. Raises StoreError where there is no store to read."""
    with Store.read(database) as store:
        pending = [Pending(*row) for row in store.rows("status/pending_by_task")]
        handed_out = [HandedOut(*row) for row in store.rows("status/handed_out_by_task")]
        failures = [Failure(*row) for row in store.rows("status/failures_by_reason")]
        samples = [Kind(*row) for row in store.rows("status/sample_counts")]
        labels = _labels(store.rows("status/outcomes_by_status"))
        asking = _asking(labels, _told(store.rows("status/asking_runs")))
        parked = [Parked(*row) for row in store.rows("status/parked_by_task", {"parked_after": PARKED_AFTER})]
        is_measured = bool(store.rows("status/measured_lengths")[0][0])
        return Status(
            database=str(database),
            size_bytes=database.stat().st_size,
            pending=pending,
            handed_out=handed_out,
            failures=failures,
            parked=parked,
            unfinished=_unfinished(store.rows("status/unfinished_runs"), database),
            sources=[Source(*row) for row in store.rows("status/sources_by_name")],
            models=[Made(*row) for row in store.rows("status/models_by_source")],
            samples=samples,
            labels=labels,
            difficulties=[Difficulty(*row) for row in store.rows("status/difficulties")],
            costs=[Cost(*row) for row in store.rows("status/costs_by_task")],
            served=[Served(*row) for row in store.rows("status/served_models")],
            reserved=_reserved(orphaned_reservations(store), database),
            settings=dict(store.rows("card/all_settings")),
            next=command_line(
                database,
                *(
                    ("batch", "status")
                    if handed_out and not pending
                    else _first_ratings(samples, labels, parked, asking)
                    or _next(samples, labels, pending, failures, asking=asking, is_measured=is_measured)
                    or _export_filtered(mixed_sources(store))
                ),
            ),
        )


def _next(
    samples: Sequence[Kind],
    labels: Sequence[Labels],
    pending: Sequence[Pending],
    failures: Sequence[Failure],
    *,
    asking: Mapping[str, Told],
    is_measured: bool,
) -> tuple[str, ...]:
    """What a user would do next, short of exporting; empty where nothing is left to do before that."""
    if not samples:
        return ("ingest",)
    if pending:
        return asking_words(pending[0].task, asking.get(pending[0].task, {}))
    if not any(kind.kind == "rollout" for kind in samples):
        has_prompts = any(label.task == "prompts" and label.in_use for label in labels)
        return (
            ("export", "synthetic", "-o", "outputs/synthetic_prompts.jsonl")
            if has_prompts
            else asking_words("prompts", asking.get("prompts", {}))
        )
    again = next((failure for failure in failures if failure.status in ("unparsed", "truncated")), None)
    if again is not None:
        return (*asking_words(again.task, asking.get(again.task, {})), "--retry", again.status)
    if not is_measured:
        return ("lengths",)
    return ()


def _first_ratings(
    samples: Sequence[Kind], labels: Sequence[Labels], parked: Sequence[Parked], asking: Mapping[str, Told]
) -> tuple[str, ...]:
    """What asks for ratings while none is in use, as it was asked last; empty if some are, or none is wanted.

    What a plain run would pass by is asked again by its status.
    """
    good = sum(kind.good for kind in samples if kind.kind == "rollout")
    ratings = [label for label in labels if label.task == "difficulty"]
    if not good or any(label.in_use for label in ratings):
        return ()
    words = asking_words("difficulty", asking.get("difficulty", {}))
    outcomes = ratings[-1].outcomes if ratings else {}
    left = outcomes.get("failed", 0) - sum(row.samples for row in parked if row.task == "difficulty")
    if left > 0 or sum(outcomes.values()) < good:
        return words
    return (*words, "--retry", max(outcomes, key=lambda status: outcomes[status]))


def _asking(labels: Sequence[Labels], told: Mapping[str, Told]) -> dict[str, Told]:
    """How the task of each name was asked last that is in use; if none is, the newest."""
    current: dict[str, Labels] = {}
    for label in labels:  # the one in use first, then the newest last
        if label.task not in current or not current[label.task].in_use:
            current[label.task] = label
    found: dict[str, Told] = {}
    for task, label in current.items():
        options = told.get(label.task_hash, {})
        found[task] = options if options.get("model") else {**options, "model": label.model}
    return found


def _export_filtered(sources: Sequence[str]) -> tuple[str, ...]:
    """The command that writes the dataset; of several sources it has to be told that all are meant."""
    mixed = ("--all-sources",) if sources else ()
    return ("export", "filtered", *mixed, "-o", "outputs/filtered_dataset.jsonl")


def _told(rows: Sequence[tuple[str, str]]) -> dict[str, Told]:
    """The options of the newest run of each task, by its hash.

    Its parameters are of the newest that was no retry: a retry may have others and stays with the task.
    """
    found: dict[str, Told] = {}
    for task_hash, options in rows:
        told = json.loads(options)
        if told.get("retry"):
            told["parameters"] = found.get(task_hash, {}).get("parameters", {})
        found[task_hash] = told
    return found


def _labels(rows: Sequence[tuple[str, str, str, int, str | None, int]]) -> list[Labels]:
    found: dict[str, Labels] = {}
    outcomes: dict[str, dict[str, int]] = {}
    for name, task_hash, model, in_use, status, samples in rows:
        counts = outcomes.setdefault(task_hash, {})
        if status is not None:
            counts[status] = samples
        found[task_hash] = Labels(name, task_hash, model, bool(in_use), counts)
    return list(found.values())


_RunRow = tuple[int, str, str | None, str, int | None, int, str]


def _unfinished(rows: Sequence[_RunRow], database: Path) -> list[Unfinished]:
    newest = {task: run_id for run_id, _, task, *_ in rows}
    return [
        Unfinished(
            run_id=run_id,
            command=name,
            task=task,
            started_at=started_at,
            status=status,
            pid=pid,
            is_running=status is None and _is_running(database, task, pid),
            resume=_resume((run_id, name, task, started_at, status, pid, options), newest, database),
        )
        for run_id, name, task, started_at, status, pid, options in rows
    ]


def _reserved(left: Sequence[OrphanedReservations], database: Path) -> list[Reserved]:
    """Those of runs that are over: what is in flight now is no news."""
    return [
        Reserved(
            each.run_id, each.command, each.task, each.is_open, each.requests, each.tokens, each.cost_usd
        )
        for each in left
        if not (each.is_open and _is_running(database, each.task, each.pid))
    ]


def _resume(row: _RunRow, newest: Mapping[str | None, int], database: Path) -> str | None:
    """`--resume` takes up the newest run of a task's name; an older one goes on as a plain run."""
    run_id, name, task, _, status, _, options = row
    if task is not None:
        told = json.loads(options)
        if newest[task] == run_id:
            taken = {key: told[key] for key in _TAKEN if key in told}
            return command_line(database, *asking_words(task, taken), "--resume")
        return command_line(database, *asking_words(task, told))
    if name in ("ingest", RECORD, "synth run") and status == LEFT_OVER:
        return command_line(database, "query", "select * from rejected_rows")
    return command_line(database, *recording_words(json.loads(options))) if name == RECORD else None


def _is_running(database: Path, task: str | None, pid: int) -> bool:
    """A run that asks holds its task's lock; of others only the process can be looked for."""
    return _is_alive(pid) and (task is None or is_locked(database, task))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Source(NamedTuple):
    """One source and what it holds; `samples` are different ones, `rows` are places."""

    name: str
    rows: int
    samples: int
    modules: int
    rollouts: int
    records: int
    rejected: int
    ingested_at: str


class Made(NamedTuple):
    """Rollouts of one source by one model in one environment; None where nobody says which."""

    source: str
    model: str | None
    environment: str | None
    rows: int
    rollouts: int
    empty: int
    errors: int
    rewarded: int


class Kind(NamedTuple):
    """All samples of one kind; `good` have a reward above min_reward."""

    kind: str
    samples: int
    good: int


class Difficulty(NamedTuple):
    """Samples rated alike with the labels in use; `good` are in `filtered`."""

    difficulty: str
    samples: int
    good: int


class Pending(NamedTuple):
    """What a plain run would ask; `why` is `new` or `failed`."""

    task: str
    why: str
    samples: int


class HandedOut(NamedTuple):
    """What waits for batch files, and is not asked meanwhile."""

    task: str
    samples: int
    files: int


class Parked(NamedTuple):
    """Samples that failed in so many runs in a row that a plain run leaves them out."""

    task: str
    samples: int


class Failure(NamedTuple):
    """Samples whose outcome by the task in use is not ok, for one reason."""

    task: str
    status: str
    reason: str
    samples: int


class Cost(NamedTuple):
    """Paid answers; `cost_usd` is None where no answer told its cost, `task` where none was asked."""

    task: str | None
    model: str
    answers: int
    cost_usd: float | None
    answers_without_cost: int
    prompt_tokens: int | None
    completion_tokens: int | None
    computed_usd: float | None
    """By tokens and price, of answers that told no cost; None where none could be computed."""
    uncounted: int
    """Answers whose cost is neither told nor computed."""
    reserved: int
    """Requests under a budget that were sent and told no usage; they count in full."""
    reserved_usd: float | None
    """What those cost at most; None where there are none, or no price was known."""


class Reserved(NamedTuple):
    """Requests that a run under a budget sent and of which nothing is known since; they count in full."""

    run_id: int
    command: str
    task: str
    is_killed: bool
    requests: int
    tokens: int
    cost_usd: float | None
    """At most; None where no price was known."""


@dataclass(frozen=True, slots=True)
class Labels:
    """One task and its outcomes by status."""

    task: str
    task_hash: str
    model: str
    in_use: bool
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that did not end with 0 and was not made good; `status` is None if it runs or was killed."""

    run_id: int
    command: str
    task: str | None
    started_at: str
    status: int | None
    pid: int
    is_running: bool
    resume: str | None
    """The command that takes it up, or that shows what it left over; None: the same command again."""


@dataclass(frozen=True, slots=True)
class Served:
    """Answers whose reply names another model than was asked, a snapshot of it among them."""

    model: str
    served_model: str
    answers: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `kbetl status` says."""

    database: str
    size_bytes: int
    pending: Sequence[Pending]
    handed_out: Sequence[HandedOut]
    failures: Sequence[Failure]
    parked: Sequence[Parked]
    unfinished: Sequence[Unfinished]
    sources: Sequence[Source]
    models: Sequence[Made]
    samples: Sequence[Kind]
    labels: Sequence[Labels]
    difficulties: Sequence[Difficulty]
    costs: Sequence[Cost]
    served: Sequence[Served]
    reserved: Sequence[Reserved]
    settings: Mapping[str, Any]
    next: str
    """The command to run next."""

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: every table as a list of objects."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: _plain(value) for name, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [item._asdict() if hasattr(item, "_asdict") else asdict(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
