"""Streamed answers for the local model server: a completion as the events that a real server sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from fake_faults import Asked, Reply, json_reply

BODIES = Path(__file__).parents[1] / "data" / "vllm_bodies"
"""What vLLM 0.32.0 sent, as it came."""


def recorded(name: str) -> Reply:
    """A recorded body; a stream where the file is no JSON."""
    kind = "application/json" if name.endswith(".json") else "text/event-stream; charset=utf-8"
    return Reply((BODIES / name).read_bytes(), content_type=kind)


def events(good: dict[str, Any], piece: int = 5) -> list[dict[str, Any]]:
    """The chunks of a completion: role, reasoning, content in pieces, the finish reason, the usage."""
    choice = good["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "reasoning", "content"):
        text = message.get(name) or ""
        deltas += [{name: text[start : start + piece]} for start in range(0, len(text), piece)]
    base = {"id": good["id"], "object": "chat.completion.chunk", "model": good["model"]}
    chunks = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    return [*chunks, {**base, "choices": [], "usage": good["usage"]}]


def stream(good: dict[str, Any], **reply: Any) -> Reply:
    """A completion as a stream of events, with a comment between two of them as proxies send it."""
    lines = [b"data: " + orjson.dumps(event) + b"\n\n" for event in events(good)]
    lines.insert(2, b": still at work\n\n")
    body = b"".join([*lines, b"data: [DONE]\n\n"])
    return Reply(body, content_type="text/event-stream", **reply)


def streamed(asked: Asked, good: dict[str, Any]) -> Reply:
    """A good answer in the form that was asked for."""
    if not asked.body.get("stream"):
        return json_reply(good)
    told = good if asked.body.get("stream_options") else {**good, "usage": None}
    return stream(told)


def cut_stream(asked: Asked, good: dict[str, Any]) -> Reply:
    """A stream whose connection is closed in the middle of the answer."""
    whole = stream(good)
    return stream(good, cut_after=len(whole.body) // 2)


def unended_stream(asked: Asked, good: dict[str, Any]) -> Reply:
    """A stream that stops in the middle of the answer as if that were its end."""
    parts = stream(good).body.split(b"\n\n")
    return Reply(b"\n\n".join(parts[: len(parts) // 2]) + b"\n\n", content_type="text/event-stream")


def failed_stream(asked: Asked, good: dict[str, Any]) -> Reply:
    """A stream that turns into an error, as vLLM sends one when its engine dies."""
    parts = stream(good).body.split(b"\n\n")[:4]
    error = {"error": {"message": "engine died", "type": "InternalServerError", "param": None, "code": 500}}
    body = b"\n\n".join([*parts, b"data: " + orjson.dumps(error), b"data: [DONE]", b""])
    return Reply(body, content_type="text/event-stream")
