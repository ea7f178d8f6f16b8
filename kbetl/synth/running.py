"""One run that generates rollouts: plans it, asks, reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import kbetl
from kbetl import enrich
from kbetl.asking import Answerer, Generate, ServerPool, Tally
from kbetl.asking.addresses import check_address, endpoint_at
from kbetl.asking.order import Order
from kbetl.client import Endpoint, Limits
from kbetl.enrich import DryReport, Report, order_of
from kbetl.enrich.foreseeing import foresee
from kbetl.enrich.planning import Asked, Wanted, asked_task, check_choosing, preparer, select
from kbetl.enrich.running import Plan, Say, carry_out
from kbetl.errors import ConfigError, exit_status_for
from kbetl.store import Store
from kbetl.store.generated import run_source
from kbetl.store.intake import Origin
from kbetl.store.ledger import Selection
from kbetl.synth.options import MODULES, SYNTHETIC, Options
from kbetl.synth.prompts import chosen_sources, problems, store_prompts, synth_task
from kbetl.synth.rollouts import generator
from kbetl.synth.unstored import select_unstored

COMMAND = "synth run"
_NOTHING_CHOSEN = "nothing to ask about: `kbetl ingest` brings modules, --from FILE takes prompts"


def synthesize(store: Store, options: Options, say: Say, *, tally: Tally | None = None) -> Report:
    """Asks for the rollouts that are missing, and keeps each with its answer; see `enrich.carry_out`."""
    _check(options)
    plan = _plan(store, options)
    rejected = _store_file(store, options, say, COMMAND)
    report = carry_out(plan, store, options, say, tally=tally, command=COMMAND)
    notes = report.notes if report.chosen else (*report.notes, _NOTHING_CHOSEN)
    return replace(report, rejected=rejected, notes=notes)


def dry_run(store: Store, options: Options, say: Say) -> DryReport:
    """What `synthesize` would ask; asks nothing, and stores nothing."""
    _check(options)
    plan = _plan(store, options)
    if _is_file(options):
        asked = plan.asked
        plan = replace(plan, select=lambda limit: select_unstored(store, options, asked, limit, say))
    return foresee(plan, store, options, say)


def ordered(store: Store, options: Options, say: Say) -> Order:
    """The questions of `synthesize`, for a batch file."""
    _check(options)
    plan = _plan(store, options)
    _store_file(store, options, say, "batch write synth")
    return order_of(store, plan, options, "synth")


def ordered_rollouts(store: Store, options: Options, batch_id: int) -> Order:
    """What a batch file of such an order answered and has not become a rollout."""
    plan = _plan(store, options)

    def select_answered() -> Selection:
        selection = Selection(store, plan.asked.hash)
        selection.wait_for_rollouts(batch_id)
        return selection

    # a status that was asked again settles all the same
    prepare = preparer(
        store, plan.asked, replace(options, retry=()), None, problems(store, options, plan.asked.task)
    )
    return replace(order_of(store, plan, options, "synth"), select=select_answered, prepare=prepare)


def resumed(store: Store, options: Options, given: frozenset[str], say: Say) -> Options | None:
    """The options of the run that is taken up; see `enrich.resumed`."""
    return enrich.resumed(store, options, given, say, lambda now: _asked(store, now))


def _check(options: Options) -> None:
    check_choosing(options)
    if not options.model:
        raise ConfigError("name the model with -m; a server lists its models at BASE_URL/models")
    for address in options.base_urls:
        check_address(address)
    if len(set(options.base_urls)) < len(options.base_urls):
        raise ConfigError("-b: the same base URL is given twice")
    if options.name is not None and not options.name.strip():
        raise ConfigError("--as is empty; give the source a name, or leave --as out")


def _asked(store: Store, options: Options) -> Asked:
    return asked_task(store, options, synth_task(store, options))


def _plan(store: Store, options: Options) -> Plan:
    sources = chosen_sources(options)
    asked = _asked(store, options)
    origin = _origin(store, asked, options)
    problem_of = problems(store, options, asked.task)
    kept = replace(options, sources=tuple(sources))

    def choose(limit: int | None) -> Selection:
        return select(
            store,
            kept,
            asked,
            limit=limit,
            wanted=Wanted(options.rollouts, rollouts=True, prompts=_is_file(options)),
        )

    def generate(_run_id: int) -> Generate:
        return generator(run_source(store, origin), asked.hash, asked.task.name)

    pools: list[ServerPool] = []

    def server(limits: Limits, say: Say) -> Answerer:
        pools.append(ServerPool(_endpoints(options), limits, say))
        return pools[0]

    return Plan(
        asked,
        select=choose,
        prepare=lambda run_id: preparer(store, asked, options, run_id, problem_of),
        server=server,
        generate=generate,
        report=lambda _: _told(store, origin.name),
        what="rollouts wanted",
        counts=lambda: {"servers": [facts for pool in pools for facts in pool.facts]},
    )


def _endpoints(options: Options) -> list[Endpoint]:
    return [
        endpoint_at(address, options.api_key_var, options.headers, is_streamed=options.stream)
        for address in options.base_urls
    ]


def _is_file(options: Options) -> bool:
    return options.prompts not in (MODULES, SYNTHETIC)


def _store_file(store: Store, options: Options, say: Say, command: str) -> int:
    """Stores the prompts of a file, where the options name one, as a run of its own that asks nothing.

    Gives the number of rows that hold none, less those that were rejected before.
    """
    if not _is_file(options):
        return 0
    counts: dict[str, int] = {}
    with store.run(command, {"from": options.prompts}, counts=lambda: counts) as run:
        told = store_prompts(store, Path(options.prompts), run.id, counts)
        rejected = counts["rejected"] - counts["rejected_before"]
        run.status = exit_status_for(rejected)
    for line in told:
        say(line)
    return rejected


def _origin(store: Store, asked: Asked, options: Options) -> Origin:
    """The source that the rollouts go to: one for each task, as the hash tells tasks apart.

    Named by task and model; a second task of both names has a piece of its hash behind it.
    """
    task = asked.task
    run = {
        "tool": "kbetl synth run",
        "version": kbetl.__version__,
        "task": task.name,
        "parameters": dict(task.parameters),
    }
    name = options.name or f"{task.name}:{asked.model}"
    holder = _holder(store, name)
    if holder not in (None, asked.hash):
        if options.name is not None:
            raise ConfigError(f"--as {name!r}: a source of that name holds something else; choose another")
        name = f"{name}@{asked.hash.partition(':')[2][:12]}"
    told = json.dumps(run, ensure_ascii=False)
    return Origin(name, asked.hash, "run", model=asked.model, environment=task.name, run=told)


def _holder(store: Store, name: str) -> str | None:
    found = store.rows("source_uri", {"name": name})
    return found[0][0] if found else None


def _told(store: Store, source: str) -> list[str]:
    found = store.rows("rollouts_of_source", {"name": source})
    if not found:
        return []
    places, different, cut = found[0]
    return [
        f"rollouts in source {source}: {places}"
        + (f", {places - different} of them in the same words as another" if places > different else "")
        + (f", {cut} cut off at the limit" if cut else "")
    ]
