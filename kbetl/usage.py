"""Reads `usage`, the token counts and cost of an answer, in all dialects of providers. Pure.

If two readings are possible, `total_tokens` decides; without it the more expensive one counts. A value that
cannot be a token count or an amount in dollars (negative, NaN, a boolean) is ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_Path = tuple[str, ...]

_PROMPT: Sequence[_Path] = (("prompt_tokens",), ("input_tokens",), ("inputTokens",), ("promptTokenCount",))
_COMPLETION: Sequence[_Path] = (
    ("completion_tokens",),
    ("output_tokens",),
    ("outputTokens",),
    ("candidatesTokenCount",),
)
_TOTAL: Sequence[_Path] = (("total_tokens",), ("totalTokens",), ("totalTokenCount",))
_REASONING: Sequence[_Path] = (
    ("reasoning_tokens",),
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("thoughtsTokenCount",),
)
# Anthropic and Bedrock do not count these in the prompt's tokens.
_READ_APART: Sequence[_Path] = (("cache_read_input_tokens",), ("cacheReadInputTokens",))
_WRITTEN_APART: Sequence[_Path] = (("cache_creation_input_tokens",), ("cacheWriteInputTokens",))
_CACHED: Sequence[_Path] = (
    ("cached_tokens",),
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("cachedContentTokenCount",),
    *_READ_APART,
)
_COSTS = ("cost", "total_cost", "cost_usd", "total_cost_usd", "estimated_cost")
_COSTS_OF_BODY = ("cost", "total_cost")
# The unit of `cost_in_usd_ticks`: https://docs.x.ai/developers/cost-tracking
_TICKS_PER_USD = 10**10

_COUNT = re.compile(r"\s*(\d{1,18})(?:\.0*)?\s*", re.ASCII)
_DOLLARS = re.compile(r"\s*\$?\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+)\s*", re.ASCII)
# For one answer; a larger value is no amount.
_MAX_USD = 1e6
# For one answer; a larger value is no count, and sums of it would exceed the integers of the store.
_MAX_TOKENS = 10**12


class Usage(NamedTuple):
    """Token counts and cost of an answer; a field is None if the server does not name it."""

    prompt_tokens: int | None = None
    """Includes the cached ones."""
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    """Includes the reasoning."""
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    """The whole charge: the router's fee and the provider's price."""


def usage_of(body: Mapping[str, Any], *, has_text: bool) -> Usage:
    """Returns the usage in a completion's body, in any of its fields.

    `has_text`: whether the completion has text. A zero that cannot be true is ignored: for the prompt, for
    the completion of a text, and for a cost without any token counts.
    """
    choices = body.get("choices")
    choices = [each for each in choices if isinstance(each, Mapping)] if isinstance(choices, list) else []
    groq = body.get("x_groq")
    objects = [body.get("usage"), groq.get("usage") if isinstance(groq, Mapping) else None]
    objects += [each.get("usage") for each in choices]
    usages = [read_usage(each) for each in objects if isinstance(each, Mapping)]
    found = next((each for each in usages if each.completion_tokens or each.prompt_tokens), None)
    costs = [each.cost_usd for each in usages]
    costs += [_dollars(each.get(name)) for each in (body, *choices) for name in _COSTS_OF_BODY]
    cost_usd = max((cost for cost in costs if cost is not None), default=None)
    if found is None:
        return Usage(cost_usd=cost_usd or None)
    is_missing = has_text and not found.completion_tokens
    return found._replace(
        prompt_tokens=found.prompt_tokens or None,
        completion_tokens=None if is_missing else found.completion_tokens,
        cost_usd=cost_usd,
    )


def read_usage(usage: Any) -> Usage:
    """Returns what one object `usage` says, zeros included; an empty Usage if it is no object."""
    if not isinstance(usage, Mapping):
        return Usage()
    prompt, completion = _max_count(usage, _PROMPT), _max_count(usage, _COMPLETION)
    total, reasoning = _max_count(usage, _TOTAL), _max_count(usage, _REASONING)
    if total is not None and total < (prompt or 0) + (completion or 0):
        total = None
    if total is not None and not prompt and completion is not None:
        prompt = total - completion if total > completion else prompt
    if total is not None and completion is None and prompt:
        completion = total - prompt
    apart = _apart(usage)
    cached = _cached(usage)
    if total is None and prompt is not None:
        prompt, cached = _with_cache(usage, prompt, cached, apart)
    if total is None and completion is not None and reasoning is not None and reasoning > completion:
        completion += reasoning
    if total is not None and prompt is not None and completion is not None and total > prompt + completion:
        more = _more_prompt(total - prompt - completion, reasoning or 0, apart or cached or 0)
        prompt, completion = prompt + more, total - prompt - more
    if cached is not None and prompt is not None and cached > prompt:
        cached = None
    return Usage(prompt, cached, completion, reasoning, _cost(usage))


def joined_usage(earlier: Any, value: Any) -> Any:
    """Merges two objects `usage` of one stream; of two numbers the larger counts, because counts grow."""
    if isinstance(earlier, dict) and isinstance(value, dict):
        return {**earlier, **{key: joined_usage(earlier.get(key), each) for key, each in value.items()}}
    if value is None:
        return earlier
    both = (type(earlier) in (int, float), type(value) in (int, float))
    return max(earlier, value) if all(both) else value


def _apart(usage: Mapping[str, Any]) -> int:
    """Returns the tokens read from and written to a cache that are not counted in the prompt's."""
    if _count(usage.get("prompt_tokens")):
        return 0
    return (_max_count(usage, _READ_APART) or 0) + (_max_count(usage, _WRITTEN_APART) or 0)


def _cached(usage: Mapping[str, Any]) -> int | None:
    """Returns the smallest count of cached tokens above 0, the most expensive reading; None without any."""
    counts = [count for path in _CACHED if (count := _count(_at(usage, path))) is not None]
    return min((count for count in counts if count), default=0 if counts else None)


def _with_cache(
    usage: Mapping[str, Any], prompt: int, cached: int | None, apart: int
) -> tuple[int, int | None]:
    """Returns prompt and cached tokens if no total decides whether the prompt's include the cached ones.

    They do not if more are cached than the prompt has, or if tokens were written to the cache. Otherwise,
    under a name that may mean either, the cached ones count at the full price.
    """
    if apart:
        is_beside = apart > prompt or bool(_max_count(usage, _WRITTEN_APART))
        return (prompt + apart, cached) if is_beside else (prompt, None)
    if cached is not None and cached > prompt:
        return prompt + cached, cached
    return prompt, cached


def _more_prompt(extra: int, reasoning: int, apart: int) -> int:
    """Returns how many of the `extra` tokens of the total are the prompt's; the others are completion."""
    is_cache = apart > 0 and extra != reasoning and extra in (apart, reasoning + apart)
    return apart if is_cache else 0


def _max_count(usage: Mapping[str, Any], paths: Iterable[_Path]) -> int | None:
    counts = (_count(_at(usage, path)) for path in paths)
    return max((count for count in counts if count is not None), default=None)


def _at(usage: Mapping[str, Any], path: _Path) -> Any:
    value: Any = usage
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _count(value: Any) -> int | None:
    if type(value) is str:
        spelled = _COUNT.fullmatch(value)
        value = int(spelled[1]) if spelled else None
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else None


def _cost(usage: Mapping[str, Any]) -> float | None:
    """Returns the whole charge in US dollars; None if it is not known.

    With the user's own key (`is_byok`) a router charges its fee and the provider its price, so that the
    charge is unknown without that price.
    """
    costs = [cost for name in _COSTS if (cost := _dollars(usage.get(name))) is not None]
    ticks = _count(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        costs.append(ticks / _TICKS_PER_USD)
    own = max(costs, default=None)
    upstream = _dollars(_at(usage, ("cost_details", "upstream_inference_cost")))
    if usage.get("is_byok") in (True, "true"):
        return (own or 0.0) + upstream if upstream else None
    return max((cost for cost in (own, upstream) if cost is not None), default=None)


def _dollars(value: Any) -> float | None:
    """Returns an amount given as number, text, or object with a total or parts; None for anything else."""
    if isinstance(value, Mapping):
        total = next((cost for key in ("total_cost", "total") if (cost := _dollars(value.get(key)))), None)
        parts = [cost for each in value.values() if type(each) is not dict and (cost := _dollars(each))]
        return total if total is not None else sum(parts) if parts else None
    if type(value) is str:
        spelled = _DOLLARS.fullmatch(value)
        value = float(spelled[1]) if spelled else None
    if type(value) not in (int, float) or not 0 <= value <= _MAX_USD:
        return None
    return float(value) if math.isfinite(value) else None
