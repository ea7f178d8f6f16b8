"""One run that generates rollouts: plans it, asks, reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

import kbetl
from kbetl.client import Endpoint, Limits
from kbetl.client.endpoint import check_address, endpoint_at
from kbetl.errors import ConfigError, exit_status_for
from kbetl.inference import (
    Backend,
    DryReport,
    Generate,
    LoadBalancer,
    PreparedRequest,
    RunProgress,
    RunReport,
    batch_plan_of,
)
from kbetl.inference.dry_run import estimate_run
from kbetl.inference.plan import (
    BatchPlan,
    ModelTask,
    Plan,
    RolloutWishes,
    Say,
    check_options,
    prepare_requests,
    resolve_task,
    select,
)
from kbetl.inference.run import resume_options, run_plan
from kbetl.json_codec import Parsed
from kbetl.records import Completion, Request
from kbetl.samples.messages import ending_of
from kbetl.samples.parse import parse_row
from kbetl.samples.rollout_facts import rollout_facts
from kbetl.store import Store
from kbetl.store.samples import GeneratedRollout, SourceInfo, run_source
from kbetl.store.selection import Selection
from kbetl.synth.prompts import (
    MODULES,
    SYNTHETIC,
    GenerateOptions,
    chosen_sources,
    problems,
    select_unstored,
    store_prompts,
    synth_task,
)

COMMAND = "synth run"
_NOTHING_CHOSEN = "nothing to ask about: `kbetl ingest` brings modules, --from FILE takes prompts"


def synthesize(
    store: Store, options: GenerateOptions, say: Say, *, tally: RunProgress | None = None
) -> RunReport:
    """Asks for the rollouts that are missing, and keeps each with its answer; see `enrich.carry_out`."""
    _check(options)
    plan = _plan(store, options)
    rejected = _store_file(store, options, say, COMMAND)
    report = run_plan(plan, store, options, say, tally=tally, command=COMMAND)
    notes = report.notes if report.selected else (*report.notes, _NOTHING_CHOSEN)
    return replace(report, rejected=rejected, notes=notes)


def dry_run(store: Store, options: GenerateOptions, say: Say) -> DryReport:
    """What `synthesize` would ask; asks nothing, and stores nothing."""
    _check(options)
    plan = _plan(store, options)
    if _is_file(options):
        asked = plan.asked
        plan = replace(plan, select=lambda limit: select_unstored(store, options, asked, limit, say))
    return estimate_run(plan, store, options, say)


def ordered(store: Store, options: GenerateOptions, say: Say) -> BatchPlan:
    """The questions of `synthesize`, for a batch file."""
    _check(options)
    plan = _plan(store, options)
    _store_file(store, options, say, "batch write synth")
    return batch_plan_of(store, plan, options, "synth")


def ordered_rollouts(store: Store, options: GenerateOptions, batch_id: int) -> BatchPlan:
    """What a batch file of such an order answered and has not become a rollout."""
    plan = _plan(store, options)

    def select_answered() -> Selection:
        selection = Selection(store, plan.asked.hash)
        selection.fill_unrecorded_rollouts(batch_id)
        return selection

    # a status that was asked again settles all the same
    prepare = prepare_requests(
        store, plan.asked, replace(options, retry=()), None, problems(store, options, plan.asked.task)
    )
    return replace(batch_plan_of(store, plan, options, "synth"), select=select_answered, prepare=prepare)


def resumed(
    store: Store, options: GenerateOptions, given: frozenset[str], say: Say
) -> GenerateOptions | None:
    """The options of the run that is taken up; see `enrich.resumed`."""
    return resume_options(store, options, given, say, lambda now: _asked(store, now))


def _check(options: GenerateOptions) -> None:
    check_options(options)
    if not options.model:
        raise ConfigError("name the model with -m; a server lists its models at BASE_URL/models")
    for address in options.base_urls:
        check_address(address)
    if len(set(options.base_urls)) < len(options.base_urls):
        raise ConfigError("-b: the same base URL is given twice")
    if options.name is not None and not options.name.strip():
        raise ConfigError("--as is empty; give the source a name, or leave --as out")


def _asked(store: Store, options: GenerateOptions) -> ModelTask:
    return resolve_task(store, options, synth_task(store, options))


def _plan(store: Store, options: GenerateOptions) -> Plan:
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
            wanted=RolloutWishes(options.rollouts, rollouts=True, prompts=_is_file(options)),
        )

    def generate(_run_id: int) -> Generate:
        return generator(run_source(store, origin), asked.hash, asked.task.name)

    pools: list[LoadBalancer] = []

    def server(limits: Limits, say: Say) -> Backend:
        pools.append(LoadBalancer(_endpoints(options), limits, say))
        return pools[0]

    return Plan(
        asked,
        select=choose,
        prepare=lambda run_id: prepare_requests(store, asked, options, run_id, problem_of),
        server=server,
        generate=generate,
        report=lambda _: _told(store, origin.name),
        what="rollouts wanted",
        counts=lambda: {"servers": [facts for pool in pools for facts in pool.facts]},
    )


def _endpoints(options: GenerateOptions) -> list[Endpoint]:
    return [
        endpoint_at(address, options.api_key_var, options.headers, is_streamed=options.stream)
        for address in options.base_urls
    ]


def _is_file(options: GenerateOptions) -> bool:
    return options.prompts not in (MODULES, SYNTHETIC)


def _store_file(store: Store, options: GenerateOptions, say: Say, command: str) -> int:
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


def _origin(store: Store, asked: ModelTask, options: GenerateOptions) -> SourceInfo:
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
    return SourceInfo(name, asked.hash, "run", model=asked.model, environment=task.name, run=told)


def _holder(store: Store, name: str) -> str | None:
    found = store.rows("synth/source_uri", {"name": name})
    return found[0][0] if found else None


def _told(store: Store, source: str) -> list[str]:
    found = store.rows("synth/rollouts_of_source", {"name": source})
    if not found:
        return []
    places, different, cut = found[0]
    return [
        f"rollouts in source {source}: {places}"
        + (f", {places - different} of them in the same words as another" if places > different else "")
        + (f", {cut} cut off at the limit" if cut else "")
    ]


def generator(source_id: int, task_hash: str, environment: str) -> Generate:
    """What makes the rollouts of one task, for one source."""

    def generate(question: PreparedRequest, completion: Completion) -> GeneratedRollout:
        request = question.request
        if request is None:
            raise ValueError("a question without a request has no answer")
        row = rollout_row(question, request, completion, environment)
        sample = parse_row(Parsed(row, _spelled(row), ()))
        return GeneratedRollout(
            sample,
            rollout_facts(row),
            source_id,
            task_hash,
            question.sample_hash,
            question.attempt,
            request.hash,
        )

    return generate


def rollout_row(
    question: PreparedRequest, request: Request, completion: Completion, environment: str
) -> dict[str, Any]:
    """The row: what was asked, what came back, and of which problem; no reward yet.

    Attempt, host and time are not in it: two answers in the same words are the same sample.
    """
    problem = question.prompt_source or {}
    message = {
        "role": "assistant",
        "content": completion.content or None,
        "reasoning": completion.reasoning or None,
    }
    if completion.refusal:
        message["refusal"] = completion.refusal
    usage = {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "reasoning_tokens": completion.reasoning_tokens,
    }
    return {
        "example_id": problem.get("example_id"),
        "prompt": [dict(each) for each in request.messages],
        "completion": [message],
        "task": environment,
        "reward": None,
        "generation_ms": completion.latency_ms,
        "info": problem.get("info"),
        "model": request.model,
        "env_id": environment,
        "finish_reason": completion.finish_reason,
        "is_truncated": ending_of(completion.finish_reason) == "cut",
        "usage": usage,
    }


def _spelled(row: dict[str, Any]) -> str:
    try:
        return orjson.dumps(row).decode()
    except (orjson.JSONEncodeError, TypeError):  # an integer beyond 64 bit
        return json.dumps(row, ensure_ascii=False)
