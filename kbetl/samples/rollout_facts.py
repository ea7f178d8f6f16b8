"""Reads the narrow facts of a rollout from its row: who made it, how it ended, what it used. Pure.

None means that the row does not say. A fact whose value has another type than it should is None too: the
row keeps it, and nothing is judged by it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbetl.json_codec import LARGEST_INTEGER
from kbetl.samples import fields
from kbetl.samples.fields import Row
from kbetl.samples.messages import ending_of
from kbetl.samples.reading import Reading, at_path, is_plain_path, read_row, sql_path
from kbetl.usage import read_usage

_NO_METRICS = frozenset(
    ("example_id", "reward", "generation_ms", "scoring_ms", "total_ms", "uuid", "advantage", "row_id", "id")
)
"""Numbers at the top of a row that are no metrics: prime-rl and verifiers put each metric there."""
_encode = json.JSONEncoder(ensure_ascii=False).encode
_KIND = re.compile(r"([A-Za-z_][\w.]*)\(.*\)", re.DOTALL)
"""An exception as Python shows it."""


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """The columns of `rollout_facts`, and reasoning that the messages of the row lack."""

    is_empty: bool
    example_id: int | float | str | None = None
    model: str | None = None
    environment: str | None = None
    finish_reason: str | None = None
    stop_condition: str | None = None
    is_truncated: bool | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    generation_ms: float | None = None
    scoring_ms: float | None = None
    total_ms: float | None = None
    rewards: str | None = None
    metrics: str | None = None
    error_text: str | None = None
    has_labels: bool | None = None
    other_reasoning: str | None = None
    """All reasoning of the row, if the view `rollouts` cannot read it from the row itself."""
    other_completion: str | None = None
    """The last text of the assistant less thoughts, if that view cannot read it; "" if there is none."""
    earlier_errors: str | None = None
    """JSON list of the errors that did not end it."""
    unscored: str | None = None
    """JSON list of the parts of its reward that were not scored."""
    reading: int = fields.READING
    completion_path: str | None = None
    """SQLite path of the completion in the row; None if it is `$.completion`."""


def rollout_facts(
    source: Row, reading: Reading | None = None, spoken: fields.Spoken | None = None
) -> RolloutFacts:
    """Returns the facts of a rollout's row, whichever tool wrote it.

    `reading` is how it is read if a map says that; `spoken` is what the assistant says, if that is known.

    Raises BadRow if prompt, completion or reasoning have no shape that `samples.fields` reads.
    """
    reading = reading or read_row(source)
    row, at = reading.row, reading.completion_at
    plain = None  # what the view `rollouts` finds
    if at is None:
        plain = source.get("completion")
    elif is_plain_path(at):
        plain = at_path(source, at)
    steps = list(_steps(row)) if row.get("trajectory") else []
    finish_reason = _text(row.get("finish_reason")) or _finish_reason(steps)
    error, error_text = _error(row.get("error"))
    completion, reasoning = spoken or fields.spoken(row)
    tokens = _tokens(row, steps, has_reasoning=reasoning is not None)
    times = _times(row)
    return RolloutFacts(
        is_empty=not (completion or "").strip(),
        example_id=_scalar(row.get("example_id")),
        model=_text(row.get("model")) or _model(steps),
        environment=_text(row.get("env_id")),
        finish_reason=finish_reason,
        stop_condition=_text(row.get("stop_condition")),
        is_truncated=_is_truncated(row, finish_reason),
        error=error,
        error_text=error_text,
        prompt_tokens=tokens["prompt_tokens"],
        cached_tokens=tokens["cached_tokens"],
        completion_tokens=tokens["completion_tokens"],
        reasoning_tokens=tokens["reasoning_tokens"],
        generation_ms=times[0],
        scoring_ms=times[1],
        total_ms=times[2],
        rewards=_json(row.get("rewards")),
        metrics=_metrics(row),
        has_labels=any(name in source for name in fields.LABELS),
        other_reasoning=None if reasoning == fields.plain_reasoning(plain) else reasoning,
        other_completion=None if completion == fields.plain_completion(plain) else completion or "",
        earlier_errors=_json(row.get("earlier_errors")),
        unscored=_json(row.get("unscored")),
        completion_path=None if at is None else sql_path(at),
    )


def _steps(row: Row) -> Iterator[Row]:
    """The responses of a `trajectory`: the server's own in verifiers 0.1.10, another shape from 0.1.14."""
    trajectory = row.get("trajectory")
    for step in trajectory if isinstance(trajectory, list) else ():
        response = step.get("response") if isinstance(step, Mapping) else None
        if isinstance(response, Mapping):
            yield response


def _finish_reason(steps: Sequence[Row]) -> str | None:
    if not steps:
        return None
    return _text(fields.response_message(steps[-1]).get("finish_reason")) or _text(
        fields.response_choice(steps[-1]).get("finish_reason")
    )


def _model(steps: Sequence[Row]) -> str | None:
    return next((model for step in steps if (model := _text(step.get("model")))), None)


def _is_truncated(row: Row, finish_reason: str | None) -> bool | None:
    flag = row.get("is_truncated")
    if isinstance(flag, bool):
        return flag or ending_of(finish_reason) == "cut"
    return None if finish_reason is None else ending_of(finish_reason) == "cut"


def _error(value: Any) -> tuple[str | None, str | None]:
    """Kind and text of an error: an object, an exception as Python shows it, or plain text."""
    if isinstance(value, Mapping):
        kind = next((text for key in ("error", "type", "code") if (text := _text(value.get(key)))), None)
        texts = (_text(value.get(key)) for key in ("error_chain_repr", "message"))
        return kind or _json(value), next((text for text in texts if text), None)
    text = _text(value)
    if text is None:
        return _json(value), None
    shown = _KIND.fullmatch(text)
    return (shown[1], text) if shown else (text, None)


_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")

_NO_TOKENS: dict[str, int | None] = dict.fromkeys(_TOKENS)


def _tokens(row: Row, steps: Sequence[Row], *, has_reasoning: bool) -> dict[str, int | None]:
    """Totals of the row if it has them, else sums over the steps.

    verifiers 0.1.14 writes 0 reasoning tokens whatever the server said: with reasoning that is no count.
    """
    totals = [read_usage(row[key]) for key in ("usage", "token_usage") if isinstance(row.get(key), Mapping)]
    if not totals and not steps:
        return _NO_TOKENS
    each_step = [read_usage(step.get("usage")) for step in steps]
    found: dict[str, int | None] = {}
    for name in _TOKENS:
        counts = (getattr(usage, name) for usage in totals)
        found[name] = next((count for count in counts if count is not None), None)
        if found[name] is None and steps:
            found[name] = _sum([getattr(usage, name) for usage in each_step])
    if found["reasoning_tokens"] == 0 and has_reasoning:
        found["reasoning_tokens"] = None
    return found


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


_Times = tuple[float | None, float | None, float | None]


def _times(row: Row) -> _Times:
    """The times in ms; rows have ms at the top (prime-rl, verifiers to 0.1.9), in `timing` (0.1.10), or s."""
    timing = row.get("timing")
    in_ms = _number(row.get("generation_ms")), _number(row.get("scoring_ms")), _number(row.get("total_ms"))
    if not isinstance(timing, Mapping):
        return in_ms
    if "total_ms" in timing or "generation_ms" in timing:
        values = (timing.get(name) for name in ("generation_ms", "scoring_ms", "total_ms"))
        generation_ms, scoring_ms, total_ms = (_number(value) for value in values)
        return generation_ms, scoring_ms, total_ms
    in_s = _duration_s(timing.get("generation")), _duration_s(timing.get("scoring")), timing.get("total")
    generation_s, scoring_s, total_s = (_number(value) for value in in_s)
    return _ms(generation_s), _ms(scoring_s), _ms(total_s)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _duration_s(span: Any) -> Any:
    return span.get("duration") if isinstance(span, Mapping) else None


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _metrics(row: Row) -> str | None:
    """The object `metrics`, or the numbers at the top of a row that verifiers or prime-rl wrote."""
    metrics = row.get("metrics")
    if isinstance(metrics, Mapping):
        return _json(metrics)
    if row.get("example_id") is None:
        return None
    found = {key: row[key] for key in row if key not in _NO_METRICS and type(row[key]) in (int, float)}
    return _json(found)


def _scalar(value: Any) -> int | float | str | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER else str(value)
    if value is None or isinstance(value, float | str):
        return value
    return _json(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(value: Any) -> str | None:
    """A value as JSON; None for null and for what is empty."""
    return _encode(value) if value else None
