"""Reads a response body: returns a completion, or the error that the provider sent instead."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from kbetl.client.retry_after import body_wait_s
from kbetl.client.sse import StreamAccumulator
from kbetl.records import Completion
from kbetl.samples.messages import ending_of, read_message
from kbetl.usage import usage_of

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")
_STREAM_BEGINS = (b"data:", b"event:", b"id:", b"retry:", b":")


class HttpResponse(NamedTuple):
    """The response of a server."""

    status: int
    headers: Mapping[str, str]
    """A mapping that ignores the case of names."""
    body: bytes
    latency_ms: float
    """From the request sent to the body read."""
    truncated: str | None = None
    """Why the body is incomplete; None if it is complete."""
    exceeded_timeout: bool = False
    """Whether it is incomplete because the request ran into its time limit."""


class ProviderError(NamedTuple):
    """An error in the provider's words; texts are empty if it sent none."""

    message: str
    code: str = ""
    """`error.code`, as text."""
    type: str = ""
    parameter: str = ""
    """The request parameter that it names."""
    flagged: bool = False
    """Whether moderation of the input refused it."""
    wait_s: float | None = None
    """Seconds that it asks to wait; None if it names none."""


def read_completion(reply: HttpResponse, host: str, sent: str | None = None) -> Completion | ProviderError:
    """Returns the completion of a 2xx response, or the ProviderError that the body holds instead.

    A completion that cannot be used has a `fault`. A body of server-sent events is read as a completion
    too, also if the request asked for none.
    """
    text = reply.body.decode("utf-8", "replace")
    parsed = _NotJson("") if reply.truncated is not None else _parse(reply.body, text)
    if isinstance(parsed, _NotJson) and (stream := _stream_in(reply)) is not None:
        return read_completion(stream, host, sent)
    if not isinstance(parsed, dict):
        fault = _why_unreadable(reply, text, parsed)
        return Completion(text, host, reply.latency_ms, sent=sent, fault=fault)
    choices = parsed.get("choices")
    if not choices and _is_error(parsed):
        return _error_of(parsed)
    fields = _choice(choices)
    if parsed.get("error") and fields.get("fault") is None:
        fields["fault"] = f"it carries an error: {_error_of(parsed).message}"
    model = parsed.get("model")
    fields["served_model"] = one_line(model, 200) or None if isinstance(model, str) else None
    usage = usage_of(parsed, has_text=bool(fields.get("content") or fields.get("reasoning")))
    return Completion(text, host, reply.latency_ms, sent=sent, **fields, **usage._asdict())


def _stream_in(reply: HttpResponse) -> HttpResponse | None:
    """Returns the response that the events of a stream add up to; None if the body is no stream."""
    if not reply.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_STREAM_BEGINS):
        return None
    stream = StreamAccumulator()
    stream.feed(reply.body)
    stream.end()
    if not stream.has_events:
        return None
    truncated = stream.fault or (
        None if stream.is_complete else reply.truncated or "the stream ended before the answer did"
    )
    return reply._replace(body=stream.body(), truncated=truncated)


def _why_unreadable(reply: HttpResponse, text: str, parsed: Any) -> str:
    if reply.truncated is not None:
        return reply.truncated
    if isinstance(parsed, _NotJson):
        kind = reply.headers.get("content-type", "none")
        return f"the body is not JSON ({parsed.why}; content type {one_line(kind, 60)})"
    return f"the body is JSON but no object: {one_line(text, 60)!r}"


class _NotJson(NamedTuple):
    why: str


def _parse(body: bytes, text: str) -> Any:
    """Returns the JSON value of a body, or _NotJson. Lone surrogates and invalid UTF-8 become U+FFFD."""
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
    """Returns content, reasoning, refusal, finish reason and fault of the first choice."""
    if not isinstance(choices, list) or not choices:
        return {"fault": "it has no choices" if not choices else "its choices are no list"}
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return {"fault": "its first choice has no message"}
    try:
        said = read_message(message)
    except ValueError as error:
        return {"fault": str(error)}
    finish_reason = choice.get("finish_reason")
    found: dict[str, Any] = {"content": said.text, "reasoning": said.reasoning, "refusal": said.refusal}
    found["finish_reason"] = finish_reason if isinstance(finish_reason, str) else None
    ending = ending_of(found["finish_reason"])
    if choice.get("error"):
        found["fault"] = f"its choice carries an error: {_error_of(choice).message}"
    elif ending == "broken":
        found["fault"] = f"the server ended it with finish_reason {one_line(finish_reason, 60)!r}"
    elif ending == "done" and said.text is None and said.refusal is None and not message.get("tool_calls"):
        found["fault"] = "its content is null, though it has ended"
    return found


def read_error(body: bytes) -> ProviderError:
    """Returns the error in a body: JSON in the forms that providers use, or the start of other text."""
    text = body[:100_000].decode("utf-8", "replace")
    parsed = _parse(body, text) if len(body) <= 100_000 else None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if isinstance(parsed, dict):
        return _error_of(parsed)
    return ProviderError(one_line(re.sub(r"<[^>]*>", " ", text)))


def _is_error(body: Mapping[str, Any]) -> bool:
    """Whether an object without choices is an error, in any of the forms that providers use."""
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
        return ProviderError(one_line(error), *_kinds(body), wait_s=body_wait_s(body, error))
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
        body_wait_s(error, message),
    )


def _of_provider(metadata: Any) -> str:
    """Returns what the provider behind a gateway said, if the gateway passes it on; else an empty text."""
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
    """Returns the first error of a FastAPI server: `{"type": ..., "loc": ["body", NAME], "msg": ...}`."""
    location = found.get("loc")
    name = location[-1] if isinstance(location, list) and location else ""
    return ProviderError(
        one_line(str(found.get("msg", found))),
        type=one_line(str(found.get("type", "")), 80),
        parameter=name if isinstance(name, str) else "",
    )


def one_line(text: str, longest: int = 300) -> str:
    """Returns foreign text as one line without control characters, at most `longest` characters."""
    flat = _CONTROL.sub(" ", _SURROGATES.sub("\ufffd", text[: 20 * longest])).strip()
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"
