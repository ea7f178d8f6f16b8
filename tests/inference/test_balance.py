"""The arithmetic of reservations: never below zero, never above the ceiling, true bounds."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbetl.errors import ConfigError
from kbetl.inference.budget import (
    Balance,
    BilledUsage,
    Limit,
    max_prompt_tokens,
    max_tokens_of_text,
    max_usage,
    output_limit,
)
from kbetl.prices import Price, pusd_of, usd
from kbetl.records import Request
from kbetl.store.reservations import MaxUsage

amounts = st.integers(0, 10**13)
limits = st.none() | amounts
ends = st.sampled_from(["told", "refused", "lost", "no cost", "no tokens"])
tries = st.tuples(amounts, st.integers(0, 10**6), ends, st.floats(0, 1), st.integers(0, 5))


@given(limits, st.none() | st.integers(0, 10**7), st.lists(tries, max_size=60))
def test_spent_and_reserved_never_pass_the_ceiling(pusd, tokens, plan):
    """In any order of sending and settling; and all that was given back can be used again."""
    room = Balance(Limit(pusd, tokens))
    in_flight: list[tuple[MaxUsage, str, float]] = []
    for worst_pusd, worst_tokens, end, share, older in plan:
        worst = MaxUsage(worst_tokens, worst_pusd)
        if room.fits(worst):
            room.reserve(worst)
            in_flight.append((worst, end, share))
        if in_flight and older < 3:
            _end(room, *in_flight.pop(older % len(in_flight)))
        assert min(room.spent_pusd, room.spent_tokens, room.reserved_pusd, room.reserved_tokens) >= 0
        assert pusd is None or room.used_pusd <= pusd
        assert tokens is None or room.used_tokens <= tokens
    for worst, _, _ in in_flight:
        room.unreserve(worst)
    assert min(room.reserved_pusd, room.reserved_tokens) >= 0


def _end(room: Balance, worst: MaxUsage, end: str, share: float) -> None:
    before = (room.used_pusd, room.used_tokens)
    taken = BilledUsage(
        None if end == "no cost" else int((worst.pusd or 0) * share),
        None if end == "no tokens" else int(worst.tokens * share),
    )
    if end == "refused":
        room.unreserve(worst)
    elif end != "lost" and not room.charge(worst, taken):
        assert (room.used_pusd, room.used_tokens) == before
    assert room.used_pusd <= before[0]
    assert room.used_tokens <= before[1]


@given(st.floats(0, 9000))
def test_dollars_survive_the_store(dollars):
    """What is stored as dollars is the same whole number of picodollars again."""
    pusd = pusd_of(dollars)
    assert pusd_of(usd(pusd)) == pusd


@given(st.text())
def test_no_normal_form_of_a_text_has_more_bytes_than_its_bound(text):
    """A tokenizer that works on bytes makes at most one token of each, whatever it normalises first."""
    text = text.encode("utf-8", "replace").decode()
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert len(unicodedata.normalize(form, text).encode()) <= max_tokens_of_text(text)
    assert len(text.encode()) <= max_tokens_of_text(text)


def test_a_sign_that_normalisation_blows_up_is_bounded():
    assert max_tokens_of_text("\ufdfa" * 10) == 330


def request(content: Any = "hello", **parameters: Any) -> Request:
    return Request("m", [{"role": "user", "content": content}], parameters)


def test_the_bound_counts_what_stands_beside_the_messages():
    """Schemas and tools are part of the prompt too."""
    schema = {"type": "json_schema", "json_schema": {"schema": {"description": "x" * 5000}}}
    assert max_prompt_tokens(request(response_format=schema)) > max_prompt_tokens(request()) + 5000


def test_parts_that_are_no_text_have_no_bound():
    max_prompt_tokens(request([{"type": "text", "text": "hello"}]))
    with pytest.raises(ConfigError, match="no text"):
        max_prompt_tokens(request([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]))


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"max_tokens": 5, "n": 2, "best_of": 4}, 20),
        ({"max_tokens": True}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": "5"}, None),
        ({}, None),
    ],
)
def test_an_output_limit_is_a_number_of_tokens_for_all_choices(parameters, limit):
    assert output_limit(parameters) == limit


def test_the_worst_case_is_the_dearest_that_the_tokens_can_be():
    """Cached or not, whichever costs more; and no price holds beyond its tier."""
    price = Price(1.0, 3.0, 2.0, "x", below_prompt_tokens=5000)
    asked = request(max_tokens=10)
    tokens = max_prompt_tokens(asked)
    assert max_usage(asked, price) == MaxUsage(tokens + 10, tokens * 3 * 10**6 + 10 * 2 * 10**6)
    assert max_usage(asked, None) == MaxUsage(tokens + 10, None)
    with pytest.raises(ConfigError, match="another price from 5,000 on"):
        max_usage(request("y" * 5000, max_tokens=10), price)
