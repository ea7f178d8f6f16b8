"""Begins a task, for every command that pays: locks, samples, budget, and what is reported before it asks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from kbetl import config
from kbetl.errors import ConfigError, LockHeld
from kbetl.inference.budget import Budget
from kbetl.inference.find_task import find_task
from kbetl.inference.options import EnrichOptions
from kbetl.inference.plan import REWARD_ABOVE, ModelTask, Plan, Say, min_reward
from kbetl.json_codec import stored_value
from kbetl.samples import fields
from kbetl.store import OpenRun, Run, Store, TaskLock, task_lock
from kbetl.store.answers import StoredTask, add_task, tasks_named
from kbetl.store.datasets import source_ids
from kbetl.store.reservations import add_price
from kbetl.store.selection import PARKED_AFTER, Selection
from kbetl.text import plain_text


@dataclass(frozen=True)
class BegunTask:
    """A plan under its locks, with its samples chosen and its run recorded."""

    plan: Plan
    lock: TaskLock
    selection: Selection
    budget: Budget | None
    run: OpenRun
    """As the store records it; who asks sets its status."""
    tasks_before: Sequence[StoredTask]
    """The stored tasks of the same name, as they were before the run."""


@contextlib.contextmanager
def begin_task(
    plan: Plan,
    say: Say,
    *,
    counts: Callable[[], Mapping[str, Any]] = dict,
    cost_usd: Callable[[], float | None] = lambda: None,
) -> Iterator[BegunTask]:
    """Holds the task's locks and records one run of it; `counts` and `cost_usd` are asked at its end.

    Raises LockHeld while another process pays for the task or asks the same question, and ConfigError for
    a budget that cannot be kept.
    """
    store, asked = plan.store, plan.asked
    with _hold_task(store, asked.task.name, asked.question_hash) as lock:
        # chosen before the run is recorded: a wrong option leaves none for --resume to go on with
        selection = choose_samples(plan, say)
        budget = plan.budget()
        before = tasks_named(store, asked.task.name)
        options = plan.options.as_json()
        with store.run(plan.command, options, task=asked.task.name, counts=counts, cost_usd=cost_usd) as run:
            with store.transaction():
                add_task(store, asked.row(), run.id)
                if (price := plan.price()) is not None:
                    add_price(store, run.id, asked.model, price)
                store.execute("batches/set_run_task", {"run_id": run.id, "task_hash": asked.hash})
            if budget is not None:
                budget.run_id = run.id
            yield BegunTask(plan, lock, selection, budget, run, before)


@contextlib.contextmanager
def _hold_task(store: Store, task_name: str, question: str) -> Iterator[TaskLock]:
    """The locks of a task's name and of its question; LockHeld names the run and process that hold one."""
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(task_lock(store.path, task_name, question))
        except LockHeld as error:
            who = _describe_process(store, error.process, task_name)
            raise LockHeld(f"{error} ({who}); wait for it, or end it", error.process) from None
        yield lock


def _describe_process(store: Store, process: int | None, task_name: str) -> str:
    """The process and its run; also the run's task, if that is not `task_name`."""
    if process is None:
        return "which one, this system does not say"
    found = store.rows("inference/run_of_process", {"pid": process})
    if not found:
        return f"process {process}"
    run_id, task = found[0]
    return f"run {run_id}{'' if task == task_name else f' about {task}'}, process {process}"


def choose_samples(plan: Plan, say: Say) -> Selection:
    """Chooses the samples of a plan, and says what limits them, what is parked, and why there are none."""
    store, options = plan.store, plan.options
    if config.is_test_mode():
        say(f"TEST_MODE: asking at most {config.TEST_MODE_LIMIT} samples")
    setting = float(store.setting("min_reward"))
    if options.min_reward is not None and options.min_reward < setting:
        say(
            f"--min-reward {options.min_reward} is below the setting {setting}: "
            "the datasets leave those rows out; "
            "to change it: " + config.command_line(store.path, "use", "--min-reward", f"{options.min_reward}")
        )
    selection = plan.select()
    if selection.parked:
        say(
            f"{selection.parked} samples failed in {PARKED_AFTER} runs in a row and are parked; "
            "--retry failed asks them again"
        )
    why = _why_nothing(plan, selection)
    if why is not None:
        say(why)
    return selection


class _Candidates(NamedTuple):
    """Counts of the samples that could have been chosen."""

    samples: int
    rewarded: int
    highest: float | None
    row: bytes | None
    """Of one of the samples; None if there is none."""
    records: int
    """Samples of the third kind in those sources."""


def _why_nothing(plan: Plan, selection: Selection) -> str | None:
    """Why a run asks nothing; None if it asks, if samples are in a batch file, or all lack an answer."""
    chosen = selection.chosen
    if selection.waiting or selection.missing or selection.handed_out:
        return None
    if chosen:
        left = {status: count for status, count in selection.by_status().items() if status != "ok"}
        retry = f"; asked again by --retry: {', '.join(left)}" if left else ""
        return f"nothing to ask: each of the {chosen:,} samples chosen has its outcome{retry}"
    return None if selection.empty else f"no sample is chosen: {_why_none_chosen(plan)}"


def _why_none_chosen(plan: Plan) -> str:
    store, options, task = plan.store, plan.options, plan.asked.task
    about = " or ".join(task.about)
    ids = json.dumps(source_ids(store, options.sources)) if options.sources else None
    values = {"kinds": json.dumps(task.about), "source_ids": ids}
    found = _Candidates(*store.rows("inference/choosable", values)[0])
    of = f" of {', '.join(options.sources)}" if options.sources else ""
    if not found.samples and found.records:
        name = "completion" if "rollout" in task.about else "prompt"
        mapped = config.command_line(store.path, "ingest", "SOURCE", "--map", f"{name}=FIELD")
        raise ConfigError(
            f"there is no {about}{of} in {store.path}, but {found.records:,} records: say where the {name} "
            f'is, {mapped}, or let the task be about "record"'
        )
    if not found.samples:
        return f"there is no {about}{of} in {store.path}; run: {config.command_line(store.path, 'ingest')}"
    all_of = f"none of {found.samples:,} {about}s{of}"
    limit = min_reward(store, options)
    if task.where == REWARD_ABOVE or options.min_reward is not None:
        if not found.rewarded:
            row = stored_value(found.row or b"{}")
            return f"{all_of} has a reward{plain_text(fields.meant_words(row, ('reward',)))}"
        if found.highest is not None and found.highest <= limit:
            return f"{all_of} has a reward above {limit}; the highest is {found.highest}"
    conditions = [each for each in (task.where, options.where) if each is not None]
    return f"{all_of} satisfies {' and '.join(map(repr, conditions)) or 'what the task asks for'}"


AnyOptions = TypeVar("AnyOptions", bound=EnrichOptions)

_SELECTING = frozenset({"sources", "where", "min_reward", "limit", "retry"})
"""Options that say which samples a run asks; given with --resume they may leave out some of the rest."""


def resume_options(
    store: Store,
    options: AnyOptions,
    given: frozenset[str],
    say: Say,
    resolve: Callable[[Store, AnyOptions], ModelTask],
) -> AnyOptions | None:
    """The options of the last unfinished run of the task; those that are `given` win over its own.

    Its limit, less what it has asked, is the limit. Without such a run, the options of the last that ended
    with 0, less what limited it or asked again: what is missing is asked as it asked. None if there is
    neither. `resolve` makes the task of options. Raises ConfigError if model, parameters or template would
    differ: that would be another task, to be run without --resume.
    """
    name = find_task(store, options.task).name
    unfinished = store.last_run_left_over(name)
    last = unfinished or store.last_finished_run(name)
    if last is None:
        say(f"--resume: no run of {name} was left over, and none has finished; asking what waits")
        return None
    before = type(options).from_json(last.options)
    if unfinished is None:
        say(f"--resume: no run of {name} was left over; asking what is missing as run {last.id} asked")
        before = replace(before, limit=None, resumed_run=None, takes_back=False)
    else:
        say(f"--resume: taking up run {last.id}, begun at {last.started_at}")
    now = replace(before, **{key: getattr(options, key) for key in given})
    if "parameters" in given:
        now = replace(now, parameters={**before.parameters, **options.parameters})
    if "retry" not in given and before.retry:
        now = replace(now, retry_since_run=before.retry_since_run or last.id)
    asked = resolve(store, now)
    if last.task_hash is not None and asked.hash != last.task_hash:
        raise ConfigError(
            f"--resume: model, parameters or template are not those of run {last.id} "
            f"({last.task_hash[:15]}); leave out --resume to ask anew with them"
        )
    return now if unfinished is None else _remaining(store, unfinished, before, now, given)


def _remaining(
    store: Store, last: Run, before: AnyOptions, now: AnyOptions, given: frozenset[str]
) -> AnyOptions:
    """The options, less what the run has done of its limit."""
    if now.limit is not None and "limit" not in given and last.task_hash is not None:
        values = {"task_hash": last.task_hash, "run_id": last.id, "since": last.started_at}
        done = store.rows("inference/decided_since", values)[0][0]
        now = replace(now, limit=max(now.limit - done, 0))
    asks_all = given.isdisjoint(_SELECTING)
    return replace(now, resumed_run=(before.resumed_run or last.id) if asks_all else None)
