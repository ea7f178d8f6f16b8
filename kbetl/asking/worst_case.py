"""The most that a request can take: an upper bound of its tokens, and of their cost."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from kbetl.errors import ConfigError
from kbetl.prices import Price
from kbetl.records import Request
from kbetl.store.spending import Worst

ALLOWANCE_TOKENS = 1000
"""For what a chat template adds to a prompt: its markers, a system prompt of its own, the date."""
ALLOWANCE_TOKENS_PER_MESSAGE = 20

_LIMITS = ("max_completion_tokens", "max_tokens")
_CHOICES = ("n", "best_of")
_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def output_limit(parameters: Mapping[str, Any]) -> int | None:
    """Completion tokens that a request may bring at most, of all its choices; None where it sets no limit."""
    limits = _counts(parameters, _LIMITS)
    choices = _counts(parameters, _CHOICES)
    return max(limits) * max(choices, default=1) if limits else None


def prompt_bound(request: Request) -> int:
    """Prompt tokens that a request can have at most.

    A token stands for at least one byte of the text that the tokenizer reads, so the bytes of the whole
    body bound them, schemas and tools among it; where the text is not ASCII, those of its longest
    normalised form. Raises ConfigError for parts that are no text: an image's tokens are not in its bytes.
    """
    if any(_has_other_parts(message.get("content")) for message in request.messages):
        raise ConfigError("a message holds parts that are no text: their tokens are not known beforehand")
    return text_bound(request.text) + ALLOWANCE_TOKENS + ALLOWANCE_TOKENS_PER_MESSAGE * len(request.messages)


def text_bound(text: str) -> int:
    """Tokens that a text can have at most, whatever the tokenizer and its normalisation."""
    if text.isascii():
        return len(text)
    longest = max(len(unicodedata.normalize(form, text).encode()) for form in _FORMS)
    return max(longest, len(text.encode()))


def worst_case(request: Request, price: Price | None) -> Worst:
    """The most that one try of a request can take.

    Raises ConfigError where that is not known: no output limit, parts that are no text, or a prompt for
    which the price does not hold.
    """
    limit = output_limit(request.parameters)
    if limit is None:
        raise ConfigError(
            f"a budget needs an output limit, and {request.model} is asked without one: "
            "give -t/--max-tokens N, or -o max_completion_tokens N"
        )
    prompt_tokens = prompt_bound(request)
    if price is None:
        return Worst(prompt_tokens + limit, None)
    if not price.covers(prompt_tokens):
        raise ConfigError(
            f"a prompt may have {prompt_tokens:,} tokens, and {price.source} gives another price from "
            f"{price.below_prompt_tokens:,} on: put the higher one into kbetl.toml, "
            f'[prices."{request.model}"]'
        )
    return Worst(prompt_tokens + limit, price.most_pusd(prompt_tokens, limit))


def _counts(parameters: Mapping[str, Any], names: Iterable[str]) -> list[int]:
    values = (parameters.get(name) for name in names)
    return [value for value in values if type(value) is int and value > 0]


def _has_other_parts(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") not in ("text", "input_text") for part in content
    )
