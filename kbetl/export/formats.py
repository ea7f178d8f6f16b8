"""Converts rows to the columns that trainers read, one format per kind of trainer. Pure.

`messages` and `prompt-completion` are for prime-rl and TRL, `sharegpt` and `alpaca` for LLaMA-Factory. A row
also has sample_hash, module_name, reward, difficulty and labels, and `tools` as JSON text if it has tools. A
new format is a function that makes its columns, and an entry at the end of this file.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from kbetl.dataset.registry import DATASETS
from kbetl.errors import BadRow, ConfigError
from kbetl.export.target import data_path
from kbetl.json_codec import json_bytes, stored_value
from kbetl.samples.conversation import Conversation, Message, check_turns, conversation_of, why_lost
from kbetl.samples.messages import REASONING_FIELDS, read_message
from kbetl.samples.reading import stored_map
from kbetl.store.datasets import Split
from kbetl.store.lengths import seq_len

if TYPE_CHECKING:
    from kbetl.dataset.dataset import Row

METADATA = ("sample_hash", "module_name", "reward", "difficulty")
_OF_TRAINERS = (
    *("messages", "prompt", "completion", "tools", "conversations"),
    *("instruction", "input", "output", "system"),
)
_OF_SYNTHETIC = ("prompt", "module_name", "python_code", "triton_code", "uuid")

# How LLaMA-Factory's templates wrap a chain of thought before the text.
_THOUGHT = ("<think>\n", "\n</think>\n\n")


Convert = Callable[["Row"], bytes]

UNREAD_REASONING = (
    "rows have reasoning that is not in `reasoning_content`, and prime-rl reads no other field; "
    "--format messages or prompt-completion writes it there"
)
_OTHER_REASONING = "|".join(name for name in REASONING_FIELDS if name != "reasoning_content")
_MAY_BE_UNREAD = re.compile(rf'"(?:{_OTHER_REASONING})"\s*:\s*["\[{{]'.encode())


def check_format(dataset: str, format_: str, *, has_reasoning: bool = True) -> None:
    """Raises ConfigError for an unknown format, and for one that the dataset does not have."""
    if format_ not in FORMATS:
        raise ConfigError(f"--format {format_}: choose from {', '.join(FORMATS)}")
    if not DATASETS[dataset].has_completions and (format_ != "rows" or not has_reasoning):
        has = "has prompts and" if DATASETS[dataset].kind == "module" else "has"
        raise ConfigError(f"{dataset} {has} no completions: only --format rows, with all columns")


def check_labels(dataset: str, format_: str, labels: Collection[str]) -> None:
    """Raises ConfigError for a label that would stand where the rows have another column of ours."""
    ours: Collection[str] = _OF_TRAINERS if format_ != "rows" else ()
    ours = _OF_SYNTHETIC if DATASETS[dataset].kind == "module" else ours
    for name in labels:
        if name in ours:
            raise ConfigError(
                f"--with {name}: {dataset} as {format_} has a column of that name; leave it out"
            )


def format_of(columns: Collection[str]) -> str:
    """Returns the format of rows with these columns."""
    found = (name for name, each in FORMATS.items() if each.column in columns)
    return next(found, "rows") if "sample_hash" in columns else "rows"


def has_unread_reasoning(text: bytes) -> bool:
    """Whether a row of a source has reasoning in a field that prime-rl does not read."""
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


class ExportedFolder(NamedTuple):
    """What the settings of a trainer need to know of an exported folder."""

    dataset: str
    path: str
    splits: Sequence[Split]
    columns: Callable[[], Sequence[str]]
    longest_tokens: Callable[[], Mapping[str, int]]
    """Returns the tokens of the longest row by tokenizer; empty if not all rows are measured."""


class Format(NamedTuple):
    """One format: its columns, and the settings of trainers for it."""

    columns: Callable[[Conversation], dict[str, Any]] | None
    """Returns the columns of a conversation; None if the format keeps the row unchanged."""
    settings: Callable[[ExportedFolder], dict[str, str]]
    """Returns the texts of a trainer's settings files, by file name."""
    column: str | None
    """The column that identifies its rows, with `sample_hash`; None for unchanged rows."""
    read_by: str
    """Which columns it has, and which trainers read it."""
    llama_factory: Mapping[str, Any] | None = None
    """Its entry in LLaMA-Factory's `dataset_info.json`; None if LLaMA-Factory does not read it."""


def converter(format_: str, *, has_reasoning: bool, left_out: set[str]) -> Convert:
    """Returns the function that converts a rollout's row to the JSON text of a format.

    It raises BadRow, with the reason, for a row that the format cannot express completely. Columns that
    are dropped with the reasoning (format `rows`) are added to `left_out`.
    """
    shape = FORMATS[format_].columns
    if shape is None:
        return _row_text if has_reasoning else _rows_without_reasoning(left_out)
    from kbetl.export.strip_reasoning import check_no_leak, without_reasoning

    def convert(row: Row) -> bytes:
        value = stored_value(row.text)
        if has_reasoning:
            conversation = conversation_of(value, stored_map(row.field_map))
            return json_bytes({**shape(_complete(conversation)), **_metadata(row)})
        found = without_reasoning(value, stored_map(row.field_map))
        shaped = shape(_complete(found.conversation, has_reasoning=False))
        check_no_leak(shaped, found.removed_texts)
        return json_bytes({**shaped, **_metadata(row)})

    return convert


def _complete(conversation: Conversation, *, has_reasoning: bool = True) -> Conversation:
    """Returns the conversation if trainers read all of it. Raises BadRow if a part would be lost."""
    check_turns(conversation)
    lost = [
        path for path in conversation.lost if has_reasoning or path.rpartition(".")[2] not in REASONING_FIELDS
    ]
    if lost:
        raise BadRow(why_lost(lost))
    return conversation


def _row_text(row: Row) -> bytes:
    return row.text


def _rows_without_reasoning(left_out: set[str]) -> Convert:
    from kbetl.export.strip_reasoning import check_no_leak, row_without_reasoning, without_reasoning

    def convert(row: Row) -> bytes:
        value = stored_value(row.text)
        if row.field_map is not None or value.get("completion") is None:
            raise BadRow("its answer is in no field 'completion'; --format messages leaves reasoning out too")
        found = without_reasoning(value)
        cleaned = row_without_reasoning(value, found)
        check_no_leak(cleaned, found.removed_texts)
        left_out.update(value.keys() - cleaned.keys())
        return json_bytes(cleaned)

    return convert


def _metadata(row: Row) -> dict[str, Any]:
    return {**{name: getattr(row, name) for name in METADATA}, **row.labels}


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


def _dataset_info(entry: Mapping[str, Any], folder: ExportedFolder) -> dict[str, str]:
    """Returns `dataset_info.json` of LLaMA-Factory, with an entry per split."""
    wanted = _with_columns(entry, folder.columns())
    described = {
        f"{folder.dataset}_{split}": {"file_name": data_path(split), **wanted} for split in folder.splits
    }
    return {"dataset_info.json": json.dumps(described, indent=2) + "\n"}


def trainer_entry(format_: str, columns: Collection[str]) -> dict[str, Any] | None:
    """Returns LLaMA-Factory's entry for rows with these columns, without `file_name`; None if it has none."""
    entry = FORMATS[format_].llama_factory
    return None if entry is None else _with_columns(entry, columns)


def _with_columns(entry: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
    return {**entry, "columns": {key: name for key, name in entry["columns"].items() if name in columns}}


_SHAREGPT: dict[str, Any] = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "tools": "tools"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
}
_ALPACA: dict[str, Any] = {
    "formatting": "alpaca",
    "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"},
}


def _sft_toml(folder: ExportedFolder) -> dict[str, str]:
    """Returns `sft.toml` of prime-rl, with the seq_len of the longest row."""
    longest_tokens = folder.longest_tokens()
    lines = [
        "[data]",
        f"name = {json.dumps(folder.path, ensure_ascii=False)}",
        f"splits = {json.dumps(folder.splits[:1])}",
    ]
    if not longest_tokens:
        lines.append("# seq_len: not all rows are measured; kbetl lengths measures them")
    for number, (tokenizer, tokens) in enumerate(longest_tokens.items()):
        lines.append(
            f"# the longest row has {tokens:,} tokens with {json.dumps(tokenizer, ensure_ascii=False)}"
        )
        lines.append(f"{'# ' if number else ''}seq_len = {seq_len(tokens)}")
    return {"sft.toml": "\n".join(lines) + "\n"}


def _nothing(_folder: ExportedFolder) -> dict[str, str]:
    return {}


FORMATS: Mapping[str, Format] = {
    "rows": Format(
        None,
        _nothing,
        None,
        "every column as its source has it; of these prime-rl and TRL read `messages`, or `prompt` and "
        "`completion`",
    ),
    "messages": Format(
        _messages,
        _sft_toml,
        "messages",
        "`messages`, which prime-rl, TRL and axolotl (`type: chat_template`) read",
    ),
    "prompt-completion": Format(
        _prompt_completion,
        _sft_toml,
        "completion",
        "`prompt` and `completion`, which prime-rl and TRL read, TRL with the loss on the completion alone",
    ),
    "sharegpt": Format(
        _sharegpt,
        partial(_dataset_info, _SHAREGPT),
        "conversations",
        "`conversations` with `from` and `value`, which LLaMA-Factory reads",
        _SHAREGPT,
    ),
    "alpaca": Format(
        _alpaca,
        partial(_dataset_info, _ALPACA),
        "instruction",
        "`instruction` and `output`, which LLaMA-Factory reads",
        _ALPACA,
    ),
}
