"""The conversation that a row is, as trainers read it: one reading for lengths, export and recording. Pure.

A message has its role, text, reasoning apart, tool calls whole, `tool_call_id` and `name`; each text knows
the field that it came from. What the row says beside that no trainer can be given is in `lost`, by its field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbetl.errors import BadRow
from kbetl.samples import fields
from kbetl.samples.fields import Row
from kbetl.samples.messages import REASONING_FIELDS, read_message
from kbetl.samples.reading import FieldMap, read_row

# Of the rules in this file and of those of `fields` and `messages` that it uses; part of every
# template_hash, so that new rules count anew. 3: as `export --format messages` writes it.
MAPPING_VERSION = 3

ROLES = ("system", "user", "assistant", "tool")

# Where rows keep the tools that the model was offered, in order of weight.
TOOLS = ("tools", "tool_defs", "oai_tools")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function; `arguments` is JSON text, as OpenAI spells it."""

    id: str | None
    name: str
    arguments: str

    def body(self, *, parsed: bool) -> dict[str, Any]:
        """As OpenAI has it; `parsed`: with the arguments as the value that trainers make of them."""
        arguments = json.loads(self.arguments) if parsed else self.arguments
        known = {} if self.id is None else {"id": self.id}
        return {**known, "type": "function", "function": {"name": self.name, "arguments": arguments}}


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `reasoning` is None if there is none, and `content` is empty then too."""

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    name: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    """The field of the row that `content`, `reasoning_content` and `tool_calls` came from."""

    def body(self, *, parsed: bool = False) -> dict[str, Any]:
        """A message of the chat-completions API; what it lacks has no key.

        `parsed`: as a chat template is given it, with the arguments of calls as values; else they are text.
        """
        optional = {
            "reasoning_content": self.reasoning,
            "tool_calls": [call.body(parsed=parsed) for call in self.tool_calls] or None,
            "tool_call_id": self.tool_call_id,
            "name": self.name,
        }
        kept = {key: value for key, value in optional.items() if value is not None}
        return {"role": self.role, "content": self.content, **kept}


@dataclass(frozen=True, slots=True)
class Conversation:
    """A rollout: what was asked, and what came of it."""

    prompt: Sequence[Message]
    completion: Sequence[Message]
    tools: Sequence[dict[str, Any]] | None = None
    """The tools that the model was offered, each with its `function`; None if there were none."""
    tools_origin: str = ""
    lost: Sequence[str] = ()
    """Fields with what no trainer can be given: images, audio, a second reasoning, a refusal."""

    @property
    def messages(self) -> list[Message]:
        """Prompt and completion."""
        return [*self.prompt, *self.completion]


def conversation_of(row: Row, field_map: FieldMap | None = None) -> Conversation:
    """The conversation of a rollout's row. Raises BadRow, with the field, if trainers could not read it.

    Text instead of a list is one message, of the user or the assistant. Thoughts in a text of the
    assistant go to its reasoning. `check_turns` checks whether trainers accept its order.
    """
    lost: list[str] = []
    row = read_row(row, field_map).row
    prompt = list(_messages(row, "prompt", "user", lost))
    completion = list(_messages(row, "completion", "assistant", lost))
    if not any(each.role == "assistant" and (each.content or each.tool_calls) for each in completion):
        beside = f"; {why_lost(lost)}" if lost else ""
        raise BadRow(f"no assistant message with text or tool calls in 'completion'{beside}")
    for name in TOOLS:
        tools = tools_of(row.get(name), name)
        if tools:
            return Conversation(prompt, completion, tools, name, tuple(dict.fromkeys(lost)))
    return Conversation(prompt, completion, lost=tuple(dict.fromkeys(lost)))


def why_lost(lost: Sequence[str]) -> str:
    """What a trainer would not be given of a conversation, as a reason to leave its row out."""
    named = ", ".join(f"'{path}'" for path in lost[:3])
    what = "has a part that is not text" if "content[" in lost[0] else "has a text of its own"
    return f"no trainer can be given what {named} holds: it {what}"


def check_turns(conversation: Conversation) -> None:
    """Raises BadRow for an order of turns that a trainer does not accept.

    LLaMA-Factory drops such a row, and many chat templates refuse it: after the system prompt the user (or
    results of tools, in any number) and the assistant alternate, and the assistant has the last word.
    """
    messages = conversation.messages
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    before = "assistant"
    for turn in turns:
        if turn.role == "system":
            raise BadRow("a system message that is not the first, which trainers drop")
        if turn.role == "assistant" and before == "assistant":
            what = "no turn of the user first" if turn is turns[0] else "two turns of the assistant in a row"
            raise BadRow(f"{what}, which trainers drop")
        if turn.role != "assistant" and before != "assistant" and not turn.role == before == "tool":
            raise BadRow(f"a turn of the {turn.role} after one of the {before}, which trainers drop")
        before = turn.role
    if before != "assistant":
        raise BadRow(f"the last turn is the {before}'s, which trainers drop")


def _messages(row: Row, name: str, role: str, lost: list[str]) -> Iterator[Message]:
    value = row.get(name)
    if isinstance(value, str):
        yield from _read({"role": role, "content": value}, name, lost, is_text=True)
        return
    for index, message in enumerate(fields.messages(row, name)):
        yield from _read(message, f"{name}[{index}]", lost)


def message_of(message: Row, path: str) -> Message:
    """One message; `path` names it if it cannot be read, which raises BadRow."""
    return next(_read(message, path, []))


def _read(message: Row, path: str, lost: list[str], *, is_text: bool = False) -> Iterator[Message]:
    role = message.get("role")
    if role not in ROLES:
        raise BadRow(f"field '{path}' has role {json.dumps(role)}; trainers know {', '.join(ROLES)}")
    is_assistant = role == "assistant"
    said = fields.said(message, path, is_assistant=is_assistant)
    if said.unclosed is not None:
        raise BadRow(f"{said.unclosed} without its end: the answer was cut off")
    origins = {"content": path if is_text else f"{path}.content"}
    calls = _tool_calls(message, path) if is_assistant else ()
    if calls:
        origins["tool_calls"] = f"{path}.tool_calls"
    apart = _thoughts_by_field(message)
    if is_assistant and said.reasoning is not None:
        key = next((key for key, thoughts in apart.items() if thoughts), None)
        origins["reasoning_content"] = origins["content"] if key is None else f"{path}.{key}"
    lost += _lost(message, apart, said.reasoning if is_assistant else None, path)
    yield Message(
        role,
        said.answer,
        said.reasoning if is_assistant else None,
        calls,
        _text_or_none(message, "tool_call_id", path),
        _text_or_none(message, "name", path),
        origins,
    )


def _thoughts_by_field(message: Row) -> dict[str, str | None]:
    """The reasoning of each field that is there for it."""
    there = (key for key in REASONING_FIELDS if message.get(key) is not None)
    return {key: read_message({key: message[key]}).reasoning for key in there}


def _lost(message: Row, apart: Mapping[str, str | None], reasoning: str | None, path: str) -> Iterator[str]:
    """The fields and parts whose text, image or sound the message does not have."""
    content = message.get("content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        said = read_message({"content": [part]})
        is_nothing = isinstance(part, Mapping) and not any(said) and not _is_sealed(part)
        if said.others or is_nothing or _is_other(said.reasoning, reasoning) or said.refusal:
            yield f"{path}.content[{index}]"
    for key, thoughts in apart.items():
        if _is_other(thoughts, reasoning):
            yield f"{path}.{key}"
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        yield f"{path}.refusal"


def _is_sealed(part: Row) -> bool:
    """Whether a part holds no text that anybody could read: an empty one, or encrypted reasoning."""
    kind = str(part.get("type"))
    return kind.startswith(("reasoning", "redacted", "thinking", "thought")) or not any(
        value for key, value in part.items() if key != "type"
    )


def _is_other(text: str | None, reasoning: str | None) -> bool:
    # the same text is the rule, and a search for a long one in itself is slow
    return text is not None and text != reasoning and text.strip() not in (reasoning or "")


def _tool_calls(message: Row, path: str) -> list[ToolCall]:
    calls = _list(message.get("tool_calls"), f"{path}.tool_calls")
    return [_tool_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: Any, path: str) -> ToolCall:
    """A call as an object, flat or under `function`, or as the JSON text of one (verifiers 0.1)."""
    call = _object(call, path)
    function = call.get("function") or call
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise BadRow(f"field '{path}' names no function")
    return ToolCall(_text_or_none(call, "id", path), name, _arguments(function.get("arguments"), path))


def _arguments(value: Any, path: str) -> str:
    """JSON text: as the model wrote it, if it is JSON; blank and null are no arguments."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "{}"
    if not isinstance(value, str):
        return _json_text(value)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        raise BadRow(f"the arguments of '{path}' are not JSON, which trainers raise on") from None
    return value


def tools_of(value: Any, path: str) -> list[dict[str, Any]]:
    """Tools as the model was given them, each `{"type": "function", "function": {...}}`; flat ones too.

    A list, or its JSON text; empty if there is none. Raises BadRow for what is no tool.
    """
    return [_tool(each, f"{path}[{index}]") for index, each in enumerate(_list(value, path))]


def _tool(value: Any, path: str) -> dict[str, Any]:
    tool = {key: each for key, each in _object(value, path).items() if each is not None}
    if not isinstance(tool.get("function"), Mapping):
        flat = {key: each for key, each in tool.items() if key != "type"}
        tool = {"type": "function", "function": flat}
    function = {key: each for key, each in tool["function"].items() if each is not None}
    if not isinstance(function.get("name"), str):
        raise BadRow(f"field '{path}' is a tool without a name")
    return {**tool, "function": function}


def stored_message(message: Row) -> dict[str, Any]:
    """A message of a server or tool as a built row keeps it: as it came, tool calls as objects.

    Raises BadRow for a message without a role, and for tool calls that are none; what their arguments hold
    is the model's and stays.
    """
    role = message.get("role")
    if not isinstance(role, str):
        raise BadRow(f"a message whose role is {fields.type_name(role)}")
    found: dict[str, Any] = {"role": role, "content": message.get("content")}
    is_plain = any(message.get(key) for key in fields.REASONING)
    for key in (*(fields.REASONING if is_plain else REASONING_FIELDS), "name", "tool_call_id", "refusal"):
        if message.get(key) is not None:
            found[key] = message[key]
    calls = _list(message.get("tool_calls"), "tool_calls")
    if calls:
        found["tool_calls"] = [_stored_call(call, f"tool_calls[{index}]") for index, call in enumerate(calls)]
    return found


def _stored_call(call: Any, path: str) -> dict[str, Any]:
    call = _object(call, path)
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow(f"field '{path}' names no function")
    named = {"name": function["name"], "arguments": function.get("arguments")}
    known = {"id": call["id"]} if call.get("id") is not None else {}
    return {**known, "type": "function", "function": named}


def _text_or_none(value: Row, key: str, path: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise BadRow(f"field '{path}.{key}' is {fields.type_name(found)}, not text")
    return found


def _list(value: Any, path: str) -> list[Any]:
    """A list, also if it is JSON as text; null, blank and `"null"` are empty."""
    if isinstance(value, str):
        value = _from_json(value, path) if value.strip() else None
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow(f"field '{path}' is {fields.type_name(value)}, not a list")
    return value


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = _from_json(value, path)
    if not isinstance(value, Mapping):
        raise BadRow(f"field '{path}' is {fields.type_name(value)}, not an object")
    return value


def _from_json(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(f"field '{path}' is text that is not JSON") from None


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
