"""One run of a task: plans, asks, reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kbetl import config, offline
from kbetl.asking import (
    Answerer,
    Budget,
    Earlier,
    Generate,
    Job,
    ModelServer,
    OfflineModel,
    Prepare,
    Tally,
    ask,
)
from kbetl.asking.addresses import check_address, endpoint_at, is_local
from kbetl.asking.order import paid_too
from kbetl.asking.starting import limit_of_stage, task_lock
from kbetl.client import Limits
from kbetl.enrich.nothing import why_nothing
from kbetl.enrich.options import Options
from kbetl.enrich.planning import Asked, asked_task, check_choosing, min_reward, preparer, select
from kbetl.enrich.report import Report
from kbetl.enrich.spending import budget_of, price_of
from kbetl.errors import BudgetReached
from kbetl.store import Store, TaskLock
from kbetl.store.handing import take_back_waiting
from kbetl.store.ledger import (
    PARKED_AFTER,
    Selection,
    StoredTask,
    WaitingGroup,
    add_task,
    tasks_named,
)
from kbetl.store.spending import add_price

LOCAL_ALONE_S = 0.4
"""How long the first request to this machine goes alone, so that a refusal costs one request.

Also one that takes 200 ms to come; where nothing comes, a run of two-second replies is that much longer.
"""

OFFLINE_CONCURRENCY = 16
"""Answers of the offline model that are kept by one commit; it thinks of one at a time."""


Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run asks, whom, and what becomes of the answers."""

    asked: Asked
    select: Callable[[int | None], Selection]
    """Chooses the samples, and of them so many to ask at most."""
    prepare: Callable[[int | None], Prepare]
    """What makes the questions of a run by its id; of none for a dry run."""
    server: Callable[[Limits, Say], Answerer]
    """Whom to ask, within which limits; raises KbetlError where a key is missing."""
    generate: Callable[[int], Generate] | None = None
    """What makes the samples that the answers of a run are; called in a transaction."""
    report: Callable[[int], Sequence[str]] = lambda _: ()
    """What there is to say after a run besides."""
    what: str = "samples chosen"
    """What a report calls the answers that are wanted."""
    counts: Callable[[], Mapping[str, Any]] = dict
    """What `runs.counts` is to hold besides."""


def plan_of(store: Store, options: Options) -> Plan:
    """What `enrich` asks with these options."""
    asked = asked_task(store, options)
    return Plan(
        asked,
        select=lambda limit: select(store, options, asked, limit=limit),
        prepare=lambda run_id: preparer(store, asked, options, run_id),
        server=lambda limits, say: ModelServer(
            endpoint_at(options.base_url, options.api_key_var, options.headers), limits, say
        ),
    )


def enrich(
    store: Store, options: Options, say: Say, *, tally: Tally | None = None, command: str = "enrich"
) -> Report:
    """Asks what waits, keeps every answer, and says what came of it; see `carry_out`."""
    check_choosing(options)
    return carry_out(plan_of(store, options), store, options, say, tally=tally, command=command)


def carry_out(
    plan: Plan, store: Store, options: Options, say: Say, *, tally: Tally | None, command: str
) -> Report:
    """Asks what waits, keeps every answer, and says what came of it.

    One at a time per store and task: raises Busy otherwise. Raises ConfigError, RunStopped, StoreError
    and Interrupted with everything kept that was answered before.
    """
    asked = plan.asked
    answerer, limits = _answerer(options, plan, say)
    tally = tally or Tally()
    with task_lock(store, asked.task.name, asked.question_hash) as lock:
        say_what_limits(store, options, say)
        # chosen before the run is recorded: a wrong option leaves none that --resume would take up
        selection = plan.select(limit_of_stage(options.limit))
        say_parked(selection, say)
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
                taken = take_back_waiting(store, asked.hash)
                say(f"taken back from batch files: {taken.requests} requests{paid_too(taken.at_service)}")
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
    answerer: Answerer
    concurrency: int
    tally: Tally
    say: Say
    budget: Budget | None
    earlier: Earlier
    """What the question brought before; nothing where it is asked again, perhaps with another limit."""
    keep_going: bool


def _run(plan: Plan, selection: Selection, running: _Running) -> Report:
    store, asked = selection.store, plan.asked
    before = tasks_named(store, asked.task.name)
    with store.transaction():
        add_task(store, asked.row(), running.run_id)
        if running.tally.price is not None:
            add_price(store, running.run_id, asked.model, running.tally.price)
        store.execute("set_run_task", {"run_id": running.run_id, "task_hash": asked.hash})
    budget_reached = None
    if selection.waiting:
        for group in selection.groups(asked.task.name):
            why, samples = explained(group, asked, before)
            running.say(f"asking {samples} samples: {why}")
        try:
            _ask(plan, selection, running)
        except BudgetReached as error:
            budget_reached = str(error)
    left = {status: count for status, count in selection.by_status().items() if status != "ok"}
    notes = (
        *plan.report(running.run_id),
        *_notes(asked, before, running, store.path, is_labelling=plan.generate is None),
        *left_out(selection.empty),
    )
    return Report(
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
    ask(
        Job(
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


def _answerer(options: Options, plan: Plan, say: Say) -> tuple[Answerer, Limits]:
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
        return OfflineModel(asked.task.name), replace(limits, concurrency=OFFLINE_CONCURRENCY)
    return plan.server(limits, say), limits


def _cut_so_far(store: Store, task_hash: str) -> Earlier:
    """What a question has brought so far, whichever run asked it."""
    cut, has_others = store.rows("cut_so_far", {"task_hash": task_hash})[0]
    return Earlier(cut, bool(has_others))


def _counts_of(tally: Tally) -> dict[str, int]:
    return {
        "asked": tally.asked,
        **{str(status): count for status, count in tally.statuses.items()},
        "answers": tally.answers,
        "reused": tally.reused,
        **({"other_model": tally.served.total()} if tally.served else {}),
    }


def say_parked(selection: Selection, say: Say) -> None:
    if selection.parked:
        say(
            f"{selection.parked} samples failed in {PARKED_AFTER} runs in a row and are parked; "
            "--retry failed asks them again"
        )


def say_what_limits(store: Store, options: Options, say: Say) -> None:
    if config.is_test_mode():
        say(f"TEST_MODE: asking at most {config.TEST_MODE_LIMIT} samples")
    setting = float(store.setting("min_reward"))
    if options.min_reward is not None and min_reward(store, options) < setting:
        say(
            f"--min-reward {options.min_reward} is below the setting {setting}: "
            "the datasets leave those rows out; "
            "to change it: " + config.command_line(store.path, "use", "--min-reward", f"{options.min_reward}")
        )


def explained(group: WaitingGroup, asked: Asked, stored: list[StoredTask]) -> tuple[str, int]:
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


def left_out(empty: int) -> list[str]:
    return [f"left out: {empty} rollouts without an answer (rollout_facts.is_empty)"] if empty else []


def _notes(
    asked: Asked, before: list[StoredTask], running: _Running, database: Path, *, is_labelling: bool
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
