"""Reads bodies: a completion, or the error that a provider sent instead of one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from kbetl.client.waits import told_wait_s
from kbetl.records import Completion

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")
_ENDED_BADLY = frozenset({"error", "abort"})


class Reply(NamedTuple):
    """What a server sent back."""

    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes
    latency_ms: float
    """Request sent to body read."""
    cut: str | None = None
    """Why the body is not whole; None where it is."""
    is_overlong: bool = False
    """Whether it is cut because the whole request took too long."""


class ProviderError(NamedTuple):
    """An error as a provider words it; texts are empty where it says nothing."""

    message: str
    code: str = ""
    """`error.code`, numbers spelled."""
    type: str = ""
    parameter: str = ""
    """The request parameter that it names."""
    flagged: bool = False
    """Whether a moderation of the input refused it."""
    wait_s: float | None = None
    """Seconds that it asks to wait; None if it names none."""


def read_completion(reply: Reply, host: str, sent: str | None = None) -> Completion | ProviderError:
    """The completion of a 2xx reply; with `fault` where it is none; the error where it is one of those."""
    text = reply.body.decode("utf-8", "replace")
    parsed = _NotJson("") if reply.cut is not None else _parse(reply.body, text)
    if not isinstance(parsed, dict):
        fault = _why_unreadable(reply, text, parsed)
        return Completion(text, host, reply.latency_ms, sent=sent, fault=fault)
    choices = parsed.get("choices")
    if not choices and _is_error(parsed):
        return _error_of(parsed)
    fields = _choice(choices)
    if parsed.get("error") and fields.get("fault") is None:
        fields["fault"] = f"it carries an error: {_error_of(parsed).message}"
    return Completion(text, host, reply.latency_ms, sent=sent, **fields, **_usage(parsed.get("usage")))


def _why_unreadable(reply: Reply, text: str, parsed: Any) -> str:
    if reply.cut is not None:
        return reply.cut
    if isinstance(parsed, _NotJson):
        kind = reply.headers.get("content-type", "none")
        return f"the body is not JSON ({parsed.why}; content type {one_line(kind, 60)})"
    return f"the body is JSON but no object: {one_line(text, 60)!r}"


class _NotJson(NamedTuple):
    why: str


def _parse(body: bytes, text: str) -> Any:
    """The JSON value of a body. Lone surrogates and non-UTF-8 bytes become U+FFFD; else _NotJson."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return _without_surrogates(json.loads(text.removeprefix("\ufeff")))
    except json.JSONDecodeError as error:
        return _NotJson(f"{error.msg} at character {error.pos} of {len(text)}")
    except (ValueError, RecursionError) as error:
        return _NotJson(f"{type(error).__name__}: it holds a number too long or nests too deep")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(child) for child in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(child) for key, child in value.items()}
    return value


def _choice(choices: Any) -> dict[str, Any]:
    """Content, reasoning, refusal, finish reason and fault of the first choice."""
    if not isinstance(choices, list) or not choices:
        return {"fault": "it has no choices" if not choices else "its choices are no list"}
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return {"fault": "its first choice has no message"}
    found = _message(message)
    finish_reason = choice.get("finish_reason")
    found["finish_reason"] = finish_reason if isinstance(finish_reason, str) else None
    if choice.get("error"):
        found["fault"] = f"its choice carries an error: {_error_of(choice).message}"
    elif finish_reason in _ENDED_BADLY:
        found["fault"] = f"the server ended it with finish_reason {finish_reason!r}"
    return found


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    found: dict[str, Any] = {
        "reasoning": _text(message.get("reasoning")) or _text(message.get("reasoning_content")),
        "refusal": _text(message.get("refusal")) or None,
    }
    if isinstance(content, list):
        texts = _parts(content)
        found["content"] = texts["text"]
        found["reasoning"] = found["reasoning"] or texts["thinking"]
        found["refusal"] = found["refusal"] or texts["refusal"]
    elif content is None or isinstance(content, str):
        found["content"] = content
    else:
        found["fault"] = f"its content is a {type(content).__name__}, not a text"
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _parts(parts: Iterable[Any]) -> dict[str, str | None]:
    """The joined texts of a list of parts by kind: `text`, `thinking` and `refusal`; None without any."""
    texts: dict[str, list[str]] = {"text": [], "thinking": [], "refusal": []}
    for part in parts:
        if isinstance(part, str):
            texts["text"].append(part)
        elif isinstance(part, dict):
            kind = "text" if part.get("type") == "output_text" else part.get("type", "text")
            value = part.get(kind, part.get("text")) if isinstance(kind, str) else None
            value = _parts(value)["text"] if isinstance(value, list) else value
            if kind in texts and isinstance(value, str):
                texts[kind].append(value)
    return {kind: "".join(found) if found else None for kind, found in texts.items()}


def _usage(usage: Any) -> dict[str, Any]:
    if not isinstance(usage, dict):
        return {}
    return {
        "prompt_tokens": _count(usage.get("prompt_tokens")),
        "cached_tokens": _count(_inner(usage, "prompt_tokens_details", "cached_tokens")),
        "completion_tokens": _count(usage.get("completion_tokens")),
        "reasoning_tokens": _count(_inner(usage, "completion_tokens_details", "reasoning_tokens")),
        "cost_usd": _cost(usage.get("cost")),
    }


def _inner(usage: Mapping[str, Any], outer: str, name: str) -> Any:
    details = usage.get(outer)
    return details.get(name) if isinstance(details, dict) else None


def _count(value: Any) -> int | None:
    """A token count that the store can hold; None for anything else."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def _cost(value: Any) -> float | None:
    if type(value) not in (int, float) or not 0 <= value <= 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def read_error(body: bytes) -> ProviderError:
    """The error in a body of any shape: JSON as providers write it, or the start of a plain text."""
    text = body[:100_000].decode("utf-8", "replace")
    parsed = _parse(body, text) if len(body) <= 100_000 else None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if isinstance(parsed, dict):
        return _error_of(parsed)
    return ProviderError(one_line(re.sub(r"<[^>]*>", " ", text)))


def _is_error(body: Mapping[str, Any]) -> bool:
    """Whether an object without choices tells an error, in any of the shapes that providers give one."""
    base = body.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return True
    says = any(isinstance(body.get(name), str) for name in _MESSAGES)
    return bool(body.get("error") or body.get("errors")) or says


_MESSAGES = ("message", "detail", "msg", "error_msg", "status_msg", "error_message")
_CODES = ("code", "error_code", "status_code")


def _error_of(body: Mapping[str, Any]) -> ProviderError:
    error = body.get("error") or body.get("errors") or body.get("base_resp")
    if isinstance(error, list):
        error = error[0] if error else None
    if isinstance(error, str):
        return ProviderError(one_line(error), *_kinds(body), wait_s=told_wait_s(body, error))
    if not isinstance(error, dict):
        error = body
    message = next((error[name] for name in _MESSAGES if error.get(name)), None)
    if isinstance(message, dict):
        message = message.get("detail") or message.get("message")
    if isinstance(message, list) and message and isinstance(message[0], dict):
        return _of_validation(message[0])
    metadata = error.get("metadata")
    if not isinstance(message, str):
        message = json.dumps(message if message else error, ensure_ascii=False, default=str)
    message += _of_provider(metadata)
    return ProviderError(
        one_line(message),
        *_kinds(error),
        one_line(error["param"], 80) if isinstance(error.get("param"), str) else "",
        isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata),
        told_wait_s(error, message),
    )


def _of_provider(metadata: Any) -> str:
    """What the provider behind a gateway said, where the gateway tells it apart."""
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, str) or not raw.strip():
        return ""
    parsed = _parse(raw.encode("utf-8", "replace"), raw)
    said = _error_of(parsed).message if isinstance(parsed, dict) else raw
    return f": {one_line(said)}"


def _kinds(error: Mapping[str, Any]) -> tuple[str, str]:
    code, kind = (
        one_line(str(value), 80) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        for value in (
            next((error[name] for name in _CODES if name in error), None),
            error.get("type") or error.get("status"),
        )
    )
    return code, kind


def _of_validation(found: Mapping[str, Any]) -> ProviderError:
    """The first complaint of a FastAPI server: `{"type": ..., "loc": ["body", NAME], "msg": ...}`."""
    place = found.get("loc")
    name = place[-1] if isinstance(place, list) and place else ""
    return ProviderError(
        one_line(str(found.get("msg", found))),
        type=one_line(str(found.get("type", "")), 80),
        parameter=name if isinstance(name, str) else "",
    )


def one_line(text: str, longest: int = 300) -> str:
    """A text from outside as one line without control characters, cut with an ellipsis."""
    flat = _CONTROL.sub(" ", _SURROGATES.sub("\ufffd", text[: 20 * longest])).strip()
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"
