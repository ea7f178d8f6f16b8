"""One run of a plan: asks what is pending, stores every answer, reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kbetl import config
from kbetl.client import Limits
from kbetl.client.endpoint import is_local
from kbetl.errors import BudgetReached
from kbetl.inference.backends import Backend, OfflineBackend
from kbetl.inference.begin import BegunTask, begin_task
from kbetl.inference.breaker import Earlier
from kbetl.inference.plan import ModelTask, Plan, Say
from kbetl.inference.report import RunProgress, RunReport, billed_there_too
from kbetl.inference.workers import InferenceJob, run_job
from kbetl.store import Store
from kbetl.store.answers import StoredTask
from kbetl.store.batches import release_waiting
from kbetl.store.selection import PendingGroup

# How long the first request to this machine goes alone, so that a refusal costs one request, also one that
# comes after 200 ms; a server of two-second replies is that much slower to start.
LOCAL_ALONE_S = 0.4

# as many answers of the offline model are stored by one commit; it makes one at a time
OFFLINE_CONCURRENCY = 16


def run_plan(plan: Plan, say: Say, tally: RunProgress | None = None) -> RunReport:
    """Asks what is pending, stores every answer, and reports.

    Raises LockHeld while another process pays for the task or asks the same question; ConfigError,
    RunStopped, StoreError and Interrupted with everything stored that was answered before.
    """
    backend, limits = _backend(plan, say)
    tally = tally or RunProgress()
    with begin_task(
        plan,
        say,
        counts=lambda: {**tally.counts(), **plan.counts()},
        cost_usd=lambda: tally.cost_usd,
    ) as started:
        tally.waiting = started.selection.waiting
        tally.price = plan.price()
        if plan.options.takes_back:
            released = release_waiting(plan.store, plan.asked.hash)
            billed = billed_there_too(released.at_service)
            say(f"taken back from batch files: {released.requests} requests{billed}")
        budget_reached = _ask(started, backend, limits, tally, say)
        report = _report(started, backend, tally, budget_reached)
        started.run.status = report.exit_status
    return report


def _backend(plan: Plan, say: Say) -> tuple[Backend, Limits]:
    options = plan.options
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
    if plan.is_free:
        return OfflineBackend(plan.asked.task.name), replace(limits, concurrency=OFFLINE_CONCURRENCY)
    return plan.backend(limits, say), limits


def _ask(started: BegunTask, backend: Backend, limits: Limits, tally: RunProgress, say: Say) -> str | None:
    """Asks all pending samples; returns what the budget has reached if that ended it, else None."""
    plan, selection = started.plan, started.selection
    if not selection.waiting:
        return None
    for group in selection.groups(plan.asked.task.name):
        why, samples = reason_text(group, plan.asked, started.tasks_before)
        say(f"asking {samples} samples: {why}")
    generate = None
    if plan.generate is not None:
        with plan.store.transaction():
            generate = plan.generate()
    # asked again, a question may have another output limit: its outcomes so far say nothing about it
    earlier = Earlier() if plan.options.retry else _earlier(plan.store, plan.asked.hash)
    concurrency = min(limits.concurrency, selection.waiting)
    try:
        run_job(InferenceJob(started, backend, concurrency, tally, say, earlier, generate))
    except BudgetReached as error:
        return str(error)
    return None


def _earlier(store: Store, task_hash: str) -> Earlier:
    """The outcomes of a question so far, in all runs."""
    cut, has_others = store.rows("inference/cut_so_far", {"task_hash": task_hash})[0]
    return Earlier(cut, bool(has_others))


def _report(
    started: BegunTask, backend: Backend, tally: RunProgress, budget_reached: str | None
) -> RunReport:
    plan, selection = started.plan, started.selection
    not_ok = {status: count for status, count in selection.by_status().items() if status != "ok"}
    return RunReport(
        plan.asked.task.name,
        plan.asked.model,
        plan.asked.hash,
        selection.chosen * selection.attempts,
        selection.missing,
        tally,
        not_ok,
        selection.handed_out + tally.handed_out,
        (*plan.notes(), *_notes(started, backend, tally), *skipped_note(selection.empty)),
        plan.what,
        plan.store.path,
        budget_reached,
    )


def _notes(started: BegunTask, backend: Backend, tally: RunProgress) -> list[str]:
    notes = []
    if tally.reused_elsewhere:
        notes.append(f"{tally.reused_elsewhere} answers were reused that another host gave")
    for name, instead in backend.replaced.items():
        notes.append(
            f"the model refused the parameter {name}; " + (f"{instead} was sent" if instead else "left out")
        )
    asked = started.plan.asked
    in_use = next((each for each in started.tasks_before if each.in_use), None)
    if started.plan.generate is None and in_use is not None and in_use.hash != asked.hash:
        notes.append(
            f"{asked.task.name}: the datasets still use the labels of {in_use.model} ({in_use.hash[:15]}); "
            "to change that: "
            + config.command_line(
                started.plan.store.path, "use", asked.task.name, "--task-hash", asked.hash[:15]
            )
        )
    return notes


def reason_text(group: PendingGroup, asked: ModelTask, stored: Sequence[StoredTask]) -> tuple[str, int]:
    """Why a group is asked, in words, and how many samples it has."""
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
    """The line about rollouts without an answer; empty if there are none."""
    return [f"left out: {empty} rollouts without an answer (rollout_facts.is_empty)"] if empty else []
