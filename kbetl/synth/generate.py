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
    Plan,
    PreparedRequest,
    RunProgress,
    RunReport,
    estimate_run,
    resume_options,
    run_plan,
)
from kbetl.inference.plan import ModelTask, RolloutWishes, Say, check_options, resolve_task, select
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
    prompt_sources,
    select_unstored,
    store_prompts,
    synth_task,
)

COMMAND = "synth run"
_NOTHING_CHOSEN = "nothing to ask about: `kbetl ingest` brings modules, --from FILE takes prompts"


def synthesize(
    store: Store, options: GenerateOptions, say: Say, tally: RunProgress | None = None
) -> RunReport:
    """Asks for the rollouts that are missing, and stores each with its answer; see `run_plan`."""
    plan = _plan_of(store, options)
    rejected = _store_file(plan, options, say)
    report = run_plan(plan, say, tally)
    notes = report.notes if report.selected else (*report.notes, _NOTHING_CHOSEN)
    return replace(report, rejected=rejected, notes=notes)


def dry_run(store: Store, options: GenerateOptions, say: Say) -> DryReport:
    """What `synthesize` would ask; asks nothing, and stores nothing."""
    plan = _plan_of(store, options)
    if _is_file(options):
        asked = plan.asked
        plan = replace(plan, select=lambda: select_unstored(store, options, asked, say))
    return estimate_run(plan, say)


def batch_plan(store: Store, options: GenerateOptions, say: Say) -> Plan:
    """What `batch write synth` asks; stores the prompts of a file, if the options name one."""
    plan = _plan_of(store, options, "batch write synth")
    _store_file(plan, options, say)
    return plan


def unrecorded_plan(store: Store, options: GenerateOptions, batch_id: int) -> Plan:
    """What a batch file of `batch write synth` answered and has not become a rollout."""
    plan = _plan_of(store, options, "batch write synth")

    def select_answered() -> Selection:
        selection = Selection(store, plan.asked.hash)
        selection.fill_unrecorded_rollouts(batch_id)
        return selection

    # an answer with a status that was asked again becomes a rollout all the same
    return replace(plan, options=replace(options, retry=()), select=select_answered)


def resumed(
    store: Store, options: GenerateOptions, given: frozenset[str], say: Say
) -> GenerateOptions | None:
    """The options of the run that `--resume` goes on with; see `resume_options`."""
    return resume_options(store, options, given, say, _resolve)


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


def _resolve(store: Store, options: GenerateOptions) -> ModelTask:
    return resolve_task(store, options, synth_task(store, options))


def _plan_of(store: Store, options: GenerateOptions, command: str = COMMAND) -> Plan:
    """The plan of `synth run` and its like; raises ConfigError for options that cannot be kept."""
    _check(options)
    chosen = replace(options, sources=tuple(chosen_sources(options)))
    asked = _resolve(store, options)
    source = _source(store, asked, options)
    wishes = RolloutWishes(options.rollouts, rollouts=True, prompts=_is_file(options))
    balancers: list[LoadBalancer] = []

    def backend(limits: Limits, say: Say) -> Backend:
        balancers.append(LoadBalancer(_endpoints(options), limits, say))
        return balancers[0]

    return Plan(
        store,
        command,
        options,
        asked,
        select=lambda: select(store, chosen, asked, wishes),
        backend=backend,
        prompt_source=prompt_sources(store, options, asked.task),
        generate=lambda: generator(run_source(store, source), asked.hash, asked.task.name),
        notes=lambda: _rollout_notes(store, source.name),
        what="rollouts wanted",
        counts=lambda: {"servers": [facts for balancer in balancers for facts in balancer.facts]},
    )


def _endpoints(options: GenerateOptions) -> list[Endpoint]:
    return [
        endpoint_at(address, options.api_key_var, options.headers, is_streamed=options.stream)
        for address in options.base_urls
    ]


def _is_file(options: GenerateOptions) -> bool:
    return options.prompts not in (MODULES, SYNTHETIC)


def _store_file(plan: Plan, options: GenerateOptions, say: Say) -> int:
    """Stores the prompts of a file, if the options name one, as a run of its own that asks nothing.

    Gives the number of rows that hold none, less those that were rejected before.
    """
    if not _is_file(options):
        return 0
    counts: dict[str, int] = {}
    with plan.store.run(plan.command, {"from": options.prompts}, counts=lambda: counts) as run:
        lines = store_prompts(plan.store, Path(options.prompts), run.id, counts)
        rejected = counts["rejected"] - counts["rejected_before"]
        run.status = exit_status_for(rejected)
    for line in lines:
        say(line)
    return rejected


def _source(store: Store, asked: ModelTask, options: GenerateOptions) -> SourceInfo:
    """The source that the rollouts go to: one for each task, as the hash tells tasks apart.

    Named by task and model; a second task of both names has a piece of its hash behind it.
    """
    task = asked.task
    metadata = {
        "tool": "kbetl synth run",
        "version": kbetl.__version__,
        "task": task.name,
        "parameters": dict(task.parameters),
    }
    name = options.name or f"{task.name}:{asked.model}"
    if _task_of_source(store, name) not in (None, asked.hash):
        if options.name is not None:
            raise ConfigError(f"--as {name!r}: a source of that name holds something else; choose another")
        name = f"{name}@{asked.hash.partition(':')[2][:12]}"
    run = json.dumps(metadata, ensure_ascii=False)
    return SourceInfo(name, asked.hash, "run", model=asked.model, environment=task.name, run=run)


def _task_of_source(store: Store, name: str) -> str | None:
    """The hash of the task whose rollouts a source of this name holds; None if there is no such source."""
    found = store.rows("synth/source_uri", {"name": name})
    return found[0][0] if found else None


def _rollout_notes(store: Store, source: str) -> list[str]:
    found = store.rows("synth/rollouts_of_source", {"name": source})
    if not found:
        return []
    rollouts, different, cut = found[0]
    return [
        f"rollouts in source {source}: {rollouts}"
        + (f", {rollouts - different} of them in the same words as another" if rollouts > different else "")
        + (f", {cut} cut off at the limit" if cut else "")
    ]


def generator(source_id: int, task_hash: str, environment: str) -> Generate:
    """What makes the rollouts of one task, for one source."""

    def generate(question: PreparedRequest, completion: Completion) -> GeneratedRollout:
        request = question.request
        if request is None:
            raise ValueError("a question without a request has no answer")
        row = rollout_row(question, request, completion, environment)
        sample = parse_row(Parsed(row, _as_json(row), ()))
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


def _as_json(row: dict[str, Any]) -> str:
    try:
        return orjson.dumps(row).decode()
    except (orjson.JSONEncodeError, TypeError):  # an integer beyond 64 bit
        return json.dumps(row, ensure_ascii=False)
