"""What a server says that an answer took: every dialect, by every way an answer comes in."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from fake_stream import stream
from hypothesis import example, given
from hypothesis import strategies as st

from kbetl.batch.result_lines import read_result
from kbetl.client.responses import HttpResponse, read_completion
from kbetl.client.sse import StreamAccumulator
from kbetl.inference.budget import billed_usage
from kbetl.prices import Price, pusd_of
from kbetl.records import Completion
from kbetl.rollouts.batch_output import rollouts_of_batch
from kbetl.samples.rollout_facts import rollout_facts
from kbetl.usage import joined_usage, usage_of


class Dialect(NamedTuple):
    """What a server says, and what that means."""

    name: str
    usage: dict[str, Any]
    prompt: int | None
    cached: int | None
    completion: int | None
    reasoning: int | None
    cost_usd: float | None


OPENAI = {"prompt_tokens": 1000, "completion_tokens": 100}
NATIVE = {"inputTokens": 100, "outputTokens": 20}

DIALECTS = (
    Dialect("OpenAI", {**OPENAI, "total_tokens": 1100}, 1000, None, 100, None, None),
    Dialect(
        "OpenAI, details",
        {
            **OPENAI,
            "prompt_tokens_details": {"cached_tokens": 900},
            "completion_tokens_details": {"reasoning_tokens": 80},
        },
        *(1000, 900, 100, 80, None),
    ),
    Dialect(
        "OpenAI, names of its responses",
        {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 900},
            "output_tokens": 100,
            "output_tokens_details": {"reasoning_tokens": 80},
            "total_tokens": 1100,
        },
        *(1000, 900, 100, 80, None),
    ),
    Dialect("OpenRouter", {**OPENAI, "cost": 0.002}, 1000, None, 100, None, 0.002),
    Dialect(
        "OpenRouter, told twice",
        {**OPENAI, "cost": 0.002, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.002}},
        *(1000, None, 100, None, 0.002),
    ),
    Dialect(
        "OpenRouter, own key",
        {**OPENAI, "cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.03}},
        *(1000, None, 100, None, 0.03),
    ),
    Dialect(
        "OpenRouter, own key and a fee",
        {**OPENAI, "cost": 0.0015, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.03}},
        *(1000, None, 100, None, 0.0315),
    ),
    Dialect(
        "OpenRouter, own key, silent about the rest",
        {**OPENAI, "cost": 0.0015, "is_byok": True, "cost_details": {"upstream_inference_cost": None}},
        *(1000, None, 100, None, None),
    ),
    Dialect(
        "a router that forgets is_byok",
        {**OPENAI, "cost": 0, "cost_details": {"upstream_inference_cost": "0.03"}},
        *(1000, None, 100, None, 0.03),
    ),
    Dialect(
        "xAI, reasoning beside",
        {**OPENAI, "total_tokens": 3900, "completion_tokens_details": {"reasoning_tokens": 2800}},
        *(1000, None, 2900, 2800, None),
    ),
    Dialect(
        "xAI without a total",
        {**OPENAI, "completion_tokens_details": {"reasoning_tokens": 2800}},
        *(1000, None, 2900, 2800, None),
    ),
    Dialect("xAI, ticks", {**OPENAI, "cost_in_usd_ticks": 37_756_000}, 1000, None, 100, None, 0.0037756),
    Dialect(
        "Gemini, thoughts in the total alone", {**OPENAI, "total_tokens": 1700}, 1000, None, 700, None, None
    ),
    Dialect(
        "Gemini, its own names",
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 100,
            "thoughtsTokenCount": 600,
            "cachedContentTokenCount": 500,
            "totalTokenCount": 1700,
        },
        *(1000, 500, 700, 600, None),
    ),
    Dialect(
        "DeepSeek",
        {**OPENAI, "total_tokens": 1100, "prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 100},
        *(1000, 900, 100, None, None),
    ),
    Dialect("Moonshot", {**OPENAI, "cached_tokens": 900}, 1000, 900, 100, None, None),
    Dialect(
        "a gateway with zeros under the names it does not use",
        {
            **OPENAI,
            "input_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
            "prompt_cache_hit_tokens": 900,
        },
        *(1000, 900, 100, None, None),
    ),
    Dialect(
        "Perplexity",
        {
            **OPENAI,
            "cost": {
                "input_tokens_cost": 0.0,
                "output_tokens_cost": 0.002,
                "request_cost": 0.006,
                "total_cost": 0.008,
            },
        },
        *(1000, None, 100, None, 0.008),
    ),
    Dialect(
        "parts of a cost", {**OPENAI, "cost": {"input": 0.002, "output": 0.006}}, 1000, None, 100, None, 0.008
    ),
    Dialect("a cost in other words", {**OPENAI, "total_cost": 0.008}, 1000, None, 100, None, 0.008),
    Dialect("DeepInfra", {**OPENAI, "estimated_cost": 0.008}, 1000, None, 100, None, 0.008),
    Dialect("Anthropic", {"input_tokens": 100, "output_tokens": 20}, 100, None, 20, None, None),
    Dialect(
        "Anthropic, a cache beside or inside: the full price",
        {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 40},
        *(100, None, 20, None, None),
    ),
    Dialect(
        "Anthropic, a cache that is larger than the prompt",
        {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 4000},
        *(4100, 4000, 20, None, None),
    ),
    Dialect(
        "Anthropic, a cache that is written",
        {
            "input_tokens": 100,
            "output_tokens": 20,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 40,
        },
        *(140, 0, 20, None, None),
    ),
    Dialect(
        "Anthropic with a total",
        {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 40, "total_tokens": 160},
        *(140, 40, 20, None, None),
    ),
    Dialect(
        "LiteLLM",
        {**OPENAI, "total_tokens": 1100, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 900},
        *(1000, 900, 100, None, None),
    ),
    Dialect("Bedrock", {**NATIVE, "totalTokens": 120}, 100, None, 20, None, None),
    Dialect("Bedrock, a cache", {**NATIVE, "cacheReadInputTokens": 4000}, 4100, 4000, 20, None, None),
    Dialect(
        "texts",
        {"prompt_tokens": "1000", "completion_tokens": "100", "cost": "0.002"},
        1000,
        None,
        100,
        None,
        0.002,
    ),
    Dialect("texts with a sign", {**OPENAI, "cost": "$0.002"}, 1000, None, 100, None, 0.002),
    Dialect("floats", {"prompt_tokens": 1000.0, "completion_tokens": 1e2}, 1000, None, 100, None, None),
    Dialect(
        "a total in place of the answer",
        {"prompt_tokens": 1000, "total_tokens": 1100},
        1000,
        None,
        100,
        None,
        None,
    ),
    Dialect(
        "a total beside a zero",
        {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1100},
        *(1000, None, 100, None, None),
    ),
    Dialect(
        "a total in place of the prompt",
        {"prompt_tokens": 0, "completion_tokens": 100, "total_tokens": 1100},
        *(1000, None, 100, None, None),
    ),
    Dialect("a total that is too small", {**OPENAI, "total_tokens": 5}, 1000, None, 100, None, None),
    Dialect(
        "more cached than there is, and a total that says so",
        {**OPENAI, "total_tokens": 1100, "prompt_tokens_details": {"cached_tokens": 5000}},
        *(1000, None, 100, None, None),
    ),
    Dialect(
        "more cached than there is",
        {**OPENAI, "prompt_tokens_details": {"cached_tokens": 5000}},
        *(6000, 5000, 100, None, None),
    ),
    Dialect(
        "zeros", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0}, *([None] * 5)
    ),
    Dialect("a zero for the answer", {"prompt_tokens": 9, "completion_tokens": 0}, 9, None, None, None, None),
    Dialect("a cost alone", {"cost": 0.002}, None, None, None, None, 0.002),
    Dialect("a cost of nothing, and no token", {"cost": 0, "is_byok": False}, *([None] * 5)),
    Dialect(
        "negative",
        {"prompt_tokens": -500, "completion_tokens": -5, "total_tokens": -505, "cost": -1},
        *([None] * 5),
    ),
    Dialect("booleans", {"prompt_tokens": True, "completion_tokens": True, "cost": True}, *([None] * 5)),
    Dialect("absurd", {"prompt_tokens": 1e30, "completion_tokens": 2**62, "cost": "1e999"}, *([None] * 5)),
    Dialect("words", {"prompt_tokens": "many", "completion_tokens": "1,5", "cost": "much"}, *([None] * 5)),
    Dialect("half a token", {"prompt_tokens": 100.5, "completion_tokens": 5}, None, None, 5, None, None),
)


def body_of(usage: Any, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "<difficulty>low</difficulty>"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
        **more,
    }


def online(body: dict[str, Any]) -> Completion:
    found = read_completion(HttpResponse(200, {}, json.dumps(body).encode(), 1.0), "h")
    assert isinstance(found, Completion)
    return found


def streamed(body: dict[str, Any]) -> Completion:
    folding = StreamAccumulator()
    folding.feed(stream(body).body)
    folding.end()
    found = read_completion(HttpResponse(200, {}, folding.body(), 1.0), "h")
    assert isinstance(found, Completion)
    return found


def from_batch(body: dict[str, Any]) -> Completion:
    from kbetl.batch.files import custom_id

    line = {
        "id": "x",
        "custom_id": custom_id("r1:" + "0" * 64, 0),
        "response": {"status_code": 200, "body": body},
    }
    found = read_result(json.dumps(line).encode(), "h").found
    assert isinstance(found, Completion)
    return found


WAYS = {"online": online, "streamed": streamed, "from_batch": from_batch}


def told(found: Completion) -> tuple[Any, ...]:
    return (
        found.prompt_tokens,
        found.cached_tokens,
        found.completion_tokens,
        found.reasoning_tokens,
        None if found.cost_usd is None else round(found.cost_usd, 12),
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_means_the_same_however_the_answer_comes(dialect, way):
    assert told(WAYS[way](body_of(dialect.usage))) == dialect[2:]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_recorded_batch_counts_the_same_tokens(dialect):
    """Facts of a rollout: zeros stand as they were written, all else is as of an answer."""
    line = {"custom_id": "1", "response": {"status_code": 200, "body": body_of(dialect.usage)}}
    [built] = rollouts_of_batch(line, {"messages": [{"role": "user", "content": "q"}]})
    facts = rollout_facts(built.row)
    found = (facts.prompt_tokens or None, facts.completion_tokens or None, facts.reasoning_tokens)
    assert found == (dialect.prompt, dialect.completion, dialect.reasoning)


@pytest.mark.parametrize("way", ["online", "from_batch"])
@pytest.mark.parametrize(
    "more",
    [
        {"x_groq": {"usage": OPENAI}},
        {"choices": [{**body_of(None)["choices"][0], "usage": OPENAI}]},
    ],
)
def test_usage_elsewhere_in_the_body_is_read(way, more):
    assert told(WAYS[way](body_of(None, **more))) == (1000, None, 100, None, None)


@pytest.mark.parametrize(
    "more",
    [
        {"cost": "0.008"},
        {"total_cost": 0.008},
        {"choices": [{**body_of(None)["choices"][0], "cost": 0.008}]},
        {"choices": [{**body_of(None)["choices"][0], "usage": {"cost": {"total_cost": 0.008}}}]},
    ],
)
def test_a_cost_beside_the_usage_is_read_and_the_larger_counts(more):
    assert told(online(body_of(OPENAI, **more))) == (1000, None, 100, None, 0.008)
    assert told(online(body_of({**OPENAI, "cost": 0.009}, **more))) == (1000, None, 100, None, 0.009)
    assert told(online(body_of({**OPENAI, "cost": 0}, **more))) == (1000, None, 100, None, 0.008)


def test_usage_that_a_stream_tells_bit_by_bit_is_put_together():
    """The prompt at first and the answer at last, or a count that grows; a zero at the end takes nothing."""
    told_so_far: Any = None
    for each in (
        {"input_tokens": 100, "output_tokens": 1, "details": {"cached_tokens": 7}},
        None,
        {"output_tokens": 20},
        {"input_tokens": 0, "output_tokens": 0, "details": None},
    ):
        told_so_far = joined_usage(told_so_far, each)
    assert told_so_far == {"input_tokens": 100, "output_tokens": 20, "details": {"cached_tokens": 7}}


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 5000),
    st.floats(),
    st.sampled_from(["", "12", "1e3", "NaN", "-1", "$0.5", "٣"]),
    st.just([]),
)
names = st.sampled_from(sorted({key for dialect in DIALECTS for key in dialect.usage}))
usages = st.dictionaries(names, st.one_of(values, st.dictionaries(names, values, max_size=3)), max_size=8)
PRICE = Price(1.0, 0.1, 10.0, "x")


@given(usages)
@example({"cacheReadInputTokens": 2, "inputTokens": 1})
@example({"cached_tokens": 3, "prompt_tokens": 1, "total_tokens": 2})
def test_whatever_is_told_is_a_count_or_nothing(usage):
    """No text from outside breaks the reader, and what it gives fits into the store."""
    found = usage_of({"usage": usage}, has_text=True)
    for count in found[:4]:
        assert count is None or (type(count) is int and 0 <= count < 2**53)
    assert found.cost_usd is None or (type(found.cost_usd) is float and 0 <= found.cost_usd <= 4e6)
    assert (
        found.cached_tokens is None
        or found.prompt_tokens is None
        or found.cached_tokens <= found.prompt_tokens
    )


@given(usages)
def test_a_budget_takes_the_larger_of_what_is_told_and_what_tokens_cost(usage):
    found = usage_of({"usage": usage}, has_text=True)
    completion = Completion("", "h", 1.0, **found._asdict())
    taken = billed_usage(completion, PRICE).pusd
    cheapest = 10**5 * (found.prompt_tokens or 0) + 10**7 * (found.completion_tokens or 0)
    is_counted = found.prompt_tokens is not None and found.completion_tokens is not None
    if found.cost_usd is None and not is_counted:
        assert taken is None
    else:
        assert taken is not None
        assert taken >= (cheapest if is_counted else 0)
        assert taken >= (0 if found.cost_usd is None else pusd_of(found.cost_usd))
