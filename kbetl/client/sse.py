"""Accumulates a streamed answer into the body that the server would have sent without streaming.

Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from kbetl.json_codec import MAX_DEPTH
from kbetl.usage import joined_usage

ASKED = b',"stream":true,"stream_options":{"include_usage":true}}'
ASKED_WITHOUT_USAGE = b',"stream":true}'
"""Endings of a request body in place of its last brace; the second if `stream_options` is unsupported."""

_DONE = b"[DONE]"
# Fields whose text is streamed in pieces. Pieces of other fields are joined too, unless all are equal.
_TEXTS = frozenset(
    (
        "content",
        "reasoning",
        "reasoning_content",
        "refusal",
        "text",
        "thinking",
        "summary",
        "arguments",
        "data",
    )
)
# Fields of which the last value counts.
_CONSTANTS = frozenset(
    ("role", "id", "type", "name", "object", "format", "model", "provider", "finish_reason", "stop_reason")
)
# Fields with lists of objects that are streamed in pieces; other lists, such as token ids, are extended.
_PARTS = frozenset(
    ("content", "thinking", "reasoning", "reasoning_content", "reasoning_details", "tool_calls")
)
# Finish reasons that servers send in chunks before the last.
_NOT_FINISHED = ("", "null", "none")


class StreamAccumulator:
    """Joins the bytes of an event stream into one answer; its memory grows with the answer alone."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._top: dict[str, Any] = {}
        self._choices: dict[int, ChoiceAccumulator] = {}
        self._events = 0
        self.texts = 0
        """Events with text of an answer; blank text and keep-alive events do not count."""
        self._is_done = False
        self.fault: str | None = None
        """Why the stream cannot be read further; None while it can."""

    def feed(self, chunk: bytes) -> None:
        """Reads the next bytes, which may end anywhere within an event."""
        self._rest.append(chunk)
        if b"\n" not in chunk:
            return
        lines = b"".join(self._rest).split(b"\n")
        self._rest = [lines.pop()]
        for each in lines:
            line = each.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                self._add_event(data)

    def end(self) -> None:
        """Reads the last event, even if the stream ended without its empty line."""
        self.feed(b"\n\n")

    @property
    def has_events(self) -> bool:
        """Whether there was any event."""
        return self._events > 0

    @property
    def is_complete(self) -> bool:
        """Whether the server said that the answer, or the error instead of it, has ended."""
        ended = bool(self._choices) and all(each.has_ended for each in self._choices.values())
        return self._is_done or ended or "error" in self._top

    def body(self) -> bytes:
        """Returns the answer so far as a chat completion, with the number of its events."""
        body = {
            **self._top,
            "object": "chat.completion",
            "choices": [self._choices[index].value() for index in sorted(self._choices)],
            "streamed_events": self._events,
        }
        if "error" in self._top and not self._choices:
            del body["choices"]
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError:  # a lone surrogate, or an integer beyond 64 pieces
            pass
        return (
            json.dumps(body, ensure_ascii=False)
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
            .encode()
        )

    def _add_event(self, data: bytes) -> None:
        if data.strip() == _DONE:
            self._is_done = True
            return
        event = _parsed(data)
        if not isinstance(event, dict):
            self.fault = self.fault or f"event {self._events} of the stream is no JSON object"
            return
        self._events += 1
        self.texts += _says_something(event)
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _is_deep(event, MAX_DEPTH):
            self.fault = (
                self.fault or f"event {self._events} of the stream nests deeper than {MAX_DEPTH} levels"
            )
            return
        for name, value in event.items():
            if name == "choices":
                self._add_choices(value)
            elif name == "usage" and value is not None:
                self._top[name] = joined_usage(self._top.get(name), value)
            elif value or (value is not None and name not in self._top):
                self._top[name] = value

    def _add_choices(self, choices: Any) -> None:
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if type(index) is int else 0
                self._choices.setdefault(index, ChoiceAccumulator(index)).add(choice)


class ChoiceAccumulator:
    """Joins the deltas of one choice of a stream."""

    def __init__(self, index: int) -> None:
        self._message: dict[str, Any] = {}
        self._fields: dict[str, Any] = {"index": index, "finish_reason": None}
        # The complete message, which some servers send at the end or with each event.
        self._complete: dict[str, Any] = {}

    @property
    def has_ended(self) -> bool:
        """Whether a finish reason was sent."""
        reason = self._fields["finish_reason"]
        return reason is not None and str(reason).strip().lower() not in _NOT_FINISHED

    def add(self, choice: Mapping[str, Any]) -> None:
        """Adds what one event says of the choice."""
        for name, value in choice.items():
            if name == "delta" and isinstance(value, dict):
                _extend(self._message, value)
            elif name == "message" and isinstance(value, dict):
                self._complete = value
            elif name == "finish_reason" and (value is None or self.has_ended):
                continue
            elif name not in ("delta", "message", "index"):
                self._fields[name] = _extended(self._fields.get(name), value, name)

    def value(self) -> dict[str, Any]:
        """Returns the choice as in a completion without streaming; an empty text is null."""
        message = {"role": "assistant", "content": None, **_plain(self._message, "")}
        for name in ("content", "reasoning", "reasoning_content", "refusal"):
            if name in message and not message[name]:
                message[name] = None
        for name, value in self._complete.items():
            if message.get(name) is None:
                message[name] = value
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
        return {**_plain(self._fields, ""), "message": message}


def _says_something(event: Mapping[str, Any]) -> bool:
    """Whether an event has text, or another part, of an answer."""
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        delta = choice.get("delta") if isinstance(choice, dict) else None
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name != "role" and (value.strip() if isinstance(value, str) else value):
                return True
    return False


class _TextPieces(list[str]):
    """The pieces of a text."""


class _Parts:
    """A list of objects streamed in pieces: a piece extends the object of its index, or the last alike."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self._numbered: dict[tuple[int, Any], dict[str, Any]] = {}

    def add(self, parts: list[Any]) -> None:
        for each in parts:
            part = {"type": "text", "text": each} if isinstance(each, str) else each
            if not isinstance(part, dict):
                self.parts.append(part)
                continue
            joined = self._extended_part(part)
            if joined is None:
                joined = {}
                self.parts.append(joined)
                if type(part.get("index")) is int:
                    self._numbered[(part["index"], part.get("type"))] = joined
                    self._numbered[(part["index"], None)] = joined
            _extend(joined, part)

    def _extended_part(self, part: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the object that a piece extends; None if it begins a new one."""
        kind = part.get("type")
        if type(part.get("index")) is int:
            found = self._numbered.get((part["index"], kind))
            untyped = self._numbered.get((part["index"], None))
            return untyped if found is None and untyped is not None and "type" not in untyped else found
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, dict) or "index" in last:
            return None
        if "function" in part:
            is_new = part.get("id") is not None or bool((part["function"] or {}).get("name"))
            return None if is_new else last
        is_text = isinstance(kind, str) and kind.startswith(("text", "output_text", "thinking", "reasoning"))
        return (
            last
            if is_text and last.get("type") == kind and part.get("id") in (None, last.get("id"))
            else None
        )


def _extend(joined: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Appends the pieces of an object to those before, in place: copying would be quadratic."""
    for name, value in delta.items():
        joined[name] = _extended(joined.get(name), value, name)


def _extended(joined: Any, value: Any, name: str) -> Any:
    if value is None:
        return joined
    if isinstance(value, str) and name not in _CONSTANTS:
        if isinstance(joined, _Parts):
            joined.add([value] if value else [])
            return joined
        pieces = joined if isinstance(joined, _TextPieces) else _TextPieces()
        pieces.append(value)
        return pieces
    if isinstance(value, list) and name in _PARTS:
        parts = joined if isinstance(joined, _Parts) else _Parts()
        if isinstance(joined, _TextPieces) and any(joined):
            parts.add(["".join(joined)])
        parts.add(value)
        return parts
    if isinstance(value, list) and type(joined) is list:
        joined.extend(value)
        return joined
    if isinstance(value, dict):
        into = joined if isinstance(joined, dict) else {}
        _extend(into, value)
        return into
    return value


def _plain(value: Any, name: str) -> Any:
    """Returns accumulated values as plain JSON values."""
    if isinstance(value, _TextPieces):
        is_constant = name not in _TEXTS and len(set(value)) == 1
        return value[0] if is_constant else "".join(value)
    if isinstance(value, _Parts):
        return [_plain(each, "") for each in value.parts]
    if isinstance(value, dict):
        return {key: _plain(each, key) for key, each in value.items()}
    return value


def _is_deep(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper than `levels`."""
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(child, levels - 1) for child in children)


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)  # a surrogate pair may be split between two events
    except (ValueError, RecursionError):
        return None
