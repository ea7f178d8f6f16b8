"""The conversation that a rollout is, in the shape that chat templates read. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kbetl import fields
from kbetl.errors import BadRow
from kbetl.fields import Row

MAPPING_VERSION = 2
"""Of the rules in this file and of those of `kbetl.fields` that it uses; part of every template_hash, so that
new rules count anew. From 2 on, reasoning that stands in the steps of a `trajectory` alone is counted."""

TOOL_FIELDS = ("oai_tools", "tool_defs", "tools")
OTHER_TEXT = ("thinking", "refusal")
"""Fields with text that no rule maps: they count as not reached."""

Side = Literal["prompt", "completion"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `body` goes to the template; `origins` name the field that each of its texts came from."""

    body: dict[str, Any]
    origins: dict[str, str]


@dataclass(slots=True)
class Conversation:
    """Prompt and completion of a rollout, and the tools it had."""

    prompt: list[Message] = field(default_factory=list)
    completion: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    tools_origin: str = ""
    lost: list[str] = field(default_factory=list)
    """Fields that hold what no template can be given: images, a second reasoning, a refusal."""


def conversation_of(row: Row) -> Conversation:
    """The conversation of a rollout.

    A text in place of a list is one message, of the user or the assistant. Content that is null is empty,
    a list of parts is joined. Each message's own reasoning, from `reasoning` or `reasoning_content`, goes to
    `reasoning_content`. Tools and tool calls get the shape that OpenAI gives them; those that are JSON as
    text are read, arguments too where they are an object.

    Raises BadRow, with the field's name, for what has none of these shapes.
    """
    conversation = Conversation()
    conversation.prompt = list(_messages(row, "prompt", conversation.lost))
    conversation.completion = list(_messages(row, "completion", conversation.lost))
    if not conversation.prompt and not conversation.completion:
        raise BadRow("neither 'prompt' nor 'completion' holds a message")
    for name in TOOL_FIELDS:
        tools = _tools(row.get(name), name)
        if tools:
            conversation.tools, conversation.tools_origin = tools, name
            break
    return conversation


def _messages(row: Row, side: Side, lost: list[str]) -> Iterator[Message]:
    value = row.get(side)
    if isinstance(value, str):
        role = "user" if side == "prompt" else "assistant"
        yield Message({"role": role, "content": value}, {"content": side})
        return
    for index, message in enumerate(fields.messages(row, side)):
        yield _message(message, f"{side}[{index}]", lost)


def _message(message: Row, path: str, lost: list[str]) -> Message:
    body: dict[str, Any] = {"content": _content(message.get("content"), f"{path}.content", lost)}
    origins = {"content": f"{path}.content"}
    for key in ("role", "name", "tool_call_id"):
        if message.get(key) is not None:
            body[key] = message[key]
    _map_reasoning(message, body, origins, path)
    lost += [f"{path}.{key}" for key in _unmapped_texts(message, body.get("reasoning_content"))]
    calls = _tool_calls(message.get("tool_calls"), f"{path}.tool_calls")
    if calls:
        body["tool_calls"] = calls
        origins["tool_calls"] = f"{path}.tool_calls"
    return Message(body, origins)


def _content(content: Any, path: str, lost: list[str]) -> str:
    """The text of content: null is empty, parts are joined; a part that holds no text is lost."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRow(f"field '{path}' is {fields.type_name(content)}, not text or a list of parts")
    texts = []
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str):
            texts.append(text)
        else:
            lost.append(f"{path}[{index}]")
    return "".join(texts)


def _map_reasoning(message: Row, body: dict[str, Any], origins: dict[str, str], path: str) -> None:
    text = fields.message_reasoning(message)
    if text is not None:
        name = next(key for key in fields.REASONING if message.get(key))
        origins["reasoning_content"] = f"{path}.{name}"
    elif isinstance(message.get("reasoning_content"), str):
        text = ""  # empty, but there: templates take it as "no reasoning", and look for none in the content
    if text is not None:
        body["reasoning_content"] = text


def _unmapped_texts(message: Row, mapped: str | None) -> Iterator[str]:
    """The fields of a message that hold text which is not in what goes to the template."""
    for key in (*fields.REASONING, *OTHER_TEXT):
        text = message.get(key)
        if isinstance(text, str) and text.strip() and text != mapped:
            yield key
    blocks = message.get("thinking_blocks")
    for block in blocks if isinstance(blocks, list) else ():
        text = block.get("thinking") if isinstance(block, Mapping) else None
        if isinstance(text, str) and text.strip() and text not in (mapped or ""):
            yield "thinking_blocks"
            return


def _tool_calls(value: Any, path: str) -> list[dict[str, Any]]:
    found = []
    for index, each in enumerate(_list(value, path)):
        place = f"{path}[{index}]"
        call = _object(each, place)
        function = _object(call.get("function") or call, place)
        if not isinstance(function.get("name"), str):
            raise BadRow(f"field '{place}' is a tool call without a name")
        named = {"name": function["name"], "arguments": _arguments(function.get("arguments"))}
        known = {"id": call["id"]} if call.get("id") is not None else {}
        found.append({**known, "type": "function", "function": named})
    return found


def _arguments(value: Any) -> Any:
    """An object, as templates expect and trainers make of it; other text stays as the model wrote it."""
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return read if isinstance(read, dict) else value
    return value


def _tools(value: Any, path: str) -> list[dict[str, Any]]:
    found = []
    for index, each in enumerate(_list(value, path)):
        tool = _object(each, f"{path}[{index}]")
        if not isinstance(tool.get("function"), Mapping):
            tool = {
                "type": "function",
                "function": {key: value for key, value in tool.items() if key != "type"},
            }
        function = {key: value for key, value in tool["function"].items() if value is not None}
        if not isinstance(function.get("name"), str):
            raise BadRow(f"field '{path}[{index}]' is a tool without a name")
        found.append(
            {**{key: value for key, value in tool.items() if value is not None}, "function": function}
        )
    return found


def _list(value: Any, path: str) -> list[Any]:
    """A list, also where it is JSON as text; null and `"null"` are empty."""
    if isinstance(value, str):
        value = _json(value, path) if value.strip() else None
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow(f"field '{path}' is {fields.type_name(value)}, not a list")
    return value


def _object(value: Any, path: str) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value, path)
    if not isinstance(value, dict):
        raise BadRow(f"field '{path}' is {fields.type_name(value)}, not an object")
    return value


def _json(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(f"field '{path}' is text that is not JSON") from None
