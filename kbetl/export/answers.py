"""The answer in a model's text, without the reasoning before it. Pure.

An answer is recognised by what marks it, in this order: `<answer>..</answer>`, `BEGIN_PYTHON..END_PYTHON`
(the marks stay), else by what marks the reasoning: a reasoning field, or `<think>..</think>` in the text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kbetl import fields
from kbetl.errors import BadRow
from kbetl.export.conversation import Conversation, Message

_MARKED = (
    ("<answer>", re.compile(r"<answer>.*?</answer>", re.DOTALL)),
    ("BEGIN_PYTHON", re.compile(r"BEGIN_PYTHON.*?END_PYTHON", re.DOTALL)),
)
_THINK, _END_OF_THINK = "<think>", "</think>"
_REASONING_KEYS = frozenset((*fields.REASONING, "reasoning_details", "thinking_blocks", "thinking"))
_LEFT_OUT = frozenset(("trajectory", "nodes", "traces"))
"""Columns that hold the whole exchange a second time, reasoning and all."""
_TELLING = 12
"""Characters of reasoning from which on its standing elsewhere in the row is no chance."""


def answered(conversation: Conversation) -> Conversation:
    """The conversation with no reasoning in it; the last assistant text is the answer alone.

    Raises BadRow where no answer can be recognised.
    """
    texts = [bool(each.role == "assistant" and each.content) for each in conversation.completion]
    if not any(texts):
        raise BadRow("no assistant text, so no answer")
    last = len(texts) - 1 - texts[::-1].index(True)
    completion = [
        _answer_of(each) if index == last else _without_reasoning(each)
        for index, each in enumerate(conversation.completion)
    ]
    return dataclasses.replace(conversation, completion=completion)


def row_without_reasoning(row: Mapping[str, Any], conversation: Conversation) -> dict[str, Any]:
    """A row with its reasoning fields taken out wherever they are, and its answer as `answered` gives it.

    Raises BadRow where a text of the reasoning still stands somewhere.
    """
    kept = {key: _pruned(value) for key, value in row.items() if key not in _LEFT_OUT}
    answers = answered(conversation).completion
    if isinstance(row.get("completion"), str):
        kept["completion"] = answers[0].content
    else:
        for message, answer in zip(kept["completion"], answers, strict=True):
            if answer.role == "assistant" and message.get("content") is not None:
                message["content"] = answer.content
    _refuse_leak(kept, conversation)
    return kept


def _answer_of(message: Message) -> Message:
    """The last assistant message, its text being the answer alone."""
    text = _after_thought(message.content)
    for opening, pattern in _MARKED:
        found = dict.fromkeys(pattern.findall(text))
        if len(found) == 1:
            return dataclasses.replace(message, content=next(iter(found)), reasoning=None)
        if found:
            raise BadRow(f"{len(found)} different answers between {opening} and its end mark")
        if opening in text:
            raise BadRow(f"{opening} without its end mark")
    if (message.reasoning is not None or text != message.content) and text.strip():
        return dataclasses.replace(message, content=text.strip(), reasoning=None)
    raise BadRow("no recognisable answer: no <answer>, no BEGIN_PYTHON, and no reasoning apart from the text")


def _without_reasoning(message: Message) -> Message:
    if message.role != "assistant":
        return message
    return dataclasses.replace(message, content=_after_thought(message.content).strip(), reasoning=None)


def _after_thought(text: str) -> str:
    """What stands after the last end of thought. Raises BadRow for a thought that does not end."""
    tail = text.rpartition(_END_OF_THINK)[2]
    if _THINK in tail:
        raise BadRow("<think> without its end: the answer was cut off")
    return tail


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(child) for key, child in value.items() if key not in _REASONING_KEYS}
    if isinstance(value, list):
        return [_pruned(child) for child in value]
    return value


def _refuse_leak(row: Mapping[str, Any], conversation: Conversation) -> None:
    thoughts = [text for each in conversation.completion for text in _thoughts(each) if len(text) >= _TELLING]
    for key, value in row.items():
        if any(thought in text for text in _texts(value) for thought in thoughts):
            raise BadRow(f"its reasoning also stands in column '{key}'")


def _thoughts(message: Message) -> Iterator[str]:
    if message.reasoning is not None:
        yield message.reasoning.strip()
    head, end, _ = message.content.rpartition(_END_OF_THINK)
    if end:
        yield head.partition(_THINK)[2].strip() or head.strip()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts(child)
