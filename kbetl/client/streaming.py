"""A streamed answer, put together as it comes: the body that the server would have sent in one piece.

Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from kbetl.json_text import MAX_DEPTH

ASKED = b',"stream":true,"stream_options":{"include_usage":true}}'
ASKED_WITHOUT_USAGE = b',"stream":true}'
"""What takes the place of a body's last brace, where the server does not know `stream_options`."""

_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")
_DONE = b"[DONE]"


class Folding:
    """Takes the bytes of an event stream; holds no more than the answer that they make."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._top: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._events = 0
        self.texts = 0
        """Events that brought something of an answer: no blanks, and no sign of life alone."""
        self._is_done = False
        self.fault: str | None = None
        """Why the stream cannot be read on; None as long as it can."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes, wherever they are cut."""
        lines = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                self._take(data)

    def end(self) -> None:
        """No more bytes come: an event that lacks its empty line counts all the same."""
        self.feed(b"\n\n")

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
            elif value is not None:
                self._top[name] = value

    def _take_choices(self, choices: Any) -> None:
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if type(index) is int else 0
                self._choices.setdefault(index, _Choice(index)).take(choice)


class _Choice:
    """One choice of a stream."""

    def __init__(self, index: int) -> None:
        self._texts: dict[str, list[str]] = {}
        self._message: dict[str, Any] = {"role": "assistant"}
        self._calls: dict[int, dict[str, Any]] = {}
        self._fields: dict[str, Any] = {"index": index, "finish_reason": None}

    @property
    def has_ended(self) -> bool:
        return self._fields["finish_reason"] is not None

    def take(self, choice: Mapping[str, Any]) -> None:
        """What one event says of it."""
        delta = choice.get("delta")
        if isinstance(delta, dict):
            for name, value in delta.items():
                self._take_field(name, value)
        for name, value in choice.items():
            if name in ("delta", "index") or value is None:
                continue
            self._fields[name] = _joined(self._fields.get(name), value)

    def _take_field(self, name: str, value: Any) -> None:
        if value is None:
            return
        if name in _TEXTS and isinstance(value, str):
            self._texts.setdefault(name, []).append(value)
        elif name == "tool_calls" and isinstance(value, list):
            for call in value:
                if isinstance(call, dict):
                    self._take_call(call)
        else:
            self._message[name] = _joined(self._message.get(name), value)

    def _take_call(self, call: Mapping[str, Any]) -> None:
        """A tool call comes in pieces: its name at first, then its arguments bit by bit."""
        index = call.get("index")
        kept = self._calls.setdefault(index if type(index) is int else 0, {})
        for name, value in call.items():
            if name == "function" and isinstance(value, dict):
                kept[name] = _function(kept.get(name), value)
            elif name != "index" and value is not None:
                kept[name] = value

    def whole(self) -> dict[str, Any]:
        """As it stands in a completion that comes in one piece; a text of no characters is null."""
        texts = {name: "".join(pieces) or None for name, pieces in self._texts.items()}
        message = {**self._message, "content": None, **texts}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return {**self._fields, "message": message}


def _says_something(event: Mapping[str, Any]) -> bool:
    """Whether an event brings some of an answer."""
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        delta = choice.get("delta") if isinstance(choice, dict) else None
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name != "role" and (value.strip() if isinstance(value, str) else value):
                return True
    return False


def _function(kept: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    function = {**kept, **told} if isinstance(kept, dict) else dict(told)
    before, bit = kept.get("arguments") if isinstance(kept, dict) else None, told.get("arguments")
    if isinstance(before, str) and isinstance(bit, str):
        function["arguments"] = before + bit
    return function


def _joined(kept: Any, value: Any) -> Any:
    """Lists, such as token ids, go on; objects, such as logprobs, by key; of all else the last counts."""
    if isinstance(kept, list) and isinstance(value, list):
        return kept + value
    if isinstance(kept, dict) and isinstance(value, dict):
        return {**kept, **{key: _joined(kept.get(key), each) for key, each in value.items()}}
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
