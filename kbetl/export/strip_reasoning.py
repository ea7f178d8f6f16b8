"""The answers in a model's turns, without the reasoning around them. Pure.

In every assistant turn, wherever in the row it stands, the answer is what stands between `<answer>` and
`</answer>` or `BEGIN_PYTHON` and `END_PYTHON` (the marks stay); where there are no such marks, the text that
a reasoning field or a closed thought such as `<think>..</think>` sets apart. A turn whose text is neither
cannot be told from reasoning, and stops its row.
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
_SPELLED_ANEW = frozenset(
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
"""Lists of tokens: the same text once more, reasoning and all."""
_COLUMNS_LEFT_OUT = frozenset(("trajectory", "nodes", "traces", "evaluation_raw"))
"""The whole exchange once more, and the rating model's answer with what it thought."""

_TELLING_THOUGHT = 12
_TELLING_REST = 40
"""Letters and digits from which on reasoning, or text beside an answer, stands elsewhere by no chance."""
_LONG = 200
_BEGINNING = 120
"""Of a long text its beginning is looked for too: a column may hold it cut short."""
_ESCAPE = re.compile(r"\\+(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NO_LETTER = re.compile(r"[^A-Za-z0-9]+")


class Answered(NamedTuple):
    """What is shipped, and all that was taken out of it."""

    conversation: Conversation
    taken: Sequence[str]
    """As `_letters` gives it, long enough to be known again."""


def without_reasoning(row: Mapping[str, Any], field_map: FieldMap | None = None) -> Answered:
    """A row's conversation with no reasoning in it. Raises BadRow where a turn has no recognisable answer."""
    conversation = conversation_of(row, field_map)
    own = [*conversation.prompt, *conversation.completion]
    last = next((each for each in reversed(conversation.completion) if each.role == "assistant"), None)
    if last is None or not (last.content.strip() or last.tool_calls):
        raise BadRow("no recognisable answer: no assistant text at the end")
    turns = [each for each in conversation.completion if each.role == "assistant" and each.content]
    is_apart = len(turns) == 1 and _has_reasoning_beside(row)
    taken = [text for each in own for text in _taken(each)]
    return Answered(
        dataclasses.replace(
            conversation,
            prompt=[_answer_of(each) for each in conversation.prompt],
            completion=[_answer_of(each, is_apart=is_apart) for each in conversation.completion],
        ),
        list(dict.fromkeys([*taken, *_thoughts_in(row)])),
    )


def row_without_reasoning(row: Mapping[str, Any], found: Answered) -> dict[str, Any]:
    """A row less what holds reasoning, wherever it stands, and with the answers of its turns.

    Raises BadRow for a message elsewhere in the row that has no recognisable answer.
    """
    kept = {key: value for key, value in row.items() if key not in _COLUMNS_LEFT_OUT}
    kept = {key: kept[key] for key in kept if not _is_reasoning(key, kept[key])}
    for field in ("prompt", "completion"):
        messages = getattr(found.conversation, field)
        if isinstance(row.get(field), list):
            kept[field] = [_with_answer(*both) for both in zip(row[field], messages, strict=True)]
        elif isinstance(row.get(field), str):
            kept[field] = messages[0].content
    return {
        key: value if key in ("prompt", "completion") else _cleaned(value, key) for key, value in kept.items()
    }


def check_no_leak(row: Mapping[str, Any], taken: Sequence[str]) -> None:
    """Raises BadRow where a text that was taken out still stands somewhere, also as JSON inside a text."""
    for key, value in row.items():
        texts = [_letters(text) for text in _texts(value)]
        if any(each in text for text in texts for each in taken):
            raise BadRow(f"its reasoning also stands in column '{key}'")


def _with_answer(message: Mapping[str, Any], answer: Message) -> dict[str, Any]:
    """The message as it was, less its reasoning, with the answer as its content."""
    kept = {key: _cleaned(value, key) for key, value in message.items() if not _is_reasoning(key, value)}
    if answer.role == "assistant" and message.get("content") is not None:
        kept["content"] = answer.content
    return kept


def _answer_of(message: Message, *, is_apart: bool = False) -> Message:
    """A message with its answer alone; others than the assistant's as they are."""
    if message.role != "assistant":
        return message
    calls = [
        dataclasses.replace(call, arguments=_cleaned_json(call.arguments, call.name))
        for call in message.tool_calls
    ]
    if not message.content.strip():
        return dataclasses.replace(message, content="", reasoning=None, tool_calls=calls)
    text = _apart(message.content).answer
    marked = _marked(text)
    if marked is None and (is_apart or message.reasoning is not None or text != message.content):
        marked = text.strip() or None
    if marked is None:
        raise BadRow(
            "no recognisable answer in a turn: no <answer>, no BEGIN_PYTHON, no reasoning apart from the text"
        )
    return dataclasses.replace(message, content=marked, reasoning=None, tool_calls=calls)


def _marked(text: str) -> str | None:
    """The answer between its marks; None where there are no marks."""
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


def _apart(text: str) -> Split:
    """A text without its thoughts, and these.

    Raises BadRow for a thought that does not end, and for a mark in the answer: what ships may hold no doubt.
    """
    split = split_thoughts(text)
    if split.unclosed is not None:
        raise BadRow(f"{split.unclosed} without its end: the answer was cut off")
    mark = mark_in(split.answer)
    if mark is not None:
        raise BadRow(f"{mark} within the answer: what it holds may be reasoning")
    return split


def _cleaned(value: Any, key: str) -> Any:
    """A value less its reasoning; messages of an assistant in it have their answers alone."""
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
    """Text that is JSON (`info`, arguments of a call), spelled anew only where reasoning was in it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    cleaned = _cleaned(value, key)
    return text if cleaned == value else json_bytes(cleaned).decode()


def _is_reasoning(key: str, value: Any) -> bool:
    """Whether a field holds reasoning, or the same text as tokens; numbers about it are none."""
    if not isinstance(value, str | list | dict):
        return False
    name = key.lower()
    is_tokens = name in _SPELLED_ANEW and not isinstance(value, str)
    return is_tokens or _REASONING_KEY.match(name) is not None


def _has_reasoning_beside(row: Mapping[str, Any]) -> bool:
    """Whether reasoning stands beside the messages: in a column of its own, or in a trajectory."""
    beside = {key: value for key, value in row.items() if key not in ("prompt", "completion")}
    return any(text.strip() for text in _reasoning_in(beside))


def _reasoning_in(value: Any) -> Iterator[str]:
    """All text of reasoning fields in a value."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key.lower() not in _SPELLED_ANEW and _is_reasoning(key, child):
                yield from _texts(child)
            else:
                yield from _reasoning_in(child)
    elif isinstance(value, list):
        for child in value:
            yield from _reasoning_in(child)


def _thoughts_in(row: Mapping[str, Any]) -> Iterator[str]:
    for text in _reasoning_in(dict(row)):
        yield from _probes(text, _TELLING_THOUGHT)


def _taken(message: Message) -> Iterator[str]:
    """What `_answer_of` takes out of a message: thoughts, what stands around the answer, and the whole."""
    if message.role != "assistant":
        return
    if message.reasoning is not None:
        yield from _probes(message.reasoning, _TELLING_THOUGHT)
    tail, thoughts, _ = _apart(message.content)
    yield from _probes(thoughts or "", _TELLING_THOUGHT)
    marked = _marked(tail)
    before, _, behind = tail.partition(marked) if marked is not None else ("", "", "")
    for rest in (before, behind):
        yield from _probes(rest, _TELLING_REST)
    if thoughts or before.strip() or behind.strip():
        yield from _probes(message.content, _TELLING_THOUGHT)


def _probes(text: str, telling: int) -> Iterator[str]:
    letters = _letters(text)
    if len(letters) >= telling:
        yield letters
    if len(letters) >= _LONG:
        yield letters[:_BEGINNING]


def _letters(text: str) -> str:
    """Letters and digits alone: the same however JSON escapes, quotes and blanks spell a text."""
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
