"""What is in a store, what is missing, what failed and why, what it cost, and what to run next."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kbetl.config import command_line
from kbetl.store import Store, is_locked
from kbetl.store.ledger import PARKED_AFTER
from kbetl.wording import RECORD, Told, asking_words, recording_words

SHOWN_FAILURES = 8
LEFT_OVER = 3

_TAKEN = ("task", "model", "base_url", "base_urls", "rollouts", "api_key_var")
"""What `--resume` has to be told again, to be seen for what it is; it knows the rest."""


class Source(NamedTuple):
    """One source and what it holds; `samples` are different ones, `rows` are places."""

    name: str
    rows: int
    samples: int
    modules: int
    rollouts: int
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
    settings: Mapping[str, Any]
    next: str
    """The command to run next."""

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: every table as a list of objects."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: _plain(value) for name, value in plain.items()}


def read_status(database: Path) -> Status:
    """What the store holds now. Raises StoreError where there is no store to read."""
    with Store.read(database) as store:
        pending = [Pending(*row) for row in store.rows("pending_by_task")]
        handed_out = [HandedOut(*row) for row in store.rows("handed_out_by_task")]
        failures = [Failure(*row) for row in store.rows("failures_by_reason")]
        samples = [Kind(*row) for row in store.rows("sample_counts")]
        labels = _labels(store.rows("outcomes_by_status"))
        told = _told(store.rows("asking_runs"))
        asking = {label.task: told.get(label.task_hash, {}) for label in labels if label.in_use}
        is_measured = bool(store.rows("measured_lengths")[0][0])
        return Status(
            database=str(database),
            size_bytes=database.stat().st_size,
            pending=pending,
            handed_out=handed_out,
            failures=failures,
            parked=[Parked(*row) for row in store.rows("parked_by_task", {"parked_after": PARKED_AFTER})],
            unfinished=_unfinished(store.rows("unfinished_runs"), database),
            sources=[Source(*row) for row in store.rows("sources_by_name")],
            models=[Made(*row) for row in store.rows("models_by_source")],
            samples=samples,
            labels=labels,
            difficulties=[Difficulty(*row) for row in store.rows("difficulties")],
            costs=[Cost(*row) for row in store.rows("costs_by_task")],
            settings=dict(store.rows("all_settings")),
            next=command_line(
                database,
                *(
                    ("batch", "status")
                    if handed_out and not pending
                    else _next(samples, labels, pending, failures, asking=asking, is_measured=is_measured)
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
    if not samples:
        return ("ingest",)
    has_good_rollouts = any(kind.kind == "rollout" and kind.good for kind in samples)
    if has_good_rollouts and not any(label.task == "difficulty" and label.in_use for label in labels):
        return ("enrich",)
    if pending:
        return asking_words(pending[0].task, asking.get(pending[0].task, {}))
    if not any(kind.kind == "rollout" for kind in samples):
        has_prompts = any(label.task == "prompts" and label.in_use for label in labels)
        return (
            ("export", "synthetic", "-o", "outputs/synthetic_prompts.jsonl") if has_prompts else ("prompts",)
        )
    again = next((failure for failure in failures if failure.status in ("unparsed", "truncated")), None)
    if again is not None:
        return (*asking_words(again.task, asking.get(again.task, {})), "--retry", again.status)
    if not is_measured:
        return ("lengths",)
    return ("export", "filtered", "-o", "outputs/filtered_dataset.jsonl")


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


def _resume(row: _RunRow, newest: Mapping[str | None, int], database: Path) -> str | None:
    """`--resume` takes up the newest run of a task's name; an older one goes on as a plain run."""
    run_id, name, task, _, status, _, options = row
    if task is not None:
        told = json.loads(options)
        if newest[task] == run_id:
            taken = {key: told[key] for key in _TAKEN if key in told}
            return command_line(database, *asking_words(task, taken), "--resume")
        return command_line(database, *asking_words(task, told))
    if name in ("ingest", RECORD) and status == LEFT_OVER:
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


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [item._asdict() if hasattr(item, "_asdict") else asdict(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def status_lines(status: Status) -> list[str]:
    """The same for people: what is left over first, then what is there, then what to do."""
    min_reward = status.settings["min_reward"]
    samples = ", ".join(f"{kind.samples:,} {kind.kind}s" for kind in status.samples) or "no samples"
    lines = [f"{_inert(status.database)}: {samples}, {status.size_bytes / 1e6:,.1f} MB"]
    for title, found in (
        ("missing", _pending_lines(status.pending)),
        ("handed out", [_handed_out_line(each) for each in status.handed_out]),
        ("parked", [_parked_line(row) for row in status.parked]),
        ("failed", _failure_lines(status)),
        ("not finished", [_unfinished_line(run) for run in status.unfinished]),
        ("sources", [_source_line(source) for source in status.sources]),
        ("models", _model_lines(status.models)),
        ("rewards", _reward_lines(status.samples, min_reward)),
        ("labels", _label_lines(status)),
        ("cost", [_cost_line(cost) for cost in status.costs]),
        ("settings", [", ".join(f"{key} {value}" for key, value in status.settings.items())]),
        ("next", [status.next]),
    ):
        lines += [
            f"{title:<13} {_inert(line)}" if index == 0 else f"{'':<13} {_inert(line)}"
            for index, line in enumerate(found)
        ]
    return lines


def _pending_lines(pending: Sequence[Pending]) -> list[str]:
    words = {"new": "to be asked", "failed": "failed, to be asked again"}
    return [f"{row.task}: {row.samples:,} {words[row.why]}" for row in pending]


def _handed_out_line(row: HandedOut) -> str:
    files = "a batch file" if row.files == 1 else f"{row.files} batch files"
    return f"{row.task}: {row.samples:,} samples wait for {files}"


def _parked_line(row: Parked) -> str:
    runs = f"failed in {PARKED_AFTER} runs in a row"
    return f"{row.task}: {row.samples:,} {runs}; --retry failed asks them again"


def _failure_lines(status: Status) -> list[str]:
    failures = status.failures
    lines = [f"{row.task}: {row.samples:,} {row.status}: {row.reason}" for row in failures[:SHOWN_FAILURES]]
    rest = failures[SHOWN_FAILURES:]
    if rest:
        samples = sum(row.samples for row in rest)
        all_of_them = command_line(Path(status.database), "query", "select * from failures")
        lines.append(f"{samples:,} more for {len(rest):,} other reasons: {all_of_them}")
    return lines


def _unfinished_line(run: Unfinished) -> str:
    what = f"run {run.run_id}, {run.command}{f' of {run.task}' if run.task else ''}, {run.started_at}"
    if run.is_running:
        return f"{what}: running as process {run.pid}"
    ended = {None: "killed", 1: "an error", 3: "something left over", 130: "interrupted", 143: "terminated"}
    how = ended.get(run.status, f"status {run.status}")
    return f"{what}: {how}; {run.resume or 'run the same command again'}"


def _source_line(source: Source) -> str:
    kinds = [
        f"{number:,} {word}"
        for number, word in (
            (source.modules, "modules"),
            (source.rollouts, "rollouts"),
            (source.rejected, "rejected"),
        )
        if number
    ]
    return f"{source.name}: {source.rows:,} rows, {source.samples:,} samples ({', '.join(kinds) or 'empty'})"


def _model_lines(models: Sequence[Made]) -> list[str]:
    """Over all sources; `--json` and the view `model_counts` have them apart."""
    totals: dict[str, list[int]] = {}
    for made in models:
        name = f"{made.model or 'unknown model'} in {made.environment or 'no environment'}"
        total = totals.setdefault(name, [0, 0, 0, 0])
        for index, count in enumerate((1, made.rollouts, made.empty, made.errors)):
            total[index] += count
    return [
        f"{name}: {rollouts:,} rollouts in {sources:,} source{'s' if sources > 1 else ''}"
        + (f", {empty:,} without an answer" if empty else "")
        + (f", {errors:,} errors" if errors else "")
        for name, (sources, rollouts, empty, errors) in totals.items()
    ]


def _reward_lines(samples: Sequence[Kind], min_reward: float) -> list[str]:
    return [
        f"{kind.good:,} of {kind.samples:,} rollouts above {min_reward}"
        for kind in samples
        if kind.kind == "rollout"
    ]


def _label_lines(status: Status) -> list[str]:
    lines = []
    for label in status.labels:
        counts = ", ".join(f"{number:,} {word}" for word, number in label.outcomes.items()) or "no outcome"
        use = "in use" if label.in_use else "not in use"
        lines.append(f"{label.task} by {label.model} ({label.task_hash[:11]}), {use}: {counts}")
        if label.task == "difficulty" and label.in_use and status.difficulties:
            rated = sum(row.samples for row in status.difficulties)
            lines.append(
                "  "
                + ", ".join(
                    f"{row.difficulty} {row.samples:,} ({row.samples / rated:.0%})"
                    for row in status.difficulties
                )
            )
    return lines


def _cost_line(cost: Cost) -> str:
    """What was told, what was computed and what is only reserved stand apart."""
    told = None if cost.cost_usd is None else f"${cost.cost_usd:,.4f}"
    computed = None if cost.computed_usd is None else f"${cost.computed_usd:,.4f} by tokens and price"
    price = " + ".join(part for part in (told, computed) if part is not None) or "unknown cost"
    untold = (
        f" ({cost.uncounted:,} did not tell theirs)" if cost.uncounted and price != "unknown cost" else ""
    )
    tokens = (
        ""
        if cost.prompt_tokens is None
        else f", {cost.prompt_tokens:,} + {cost.completion_tokens or 0:,} tokens"
    )
    what = f"{cost.task or 'no task'} by {cost.model}: {cost.answers:,} answers, {price}{untold}{tokens}"
    return what + _reserved_text(cost)


def _reserved_text(cost: Cost) -> str:
    if not cost.reserved:
        return ""
    most = "" if cost.reserved_usd is None else f", ${cost.reserved_usd:,.4f} at most"
    return f"; {cost.reserved:,} requests sent without an answer that tells its usage{most}"


def _inert(text: str) -> str:
    """One line in which escape codes and their like are shown, not sent to a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
