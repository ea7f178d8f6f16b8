"""Reads bodies: a completion, or the error that a provider sent instead of one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from kbetl.records import Completion
from kbetl.usage import usage_of

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


def read_completion(reply: Reply, host: str, sent: str | None = None) -> Completion | ProviderError:
    """The completion of a 2xx reply; with `fault` where it is none; the error where it is one of those."""
    text = reply.body.decode("utf-8", "replace")
    parsed = _NotJson("") if reply.cut is not None else _parse(reply.body, text)
    if not isinstance(parsed, dict):
        fault = _why_unreadable(reply, text, parsed)
        return Completion(text, host, reply.latency_ms, sent=sent, fault=fault)
    choices = parsed.get("choices")
    if not choices and parsed.get("error"):
        return _error_of(parsed)
    fields = _choice(choices)
    if parsed.get("error") and fields.get("fault") is None:
        fields["fault"] = f"it carries an error: {_error_of(parsed).message}"
    usage = usage_of(parsed, has_text=bool(fields.get("content") or fields.get("reasoning")))
    return Completion(text, host, reply.latency_ms, sent=sent, **fields, **usage._asdict())


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


def read_error(body: bytes) -> ProviderError:
    """The error in a body of any shape: JSON as providers write it, or the start of a plain text."""
    text = body[:100_000].decode("utf-8", "replace")
    parsed = _parse(body, text) if len(body) <= 100_000 else None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if isinstance(parsed, dict):
        return _error_of(parsed)
    return ProviderError(one_line(re.sub(r"<[^>]*>", " ", text)))


def _error_of(body: Mapping[str, Any]) -> ProviderError:
    error = body.get("error")
    if isinstance(error, str):
        return ProviderError(one_line(error), *_kinds(body))
    if not isinstance(error, dict):
        error = body
    message = error.get("message") or error.get("detail") or error.get("msg")
    if isinstance(message, list) and message and isinstance(message[0], dict):
        return _of_validation(message[0])
    metadata = error.get("metadata")
    if not isinstance(message, str):
        message = json.dumps(message if message else error, ensure_ascii=False, default=str)
    return ProviderError(
        one_line(message),
        *_kinds(error),
        one_line(error["param"], 80) if isinstance(error.get("param"), str) else "",
        isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata),
    )


def _kinds(error: Mapping[str, Any]) -> tuple[str, str]:
    code, kind = (
        one_line(str(value), 80) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        for value in (error.get("code"), error.get("type") or error.get("status"))
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
