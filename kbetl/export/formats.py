"""A row of a dataset in the columns that one kind of trainer reads. Pure.

`messages` and `prompt-completion` serve prime-rl and TRL, `sharegpt` and `alpaca` LLaMA-Factory. Beside the
text stand sample_hash, module_name, reward and difficulty; `tools` is JSON text, where there were tools.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from kbetl.dataset import Row
from kbetl.errors import BadRow, ConfigError
from kbetl.export.strip_reasoning import check_no_leak, row_without_reasoning, without_reasoning
from kbetl.json_codec import json_bytes, stored_value
from kbetl.samples.conversation import Conversation, Message, check_turns, conversation_of, why_lost
from kbetl.samples.messages import REASONING_FIELDS, read_message

Format = Literal["rows", "messages", "prompt-completion", "sharegpt", "alpaca"]
FORMATS: tuple[Format, ...] = ("rows", "messages", "prompt-completion", "sharegpt", "alpaca")
TRAINERS: Mapping[Format, str] = {
    "rows": "every column as its source has it; of these prime-rl and TRL read `messages`, or `prompt` and "
    "`completion`",
    "messages": "`messages`, which prime-rl, TRL and axolotl (`type: chat_template`) read",
    "prompt-completion": "`prompt` and `completion`, which prime-rl and TRL read, TRL with the loss on the "
    "completion alone",
    "sharegpt": "`conversations` with `from` and `value`, which LLaMA-Factory reads",
    "alpaca": "`instruction` and `output`, which LLaMA-Factory reads",
}
"""What each format holds, and for whom."""
METADATA = ("sample_hash", "module_name", "reward", "difficulty")

_THOUGHT = ("<think>\n", "\n</think>\n\n")
"""As LLaMA-Factory's templates put a chain of thought before the text."""


Convert = Callable[[Row], bytes]

UNREAD_REASONING = (
    "rows have reasoning that is not in `reasoning_content`, and prime-rl reads no other field; "
    "--format messages or prompt-completion writes it there"
)
_OTHER_REASONING = "|".join(name for name in REASONING_FIELDS if name != "reasoning_content")
_MAY_BE_UNREAD = re.compile(rf'"(?:{_OTHER_REASONING})"\s*:\s*["\[{{]'.encode())


def check_format(dataset: str, format_: str, *, has_reasoning: bool = True) -> None:
    """Raises ConfigError for a format that there is not, or that a dataset cannot have."""
    if format_ not in FORMATS:
        raise ConfigError(f"--format {format_}: choose from {', '.join(FORMATS)}")
    if dataset == "synthetic" and (format_ != "rows" or not has_reasoning):
        raise ConfigError("synthetic has prompts and no completions: only --format rows, with all columns")


def format_of(columns: Collection[str]) -> Format:
    """The format that rows with these columns are in."""
    if "sample_hash" in columns:
        for format_, column in _COLUMN.items():
            if column in columns:
                return format_
    return "rows"


def has_unread_reasoning(text: bytes) -> bool:
    """Whether a row, as its source has it, says to itself what prime-rl does not read."""
    if _MAY_BE_UNREAD.search(text) is None:
        return False
    row = stored_value(text)
    messages = [each for name in ("messages", "completion") for each in _list(row.get(name))]
    return any(_is_unread(each) for each in messages)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_unread(message: Any) -> bool:
    if not isinstance(message, Mapping) or message.get("reasoning_content"):
        return False
    try:
        return read_message(message).reasoning is not None
    except ValueError:
        return False


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
            return json_bytes({**shape(_whole(conversation_of(value))), **_metadata(row)})
        found = without_reasoning(value)
        shaped = shape(_whole(found.conversation, is_reasoning_told=False))
        check_no_leak(shaped, found.taken)
        return json_bytes({**shaped, **_metadata(row)})

    return convert


def _whole(conversation: Conversation, *, is_reasoning_told: bool = True) -> Conversation:
    """The conversation, if trainers take all of it. Raises BadRow for what they drop or are not given."""
    check_turns(conversation)
    lost = [
        path
        for path in conversation.lost
        if is_reasoning_told or path.rpartition(".")[2] not in REASONING_FIELDS
    ]
    if lost:
        raise BadRow(why_lost(lost))
    return conversation


def _row_text(row: Row) -> bytes:
    return row.text


def _rows_without_reasoning(left_out: set[str]) -> Convert:
    def convert(row: Row) -> bytes:
        value = stored_value(row.text)
        found = without_reasoning(value)
        kept = row_without_reasoning(value, found)
        check_no_leak(kept, found.taken)
        left_out.update(value.keys() - kept.keys())
        return json_bytes(kept)

    return convert


def _metadata(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in METADATA}


def _messages(conversation: Conversation) -> dict[str, Any]:
    return {"messages": [each.body() for each in conversation.messages], **_tools(conversation)}


def _prompt_completion(conversation: Conversation) -> dict[str, Any]:
    return {
        "prompt": [each.body() for each in conversation.prompt],
        "completion": [each.body() for each in conversation.completion],
        **_tools(conversation),
    }


def _tools(conversation: Conversation) -> dict[str, str]:
    return {} if conversation.tools is None else {"tools": json_bytes(conversation.tools).decode()}


def _sharegpt(conversation: Conversation) -> dict[str, Any]:
    if any(one.role == other.role == "tool" for one, other in itertools.pairwise(conversation.messages)):
        raise BadRow(
            "two results of tools in a row, which LLaMA-Factory drops in sharegpt; messages joins them"
        )
    return {"conversations": [_turn(each) for each in conversation.messages], **_tools(conversation)}


_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def _turn(message: Message) -> dict[str, str]:
    if not message.tool_calls:
        return {"from": _SPEAKERS[message.role], "value": _with_thought(message, message.content)}
    if message.content.strip():
        raise BadRow("a message with text and tool calls at once, which sharegpt cannot carry")
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.tool_calls]
    value = json_bytes(calls[0] if len(calls) == 1 else calls).decode()
    return {"from": "function_call", "value": _with_thought(message, value)}


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


_COLUMN: Mapping[Format, str] = {
    "messages": "messages",
    "prompt-completion": "completion",
    "sharegpt": "conversations",
    "alpaca": "instruction",
}
"""The column by which the format of rows is known; all but `rows` have `sample_hash` too."""
_SHAPES: Mapping[str, Callable[[Conversation], dict[str, Any]]] = {
    "messages": _messages,
    "prompt-completion": _prompt_completion,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}
