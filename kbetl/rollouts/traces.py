"""Converts verifiers traces, bare (0.2) or in episodes (0.3, 0.4), to rollouts: one per branch of messages.

https://github.com/PrimeIntellect-ai/verifiers
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kbetl.errors import BadRow
from kbetl.samples.conversation import stored_message, tools_of
from kbetl.samples.fields import Row, type_name
from kbetl.samples.messages import ending_of

_NOT_INFO = ("idx", "prompt")


class BuiltRow(NamedTuple):
    """A row built from a line; keys whose value is None are left out later."""

    row: dict[str, Any]
    nonfinite: Sequence[str] = ()
    """SQLite paths of numbers that were NaN or infinite."""


def rollouts_of_episode(episode: Row) -> list[BuiltRow]:
    """Returns the rollouts of all traces of an episode; an empty one of its task if it has no trace."""
    env = _text(_object(episode, "env").get("id"))
    traces = [each for each in _list(episode, "traces") if isinstance(each, Mapping)]
    ending = _ending(episode)
    if not traces:
        return [_rollout({"task": episode.get("task")}, [], env, ending)]
    return [each for trace in traces for each in rollouts_of_trace(trace, env, ending)]


class Ending(NamedTuple):
    """How a trace or an episode ended."""

    error: Row | None = None
    """The error that ended it; None if it ended without."""
    earlier: Sequence[Row] = ()
    """Errors of earlier tries."""


def rollouts_of_trace(trace: Row, env: str | None = None, episode: Ending | None = None) -> list[BuiltRow]:
    """Returns a rollout for each branch, root to leaf, of the message graph that has a sampled message.

    A trace without such a branch, because it failed at once, gives one with an empty completion. `episode`
    says how the episode ended, for a trace that names no error. Raises BadRow for an invalid graph.
    """
    nodes = _nodes(trace)
    branches = [
        branch for branch in _branches(nodes) if any(nodes[index].get("sampled") is True for index in branch)
    ]
    own, around = _ending(trace), episode or Ending()
    ending = Ending(own.error or around.error, [*own.earlier, *around.earlier])
    return [_rollout(trace, branch, env, ending) for branch in branches or [[]]]


def _nodes(trace: Row) -> list[Row]:
    nodes = _list(trace, "nodes")
    for index, node in enumerate(nodes):
        parent = node.get("parent") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or not isinstance(node.get("message"), Mapping):
            raise BadRow(f"field 'nodes[{index}]' holds no message")
        if parent is not None and (type(parent) is not int or not 0 <= parent < index):
            raise BadRow(f"field 'nodes[{index}].parent' is {parent!r}, not a node before it")
    return nodes


def _branches(nodes: Sequence[Row]) -> list[list[int]]:
    """Returns for each leaf the indexes of the nodes from its root to it, in the order of the leaves."""
    parents = {node.get("parent") for node in nodes}
    branches = []
    for leaf in (index for index in range(len(nodes)) if index not in parents):
        branch: list[int] = []
        step: int | None = leaf
        while step is not None:
            branch.append(step)
            step = nodes[step].get("parent")
        branches.append(branch[::-1])
    return branches


def _rollout(trace: Row, branch: Sequence[int], env: str | None, ending: Ending) -> BuiltRow:
    nodes = [_nodes(trace)[index] for index in branch]
    first = next((index for index, node in enumerate(nodes) if node.get("sampled") is True), len(nodes))
    messages = [stored_message(node["message"]) for node in nodes]
    data = _object(_object(trace, "task"), "data")
    calls = _calls(trace, branch)
    nonfinite: list[str] = []
    reward = _reward(trace, nonfinite)
    finish_reason = next((text for call in calls[::-1] if (text := _text(call.get("finish_reason")))), None)
    row = {
        "example_id": data.get("idx"),
        "prompt": messages[:first] or _prompt(data),
        "completion": messages[first:],
        "reward": reward,
        "rewards": trace.get("rewards") or None,
        "metrics": _metrics(trace, nonfinite),
        "info": _info(data),
        "trace_info": trace.get("info") or None,
        "model": _model(trace),
        "env_id": env,
        "agent": _text(_object(trace, "agent").get("name")),
        "tools": tools_of(trace.get("tools"), "tools") or None,
        "finish_reason": finish_reason,
        "stop_condition": _text(trace.get("stop_condition")),
        "is_completed": trace.get("is_completed"),
        "is_truncated": _is_truncated(trace, calls),
        "error": ending.error or _last_call_error(trace, branch) or _not_scored(trace),
        "earlier_errors": list(ending.earlier) or None,
        "unscored": _unscored(trace) or None,
        "usage": _usage(calls),
        "sampling": _sampling(trace, calls),
        "timing": _timing(trace),
    }
    return BuiltRow(row, nonfinite)


def _info(data: Row) -> Row | None:
    """Returns the task's data without empty objects and the fields that a row has elsewhere."""
    return {key: value for key, value in data.items() if key not in _NOT_INFO and value != {}} or None


def _prompt(data: Row) -> list[Row]:
    """Returns the prompt of the task as messages, for a rollout that failed before its first message."""
    prompt = data.get("prompt")
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [stored_message(each) for each in prompt or () if isinstance(each, Mapping)]


def _reward(trace: Row, nonfinite: list[str]) -> float | None:
    """Returns the sum of score x weight over the scored parts, as verifiers computes it; None if none was.

    A part that is null was not scored; a score that is null was not finite.
    """
    total = None
    for name, part in _object(trace, "rewards").items():
        score = part.get("score") if isinstance(part, Mapping) else part
        weight = part.get("weight", 1.0) if isinstance(part, Mapping) else 1.0
        if part is None:
            continue
        if score is None:
            nonfinite.append(_path("rewards", name) + ".score")
        elif _is_number(score) and _is_number(weight):
            total = (total or 0.0) + score * weight
        else:
            raise BadRow(f"field 'rewards.{name}' is no score and weight")
    return total if total is None or math.isfinite(total) else None


def _unscored(trace: Row) -> list[str]:
    """Returns the names of the reward's parts that were not scored."""
    return [name for name, part in _object(trace, "rewards").items() if part is None]


def _not_scored(trace: Row) -> Row | None:
    """Returns an error if no part of the reward was scored; else None."""
    unscored = _unscored(trace)
    if not unscored or len(unscored) < len(_object(trace, "rewards")):
        return None
    return {"type": "not scored", "message": f"not scored: {', '.join(unscored)}"}


def _metrics(trace: Row, nonfinite: list[str]) -> Row | None:
    """Returns the metrics. A null was not finite, or not measured if the trace failed."""
    metrics = _object(trace, "metrics")
    if trace.get("ok") is not False:
        nonfinite += [_path("metrics", name) for name, value in metrics.items() if value is None]
    return metrics or None


def _path(field: str, name: str) -> str:
    return f"$.{field}.{name}" if name.isidentifier() else f'$.{field}."{name}"'


def _model(trace: Row) -> str | None:
    """Returns the model that its calls name, else the one of the agent's configuration."""
    calls = (call.get("model") for call in _list(trace, "calls") if isinstance(call, Mapping))
    named = next((text for model in calls if (text := _text(model))), None)
    return named or _text(_object(_object(trace, "agent"), "config").get("model"))


def _calls(trace: Row, branch: Sequence[int]) -> list[Row]:
    """Returns the calls that made a message of the branch."""
    calls = [call for call in _list(trace, "calls") if isinstance(call, Mapping)]
    return [call for call in calls if call.get("node") in branch]


def _ending(owner: Row) -> Ending:
    """Returns how a trace or an episode ended, by `ok` and `errors`; its last error is what ended it.

    If `ok` is true, all errors are those of earlier tries.
    """
    errors = [_error_fields(error) for error in _list(owner, "errors") if isinstance(error, Mapping)]
    if owner.get("ok") is True:
        return Ending(None, errors)
    if errors:
        return Ending(errors[-1], errors[:-1])
    if "traces" not in owner and owner.get("ok") is False:
        return Ending({"type": _text(owner.get("stop_condition")) or "not ok"})
    return Ending()


def _error_fields(error: Row) -> Row:
    """Returns type, message and status code of an error."""
    found = {key: error.get(key) for key in ("type", "message", "status_code")}
    return {key: value for key, value in found.items() if value is not None}


def _last_call_error(trace: Row, branch: Sequence[int]) -> Row | None:
    """Returns the error of the last call if the rollout has no message; else None."""
    calls = [call for call in _list(trace, "calls") if isinstance(call, Mapping)]
    error = calls[-1].get("error") if calls and not branch else None
    return _error_fields(error) if isinstance(error, Mapping) else None


# Limits of verifiers that end a rollout before its model would.
_LIMITS = ("max_turns", "max_input_tokens", "max_output_tokens", "max_total_tokens", "compaction_failed")


def _is_truncated(trace: Row, calls: Sequence[Row]) -> bool:
    """Whether a limit stopped it or the last call without error was truncated, as verifiers has it."""
    if trace.get("stop_condition") in _LIMITS:
        return True
    last = next((call for call in reversed(calls) if call.get("error") is None), None)
    return last is not None and ending_of(_text(last.get("finish_reason"))) == "cut"


def _usage(calls: Sequence[Row]) -> Row | None:
    """Returns the token counts summed over calls; verifiers counts cached tokens apart from the prompt."""
    usages = [usage for call in calls if isinstance(usage := call.get("usage"), Mapping)]
    if not usages:
        return None
    cached = _sum(usages, "cached_input_tokens")
    prompt = _sum(usages, "prompt_tokens")
    found = {
        "prompt_tokens": prompt if prompt is None else prompt + (cached or 0),
        "cached_tokens": cached,
        "completion_tokens": _sum(usages, "completion_tokens"),
        "reasoning_tokens": _sum(usages, "reasoning_tokens"),
        "cost": _sum(usages, "cost"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _sum(usages: Sequence[Row], key: str) -> Any:
    counts = [count for usage in usages if _is_number(count := usage.get(key))]
    return sum(counts) if counts else None


def _sampling(trace: Row, calls: Sequence[Row]) -> Row | None:
    """Returns the sampling parameters of the first call, else of the agent; null is the server's default."""
    candidates = [call.get("sampling") for call in calls[:1]]
    candidates.append(_object(_object(trace, "agent"), "config").get("sampling"))
    for sampling in candidates:
        found = {key: value for key, value in (sampling or {}).items() if value is not None}
        if found:
            return found
    return None


def _timing(trace: Row) -> Row | None:
    """Returns the spans that have start and end, in milliseconds; a span that was not reached has zeros."""
    timing = _object(trace, "timing")
    ends = [end for name in ("agent", "finalize", "scoring") if (end := _end(timing, name)) is not None]
    start: Any = timing.get("start")
    found = {
        "generation_ms": _span_ms(timing, "agent"),
        "scoring_ms": _span_ms(timing, "scoring"),
        "total_ms": (max(ends) - float(start)) * 1000 if _is_number(start) and ends else None,
    }
    return {key: value for key, value in found.items() if value is not None} or None


def _span_ms(timing: Row, name: str) -> float | None:
    end = _end(timing, name)
    return None if end is None else float(end - _object(timing, name)["start"]) * 1000


def _end(timing: Row, name: str) -> float | None:
    span = _object(timing, name)
    start, end = span.get("start"), span.get("end")
    return float(end) if _is_number(start) and _is_number(end) and start and end else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object(owner: Row, key: str) -> Row:
    value = owner.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(owner: Row, key: str) -> list[Any]:
    value = owner.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow(f"field '{key}' is {type_name(value)}, not a list")
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
