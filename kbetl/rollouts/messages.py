"""Messages as servers and tools write them, in the one shape that a row has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kbetl.errors import BadRow
from kbetl.fields import REASONING, Row, type_name

_KEPT = ("name", "tool_call_id", "refusal")


def message_of(message: Row) -> dict[str, Any]:
    """Role, content and reasoning as they are, and tool calls as objects in OpenAI's shape.

    Raises BadRow for a message without a role, and for tool calls that are none.
    """
    role = message.get("role")
    if not isinstance(role, str):
        raise BadRow(f"a message whose role is {type_name(role)}")
    found: dict[str, Any] = {"role": role, "content": message.get("content")}
    for key in (*REASONING, *_KEPT):
        if message.get(key) is not None:
            found[key] = message[key]
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise BadRow(f"field 'tool_calls' is {type_name(calls)}, not a list")
    if calls:
        found["tool_calls"] = [_call(call) for call in calls]
    return found


def _call(call: Any) -> dict[str, Any]:
    """A call: flat or under `function`, an object or its JSON text."""
    if isinstance(call, str):
        try:
            call = json.loads(call)
        except (ValueError, RecursionError):
            raise BadRow("a tool call is text that is not JSON") from None
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow("a tool call names no function")
    named = {"name": function["name"], "arguments": function.get("arguments")}
    known = {"id": call["id"]} if call.get("id") is not None else {}
    return {**known, "type": "function", "function": named}
