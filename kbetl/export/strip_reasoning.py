"""Removes the reasoning from a row, and keeps the answers of the model's turns. Pure.

In every assistant turn, anywhere in the row, the answer is the text between `<answer>` and `</answer>` or
`BEGIN_PYTHON` and `END_PYTHON`, with these marks. Without marks it is the text beside a reasoning field or a
closed thought such as `<think>..</think>`. A turn with neither may be reasoning, so its row is left out.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kbetl.errors import BadRow
from kbetl.json_codec import json_bytes
from kbetl.samples.conversation import Conversation, Message, conversation_of, message_of
from kbetl.samples.messages import Split, mark_in, split_thoughts
from kbetl.samples.reading import FieldMap

_MARKED = (
    ("<answer>", "</answer>", re.compile(r"<answer>.*?</answer>", re.DOTALL)),
    ("BEGIN_PYTHON", "END_PYTHON", re.compile(r"BEGIN_PYTHON.*?END_PYTHON", re.DOTALL)),
)
_REASONING_KEY = re.compile(r"(?:reasoning|thinking|thoughts?|chain_of_thought|cot)(?:$|_(?!tokens|effort))")
# Fields with the tokens of a text, and so its reasoning.
_TOKEN_FIELDS = frozenset(
    (
        "token_ids",
        "completion_ids",
        "completion_token_ids",
        "output_token_ids",
        "output_ids",
        "input_ids",
        "logprobs",
        "completion_logprobs",
        "tokens",
    )
)
# Columns with a copy of the whole conversation, or with the rating model's answer and reasoning.
_COLUMNS_LEFT_OUT = frozenset(("trajectory", "nodes", "traces", "evaluation_raw"))

# Letters and digits that a removed text needs so that it appears elsewhere by no chance: reasoning, and
# text beside an answer.
_MIN_REASONING = 12
_MIN_REST = 40
# From this length on the beginning is searched too, because a column may hold the text truncated.
_LONG = 200
_BEGINNING = 120
_ESCAPE = re.compile(r"\\+(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NO_LETTER = re.compile(r"[^A-Za-z0-9]+")


class WithoutReasoning(NamedTuple):
    """A conversation without reasoning, and the texts that were removed from it."""

    conversation: Conversation
    removed_texts: Sequence[str]
    """Letters and digits of each text that is long enough to be searched."""


def without_reasoning(row: Mapping[str, Any], field_map: FieldMap | None = None) -> WithoutReasoning:
    """Returns a row's conversation without reasoning. Raises BadRow if a turn has no recognisable answer."""
    conversation = conversation_of(row, field_map)
    own = [*conversation.prompt, *conversation.completion]
    last = next((each for each in reversed(conversation.completion) if each.role == "assistant"), None)
    if last is None or not (last.content.strip() or last.tool_calls):
        raise BadRow("no recognisable answer: no assistant text at the end")
    turns = [each for each in conversation.completion if each.role == "assistant" and each.content]
    is_separate = len(turns) == 1 and _has_reasoning_beside(row)
    removed_texts = [text for each in own for text in _removed_from(each)]
    return WithoutReasoning(
        dataclasses.replace(
            conversation,
            prompt=[_answer_of(each) for each in conversation.prompt],
            completion=[_answer_of(each, is_separate=is_separate) for each in conversation.completion],
        ),
        list(dict.fromkeys([*removed_texts, *_thoughts_in(row)])),
    )


def row_without_reasoning(row: Mapping[str, Any], found: WithoutReasoning) -> dict[str, Any]:
    """Returns a row without all fields that hold reasoning, and with the answers of its turns.

    Raises BadRow for a message in another field that has no recognisable answer.
    """
    cleaned = {key: value for key, value in row.items() if key not in _COLUMNS_LEFT_OUT}
    cleaned = {key: cleaned[key] for key in cleaned if not _is_reasoning(key, cleaned[key])}
    for field in ("prompt", "completion"):
        messages = getattr(found.conversation, field)
        if isinstance(row.get(field), list):
            cleaned[field] = [_with_answer(*both) for both in zip(row[field], messages, strict=True)]
        elif isinstance(row.get(field), str):
            cleaned[field] = messages[0].content
    return {
        key: value if key in ("prompt", "completion") else _cleaned(value, key)
        for key, value in cleaned.items()
    }


def check_no_leak(row: Mapping[str, Any], removed_texts: Sequence[str]) -> None:
    """Raises BadRow if a removed text is still in the row, also as JSON inside a text."""
    for key, value in row.items():
        texts = [_letters(text) for text in _texts(value)]
        if any(each in text for text in texts for each in removed_texts):
            raise BadRow(f"its reasoning also stands in column '{key}'")


def _with_answer(message: Mapping[str, Any], answer: Message) -> dict[str, Any]:
    """Returns the message without reasoning, with the answer as its content."""
    cleaned = {key: _cleaned(value, key) for key, value in message.items() if not _is_reasoning(key, value)}
    if answer.role == "assistant" and message.get("content") is not None:
        cleaned["content"] = answer.content
    return cleaned


def _answer_of(message: Message, *, is_separate: bool = False) -> Message:
    """Returns an assistant's message with its answer alone; other messages unchanged."""
    if message.role != "assistant":
        return message
    calls = [
        dataclasses.replace(call, arguments=_cleaned_json(call.arguments, call.name))
        for call in message.tool_calls
    ]
    if not message.content.strip():
        return dataclasses.replace(message, content="", reasoning=None, tool_calls=calls)
    text = _split(message.content).answer
    marked = _marked(text)
    if marked is None and (is_separate or message.reasoning is not None or text != message.content):
        marked = text.strip() or None
    if marked is None:
        raise BadRow(
            "no recognisable answer in a turn: no <answer>, no BEGIN_PYTHON, no reasoning apart from the text"
        )
    return dataclasses.replace(message, content=marked, reasoning=None, tool_calls=calls)


def _marked(text: str) -> str | None:
    """Returns the answer between marks; None if there are no marks. Raises BadRow if they do not pair up."""
    for opening, closing, pattern in _MARKED:
        found = dict.fromkeys(pattern.findall(text))
        if len(found) > 1:
            raise BadRow(f"{len(found)} different answers between {opening} and its end mark")
        for answer in map(str, found):
            if answer.count(opening) > 1:
                raise BadRow(f"{opening} stands twice before its end mark")
            return answer
        if opening in text:
            raise BadRow(f"{opening} without its end mark")
        if closing in text:
            raise BadRow(f"{closing} without its beginning")
    return None


def _split(text: str) -> Split:
    """Splits a text into its thoughts and the rest.

    Raises BadRow for a thought that does not end, and for a mark of reasoning in the rest.
    """
    split = split_thoughts(text)
    if split.unclosed is not None:
        raise BadRow(f"{split.unclosed} without its end: the answer was cut off")
    mark = mark_in(split.answer)
    if mark is not None:
        raise BadRow(f"{mark} within the answer: what it holds may be reasoning")
    return split


def _cleaned(value: Any, key: str) -> Any:
    """Returns a value without reasoning; messages of an assistant in it have their answers alone."""
    if isinstance(value, dict):
        if value.get("role") == "assistant" and "content" in value:
            return _with_answer(value, _answer_of(message_of(value, key)))
        return {name: _cleaned(child, key) for name, child in value.items() if not _is_reasoning(name, child)}
    if isinstance(value, list):
        return [_cleaned(child, key) for child in value]
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return _cleaned_json(value, key)
    return value


def _cleaned_json(text: str, key: str) -> str:
    """Returns JSON text (`info`, arguments of a call) without reasoning; unchanged if it has none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    cleaned = _cleaned(value, key)
    return text if cleaned == value else json_bytes(cleaned).decode()


def _is_reasoning(key: str, value: Any) -> bool:
    """Whether a field holds reasoning, or text as tokens; a number about reasoning is none."""
    if not isinstance(value, str | list | dict):
        return False
    name = key.lower()
    is_tokens = name in _TOKEN_FIELDS and not isinstance(value, str)
    return is_tokens or _REASONING_KEY.match(name) is not None


def _has_reasoning_beside(row: Mapping[str, Any]) -> bool:
    """Whether reasoning is in another column than the messages, such as a trajectory."""
    beside = {key: value for key, value in row.items() if key not in ("prompt", "completion")}
    return any(text.strip() for text in _reasoning_in(beside))


def _reasoning_in(value: Any) -> Iterator[str]:
    """Yields all texts of reasoning fields in a value."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key.lower() not in _TOKEN_FIELDS and _is_reasoning(key, child):
                yield from _texts(child)
            else:
                yield from _reasoning_in(child)
    elif isinstance(value, list):
        for child in value:
            yield from _reasoning_in(child)


def _thoughts_in(row: Mapping[str, Any]) -> Iterator[str]:
    for text in _reasoning_in(dict(row)):
        yield from _probes(text, _MIN_REASONING)


def _removed_from(message: Message) -> Iterator[str]:
    """Yields what `_answer_of` removes from a message: thoughts, text around the answer, and the whole."""
    if message.role != "assistant":
        return
    if message.reasoning is not None:
        yield from _probes(message.reasoning, _MIN_REASONING)
    tail, thoughts, _ = _split(message.content)
    yield from _probes(thoughts or "", _MIN_REASONING)
    marked = _marked(tail)
    before, _, behind = tail.partition(marked) if marked is not None else ("", "", "")
    for rest in (before, behind):
        yield from _probes(rest, _MIN_REST)
    if thoughts or before.strip() or behind.strip():
        yield from _probes(message.content, _MIN_REASONING)


def _probes(text: str, min_letters: int) -> Iterator[str]:
    letters = _letters(text)
    if len(letters) >= min_letters:
        yield letters
    if len(letters) >= _LONG:
        yield letters[:_BEGINNING]


def _letters(text: str) -> str:
    """Returns the letters and digits of a text, which no escaping or quoting changes."""
    return _NO_LETTER.sub("", _ESCAPE.sub("", text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts(child)
