"""Decides how a row is read: which of its fields are prompt, completion, reward and the like. Pure.

`read_row` gives a row the names that `samples.fields` and all behind it ask for: as a map of columns says,
else as the shape says that the row has (OpenAI `messages`, ShareGPT, Alpaca, `prompt` with `response`). A row
that has those names itself is given back as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from kbetl.errors import BadRow, ConfigError
from kbetl.json_codec import canonical_json, stored_value
from kbetl.records import Kind
from kbetl.samples import fields
from kbetl.samples.fields import Row

FieldMap = Mapping[str, str]
"""Where a row has the field of a name: a dotted path of keys and list indexes, such as `data.0.answer`."""

NAMES = (
    "prompt",
    "completion",
    "reasoning",
    "reward",
    "module_name",
    "python_code",
    "triton_code",
    "model",
    "environment",
    "group",
)
"""What a map may name."""
NO_MAP = "none"
"""The value of `--map` for rows that are to be read as they are."""

_OF_MODULE = ("module_name", "python_code", "triton_code")
_STEP = re.compile(r'[^.\[\]"\x00-\x1f]+')
# Keys that every JSON writer spells alike: others may stand in the row with escapes, as `caf\u00e9`, and a
# path of SQLite before 3.45 compares spellings.
_PLAIN_PATH = re.compile(r"[\w .-]+", re.ASCII)
_READ_BY_SQL = ("python_code", "triton_code")
"""Names whose text views read from the row itself."""
_TO_COMPARE = ("prompt", "completion", "reward", *_OF_MODULE, "info", "model", "env_id")
"""Fields of a row as it is read, whose change another map may bring."""


class Reading(NamedTuple):
    """A row as it is read."""

    row: Row
    """With the names that `samples.fields` asks for; the very row that came in if it has them."""
    shape: str = ""
    """The fields that hold the conversation, for a message; empty if they are `prompt` and `completion`."""
    completion_at: str | None = None
    """Dotted path of the completion in the row that came in; None if it is `completion`, or is nowhere."""
    missing: tuple[str, ...] = ()
    """Names of the map whose field the row lacks."""
    group: str | None = None
    """What the map calls its group; rows of one group are on one side of a split."""


def field_map(options: Sequence[str]) -> dict[str, str]:
    """The map that `NAME=PATH` options make. Raises ConfigError for what is none, and for a name twice."""
    found: dict[str, str] = {}
    for option in options:
        name, separator, path = (part.strip() for part in option.partition("="))
        if name not in NAMES or not separator:
            raise ConfigError(f"--map {option!r}: write NAME=PATH, with a NAME of {', '.join(NAMES)}")
        if not path or not all(_STEP.fullmatch(step) for step in path.split(".")):
            raise ConfigError(f"--map {option!r}: a PATH is keys with dots between, such as data.answer")
        if name in _READ_BY_SQL and not is_plain_path(path):
            raise ConfigError(
                f"--map {option!r}: the keys of code are of ASCII letters, digits, blanks, '_' and '-', "
                "which every file spells alike; rename the column"
            )
        if name in found:
            raise ConfigError(f"--map {name} is given twice: {found[name]!r} and {path!r}; leave one out")
        found[name] = path
    return found


def map_text(map_: FieldMap | None) -> str | None:
    """The one spelling of a map, as the store keeps it; None for no map, and for an empty one."""
    return canonical_json(dict(map_)).decode() if map_ else None


@lru_cache(maxsize=256)
def stored_map(text: str | None) -> FieldMap | None:
    """The map that `map_text` spelled."""
    return None if text is None else json.loads(text)


def sql_path(path: str) -> str:
    """A dotted path as SQLite's JSON functions know it: `data.0.answer` is `$."data"[0]."answer"`."""
    return "$" + "".join(f"[{step}]" if step.isdecimal() else f'."{step}"' for step in path.split("."))


def is_plain_path(path: str) -> bool:
    """Whether SQLite finds what `sql_path` names in a row of any writer."""
    return _PLAIN_PATH.fullmatch(path) is not None


def at_path(row: Row, path: str) -> Any:
    """The value at a dotted path of a row, as `sql_path` finds it; None if there is none."""
    value: Any = row
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = None if step.isdecimal() else value.get(step)
        elif isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def read_row(row: Row, map_: FieldMap | None = None) -> Reading:
    """The row as a map and its shape say. Raises BadRow if a field that is meant has another type.

    A name of the map whose field the row lacks is read as if it were not mapped.
    """
    found = Reading(row) if row.get("completion") is not None else _by_shape(row)
    return found if not map_ else _mapped(row, found, map_)


def stored_row(text: str | bytes, map_: str | None) -> Row:
    """The row of a stored sample as it is read by its map, which `map_text` spelled; None for no map."""
    return read_row(stored_value(text), stored_map(map_)).row


def kind_of(row: Row) -> Kind:
    """The kind of a row as it is read: a rollout has a completion, a module code and a name, or a prompt."""
    if row.get("completion") is not None:
        return "rollout"
    if _has_text(row, fields.PYTHON_CODE) and _has_text(row, fields.MODULE_NAME):
        return "module"
    return "module" if has_prompt(row) and not _is_pair(row) else "record"


def has_prompt(row: Row) -> bool:
    """Whether a row asks for something: in text, or in messages. Raises BadRow for messages that are none."""
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return bool(prompt.strip())
    if not isinstance(prompt, list):
        return False
    for index, message in enumerate(fields.messages(row, "prompt")):
        if not isinstance(message.get("role"), str) or message.get("content") is None:
            raise BadRow(f"field 'prompt[{index}]' is no message with a role and content")
    return any((fields.text_of(message) or "").strip() for message in prompt)


def changed_names(one: Reading, other: Reading) -> frozenset[str]:
    """The names that a template may have whose values differ between two readings of one row."""
    changed = {name for name in _TO_COMPARE if one.row.get(name) != other.row.get(name)}
    if "info" in changed:
        changed |= {
            name for name in _OF_MODULE if getattr(fields, name)(one.row) != getattr(fields, name)(other.row)
        }
    if "completion" in changed:
        changed.add("reasoning")
    if "env_id" in changed:
        changed.add("environment")
    if one.group != other.group:
        changed.add("group")
    return frozenset(changed)


def _has_text(row: Row, keys: Sequence[str]) -> bool:
    return any(isinstance(row.get(key), str) and row[key].strip() for key in keys)


def _is_pair(row: Row) -> bool:
    return row.get("chosen") is not None and row.get("rejected") is not None


def _by_shape(row: Row) -> Reading:
    if _is_pair(row):
        return Reading(row)
    for key in ("messages", "conversations"):
        if isinstance(row.get(key), list) and row[key]:
            return _chat(row, key)
    if isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str):
        return Reading(
            {**row, "prompt": _asked(row), "completion": row["output"]},
            "'instruction' and 'output'",
            "output",
        )
    response = row.get("response")
    if row.get("prompt") is not None and isinstance(response, str | list):
        return Reading({**row, "completion": response}, "'prompt' and 'response'", "response")
    return Reading(row)


def _chat(row: Row, key: str) -> Reading:
    """A list of messages: the last of the assistant's begins the completion, all before it is the prompt."""
    messages = list(fields.messages(row, key))
    for index, message in enumerate(messages):
        if not isinstance(message.get("role"), str):
            raise BadRow(f"field '{key}[{index}]' is no message with a role")
    last = max((n for n, each in enumerate(messages) if each["role"] == "assistant"), default=None)
    system = row.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
        last = None if last is None else last + 1
    if last is None:
        return Reading({**row, "prompt": messages}, f"'{key}'")
    return Reading({**row, "prompt": messages[:last], "completion": messages[last:]}, f"'{key}'", key)


def _asked(row: Row) -> str | list[Row]:
    """What an Alpaca row asks: its text; messages if there is a system prompt, or turns before."""
    extra = row.get("input")
    text = row["instruction"] if not (isinstance(extra, str) and extra) else f"{row['instruction']}\n{extra}"
    system, history = row.get("system"), row.get("history")
    before: list[Row] = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    for turn in history if isinstance(history, list) else ():
        if not (isinstance(turn, list) and len(turn) == 2):
            raise BadRow("field 'history' is no list of pairs of texts")
        before += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return [*before, {"role": "user", "content": text}] if before else text


def _mapped(row: Row, found: Reading, map_: FieldMap) -> Reading:
    values = {name: at_path(row, path) for name, path in map_.items()}
    missing = tuple(name for name, value in values.items() if value is None)
    values = {name: value for name, value in values.items() if value is not None}
    read: dict[str, Any] = dict(found.row)
    path = found.completion_at
    for name in ("prompt", "completion"):
        if name in values:
            read[name] = _said(values[name], name, map_[name])
            path = map_[name] if name == "completion" else path
    if "reasoning" in values:
        _add_reasoning(read, _text(values["reasoning"], "reasoning", map_["reasoning"]))
    inside = {name: _text(values[name], name, map_[name]) for name in _OF_MODULE if name in values}
    read.update(inside)
    if inside and fields.info(row):  # `info` is read first
        read["info"] = {**fields.info(row), **inside}
    if "reward" in values:
        read["reward"] = values["reward"]
    for name, key in (("model", "model"), ("environment", "env_id")):
        if name in values:
            read[key] = _text(values[name], name, map_[name])
    group = values.get("group")
    spelled = group if group is None or isinstance(group, str) else canonical_json(group).decode()
    return Reading(read, found.shape, path, missing, spelled)


def _said(value: Any, name: str, path: str) -> Any:
    if not isinstance(value, str | list):
        raise BadRow(
            f"field '{path}', mapped to {name}, is {fields.type_name(value)}, not text or a list of messages"
        )
    return value


def _text(value: Any, name: str, path: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"field '{path}', mapped to {name}, is {fields.type_name(value)}, not text")
    return value


def _add_reasoning(read: dict[str, Any], reasoning: str) -> None:
    """Puts reasoning from a field of its own into the last message of the assistant."""
    value = read.get("completion")
    messages = [{"role": "assistant", "content": value}] if isinstance(value, str) else list(value or ())
    for index in range(len(messages) - 1, -1, -1):
        if isinstance(messages[index], Mapping) and messages[index].get("role") == "assistant":
            messages[index] = {**messages[index], "reasoning_content": reasoning}
            read["completion"] = messages
            return
