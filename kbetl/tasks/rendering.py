"""The prompt template: `{{ name }}` and nothing else. What is put in is never read as a template."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from kbetl import fields
from kbetl.errors import BadRow, ConfigError, MissingField
from kbetl.tasks.plain import is_unicode, on_one_line

Row = Mapping[str, Any]

_PLACE = re.compile(r"\{\{([^}]*(?:\}(?!\})[^}]*)*)(\}\}|)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_TEXT_FIELDS: Mapping[str, Callable[[Row], str | None]] = {
    "module_name": fields.module_name,
    "python_code": fields.python_code,
    "triton_code": fields.triton_code,
    "completion": fields.completion,
    "reasoning": fields.reasoning,
}
_KEYS_SHOWN = 20


@lru_cache(maxsize=64)
def template_names(template: str, first_line: int) -> tuple[str, ...]:
    """The names that a template asks for, each once, in order.

    Raises ConfigError, with the line in the file, where `{{` is not closed or holds no name.
    """
    names: dict[str, None] = {}
    for place in _PLACE.finditer(template):
        line = first_line + template.count("\n", 0, place.start())
        if not place[2]:
            raise ConfigError(f"line {line}: '{{{{' without '}}}}'; a field is written {{{{ name }}}}")
        name = place[1].strip()
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"line {line}: {name[:60]!r} between '{{{{' and '}}}}' is no name; "
                "write module_name, python_code, triton_code, reward, completion, reasoning, "
                "or a path into the row such as info.level or prompt.0.content"
            )
        names[name] = None
    return tuple(names)


def parsed(template: str) -> str:
    """The template in one spelling: `{{x}}` and `{{ x }}` are the same."""
    return render(template, {name: f"{{{{ {name} }}}}" for name in template_names(template, first_line=1)})


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with each `{{ name }}` replaced by its value, in one pass over the template."""
    return _PLACE.sub(lambda place: values[place[1].strip()], template)


def field_text(row: Row, reward: float | None, name: str) -> str:
    """The text of one field as a prompt shows it. `reward` is the newest one; None means the row's own.

    The six names of a template mean the functions of `kbetl.fields`, whatever keys the row has; any
    other name is a path into the row. Raises MissingField where the field is absent, null, of a wrong
    type, or (for the six names) blank: a model is not asked about nothing.
    """
    try:
        if name == "reward":
            text = _spelled(fields.reward(row) if reward is None else reward)
        elif name in _TEXT_FIELDS:
            text = _TEXT_FIELDS[name](row)
            if text is not None and not text.strip():
                raise MissingField(f"field '{name}' is blank; {_keys_of(row)}")
        else:
            text = _spelled(_at_path(row, name.split(".")))
    except BadRow as error:
        raise MissingField(f"field '{name}' cannot be read: {error}") from error
    if text is None:
        raise MissingField(f"field '{name}' is missing; {_keys_of(row)}")
    if not is_unicode(text):
        raise MissingField(f"field '{name}' holds a lone surrogate: not Unicode text")
    return text


def _keys_of(row: Row) -> str:
    keys = [key for key, value in row.items() if value is not None]
    if not keys:
        return "the row is empty"
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return f"the row has {on_one_line(', '.join(keys[:_KEYS_SHOWN]), 400)}{more}"


def _at_path(row: Row, steps: Sequence[str]) -> Any:
    """What stands at a path of keys and list indexes; None where there is nothing.

    `info` is read by `fields.info`: some tools store that object as JSON text.
    """
    value: Any = row
    if steps[0] == "info":
        value, steps = fields.info(row) or None, steps[1:]
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _spelled(value: Any) -> str | None:
    """A JSON value as text: the same whether it came by JSONL or by Arrow; None for null.

    Text as it is; all else as compact JSON in the row's own key order, with integral floats as
    integers and without keys whose value is null (Arrow makes the one and adds the other).
    """
    if value is None or isinstance(value, str):
        return value
    plain = _as_from_json(value)
    return None if plain is None else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _as_from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        children = {key: _as_from_json(child) for key, child in value.items()}
        return {key: child for key, child in children.items() if child is not None}
    if isinstance(value, list):
        return [_as_from_json(child) for child in value]
    if isinstance(value, float):
        return _number(value)
    return value


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value
