"""A row of a dataset in the columns that one kind of trainer reads. Pure.

`messages` and `prompt-completion` serve prime-rl and TRL, `sharegpt` and `alpaca` LLaMA-Factory. Beside the
text stand sample_hash, module_name, reward and difficulty; `tools` is JSON text, where there were tools.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from kbetl.dataset import Row
from kbetl.dataset.splicing import json_bytes
from kbetl.errors import BadRow
from kbetl.export.answers import answered, refuse_leak, row_without_reasoning
from kbetl.export.conversation import Conversation, Message, conversation_of
from kbetl.json_text import stored_value

Format = Literal["rows", "messages", "prompt-completion", "sharegpt", "alpaca"]
FORMATS: tuple[Format, ...] = ("rows", "messages", "prompt-completion", "sharegpt", "alpaca")
METADATA = ("sample_hash", "module_name", "reward", "difficulty")

_THOUGHT = ("<think>\n", "\n</think>\n\n")
"""As LLaMA-Factory's templates put a chain of thought before the text."""


Convert = Callable[[Row], bytes]


def converter(format_: Format, *, has_reasoning: bool, left_out: set[str]) -> Convert:
    """What turns a row of rollouts into the JSON text of a format.

    It raises BadRow with the reason for a row that the format cannot carry whole. `left_out` is given the
    columns of `rows` that go with the reasoning.
    """
    if format_ == "rows":
        return _row_text if has_reasoning else _rows_without_reasoning(left_out)
    shape = _SHAPES[format_]

    def convert(row: Row) -> bytes:
        value = stored_value(row.text)
        if has_reasoning:
            return json_bytes({**shape(conversation_of(value)), **_metadata(row)})
        found = answered(value)
        shaped = shape(found.conversation)
        refuse_leak(shaped, found.taken)
        return json_bytes({**shaped, **_metadata(row)})

    return convert


def _row_text(row: Row) -> bytes:
    return row.text


def _rows_without_reasoning(left_out: set[str]) -> Convert:
    def convert(row: Row) -> bytes:
        value = stored_value(row.text)
        found = answered(value)
        kept = row_without_reasoning(value, found)
        refuse_leak(kept, found.taken)
        left_out.update(value.keys() - kept.keys())
        return json_bytes(kept)

    return convert


def _metadata(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in METADATA}


def _messages(conversation: Conversation) -> dict[str, Any]:
    both = [*conversation.prompt, *conversation.completion]
    return {"messages": [_message(each) for each in both], **_tools(conversation)}


def _prompt_completion(conversation: Conversation) -> dict[str, Any]:
    return {
        "prompt": [_message(each) for each in conversation.prompt],
        "completion": [_message(each) for each in conversation.completion],
        **_tools(conversation),
    }


def _tools(conversation: Conversation) -> dict[str, str]:
    return {} if conversation.tools is None else {"tools": conversation.tools}


def _message(message: Message) -> dict[str, Any]:
    """A message of the chat-completions API; what it lacks has no key."""
    optional = {
        "reasoning_content": message.reasoning,
        "tool_calls": [
            {
                **({} if call.id is None else {"id": call.id}),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
        or None,
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
    kept = {key: value for key, value in optional.items() if value is not None}
    return {"role": message.role, "content": message.content, **kept}


def _sharegpt(conversation: Conversation) -> dict[str, Any]:
    both = [*conversation.prompt, *conversation.completion]
    return {"conversations": [_turn(each) for each in both], **_tools(conversation)}


_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def _turn(message: Message) -> dict[str, str]:
    if not message.tool_calls:
        return {"from": _SPEAKERS[message.role], "value": _with_thought(message, message.content)}
    if message.content.strip():
        raise BadRow("a message with text and tool calls at once, which sharegpt cannot carry")
    calls = [{"name": call.name, "arguments": _arguments(call.arguments)} for call in message.tool_calls]
    value = json_bytes(calls[0] if len(calls) == 1 else calls).decode()
    return {"from": "function_call", "value": _with_thought(message, value)}


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BadRow("arguments of a tool call that are not JSON, which sharegpt cannot carry") from None


def _with_thought(message: Message, text: str) -> str:
    return text if message.reasoning is None else f"{_THOUGHT[0]}{message.reasoning}{_THOUGHT[1]}{text}"


def _alpaca(conversation: Conversation) -> dict[str, Any]:
    asked = [each for each in conversation.prompt if each.role != "system"]
    roles = [each.role for each in (*asked, *conversation.completion)]
    if roles != ["user", "assistant"] or conversation.completion[0].tool_calls:
        raise BadRow("more than one question and one answer, which alpaca cannot carry")
    systems = _joined([each for each in conversation.prompt if each.role == "system"])
    return {
        "instruction": asked[0].content,
        "input": "",
        "output": _with_thought(conversation.completion[0], conversation.completion[0].content),
        **({"system": systems} if systems else {}),
    }


def _joined(messages: Sequence[Message]) -> str:
    return "\n\n".join(each.content for each in messages)


_SHAPES: Mapping[str, Callable[[Conversation], dict[str, Any]]] = {
    "messages": _messages,
    "prompt-completion": _prompt_completion,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}
