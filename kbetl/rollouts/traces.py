"""verifiers traces, bare (0.2) and in episodes (0.3, 0.4): the message graph of each becomes rollouts.

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


class Built(NamedTuple):
    """A row built from a line. Keys whose value is None are none."""

    row: dict[str, Any]
    nonfinite: Sequence[str] = ()
    """SQLite paths of numbers that were NaN or infinite."""


def rollouts_of_episode(episode: Row) -> list[Built]:
    """The rollouts of all traces of an episode; of one that ended before any trace began, its task's."""
    env = _text(_object(episode, "env").get("id"))
    traces = [each for each in _list(episode, "traces") if isinstance(each, Mapping)]
    ending = _ending(episode)
    if not traces:
        return [_rollout({"task": episode.get("task")}, [], env, ending)]
    return [each for trace in traces for each in rollouts_of_trace(trace, env, ending)]


class Ending(NamedTuple):
    """How a trace or an episode ended."""

    error: Row | None = None
    """What ended it; None if it ended well."""
    earlier: Sequence[Row] = ()
    """Errors of tries before the last one."""


def rollouts_of_trace(trace: Row, env: str | None = None, episode: Ending | None = None) -> list[Built]:
    """A rollout for each way from a root of the message graph to a leaf that the model had a part in.

    One without messages, because it failed at once, is a rollout with an empty completion. `episode` says
    how that ended, for a trace that names no error. Raises BadRow for a graph that is none.
    """
    nodes = _nodes(trace)
    ways = [way for way in _ways(nodes) if any(nodes[index].get("sampled") is True for index in way)]
    own, around = _ending(trace), episode or Ending()
    ending = Ending(own.error or around.error, [*own.earlier, *around.earlier])
    return [_rollout(trace, way, env, ending) for way in ways or [[]]]


def _nodes(trace: Row) -> list[Row]:
    nodes = _list(trace, "nodes")
    for index, node in enumerate(nodes):
        parent = node.get("parent") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or not isinstance(node.get("message"), Mapping):
            raise BadRow(f"field 'nodes[{index}]' holds no message")
        if parent is not None and (type(parent) is not int or not 0 <= parent < index):
            raise BadRow(f"field 'nodes[{index}].parent' is {parent!r}, not a node before it")
    return nodes


def _ways(nodes: Sequence[Row]) -> list[list[int]]:
    """For each leaf the nodes from its root to it, in the order of the leaves."""
    parents = {node.get("parent") for node in nodes}
    ways = []
    for leaf in (index for index in range(len(nodes)) if index not in parents):
        way: list[int] = []
        step: int | None = leaf
        while step is not None:
            way.append(step)
            step = nodes[step].get("parent")
        ways.append(way[::-1])
    return ways


def _rollout(trace: Row, way: Sequence[int], env: str | None, ending: Ending) -> Built:
    nodes = [_nodes(trace)[index] for index in way]
    first = next((index for index, node in enumerate(nodes) if node.get("sampled") is True), len(nodes))
    messages = [stored_message(node["message"]) for node in nodes]
    data = _object(_object(trace, "task"), "data")
    calls = _calls(trace, way)
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
        "error": ending.error or _reason(trace, way) or _not_scored(trace),
        "earlier_errors": list(ending.earlier) or None,
        "unscored": _unscored(trace) or None,
        "usage": _usage(calls),
        "sampling": _sampling(trace, calls),
        "timing": _timing(trace),
    }
    return Built(row, nonfinite)


def _info(data: Row) -> Row | None:
    """The task's data, but for what has a place of its own, and empty objects: they hold nothing to keep."""
    return {key: value for key, value in data.items() if key not in _NOT_INFO and value != {}} or None


def _prompt(data: Row) -> list[Row]:
    """The task's own prompt, for a rollout that failed before its first message: text, or messages."""
    prompt = data.get("prompt")
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [stored_message(each) for each in prompt or () if isinstance(each, Mapping)]


def _reward(trace: Row, nonfinite: list[str]) -> float | None:
    """The sum of score x weight over the parts that were scored, as verifiers has it; None if none was.

    A part that is null was not scored; a score that is null was no finite number.
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
    """The parts of the reward that were not scored."""
    return [name for name, part in _object(trace, "rewards").items() if part is None]


def _not_scored(trace: Row) -> Row | None:
    """Why there is no reward, if scoring ran for none of its parts and no error says so."""
    unscored = _unscored(trace)
    if not unscored or len(unscored) < len(_object(trace, "rewards")):
        return None
    return {"type": "not scored", "message": f"not scored: {', '.join(unscored)}"}


def _metrics(trace: Row, nonfinite: list[str]) -> Row | None:
    """The numbers by name. A null is no finite number, or was not measured where the trace failed."""
    metrics = _object(trace, "metrics")
    if trace.get("ok") is not False:
        nonfinite += [_path("metrics", name) for name, value in metrics.items() if value is None]
    return metrics or None


def _path(field: str, name: str) -> str:
    return f"$.{field}.{name}" if name.isidentifier() else f'$.{field}."{name}"'


def _model(trace: Row) -> str | None:
    """The model of its calls, else the one that its agent was set to."""
    calls = (call.get("model") for call in _list(trace, "calls") if isinstance(call, Mapping))
    named = next((text for model in calls if (text := _text(model))), None)
    return named or _text(_object(_object(trace, "agent"), "config").get("model"))


def _calls(trace: Row, way: Sequence[int]) -> list[Row]:
    """The calls that made a message on the way."""
    calls = [call for call in _list(trace, "calls") if isinstance(call, Mapping)]
    return [call for call in calls if call.get("node") in way]


def _ending(owner: Row) -> Ending:
    """What `ok` and `errors` of a trace or an episode say; the last error is the one that ended it.

    `ok` decides: the errors of one that is ok are those of tries that were repeated.
    """
    errors = [_told(error) for error in _list(owner, "errors") if isinstance(error, Mapping)]
    if owner.get("ok") is True:
        return Ending(None, errors)
    if errors:
        return Ending(errors[-1], errors[:-1])
    if "traces" not in owner and owner.get("ok") is False:
        return Ending({"type": _text(owner.get("stop_condition")) or "not ok"})
    return Ending()


def _told(error: Row) -> Row:
    """An error without its traceback."""
    found = {key: error.get(key) for key in ("type", "message", "status_code")}
    return {key: value for key, value in found.items() if value is not None}


def _reason(trace: Row, way: Sequence[int]) -> Row | None:
    """The error of the last request, if nothing came of the rollout and nothing else says why."""
    calls = [call for call in _list(trace, "calls") if isinstance(call, Mapping)]
    error = calls[-1].get("error") if calls and not way else None
    return _told(error) if isinstance(error, Mapping) else None


# Limits of verifiers that end a rollout before its model would.
_LIMITS = ("max_turns", "max_input_tokens", "max_output_tokens", "max_total_tokens", "compaction_failed")


def _is_truncated(trace: Row, calls: Sequence[Row]) -> bool:
    """As verifiers' own property: a limit stopped it, or the last call without an error was cut."""
    if trace.get("stop_condition") in _LIMITS:
        return True
    last = next((call for call in reversed(calls) if call.get("error") is None), None)
    return last is not None and ending_of(_text(last.get("finish_reason"))) == "cut"


def _usage(calls: Sequence[Row]) -> Row | None:
    """Sums over the calls; what verifiers calls prompt tokens is without the cached ones."""
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
    """What the calls were sampled with, else the agent's settings; null is the server's own default."""
    places = [call.get("sampling") for call in calls[:1]]
    places.append(_object(_object(trace, "agent"), "config").get("sampling"))
    for place in places:
        found = {key: value for key, value in (place or {}).items() if value is not None}
        if found:
            return found
    return None


def _timing(trace: Row) -> Row | None:
    """Milliseconds of spans that have both ends; a span that was not reached has zeros."""
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
