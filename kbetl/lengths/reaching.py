"""Which texts of a conversation reach the rendered text, found by rendering it with marks in them. Pure.

A search for the plain text would find it elsewhere: `ok`, said in the reasoning alone, stands in many
answers. So each text gets a mark in its middle that stands nowhere else. Tags that templates look for are
left alone, and so are the ends of texts, so that the template does with the marked text what it does with
the real one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from kbetl.samples.conversation import Conversation, Message

_TAGS = re.compile(r"(</?(?:think|tool_call|tool_response)>)")


class Mark(NamedTuple):
    """A mark, and the text before and behind it. The template may strip blanks around the text."""

    origin: str
    sign: str
    before: str
    behind: str


@dataclass(slots=True)
class Marked:
    """A conversation with marks in its texts."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    marks: list[Mark] = field(default_factory=list)


def with_marks(conversation: Conversation, rendered: str) -> Marked:
    """The conversation, marked; `rendered` is what it rendered to, from which no mark is taken."""
    marker = _Marker(_unused_character(rendered))
    messages = [marker.message(each) for each in conversation.messages]
    tools = None
    if conversation.tools is not None:
        tools = [
            marker.named(tool, f"{conversation.tools_origin}[{index}]")
            for index, tool in enumerate(conversation.tools)
        ]
    return Marked(messages, tools, marker.marks)


def unreached(marked: Marked, rendered: str) -> Iterator[str]:
    """The origins of marks, each once, that the rendering of a marked conversation lacks."""
    missing = (mark.origin for mark in marked.marks if not _stands_in(mark, rendered))
    yield from dict.fromkeys(missing)


class _Marker:
    def __init__(self, character: str) -> None:
        self.marks: list[Mark] = []
        self._character = character

    def message(self, message: Message) -> dict[str, Any]:
        """The body of a message, with a mark in each text."""
        body = message.body(parsed=True)
        for key in ("content", "reasoning_content"):
            if key in message.origins:
                body[key] = self._text(body[key], message.origins[key])
        if "tool_calls" in body:
            origin = message.origins["tool_calls"]
            body["tool_calls"] = [
                self._call(call, f"{origin}[{index}]") for index, call in enumerate(body["tool_calls"])
            ]
        return body

    def named(self, owner: dict[str, Any], origin: str) -> dict[str, Any]:
        """A tool or a call, with a mark in the name of its function."""
        function = owner["function"]
        return {**owner, "function": {**function, "name": self._piece(function["name"], origin)}}

    def _call(self, call: dict[str, Any], origin: str) -> dict[str, Any]:
        marked = self.named(call, origin)
        marked["function"]["arguments"] = self._arguments(call["function"]["arguments"], origin)
        return marked

    def _arguments(self, value: Any, origin: str) -> Any:
        if isinstance(value, str):
            return self._piece(value, origin)
        if isinstance(value, dict):
            return {key: self._arguments(each, origin) for key, each in value.items()}
        return [self._arguments(each, origin) for each in value] if isinstance(value, list) else value

    def _text(self, text: str, origin: str) -> str:
        return "".join(
            piece if _TAGS.fullmatch(piece) else self._piece(piece, origin) for piece in _TAGS.split(text)
        )

    def _piece(self, piece: str, origin: str) -> str:
        """A piece of text with a mark in its middle; blank pieces are no text."""
        core = piece.strip()
        if not core:
            return piece
        start = len(piece) - len(piece.lstrip())
        middle = (len(core) + 1) // 2
        sign = f"{self._character}{len(self.marks)}{self._character}"
        mark = Mark(origin, sign, core[:middle], core[middle:])
        self.marks.append(mark)
        return f"{piece[:start]}{mark.before}{sign}{mark.behind}{piece[start + len(core) :]}"


def _unused_character(text: str) -> str:
    """A character that a text lacks, and that neither JSON escapes nor a template strips.

    Delete first: it leaves ASCII text a byte per character, and rendering as fast as without marks.
    """
    candidates = chain("\x7f", map(chr, range(0xE000, 0xF900)))
    return next(char for char in candidates if char not in text)


def _stands_in(mark: Mark, rendered: str) -> bool:
    """Whether the marked text is there, whole; as it is, or as the inside of a JSON string."""
    start = rendered.find(mark.sign)
    if start < 0:
        return False
    end = start + len(mark.sign)

    def surround(before: str, behind: str) -> bool:
        return rendered.endswith(before, 0, start) and rendered.startswith(behind, end)

    return surround(mark.before, mark.behind) or surround(_in_json(mark.before), _in_json(mark.behind))


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
