"""A streamed answer is the answer that would have come in one piece, with all its fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbetl.client.responses import HttpResponse, read_completion
from kbetl.client.sse import StreamAccumulator
from kbetl.records import Completion


def folded(
    *choices: dict[str, Any], tail: str = "data: [DONE]\n\n", size: int = 7, **top: Any
) -> StreamAccumulator:
    """The events of a stream, one for each piece of its first choice, fed in chunks of `size` bytes."""
    events = (
        "".join(f"data: {json.dumps({'id': 'c1', 'choices': [each], **top})}\n\n" for each in choices) + tail
    )
    folding = StreamAccumulator()
    data = events.encode()
    for start in range(0, len(data), size):
        folding.feed(data[start : start + size])
    folding.end()
    return folding


def message_of(*deltas: dict[str, Any]) -> dict[str, Any]:
    choices = [{"index": 0, "delta": each} for each in deltas]
    body = json.loads(folded(*choices, {"index": 0, "delta": {}, "finish_reason": "stop"}).body())
    message: dict[str, Any] = body["choices"][0]["message"]
    return message


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("deltas", "message"),
    [
        ([{"content": "Lo"}, {"content": "w."}], {"content": "Low."}),
        (
            [{"role": "assistant"}, {"role": "assistant", "content": "ha"}, {"content": "ha"}],
            {"content": "haha"},
        ),
        (
            [{"content": ""}, {"content": [text("Lo")]}, {"content": [text("w.")]}],
            {"content": [text("Low.")]},
        ),
        ([{"content": "Lo"}, {"content": [text("w")]}, {"content": "."}], {"content": [text("Low.")]}),
        (
            [
                {"content": [{"type": "thinking", "thinking": [text("Is")]}]},
                {"content": [{"type": "thinking", "thinking": [text(" it?")]}]},
                {"content": [text("Low.")]},
            ],
            {"content": [{"type": "thinking", "thinking": [text("Is it?")]}, text("Low.")]},
        ),
        (
            [
                {"reasoning_details": [{"type": "reasoning.text", "text": "Is", "index": 0, "format": "f"}]},
                {
                    "reasoning_details": [
                        {"type": "reasoning.text", "text": " it?", "index": 0, "format": "f"}
                    ]
                },
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AA", "index": 1}]},
            ],
            {
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "Is it?", "index": 0, "format": "f"},
                    {"type": "reasoning.encrypted", "data": "AA", "index": 1},
                ]
            },
        ),
        (
            [
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "a",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{"},
                        }
                    ]
                },
                {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
                {
                    "tool_calls": [
                        {
                            "index": 1,
                            "id": "b",
                            "type": "function",
                            "function": {"name": "g", "arguments": "1"},
                        }
                    ]
                },
                {"tool_calls": [{"index": 1, "function": {"arguments": "1"}}]},
            ],
            {
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "11"}},
                ]
            },
        ),
        (
            [
                {
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    ]
                },
                {
                    "tool_calls": [
                        {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    ]
                },
            ],
            {
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ]
            },
        ),
        (
            [{"annotations": [{"url": "a"}]}, {"annotations": [{"url": "b"}]}, {"content": "x"}],
            {"annotations": [{"url": "a"}, {"url": "b"}]},
        ),
        (
            [
                {"audio": {"id": "s", "transcript": "Lo", "data": "AA"}},
                {"audio": {"transcript": "w", "data": "BB"}},
            ],
            {"audio": {"id": "s", "transcript": "Low", "data": "AABB"}},
        ),
        (
            [{"x_vendor": "v", "x_thought": "Is"}, {"x_vendor": "v", "x_thought": " it?"}],
            {"x_vendor": "v", "x_thought": "Is it?"},
        ),
    ],
)
def test_every_field_of_the_events_is_in_the_message(deltas, message):
    found = message_of(*deltas)
    assert {name: found[name] for name in message} == message


def test_fields_of_choices_and_of_the_top_are_kept():
    """Lists that go on, such as logprobs, go on; of what is told whole with each event the last counts."""
    logprobs = [{"token": "a", "logprob": -1.5, "bytes": [97], "top_logprobs": []}]
    choices = [
        {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": logprobs}, "token_ids": [n]}
        for n in (1, 2)
    ]
    body = json.loads(
        folded(
            *choices, {"index": 0, "finish_reason": "stop", "stop_reason": 7}, citations=["u"], provider="p"
        ).body()
    )
    [choice] = body["choices"]
    assert choice["logprobs"] == {"content": logprobs * 2}
    assert (choice["token_ids"], choice["stop_reason"], choice["finish_reason"]) == ([1, 2], 7, "stop")
    assert (body["citations"], body["provider"], body["streamed_events"]) == (["u"], "p", 3)


@pytest.mark.parametrize(
    ("reasons", "tail", "is_complete", "said"),
    [
        (("", ""), "", False, ""),
        (("", ""), "data: [DONE]\n\n", True, ""),
        ((None, None), "", False, None),
        ((None, "stop"), "", True, "stop"),
        (("stop", ""), "", True, "stop"),
        (("null", "null"), "", False, "null"),
        (("", "MAX_TOKENS"), "", True, "MAX_TOKENS"),
    ],
)
def test_a_stream_has_ended_where_its_end_was_told(reasons, tail, is_complete, said):
    choices = [{"index": 0, "delta": {"content": "a"}, "finish_reason": reason} for reason in reasons]
    folding = folded(*choices, tail=tail)
    assert folding.is_complete is is_complete
    assert json.loads(folding.body())["choices"][0]["finish_reason"] == said


def test_a_message_in_one_piece_within_events_counts():
    folding = folded(
        {"index": 0, "message": {"role": "assistant", "content": "Low."}, "finish_reason": "stop"}
    )
    assert json.loads(folding.body())["choices"][0]["message"]["content"] == "Low."


PIECES = st.lists(st.text(min_size=1), max_size=8)


@given(PIECES, PIECES, st.sampled_from(["text", "parts"]), st.integers(1, 60))
def test_streamed_or_whole_an_answer_says_the_same(thoughts, texts, shape, size):
    """Content as text or as parts, cut anywhere, in chunks of any size."""
    if shape == "text":
        deltas: list[dict[str, Any]] = [{"reasoning": each} for each in thoughts] + [
            {"content": each} for each in texts
        ]
    else:
        deltas = [{"content": [{"type": "thinking", "thinking": [text(each)]}]} for each in thoughts]
        deltas += [{"content": [text(each)]} for each in texts]
    choices = [{"index": 0, "delta": each} for each in deltas]
    body = folded(
        *choices, {"index": 0, "delta": {"role": "assistant"}, "finish_reason": "length"}, size=size
    ).body()
    found = read_completion(HttpResponse(200, {}, body, 1.0), "host")
    assert isinstance(found, Completion)
    said = [each.encode("utf-8", "replace").decode() for each in (*texts, *thoughts)]
    assert (found.content or "") == "".join(said[: len(texts)])
    assert (found.reasoning or "") == "".join(said[len(texts) :])


def test_an_event_in_many_chunks_is_put_together_once():
    """64 MB in one event, by chunks of 64 KB: joining them anew each time would copy 32 GB."""
    content = "x" * (64 * 2**20)
    data = f'data: {{"choices":[{{"delta":{{"content":"{content}"}},"finish_reason":"stop"}}]}}\n\n'.encode()
    folding = StreamAccumulator()
    for start in range(0, len(data), 2**16):
        folding.feed(data[start : start + 2**16])
    folding.end()
    assert folding.is_complete
    assert len(folding.body()) > len(content)
