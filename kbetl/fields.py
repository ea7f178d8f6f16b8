"""Where a row keeps the fields that everything else asks for, whatever wrote it.

All functions take the parsed row and are pure. None means that the row has no such field: absent and
null are the same (Arrow adds nulls). A field of a wrong type raises BadRow.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kbetl.errors import BadRow

Row = Mapping[str, Any]

MODULE_NAME = ("module_name", "entry_point", "name")
PYTHON_CODE = ("python_code", "pytorch_code", "code")
TRITON_CODE = ("triton_code", "original_triton_code")
REASONING = ("reasoning", "reasoning_content")
"""In order of weight: vLLM and the evals rows use the first, verifiers and older vLLM the second."""

_CALLED_OTHERWISE = {
    "reward": ("score", "scores", "rewards", "final_reward", "total_reward", "reward_score", "return"),
    "completion": ("response", "output", "generation"),
}
"""What others call a field, where no letter tells."""
_LOOKED_AT = 100
"""Fields of a row in which a near miss is looked for."""
_ALIKE = 0.75

LABELS = ("difficulty", "evaluation_raw")
"""The columns that `filtered` and `unique` add; a row's own ones of these names give way."""


def info(row: Row) -> Row:
    """The `info` object of a rollout, also where a tool stored it as JSON text; empty if there is none."""
    value = row.get("info")
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):  # ValueError: also integers of more than 4,300 digits
            raise BadRow("field 'info' is text that is not JSON") from None
    if not isinstance(value, Mapping):
        raise BadRow(f"field 'info' is {type_name(value)}, not an object")
    return value


def module_name(row: Row) -> str | None:
    """The class name of the module, from `info` first; KernelBook, evals and KernelBench spellings."""
    return _first_text(row, MODULE_NAME)


def python_code(row: Row) -> str | None:
    """The PyTorch source."""
    return _first_text(row, PYTHON_CODE)


def triton_code(row: Row) -> str | None:
    """The reference Triton kernel."""
    return _first_text(row, TRITON_CODE)


def reward(row: Row) -> float | None:
    """The measured reward as a float; None where there is none (yet), or none that is finite."""
    value = row.get("reward")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(f"field 'reward' is {type_name(value)} {json.dumps(value)[:40]}, not a number or null")
    try:
        return float(value)
    except OverflowError:
        raise BadRow("field 'reward' is a number beyond a double") from None


def completion(row: Row) -> str | None:
    """The text of the last assistant message of a rollout; None where it holds no such text."""
    value = row.get("completion")
    if isinstance(value, str):
        return value
    texts = [_text(message.get("content")) for message in assistant_messages(row)]
    return next((text for text in reversed(texts) if text), None)


def reasoning(row: Row) -> str | None:
    """The reasoning of all assistant messages, joined by a blank line; None where it holds none."""
    return _all_reasoning(assistant_messages(row))


def own_reasoning(row: Row) -> str | None:
    """As `reasoning`, without what stands beside the messages, in the steps of a `trajectory`."""
    return _all_reasoning(each for each in _messages(row, "completion") if each.get("role") == "assistant")


def _all_reasoning(messages: Iterable[Row]) -> str | None:
    found = [text for message in messages if (text := message_reasoning(message))]
    return "\n\n".join(found) or None


def message_reasoning(message: Row) -> str | None:
    """One message's own reasoning, from the first field that holds any."""
    return next((text for key in REASONING if (text := _text(message.get(key)))), None)


def text_of(message: Row) -> str | None:
    """What a message says: its text, or the text parts of its content; None where it has no content."""
    return _text(message.get("content"))


def assistant_messages(row: Row) -> Iterator[Row]:
    """The assistant messages of `completion`, in order."""
    for message in messages(row, "completion"):
        if message.get("role") == "assistant":
            yield message


def messages(row: Row, field: str) -> Sequence[Row]:
    """A list of messages; empty where the field is absent, null or plain text.

    Messages of the completion that lack their reasoning have that of their step in `trajectory`.
    """
    found = _messages(row, field)
    return _with_reasoning_of_steps(found, row["trajectory"]) if _has_steps(row, field) else found


def _has_steps(row: Row, field: str) -> bool:
    steps = row.get("trajectory")
    return field == "completion" and isinstance(steps, list) and bool(steps)


def _with_reasoning_of_steps(messages: Sequence[Row], steps: Sequence[Any]) -> Sequence[Row]:
    """The i-th step made the i-th assistant message; where their texts differ, or their numbers, it did not.

    verifiers 0.1.10 to 0.1.13 keep the reasoning there alone.
    """
    asked = [index for index, message in enumerate(messages) if message.get("role") == "assistant"]
    if len(asked) != len(steps):
        return messages
    found = list(messages)
    for index, step in zip(asked, steps, strict=True):
        message = found[index]
        response = step.get("response") if isinstance(step, Mapping) else None
        said = response_message(response) if isinstance(response, Mapping) else {}
        text = next((text for key in REASONING if isinstance(text := said.get(key), str) and text), None)
        if text and not message_reasoning(message) and _says_the_same(message, said):
            found[index] = {**message, "reasoning_content": text}
    return found


def _says_the_same(message: Row, said: Row) -> bool:
    """Whether a server's message is this one; an empty text is null in one of them, and vice versa."""
    return (message.get("content") or "") == (said.get("content") or "")


def response_choice(response: Row) -> Row:
    """The first choice of a chat completion; empty where it has none."""
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def response_message(response: Row) -> Row:
    """The message of a step's response: of its first choice, or its own (verifiers 0.1.14)."""
    for place in (response_choice(response), response):
        message = place.get("message")
        if isinstance(message, Mapping):
            return message
    return {}


def _messages(row: Row, field: str) -> Sequence[Row]:
    value = row.get(field)
    if value is None or isinstance(value, str):
        return ()
    if not isinstance(value, list):
        raise BadRow(f"field '{field}' is {type_name(value)}, not text or a list of messages")
    for index, message in enumerate(value):
        if not isinstance(message, Mapping):
            raise BadRow(f"field '{field}[{index}]' is {type_name(message)}, not a message")
    return value


def _text(content: Any) -> str | None:
    """Message content as text: a string, or the text parts of a list."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
        return "".join(part for part in parts if isinstance(part, str))
    raise BadRow(f"message content is {type_name(content)}, not text or a list of parts")


def _first_text(row: Row, keys: Sequence[str]) -> str | None:
    for place in (info(row), row):
        for key in keys:
            value = place.get(key)
            if value is None:
                continue
            if not isinstance(value, str):
                raise BadRow(f"field '{key}' is {type_name(value)}, not text")
            return value
    return None


def type_name(value: Any) -> str:
    """What a value is called in a message."""
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        type(None): "null",
    }
    return names.get(type(value), "an object")


class NearMiss(NamedTuple):
    """A field that may have been meant for another."""

    key: str
    meant: str


def near_miss(row: Row, wanted: Sequence[str]) -> NearMiss | None:
    """The field that is spelled nearly as one that is wanted, or as others call it; None if none is."""
    keys = {
        key.strip().lower().replace("-", "_"): key for key in list(row)[:_LOOKED_AT] if row[key] is not None
    }
    for meant in wanted:
        found = next((each for each in (meant, *_CALLED_OTHERWISE.get(meant, ())) if each in keys), None)
        close = [found] if found else difflib.get_close_matches(meant, keys, 1, _ALIKE)
        if close and keys[close[0]] != meant:
            return NearMiss(keys[close[0]], meant)
    return None


def meant_words(row: Row, wanted: Sequence[str]) -> str:
    """`; 'compleiton': did you mean 'completion'?`; empty if no field is a near miss."""
    near = near_miss(row, wanted)
    return "" if near is None else f"; '{near.key[:40]}': did you mean '{near.meant}'?"
