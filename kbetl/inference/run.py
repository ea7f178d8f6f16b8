"""One run of a task: plans, asks, reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from kbetl import config, offline
from kbetl.client import Limits
from kbetl.client.endpoint import check_address, endpoint_at, is_local
from kbetl.errors import BudgetReached, ConfigError
from kbetl.inference.backends import Backend, OfflineBackend
from kbetl.inference.breaker import Earlier
from kbetl.inference.budget import Budget
from kbetl.inference.coordination import effective_limit, hold_task
from kbetl.inference.empty_selection import why_nothing
from kbetl.inference.options import OFFLINE, EnrichOptions
from kbetl.inference.plan import (
    ModelTask,
    Plan,
    Say,
    billed_there_too,
    budget_of,
    check_options,
    min_reward,
    model_name,
    plan_of,
    price_of,
    resolve_task,
)
from kbetl.inference.report import RunProgress, RunReport
from kbetl.inference.workers import InferenceJob, run_job
from kbetl.rerun import question_words
from kbetl.store import Run, Store, TaskLock, check_conditions
from kbetl.store.answers import StoredTask, add_task, tasks_named
from kbetl.store.batches import release_waiting
from kbetl.store.datasets import source_ids
from kbetl.store.reservations import add_price
from kbetl.store.selection import PARKED_AFTER, PendingGroup, Selection
from kbetl.tasks import Task, load_task

LOCAL_ALONE_S = 0.4
"""How long the first request to this machine goes alone, so that a refusal costs one request.

Also one that takes 200 ms to come; where nothing comes, a run of two-second replies is that much longer.
"""

OFFLINE_CONCURRENCY = 16
"""Answers of the offline model that are kept by one commit; it thinks of one at a time."""


def enrich(
    store: Store,
    options: EnrichOptions,
    say: Say,
    *,
    tally: RunProgress | None = None,
    command: str = "enrich",
) -> RunReport:
    """Asks what waits, keeps every answer, and says what came of it; see `run_plan`."""
    check_options(options)
    return run_plan(plan_of(store, options), store, options, say, tally=tally, command=command)


def run_plan(
    plan: Plan, store: Store, options: EnrichOptions, say: Say, *, tally: RunProgress | None, command: str
) -> RunReport:
    """Asks what waits, keeps every answer, and says what came of it.

    One at a time per store and task: raises Busy otherwise. Raises ConfigError, RunStopped, StoreError
    and Interrupted with everything kept that was answered before.
    """
    asked = plan.asked
    answerer, limits = _answerer(options, plan, say)
    tally = tally or RunProgress()
    with hold_task(store, asked.task.name, asked.question_hash) as lock:
        report_limits(store, options, say)
        # chosen before the run is recorded: a wrong option leaves none that --resume would take up
        selection = plan.select(effective_limit(options.limit))
        report_parked(selection, say)
        for line in why_nothing(store, options, asked, selection):
            say(line)
        tally.waiting = selection.waiting
        budget = budget_of(store, options, asked)
        with store.run(
            command,
            options.as_json(),
            task=asked.task.name,
            counts=lambda: {**_counts_of(tally), **plan.counts()},
            cost_usd=lambda: tally.cost_usd,
        ) as run:
            if options.takes_back:
                taken = release_waiting(store, asked.hash)
                billed = billed_there_too(taken.at_service)
                say(f"taken back from batch files: {taken.requests} requests{billed}")
            earlier = Earlier() if options.retry else _cut_so_far(store, asked.hash)
            running = _Running(
                run.id, lock, answerer, limits.concurrency, tally, say, budget, earlier, options.keep_going
            )
            tally.price = price_of(options, asked)
            report = _run(plan, selection, running)
            run.status = report.exit_status
    return report


@dataclass(frozen=True)
class _Running:
    run_id: int
    lock: TaskLock
    answerer: Backend
    concurrency: int
    tally: RunProgress
    say: Say
    budget: Budget | None
    earlier: Earlier
    """What the question brought before; nothing where it is asked again, perhaps with another limit."""
    keep_going: bool


def _run(plan: Plan, selection: Selection, running: _Running) -> RunReport:
    store, asked = selection.store, plan.asked
    before = tasks_named(store, asked.task.name)
    with store.transaction():
        add_task(store, asked.row(), running.run_id)
        if running.tally.price is not None:
            add_price(store, running.run_id, asked.model, running.tally.price)
        store.execute("batches/set_run_task", {"run_id": running.run_id, "task_hash": asked.hash})
    budget_reached = None
    if selection.waiting:
        for group in selection.groups(asked.task.name):
            why, samples = reason_text(group, asked, before)
            running.say(f"asking {samples} samples: {why}")
        try:
            _ask(plan, selection, running)
        except BudgetReached as error:
            budget_reached = str(error)
    left = {status: count for status, count in selection.by_status().items() if status != "ok"}
    notes = (
        *plan.report(running.run_id),
        *_notes(asked, before, running, store.path, is_labelling=plan.generate is None),
        *skipped_note(selection.empty),
    )
    return RunReport(
        asked.task.name,
        asked.model,
        asked.hash,
        selection.chosen * selection.attempts,
        selection.missing,
        running.tally,
        left,
        selection.handed_out + running.tally.handed_out,
        notes,
        plan.what,
        store.path,
        budget_reached,
    )


def _ask(plan: Plan, selection: Selection, running: _Running) -> None:
    asked, generate = plan.asked, None
    if running.budget is not None:
        running.budget.run_id = running.run_id
    if plan.generate is not None:
        with selection.store.transaction():
            generate = plan.generate(running.run_id)
    run_job(
        InferenceJob(
            store=selection.store,
            selection=selection,
            prepare=plan.prepare(running.run_id),
            read=asked.task.read,
            task_hash=asked.hash,
            task_name=asked.task.name,
            parser_version=asked.task.parser_version,
            run_id=running.run_id,
            lock=running.lock,
            answerer=running.answerer,
            concurrency=min(running.concurrency, selection.waiting),
            tally=running.tally,
            say=running.say,
            generate=generate,
            budget=running.budget,
            earlier=running.earlier,
            keep_going=running.keep_going,
        )
    )


def _answerer(options: EnrichOptions, plan: Plan, say: Say) -> tuple[Backend, Limits]:
    asked = plan.asked
    check_address(options.base_url)
    limits = Limits(
        concurrency=options.concurrency,
        rpm=options.rpm,
        tpm=options.tpm,
        tries=config.TRIES,
        give_up_after_s=options.give_up_after_s,
        idle_timeout_s=options.timeout_s,
        timeout_s=options.request_timeout_s or None,
    )
    if is_local(options.base_url):
        limits = replace(limits, alone_s=LOCAL_ALONE_S)
    if asked.model == offline.MODEL:
        return OfflineBackend(asked.task.name), replace(limits, concurrency=OFFLINE_CONCURRENCY)
    return plan.server(limits, say), limits


def _cut_so_far(store: Store, task_hash: str) -> Earlier:
    """What a question has brought so far, whichever run asked it."""
    cut, has_others = store.rows("inference/cut_so_far", {"task_hash": task_hash})[0]
    return Earlier(cut, bool(has_others))


def _counts_of(tally: RunProgress) -> dict[str, int]:
    return {
        "asked": tally.asked,
        **{str(status): count for status, count in tally.statuses.items()},
        "answers": tally.answers,
        "reused": tally.reused,
        **({"other_model": tally.served.total()} if tally.served else {}),
    }


def report_parked(selection: Selection, say: Say) -> None:
    if selection.parked:
        say(
            f"{selection.parked} samples failed in {PARKED_AFTER} runs in a row and are parked; "
            "--retry failed asks them again"
        )


def report_limits(store: Store, options: EnrichOptions, say: Say) -> None:
    if config.is_test_mode():
        say(f"TEST_MODE: asking at most {config.TEST_MODE_LIMIT} samples")
    setting = float(store.setting("min_reward"))
    if options.min_reward is not None and min_reward(store, options) < setting:
        say(
            f"--min-reward {options.min_reward} is below the setting {setting}: "
            "the datasets leave those rows out; "
            "to change it: " + config.command_line(store.path, "use", "--min-reward", f"{options.min_reward}")
        )


def reason_text(group: PendingGroup, asked: ModelTask, stored: list[StoredTask]) -> tuple[str, int]:
    """Why a group is asked, in words."""
    if group.why != "new":
        return f"{group.why} before", group.samples
    other = next((each for each in stored if each.hash == group.other_task), None)
    if other is None:
        return "new", group.samples
    changed = [
        word
        for word, is_changed in (
            ("model", other.model != asked.model),
            ("template", other.template != asked.task.template),
            ("system prompt", other.system != asked.task.system),
            ("parameter", dict(other.parameters) != dict(asked.task.parameters)),
        )
        if is_changed
    ]
    return (
        f"changed {' and '.join(changed)} (they have an outcome by {other.model}, {other.hash[:15]})",
        group.samples,
    )


def skipped_note(empty: int) -> list[str]:
    return [f"left out: {empty} rollouts without an answer (rollout_facts.is_empty)"] if empty else []


def _notes(
    asked: ModelTask, before: list[StoredTask], running: _Running, database: Path, *, is_labelling: bool
) -> list[str]:
    notes = []
    tally = running.tally
    if tally.reused_elsewhere:
        notes.append(f"{tally.reused_elsewhere} answers were reused that another host gave")
    for name, instead in running.answerer.refused.items():
        notes.append(
            f"the model refused the parameter {name}; " + (f"{instead} was sent" if instead else "left out")
        )
    if not is_labelling:
        return notes
    in_use = next((each for each in before if each.in_use), None)
    if in_use is not None and in_use.hash != asked.hash:
        notes.append(
            f"{asked.task.name}: the datasets still use the labels of {in_use.model} ({in_use.hash[:15]}); "
            "to change that: "
            + config.command_line(database, "use", asked.task.name, "--task-hash", asked.hash[:15])
        )
    return notes


AnyOptions = TypeVar("AnyOptions", bound=EnrichOptions)

_CHOOSING = frozenset({"sources", "where", "min_reward", "limit", "retry"})
"""Options that choose what a run asks; given with --resume they may leave out some of what was left."""


def resume_options(
    store: Store,
    options: AnyOptions,
    given: frozenset[str],
    say: Say,
    asked_by: Callable[[AnyOptions], ModelTask] | None = None,
) -> AnyOptions | None:
    """The options of the last run of the task that is not dealt with; `given` ones win over its.

    What is left of its limit is the limit. Without such a run, those of the last that ended with 0, less
    what bounded it or asked again: what is missing is asked as it asked. None if there is none either.
    `asked_by` gives the task that options ask. Raises ConfigError where model, parameters or template
    would differ: that would be another task, to be run without --resume.
    """
    name = load_task(options.task).name
    left = store.last_run_left_over(name)
    last = left or store.last_finished_run(name)
    if last is None:
        say(f"--resume: no run of {name} was left over, and none has finished; asking what waits")
        return None
    before = type(options).from_json(last.options)
    if left is None:
        say(f"--resume: no run of {name} was left over; asking what is missing as run {last.id} asked")
        before = replace(before, limit=None, resumed_run=None, takes_back=False)
    else:
        say(f"--resume: taking up run {last.id}, begun at {last.started_at}")
    now = replace(before, **{key: getattr(options, key) for key in given})
    if "parameters" in given:
        now = replace(now, parameters={**before.parameters, **options.parameters})
    if "retry" not in given and before.retry:
        now = replace(now, retry_since_run=before.retry_since_run or last.id)
    _check_same(last, asked_by(now) if asked_by is not None else resolve_task(store, now))
    return now if left is None else _rest_of(store, left, before, now, given)


def _check_same(last: Run, asked: ModelTask) -> None:
    if last.task_hash is not None and asked.hash != last.task_hash:
        raise ConfigError(
            f"--resume: model, parameters or template are not those of run {last.id} "
            f"({last.task_hash[:15]}); leave out --resume to ask anew with them"
        )


def _rest_of(
    store: Store, last: Run, before: AnyOptions, now: AnyOptions, given: frozenset[str]
) -> AnyOptions:
    """The options less what the run has done of its limit."""
    if now.limit is not None and "limit" not in given and last.task_hash is not None:
        values = {"task_hash": last.task_hash, "run_id": last.id, "since": last.started_at}
        done = store.rows("inference/decided_since", values)[0][0]
        now = replace(now, limit=max(now.limit - done, 0))
    goes_on_with_all = given.isdisjoint(_CHOOSING)
    return replace(now, resumed_run=(before.resumed_run or last.id) if goes_on_with_all else None)


class Typed(NamedTuple):
    """A command line that names no model."""

    line: Callable[..., str]
    """It again, with more words, as it is pasted into a shell."""
    given: frozenset[str]
    """The options that it has, by their names in Options."""
    has_server: bool
    """Whether it takes `-b`."""


def check_model_meant(store: Store, options: EnrichOptions, typed: Typed) -> None:
    """Raises ConfigError where the default model would be asked what another one has labelled.

    The message has both ways on, and how many samples each would ask.
    """
    task = load_task(options.task)
    in_use = next((each for each in tasks_named(store, task.name) if each.in_use), None)
    if in_use is None or in_use.model == model_name(options.model, task.name):
        return
    known = replace(options, **_as_in_use(store, in_use, task, options, typed))
    words = question_words(known.as_json(), {**options.as_json(), "model": None})
    on, other = (
        f"{typed.line(*more)} (asks {_count(store, told)} samples)"
        for more, told in ((words, known), (("-m", options.model), options))
    )
    raise ConfigError(
        f"{task.name}: the labels in use are of {in_use.model} ({in_use.hash[:15]}), and no model is named. "
        f"To go on with it: {on}. To ask another: {other}. kbetl.toml can name it for every run, too"
    )


def _count(store: Store, options: EnrichOptions) -> int:
    """How many samples a run with these options would ask."""
    return plan_of(store, options).select(effective_limit(options.limit)).waiting


def _as_in_use(
    store: Store, in_use: StoredTask, task: Task, options: EnrichOptions, typed: Typed
) -> Mapping[str, Any]:
    """Model, server and parameters with which the task in use was asked."""
    is_offline = in_use.model.startswith(f"{OFFLINE}/")
    last = store.last_finished_run(task.name, in_use.hash)
    parameters = {key: value for key, value in in_use.parameters.items() if task.parameters.get(key) != value}
    parameters |= {key: None for key in task.parameters if key not in in_use.parameters}
    found: dict[str, Any] = {
        "model": OFFLINE if is_offline else in_use.model,
        "parameters": {**parameters, **options.parameters},
    }
    if last is not None and typed.has_server and not is_offline:
        before = EnrichOptions.from_json(last.options)
        names = {"base_url", "api_key_var", "headers"} - typed.given
        found |= {name: getattr(before, name) for name in names}
    return found


def preflight(
    options: EnrichOptions,
    store: Store | None = None,
    database: Path | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Raises what a run with these options would raise before it asks, key and headers included.

    Without a store its sources are not looked at. `database` is where it is, or will be; `labels` are tasks
    that are asked before.
    """
    check_options(options)
    check_address(options.base_url)
    task = load_task(options.task)
    task.with_parameters(options.parameters)
    model = model_name(options.model, task.name)
    check_conditions([each for each in (task.where, options.where) if each is not None], database, labels)
    if store is not None:
        source_ids(store, options.sources)
    if model != offline.MODEL:
        endpoint_at(options.base_url, options.api_key_var, options.headers)
