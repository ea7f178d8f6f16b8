"""Streamed answers: the same rollouts as in one piece, and what becomes of streams that break."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest
from enrich_case import Case
from fake_faults import refuse_parameter
from fake_llm import Asked, Order
from fake_stream import cut_stream, events, failed_stream, recorded, stream, streamed, unended_stream
from synth_case import check_whole, kernel, modules, run

from kbetl.client.responses import HttpResponse, read_completion
from kbetl.client.sse import StreamAccumulator
from kbetl.records import Completion

pytest_plugins = ["enrich_fixtures"]


def folded(body: bytes, size: int) -> Completion:
    """What is read from a stream that comes in pieces of so many bytes."""
    folding = StreamAccumulator()
    for start in range(0, len(body), size):
        folding.feed(body[start : start + size])
    folding.end()
    assert folding.fault is None
    assert folding.is_complete
    found = read_completion(HttpResponse(200, {}, folding.body(), 1.0), "host")
    assert isinstance(found, Completion)
    return found


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_recorded_stream_says_what_vllm_said(size):
    """Reasoning in pieces, a content that never began, usage in the last event."""
    found = folded(recorded("stream_thinking.txt").body, size)
    assert found.content is None
    assert found.reasoning == "\f\ufffd\ufffd\ufffdn"
    assert (found.finish_reason, found.prompt_tokens, found.completion_tokens) == ("length", 22, 5)
    assert found.reasoning_tokens == 5
    body = json.loads(found.response)
    assert body["id"] == "chatcmpl-856045c6aeb5b2de"
    assert body["system_fingerprint"] == "vllm-0.32.0-85016df7"
    assert (body["object"], body["streamed_events"]) == ("chat.completion", 4)


def test_a_stream_of_a_real_model_equals_its_answer_in_one_piece():
    """The same greedy question to SmolLM2 on vLLM, asked both ways."""
    at_once = read_completion(HttpResponse(200, {}, recorded("smollm2.json").body, 1.0), "host")
    assert isinstance(at_once, Completion)
    found = folded(recorded("smollm2_stream.txt").body, 100)
    assert at_once.content
    for name in ("content", "reasoning", "finish_reason", "prompt_tokens", "completion_tokens"):
        assert getattr(found, name) == getattr(at_once, name), name


def test_what_else_a_stream_holds_is_put_together():
    """Tool calls bit by bit, logprobs and token ids as lists, halves of a surrogate pair."""
    deltas = [
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    ]
    choices = [{"index": 0, "delta": delta, "token_ids": [number]} for number, delta in enumerate(deltas)]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls", "logprobs": {"content": [1]}})
    lines = [b"data: " + orjson.dumps({"choices": [choice]}) + b"\r\n\r\n" for choice in choices]
    halves = [
        b'data:{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n',
        b'data:{"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}\n\n',
    ]
    body = json.loads(folded(b"".join([*halves, *lines]), 3).response)
    choice = body["choices"][0]
    assert choice["message"]["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert choice["token_ids"] == [0, 1, 2]
    assert choice["logprobs"] == {"content": [1]}
    assert choice["message"]["content"] == "\U0001f600"


def answers_of(case: Case) -> list[tuple[object, ...]]:
    return case.rows(
        "select content, reasoning, finish_reason, prompt_tokens > 0, completion_tokens, sent from answers"
        " order by request_hash"
    )


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_streamed_rollout_is_the_same_sample_as_one_in_one_piece(case, field):
    """So a store does not tell how an answer travelled; the request's identity is the same too."""

    def thinking(asked: Asked) -> Order:
        def fault(asked: Asked, good: dict[str, object]) -> object:
            good["choices"][0]["message"][field] = "I think \u00e9 \U0001f600"  # type: ignore[index]
            good["usage"]["prompt_tokens"] = 11  # type: ignore[index]
            return streamed(asked, good)  # type: ignore[arg-type]

        return fault  # type: ignore[return-value]

    case.llm.content = lambda asked: kernel("the same")
    case.llm.faults = thinking
    case.ingest(modules(2))
    assert run(case, "--stream").requests == 2
    assert all(asked.body["stream_options"] == {"include_usage": True} for asked in case.llm.requests)
    first = answers_of(case), case.rows("select hash from samples where kind = 'rollout' order by 1")
    assert [row[1] for row in first[0]] == ["I think \u00e9 \U0001f600"] * 2
    assert [row[3:] for row in first[0]] == [(1, first[0][0][4], None)] * 2
    assert case.rows("select distinct reasoning from rollouts") == [("I think \u00e9 \U0001f600",)]
    assert run(case).requests == 0
    (case.folder / "kbetl.db").rename(case.folder / "streamed.db")
    case.ingest(modules(2))
    assert run(case).requests == 2
    assert "stream" not in case.llm.requests[-1].body
    assert (
        answers_of(case),
        case.rows("select hash from samples where kind = 'rollout' order by 1"),
    ) == first
    check_whole(case)


@pytest.mark.parametrize("broken", [cut_stream, unended_stream, failed_stream])
def test_a_stream_that_breaks_is_kept_and_asked_again(case, broken):
    """What came of it was paid for: it stays, with the reason, and is no rollout."""
    case.llm.content = lambda asked: kernel(str(asked.index))
    orders: list[Order] = [broken]
    case.llm.faults = lambda asked: orders.pop() if orders else streamed
    case.ingest(modules(1))
    result = run(case, "--stream")
    assert (result.status, result.requests) == (0, 2)
    spoilt = case.rows("select fault, response from answers where try = 0")[0]
    assert spoilt[0]
    begun = json.loads(spoilt[1])["choices"][0]["message"]["content"]
    assert begun
    assert kernel("0").startswith(begun)
    assert case.rows("select try from generations") == [(1,)]
    check_whole(case)


@pytest.mark.parametrize(
    "event",
    [
        {"tool_calls": [{"index": [], "function": {"arguments": 1}}, {"function": {"arguments": "x"}}]},
        {"tool_calls": [{"index": 0, "function": []}, {"index": 0, "function": {"arguments": "x"}}]},
        {"logprobs": json.loads('{"a":' * 600 + "1" + "}" * 600)},
    ],
    ids=["index", "function", "depth"],
)
def test_an_event_of_a_strange_shape_stops_nothing(case, event):
    """It is part of the answer, or the reason why there is none."""

    odd = b"data: " + json.dumps({"choices": [{"delta": event}]}).encode()

    def strange(asked: Asked, good):
        lines = stream(good).body.split(b"\n\n")
        body = b"\n\n".join([*lines[:3], odd, odd, *lines[3:]])
        return replace(stream(good), body=body)

    case.llm.content = lambda asked: kernel("x")
    case.llm.faults = lambda asked: strange
    case.ingest(modules(1))
    result = run(case, "--stream")
    is_deep = "logprobs" in event
    assert (result.status, result.requests) == ((3, 3) if is_deep else (0, 1))
    [(fault,)] = case.rows("select distinct fault from answers")
    assert ("nests deeper than 250 levels" in (fault or "")) == is_deep


def test_a_stream_without_a_last_event_is_whole_once_it_has_a_finish_reason(case):
    """The usage is missing then, and nothing else."""
    case.llm.content = lambda asked: kernel("x")
    case.llm.faults = lambda asked: (
        lambda asked, good: stream(
            {**good, "usage": None}, cut_after=len(stream({**good, "usage": None}).body) - 40
        )
    )
    case.ingest(modules(1))
    assert run(case, "--stream").status == 0
    assert case.rows("select finish_reason, prompt_tokens from answers") == [("stop", None)]


def test_a_server_that_knows_no_stream_options_streams_without_usage(case):
    refuse = refuse_parameter("stream_options")

    def refusing(asked: Asked, good: dict[str, object]) -> object:
        return refuse(asked, good) if "stream_options" in asked.body else streamed(asked, good)  # type: ignore[arg-type]

    case.llm.content = lambda asked: kernel(str(asked.index))
    case.llm.faults = lambda asked: refusing  # type: ignore[return-value, assignment]
    case.ingest(modules(2))
    result = run(case, "--stream", "-c", 1)
    assert (result.status, result.requests) == (0, 3)
    assert "the model refused the parameter stream_options; left out" in result.out
    assert case.llm.requests[-1].body["stream"] is True


def test_a_server_that_does_not_stream_answers_all_the_same(case):
    case.llm.content = lambda asked: kernel(str(asked.index))
    case.ingest(modules(2))
    assert run(case, "--stream").status == 0
    check_whole(case)


def test_recorded_answers_of_vllm_become_rollouts(case):
    """Reasoning, usage and finish reasons as vLLM sent them; what has neither text nor thought is one too."""
    names = ["ok.json", "effort.json", "ok_noreason.json"]
    case.llm.faults.extend([recorded(name) for name in names])  # type: ignore[union-attr]
    case.ingest(modules(3))
    result = run(case, "-c", 1)
    assert (result.status, result.requests) == (3, 3)
    rows = case.rows(
        "select row ->> '$.completion[0].content', row ->> '$.completion[0].reasoning', finish_reason,"
        " is_truncated, is_empty, prompt_tokens, completion_tokens, reasoning_tokens"
        " from samples join rollout_facts on sample_hash = hash order by completion_tokens desc"
    )
    assert rows == [
        ("<tool_call>\ufffdw|Modul", "\f\ufffd\ufffd\ufffdn\ufffd", "length", 1, 0, 22, 12, 6),
        (None, None, "length", 1, 1, 22, 6, 6),
        (None, "\f", "length", 1, 1, 22, 4, 4),
    ]
    check_whole(case)


def test_events_of_a_completion_make_it_again():
    """The helper of these tests streams what it is given."""
    message = {"role": "assistant", "content": "abc" * 9, "reasoning": "why"}
    good = {
        "id": "x",
        "model": "m",
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1},
    }
    found = folded(stream(good).body, 11)
    assert (found.content, found.reasoning, found.prompt_tokens) == ("abc" * 9, "why", 1)
    assert len(events(good)) == 10
