"""The messages of a rollout as trainers read them: plain text, reasoning apart, tool calls whole. Pure.

Kept of a message: role, content, reasoning, tool calls, `tool_call_id` and `name`. A trainer reads no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbetl import fields
from kbetl.dataset.splicing import json_bytes
from kbetl.errors import BadRow

ROLES = ("system", "user", "assistant", "tool")
TOOLS = ("tools", "tool_defs", "oai_tools")
_NO_TOOLS = ("", "null", "[]")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function; `arguments` is JSON text, as OpenAI spells it."""

    id: str | None
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `reasoning` is None where there is none, and `content` is empty then too."""

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A rollout: what was asked, and what came of it."""

    prompt: Sequence[Message]
    completion: Sequence[Message]
    tools: str | None
    """JSON text of the tools that the model was offered; None where there were none."""


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The messages of a rollout's row. Raises BadRow with the reason where a trainer could not read them."""
    prompt = _messages(row, "prompt", "user")
    completion = _messages(row, "completion", "assistant")
    if not any(each.role == "assistant" and (each.content or each.tool_calls) for each in completion):
        raise BadRow("no assistant message with text or tool calls in 'completion'")
    return Conversation(prompt, completion, _tools(row))


def _messages(row: Mapping[str, Any], field: str, role: str) -> list[Message]:
    """A list of messages; plain text is one message of `role`."""
    value = row.get(field)
    if isinstance(value, str):
        return [Message(role, value)]
    return [message_of(each, f"{field}[{index}]") for index, each in enumerate(fields.messages(row, field))]


def message_of(message: Mapping[str, Any], place: str) -> Message:
    """One message; `place` names it where it cannot be read, which raises BadRow."""
    role = message.get("role")
    if role not in ROLES:
        raise BadRow(f"field '{place}' has role {json.dumps(role)}; trainers know {', '.join(ROLES)}")
    is_assistant = role == "assistant"
    content, thought = _content(message.get("content"), place)
    return Message(
        role,
        content,
        (fields.message_reasoning(message) or thought) if is_assistant else None,
        _tool_calls(message, place) if is_assistant else (),
        _text_or_none(message, "tool_call_id", place),
        _text_or_none(message, "name", place),
    )


def _content(content: Any, place: str) -> tuple[str, str | None]:
    """Text and reasoning: text as it is, or the joined texts of a list of parts.

    A part that is neither text nor reasoning has no place there.
    """
    if content is None or isinstance(content, str):
        return content or "", None
    if not isinstance(content, list):
        raise BadRow(f"field '{place}.content' is {fields.type_name(content)}, not text or a list of parts")
    thoughts = [part for part in content if _is_thought(part)]
    texts = [
        part.get("text") if isinstance(part, Mapping) else part for part in content if not _is_thought(part)
    ]
    known = [text for text in texts if isinstance(text, str)]
    if len(known) < len(texts):
        raise BadRow(f"field '{place}.content' has a part that is not text")
    reasoning = [part.get(key) for part in thoughts for key in ("thinking", "reasoning", "text")]
    return "".join(known), "".join(text for text in reasoning if isinstance(text, str)) or None


def _is_thought(part: Any) -> bool:
    """Whether a part of a content is reasoning by its type: `thinking`, `reasoning`, `reasoning_text`, ..."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(kind, str) and kind.startswith(("thinking", "reasoning"))


def _tool_calls(message: Mapping[str, Any], place: str) -> list[ToolCall]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise BadRow(f"field '{place}.tool_calls' is {fields.type_name(calls)}, not a list")
    return [_tool_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: Any, place: str) -> ToolCall:
    """A call as an object, flat or under `function`, or as the JSON text of one (verifiers 0.1)."""
    if isinstance(call, str):
        try:
            call = json.loads(call)
        except ValueError:
            raise BadRow(f"field '{place}' is text that is not JSON") from None
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(name, str):
        raise BadRow(f"field '{place}' names no function")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json_bytes({} if arguments is None else arguments).decode()
    return ToolCall(_text_or_none(call, "id", place), name, arguments)


def _text_or_none(value: Mapping[str, Any], key: str, place: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise BadRow(f"field '{place}.{key}' is {fields.type_name(found)}, not text")
    return found


def _tools(row: Mapping[str, Any]) -> str | None:
    for key in TOOLS:
        value = row.get(key)
        if isinstance(value, str) and value.strip() not in _NO_TOOLS:
            return value
        if value is not None and not isinstance(value, str) and value:
            return json_bytes(value).decode()
    return None
