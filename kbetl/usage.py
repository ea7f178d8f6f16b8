"""Reads `usage`: what a server says that an answer took, in every dialect that is known. Pure.

Where two readings are possible, `total_tokens` decides; where it does not, the dearer one counts. What
cannot be a count of tokens or an amount of dollars (negative, NaN, a boolean) was not told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_Place = tuple[str, ...]

_PROMPT: Sequence[_Place] = (("prompt_tokens",), ("input_tokens",), ("inputTokens",), ("promptTokenCount",))
_COMPLETION: Sequence[_Place] = (
    ("completion_tokens",),
    ("output_tokens",),
    ("outputTokens",),
    ("candidatesTokenCount",),
)
_TOTAL: Sequence[_Place] = (("total_tokens",), ("totalTokens",), ("totalTokenCount",))
_REASONING: Sequence[_Place] = (
    ("reasoning_tokens",),
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("thoughtsTokenCount",),
)
_READ_APART: Sequence[_Place] = (("cache_read_input_tokens",), ("cacheReadInputTokens",))
"""Anthropic's and Bedrock's: beside their count of the prompt."""
_WRITTEN_APART: Sequence[_Place] = (("cache_creation_input_tokens",), ("cacheWriteInputTokens",))
_CACHED: Sequence[_Place] = (
    ("cached_tokens",),
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("cachedContentTokenCount",),
    *_READ_APART,
)
_COSTS = ("cost", "total_cost", "cost_usd", "total_cost_usd", "estimated_cost")
_COSTS_OF_BODY = ("cost", "total_cost")
_TICKS_PER_USD = 10**10
"""Of `cost_in_usd_ticks`: https://docs.x.ai/developers/cost-tracking"""

_COUNT = re.compile(r"\s*(\d{1,18})(?:\.0*)?\s*", re.ASCII)
_DOLLARS = re.compile(r"\s*\$?\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+)\s*", re.ASCII)
_MOST_USD = 1e6
"""For one answer; what is above is no amount."""
_MOST_TOKENS = 10**12
"""Of one answer; what is above is no count, and sums of it would not fit into the store's integers."""


class Usage(NamedTuple):
    """What one answer took; None: not told."""

    prompt_tokens: int | None = None
    """Cached ones among them."""
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    """Reasoning among them."""
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    """All that is charged for it: the router's fee and the provider's price."""


def usage_of(body: Mapping[str, Any], *, has_text: bool) -> Usage:
    """What a completion says that it took, wherever it says so; `has_text`: whether anything was written.

    Zeros for what cannot be none were not told: a prompt without a token, a text that took none, and
    a cost beside no tokens at all.
    """
    choices = body.get("choices")
    choices = [each for each in choices if isinstance(each, Mapping)] if isinstance(choices, list) else []
    groq = body.get("x_groq")
    places = [body.get("usage"), groq.get("usage") if isinstance(groq, Mapping) else None]
    places += [each.get("usage") for each in choices]
    told = [read_usage(each) for each in places if isinstance(each, Mapping)]
    found = next((each for each in told if each.completion_tokens or each.prompt_tokens), None)
    costs = [each.cost_usd for each in told]
    costs += [_dollars(each.get(name)) for each in (body, *choices) for name in _COSTS_OF_BODY]
    cost_usd = max((cost for cost in costs if cost is not None), default=None)
    if found is None:
        return Usage(cost_usd=cost_usd or None)
    is_untold = has_text and not found.completion_tokens
    return found._replace(
        prompt_tokens=found.prompt_tokens or None,
        completion_tokens=None if is_untold else found.completion_tokens,
        cost_usd=cost_usd,
    )


def read_usage(usage: Any) -> Usage:
    """What one object `usage` says, zeros as they stand; nothing where it is no object."""
    if not isinstance(usage, Mapping):
        return Usage()
    prompt, completion = _most(usage, _PROMPT), _most(usage, _COMPLETION)
    total, reasoning = _most(usage, _TOTAL), _most(usage, _REASONING)
    if total is not None and total < (prompt or 0) + (completion or 0):
        total = None
    if total is not None and not prompt and completion is not None:
        prompt = total - completion if total > completion else prompt
    if total is not None and completion is None and prompt:
        completion = total - prompt
    apart = _apart(usage)
    cached = _cached(usage)
    if prompt is None or completion is None:
        return Usage(prompt, cached, completion, reasoning, _cost(usage))
    if total is None:
        completion += reasoning if reasoning is not None and reasoning > completion else 0
        prompt, cached = _with_cache(usage, prompt, cached, apart)
    elif total > prompt + completion:
        more = _more_prompt(total - prompt - completion, reasoning or 0, apart or cached or 0)
        prompt, completion = prompt + more, total - prompt - more
    if cached is not None and cached > prompt:
        cached = None
    return Usage(prompt, cached, completion, reasoning, _cost(usage))


def joined_usage(kept: Any, value: Any) -> Any:
    """Two objects `usage` of one stream as one: a count that is told twice has only grown meanwhile."""
    if isinstance(kept, dict) and isinstance(value, dict):
        return {**kept, **{key: joined_usage(kept.get(key), each) for key, each in value.items()}}
    if value is None:
        return kept
    both = (type(kept) in (int, float), type(value) in (int, float))
    return max(kept, value) if all(both) else value


def _apart(usage: Mapping[str, Any]) -> int:
    """Tokens read from and written to a cache that stand beside the prompt's, in the dialects that do so."""
    if _count(usage.get("prompt_tokens")):
        return 0
    return (_most(usage, _READ_APART) or 0) + (_most(usage, _WRITTEN_APART) or 0)


def _cached(usage: Mapping[str, Any]) -> int | None:
    """The fewest that any name tells but 0: what is not cached is the dearer."""
    told = [count for place in _CACHED if (count := _count(_at(usage, place))) is not None]
    return min((count for count in told if count), default=0 if told else None)


def _with_cache(
    usage: Mapping[str, Any], prompt: int, cached: int | None, apart: int
) -> tuple[int, int | None]:
    """Prompt and cached tokens where no total decides whether the cached ones are among the prompt's.

    More of them than of the prompt are beside it, and so are those that were written. Fewer, under a name
    that may mean either, are not told apart: they count as the others, at the full price.
    """
    if apart:
        is_beside = apart > prompt or bool(_most(usage, _WRITTEN_APART))
        return (prompt + apart, cached) if is_beside else (prompt, None)
    if cached is not None and cached > prompt:
        return prompt + cached, cached
    return prompt, cached


def _more_prompt(extra: int, reasoning: int, apart: int) -> int:
    """Of tokens that the total has beyond both counts, those of the prompt; all others were written."""
    is_cache = apart > 0 and extra != reasoning and extra in (apart, reasoning + apart)
    return apart if is_cache else 0


def _most(usage: Mapping[str, Any], places: Iterable[_Place]) -> int | None:
    told = (_count(_at(usage, place)) for place in places)
    return max((count for count in told if count is not None), default=None)


def _at(usage: Mapping[str, Any], place: _Place) -> Any:
    value: Any = usage
    for step in place:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _count(value: Any) -> int | None:
    if type(value) is str:
        spelled = _COUNT.fullmatch(value)
        value = int(spelled[1]) if spelled else None
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _cost(usage: Mapping[str, Any]) -> float | None:
    """What is charged in all, in US dollars.

    A router with the user's own key charges its fee, and the provider its price: without the price
    nothing is known.
    """
    told = [cost for name in _COSTS if (cost := _dollars(usage.get(name))) is not None]
    ticks = _count(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        told.append(ticks / _TICKS_PER_USD)
    own = max(told, default=None)
    upstream = _dollars(_at(usage, ("cost_details", "upstream_inference_cost")))
    if usage.get("is_byok") in (True, "true"):
        return (own or 0.0) + upstream if upstream else None
    return max((cost for cost in (own, upstream) if cost is not None), default=None)


def _dollars(value: Any) -> float | None:
    """An amount as a number, a text, or an object with a total or with parts; None for anything else."""
    if isinstance(value, Mapping):
        total = next((cost for key in ("total_cost", "total") if (cost := _dollars(value.get(key)))), None)
        parts = [cost for each in value.values() if type(each) is not dict and (cost := _dollars(each))]
        return total if total is not None else sum(parts) if parts else None
    if type(value) is str:
        spelled = _DOLLARS.fullmatch(value)
        value = float(spelled[1]) if spelled else None
    if type(value) not in (int, float) or not 0 <= value <= _MOST_USD:
        return None
    return float(value) if math.isfinite(value) else None
