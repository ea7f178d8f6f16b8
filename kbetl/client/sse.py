"""A streamed answer, put together as it comes: the body that the server would have sent in one piece.

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
"""What takes the place of a body's last brace, where the server does not know `stream_options`."""

_DONE = b"[DONE]"
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
"""Fields whose text comes bit by bit. Of others too the bits are put together, unless all are alike."""
_CONSTANTS = frozenset(
    ("role", "id", "type", "name", "object", "format", "model", "provider", "finish_reason", "stop_reason")
)
"""Fields of which the last one counts."""
_PARTS = frozenset(
    ("content", "thinking", "reasoning", "reasoning_content", "reasoning_details", "tool_calls")
)
"""Fields whose lists hold objects that come bit by bit; all other lists, such as token ids, go on."""
_SAYS_NOTHING = ("", "null", "none")
"""Finish reasons of chunks that are not the last."""


class StreamAccumulator:
    """Takes the bytes of an event stream; holds no more than the answer that they make."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._top: dict[str, Any] = {}
        self._choices: dict[int, ChoiceAccumulator] = {}
        self._events = 0
        self.texts = 0
        """Events that brought something of an answer: no blanks, and no sign of life alone."""
        self._is_done = False
        self.fault: str | None = None
        """Why the stream cannot be read on; None as long as it can."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes, wherever they are cut."""
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
                self._take(data)

    def end(self) -> None:
        """No more bytes come: an event that lacks its empty line counts all the same."""
        self.feed(b"\n\n")

    @property
    def has_events(self) -> bool:
        """Whether there was any."""
        return self._events > 0

    @property
    def is_whole(self) -> bool:
        """Whether the server said that the answer, or the error in its place, has ended."""
        ended = bool(self._choices) and all(each.has_ended for each in self._choices.values())
        return self._is_done or ended or "error" in self._top

    def body(self) -> bytes:
        """The answer so far, as a chat completion in one piece, with the number of events it came in."""
        body = {
            **self._top,
            "object": "chat.completion",
            "choices": [self._choices[index].whole() for index in sorted(self._choices)],
            "streamed_events": self._events,
        }
        if "error" in self._top and not self._choices:
            del body["choices"]
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError:  # half a surrogate pair, or an integer beyond 64 bits
            pass
        return (
            json.dumps(body, ensure_ascii=False)
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
            .encode()
        )

    def _take(self, data: bytes) -> None:
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
                self._take_choices(value)
            elif name == "usage" and value is not None:
                self._top[name] = joined_usage(self._top.get(name), value)
            elif value or (value is not None and name not in self._top):
                self._top[name] = value

    def _take_choices(self, choices: Any) -> None:
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if type(index) is int else 0
                self._choices.setdefault(index, ChoiceAccumulator(index)).take(choice)


class ChoiceAccumulator:
    """One choice of a stream."""

    def __init__(self, index: int) -> None:
        self._message: dict[str, Any] = {}
        self._fields: dict[str, Any] = {"index": index, "finish_reason": None}
        self._told: dict[str, Any] = {}
        """The message in one piece, as some servers send it at the end, or with each event."""

    @property
    def has_ended(self) -> bool:
        reason = self._fields["finish_reason"]
        return reason is not None and str(reason).strip().lower() not in _SAYS_NOTHING

    def take(self, choice: Mapping[str, Any]) -> None:
        """What one event says of it."""
        for name, value in choice.items():
            if name == "delta" and isinstance(value, dict):
                _fold(self._message, value)
            elif name == "message" and isinstance(value, dict):
                self._told = value
            elif name == "finish_reason" and (value is None or self.has_ended):
                continue
            elif name not in ("delta", "message", "index"):
                self._fields[name] = _folded(self._fields.get(name), value, name)

    def whole(self) -> dict[str, Any]:
        """As it stands in a completion that comes in one piece; a text of no characters is null."""
        message = {"role": "assistant", "content": None, **_whole(self._message, "")}
        for name in ("content", "reasoning", "reasoning_content", "refusal"):
            if name in message and not message[name]:
                message[name] = None
        for name, value in self._told.items():
            if message.get(name) is None:
                message[name] = value
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
        return {**_whole(self._fields, ""), "message": message}


def _says_something(event: Mapping[str, Any]) -> bool:
    """Whether an event brings some of an answer."""
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        delta = choice.get("delta") if isinstance(choice, dict) else None
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name != "role" and (value.strip() if isinstance(value, str) else value):
                return True
    return False


class _Bits(list[str]):
    """A text that comes bit by bit."""


class _Parts:
    """A list of objects that come bit by bit: each goes on with that of its number, or the last alike."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self._numbered: dict[tuple[int, Any], dict[str, Any]] = {}

    def take(self, parts: list[Any]) -> None:
        for each in parts:
            part = {"type": "text", "text": each} if isinstance(each, str) else each
            if not isinstance(part, dict):
                self.parts.append(part)
                continue
            kept = self._begun(part)
            if kept is None:
                kept = {}
                self.parts.append(kept)
                if type(part.get("index")) is int:
                    self._numbered[(part["index"], part.get("type"))] = kept
                    self._numbered[(part["index"], None)] = kept
            _fold(kept, part)

    def _begun(self, part: Mapping[str, Any]) -> dict[str, Any] | None:
        """The part that this one goes on with; None for a new one."""
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


def _fold(kept: dict[str, Any], told: Mapping[str, Any]) -> None:
    """Puts the bits of an object behind those that came before, in place: copies would take minutes."""
    for name, value in told.items():
        kept[name] = _folded(kept.get(name), value, name)


def _folded(kept: Any, value: Any, name: str) -> Any:
    if value is None:
        return kept
    if isinstance(value, str) and name not in _CONSTANTS:
        if isinstance(kept, _Parts):
            kept.take([value] if value else [])
            return kept
        bits = kept if isinstance(kept, _Bits) else _Bits()
        bits.append(value)
        return bits
    if isinstance(value, list) and name in _PARTS:
        parts = kept if isinstance(kept, _Parts) else _Parts()
        if isinstance(kept, _Bits) and any(kept):
            parts.take(["".join(kept)])
        parts.take(value)
        return parts
    if isinstance(value, list) and type(kept) is list:
        kept.extend(value)
        return kept
    if isinstance(value, dict):
        into = kept if isinstance(kept, dict) else {}
        _fold(into, value)
        return into
    return value


def _whole(value: Any, name: str) -> Any:
    """What was put together, as plain JSON values."""
    if isinstance(value, _Bits):
        is_constant = name not in _TEXTS and len(set(value)) == 1
        return value[0] if is_constant else "".join(value)
    if isinstance(value, _Parts):
        return [_whole(each, "") for each in value.parts]
    if isinstance(value, dict):
        return {key: _whole(each, key) for key, each in value.items()}
    return value


def _is_deep(value: Any, levels: int) -> bool:
    """Whether a value has more than so many levels of lists and objects."""
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
        return json.loads(data)  # half of a surrogate pair, whose other half is in the next event
    except (ValueError, RecursionError):
        return None
