"""Reads what a store holds now, and finds what to run next."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kbetl.config import MODEL, command_line
from kbetl.errors import LEFT_OVER
from kbetl.store import ReportRow, Store, is_locked
from kbetl.store.datasets import mixed_sources
from kbetl.store.reservations import OrphanedReservations, orphaned_reservations
from kbetl.store.selection import PARKED_AFTER

RESUME = "--resume"
_RESUMABLE = frozenset(("enrich", "prompts", "synth run"))
_COMMANDS = {"difficulty": ("enrich",), "prompts": ("prompts",), "kernels": ("synth", "run")}


class _Run(NamedTuple):
    """A run as the queries `unfinished_runs` and `asking_runs` list it."""

    id: int
    command: str
    task: str | None
    task_hash: str | None
    options: str
    command_line: str | None
    started_at: str
    status: int | None
    pid: int

    def words(self, *, resumes: bool) -> tuple[str, ...]:
        """The words after `kbetl` that ask the same; with `resumes` those that go on with this very run."""
        if self.command_line is not None:
            words = tuple(word for word in shlex.split(self.command_line)[1:] if word != RESUME)
        else:
            options = json.loads(self.options)
            model = None if resumes else options.get("model")  # --resume knows model, server and parameters
            words = _words_of(options.get("task") or self.task or "", model, self.command)
        return (*words, RESUME) if resumes and self.command in _RESUMABLE else words

    @property
    def is_first_choice(self) -> bool:
        """Whether its words ask the task by themselves; a retry may have had other parameters."""
        return RESUME not in (self.command_line or "") and not json.loads(self.options).get("retry")


def read_status(database: Path) -> Status:
    """Returns what the store holds now. Raises StoreError if there is no store to read."""
    with Store.read(database) as store:
        pending = [Pending(*row) for row in store.rows("status/pending_by_task")]
        handed_out = store.named_rows("status/handed_out_by_task")
        failures = [Failure(*row) for row in store.rows("status/failures_by_reason")]
        samples = [Kind(*row) for row in store.rows("status/sample_counts")]
        labels = _labels(store.rows("status/outcomes_by_status"))
        runs = [_Run(*row) for row in store.rows("status/asking_runs")]
        asking = _asking(labels, runs)
        parked = [Parked(*row) for row in store.rows("status/parked_by_task", {"parked_after": PARKED_AFTER})]
        is_measured = bool(store.rows("status/measured_lengths")[0][0])
        return Status(
            database=str(database),
            size_bytes=database.stat().st_size,
            pending=pending,
            handed_out=handed_out,
            failures=failures,
            parked=parked,
            unfinished=_unfinished(
                [_Run(*row) for row in store.rows("status/unfinished_runs")], runs, database
            ),
            sources=store.named_rows("status/sources_by_name"),
            models=store.named_rows("status/models_by_source"),
            samples=samples,
            labels=labels,
            difficulties=store.named_rows("status/difficulties"),
            costs=store.named_rows("status/costs_by_task"),
            served=store.named_rows("status/served_models"),
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
    asking: Mapping[str, tuple[str, ...]],
    is_measured: bool,
) -> tuple[str, ...]:
    """The words of the command to run before an export; empty if nothing is missing for one."""
    if not samples:
        return ("ingest",)
    if pending:
        return asking.get(pending[0].task) or _words_of(pending[0].task)
    if not any(kind.kind == "rollout" for kind in samples):
        has_prompts = any(label.task == "prompts" and label.in_use for label in labels)
        return (
            ("export", "synthetic", "-o", "outputs/synthetic_prompts.jsonl")
            if has_prompts
            else asking.get("prompts") or _words_of("prompts")
        )
    again = next((failure for failure in failures if failure.status in ("unparsed", "truncated")), None)
    if again is not None:
        return (*(asking.get(again.task) or _words_of(again.task)), "--retry", again.status)
    if not is_measured:
        return ("lengths",)
    return ()


def _first_ratings(
    samples: Sequence[Kind],
    labels: Sequence[Labels],
    parked: Sequence[Parked],
    asking: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """The words that ask for ratings as they were asked last; empty if some are in use, or none can be.

    Outcomes that a plain run skips are asked again by their status.
    """
    good = sum(kind.good for kind in samples if kind.kind == "rollout")
    ratings = [label for label in labels if label.task == "difficulty"]
    if not good or any(label.in_use for label in ratings):
        return ()
    words = asking.get("difficulty") or _words_of("difficulty")
    outcomes = ratings[-1].outcomes if ratings else {}
    left = outcomes.get("failed", 0) - sum(row.samples for row in parked if row.task == "difficulty")
    if left > 0 or sum(outcomes.values()) < good:
        return words
    return (*words, "--retry", max(outcomes, key=lambda status: outcomes[status]))


def _asking(labels: Sequence[Labels], runs: Sequence[_Run]) -> dict[str, tuple[str, ...]]:
    """The words that ask the task of each name again: the one in use, else the newest; `runs` go upwards."""
    current: dict[str, Labels] = {}
    for label in labels:  # the one in use first, then the newest last
        if label.task not in current or not current[label.task].in_use:
            current[label.task] = label
    asked_by = _asked_by(runs)
    newest = {run.task: run.id for run in runs}
    words = {}
    for task, label in current.items():
        run = asked_by.get(label.task_hash)
        if run is None:
            words[task] = _words_of(task, label.model)
        else:
            is_older_kbetl = run.command_line is None
            words[task] = run.words(resumes=is_older_kbetl and run.id == newest[run.task])
    return words


def _asked_by(runs: Sequence[_Run]) -> dict[str, _Run]:
    """The run whose words ask a task again, by the hash of the task. `runs`: oldest first."""
    found: dict[str, _Run] = {}
    for run in runs:
        if run.task_hash is not None and (run.is_first_choice or run.task_hash not in found):
            found[run.task_hash] = run
    return found


def _export_filtered(sources: Sequence[str]) -> tuple[str, ...]:
    """The words that export `filtered`; several sources mix only with --all-sources."""
    mixed = ("--all-sources",) if sources else ()
    return ("export", "filtered", *mixed, "-o", "outputs/filtered_dataset.jsonl")


def _words_of(task: str, model: str | None = None, command: str = "") -> tuple[str, ...]:
    """The words after `kbetl` that ask a task of which no command line is known."""
    words = _COMMANDS.get(task) or (
        *_COMMANDS["kernels" if command == "synth run" else "difficulty"],
        "--task",
        task,
    )
    return words if model is None or model == MODEL else (*words, "-m", model)


def _labels(rows: Sequence[tuple[str, str, str, int, str | None, int]]) -> list[Labels]:
    found: dict[str, Labels] = {}
    outcomes: dict[str, dict[str, int]] = {}
    for name, task_hash, model, in_use, status, samples in rows:
        counts = outcomes.setdefault(task_hash, {})
        if status is not None:
            counts[status] = samples
        found[task_hash] = Labels(name, task_hash, model, bool(in_use), counts)
    return list(found.values())


def _unfinished(runs: Sequence[_Run], asked: Sequence[_Run], database: Path) -> list[Unfinished]:
    newest = {run.task: run.id for run in runs}
    asked_by = _asked_by(asked)
    return [
        Unfinished(
            run_id=run.id,
            command=run.command,
            task=run.task,
            started_at=run.started_at,
            status=run.status,
            pid=run.pid,
            is_running=run.status is None and _is_running(database, run.task, run.pid),
            resume=_resume(run, newest, asked_by, database),
        )
        for run in runs
    ]


def _reserved(left: Sequence[OrphanedReservations], database: Path) -> list[ReportRow]:
    """Those of runs that have ended: requests in flight now are no news."""
    return [
        {
            "run_id": each.run_id,
            "command": each.command,
            "task": each.task,
            "is_killed": each.is_open,
            "requests": each.requests,
            "tokens": each.tokens,
            "cost_usd": each.cost_usd,
        }
        for each in left
        if not (each.is_open and _is_running(database, each.task, each.pid))
    ]


def _resume(
    run: _Run, newest: Mapping[str | None, int], asked_by: Mapping[str, _Run], database: Path
) -> str | None:
    """The command that goes on with a run: --resume for the newest of a task's name, else a plain run."""
    if run.task is not None:
        is_newest = newest[run.task] == run.id
        known = run if is_newest else asked_by.get(run.task_hash or "", run)
        return command_line(database, *known.words(resumes=is_newest))
    if run.status == LEFT_OVER and run.command in ("ingest", "synth record", "synth run"):
        return command_line(database, "query", "select * from rejected_rows")
    return None if run.command_line is None else command_line(database, *shlex.split(run.command_line)[1:])


def _is_running(database: Path, task: str | None, pid: int) -> bool:
    """Whether a run is alive: a run of a task holds the lock of it, any other has just its process."""
    return _is_alive(pid) and (task is None or is_locked(database, task))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Kind(NamedTuple):
    """All samples of one kind; `good` have a reward above min_reward."""

    kind: str
    samples: int
    good: int


class Pending(NamedTuple):
    """What a plain run would ask; `why` is `new` or `failed`."""

    task: str
    why: str
    samples: int


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
    """The command that goes on with it, or shows what it left over; None: run the same command again."""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `kbetl status` says."""

    database: str
    size_bytes: int
    pending: Sequence[Pending]
    handed_out: Sequence[ReportRow]
    failures: Sequence[Failure]
    parked: Sequence[Parked]
    unfinished: Sequence[Unfinished]
    sources: Sequence[ReportRow]
    models: Sequence[ReportRow]
    samples: Sequence[Kind]
    labels: Sequence[Labels]
    difficulties: Sequence[ReportRow]
    costs: Sequence[ReportRow]
    served: Sequence[ReportRow]
    reserved: Sequence[ReportRow]
    settings: Mapping[str, Any]
    next: str
    """The command to run next."""

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: every table as a list of objects."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: _plain(value) for name, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value._asdict() if hasattr(value, "_asdict") else value
