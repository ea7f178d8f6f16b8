"""The frozen value that a task file becomes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from kbetl.errors import BadRow, ConfigError, MissingField
from kbetl.records import Completion, Kind, ParsedAnswer, content_hash
from kbetl.samples import fields
from kbetl.samples.reading import FieldMap, Reading, read_row
from kbetl.tasks import answer_formats, answer_parser
from kbetl.tasks.answer_formats import AnswerFormat, check_json_value, check_unicode, is_unicode
from kbetl.text import on_one_line

RESERVED = ("model", "messages", "stream", "n")
"""Request parameters that are not the task's to set: `kbetl` does."""
KEYS = ("name", "about", "where", "answer", "system", "closing", "parameters")
"""The keys of a task file."""

_COUNTS = ("max_tokens", "max_completion_tokens")
_NUMBERS = ("temperature", "top_p")
_FOR_THE_OFFLINE_MODEL = ("module_name", "python_code")


@dataclass(frozen=True)
class Task:
    """A question put to a model about a sample."""

    name: str
    about: tuple[Kind, ...]
    """The kinds of samples that it is asked about."""
    where: str | None
    """An SQL condition on the samples to ask about, with `:min_reward`; None: all of these kinds."""
    system: str | None
    template: str
    parameters: Mapping[str, Any]
    """Of the request, as they go out: JSON values."""
    reader: AnswerFormat
    closing: str | None
    """What the dataset appends to the value."""
    path: Path | None = None
    """Of its file; None if it comes from a store."""

    def hash(self, model: str) -> str:
        """The identity of the task put to a model: `t1:` and a SHA-256.

        In: name, template, system prompt, model, parameters: what the model sees. Left out: `about` and
        `where` (which samples), the reader and `closing` (what is made of the answer), the path.
        """
        content = {
            "name": self.name,
            "template": self.template,
            "system": self.system,
            "model": model,
            "parameters": dict(self.parameters),
        }
        return content_hash("t1", content)

    def question_hash(self, model: str, parameters: Mapping[str, Any]) -> str:
        """The identity of what is asked, apart from the sample: `q1:` and a SHA-256.

        In: system prompt, template as parsed, model, and the parameters as they are sent. Two tasks that
        differ in nothing but their names, or in the blanks of `{{ name }}`, have the same.
        """
        content = {
            "template": parsed(self.template),
            "system": self.system,
            "model": model,
            "parameters": dict(parameters),
        }
        return content_hash("q1", content)

    def with_parameters(self, overrides: Mapping[str, Any]) -> Task:
        """The same task with other request parameters; None as a value takes one away.

        Raises ConfigError for a parameter that a task cannot set.
        """
        check_parameters(overrides)
        merged = {**self.parameters, **overrides}
        return replace(self, parameters={key: value for key, value in merged.items() if value is not None})

    @property
    def reader_spec(self) -> str:
        """The canonical JSON of the reader; `format_from_spec` reads it."""
        return answer_formats.format_spec(self.reader)

    @property
    def parser_version(self) -> str:
        """Which code and which reader make the outcomes, such as `1:0a1b2c3d4e5f`."""
        return answer_parser.parser_version(self.reader)

    @property
    def needs_completion(self) -> bool:
        """Whether it can be asked of rollouts with an answer alone."""
        return "rollout" in self.about and "completion" in template_names(self.template, first_line=1)

    @property
    def needs_code(self) -> bool:
        """Whether it can be asked of modules with PyTorch code alone, and not of bare prompts."""
        return "python_code" in template_names(self.template, first_line=1)

    def fields(
        self, row: Mapping[str, Any], reward: float | None, field_map: FieldMap | None = None
    ) -> dict[str, str]:
        """The text of each field that the template names; also `module_name` and `python_code`, if any.

        `field_map` says how the row is read. Raises MissingField, naming the field, where the row lacks one
        that the template names.
        """
        names = template_names(self.template, first_line=1)
        read = _read(row, field_map)
        values = {name: field_text(row, reward, name, read) for name in names}
        for name in _FOR_THE_OFFLINE_MODEL:
            if name not in values:
                values.update(_optional(read, name))
        return values

    @property
    def first_messages(self) -> list[dict[str, str]]:
        """The chat messages that come before the prompt: the system prompt, if there is one."""
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    def prompt(self, fields: Mapping[str, str]) -> str:
        """The rendered template; `fields` are those that `fields` gave."""
        return render(self.template, fields)

    def messages(self, row: Mapping[str, Any], reward: float | None) -> list[dict[str, str]]:
        """The chat messages of the question: the system prompt, if any, and the rendered template.

        `reward` is the newest one; None means the row's own. Raises MissingField as `fields` does.
        """
        return [*self.first_messages, {"role": "user", "content": self.prompt(self.fields(row, reward))}]

    def read(self, completion: Completion) -> ParsedAnswer:
        """What the completion says, read as the task file tells; never raises."""
        return answer_parser.read_answer(self.reader, completion)


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raises ConfigError for names that are ours, keys of a task file, and values that cannot be sent."""
    for name, value in parameters.items():
        if not name.strip():
            raise ConfigError("a request parameter without a name")
        check_unicode(name, "the name of a request parameter")
        if name in RESERVED:
            raise ConfigError(f"parameter '{name}' cannot be set by a task: kbetl sets it; take it out")
        if name in KEYS:
            raise ConfigError(f"key '{name}' stands below [parameters]; put it above that line")
        check_json_value(value, f"parameters.{name}")
        _check_number(name, value)


def _check_number(name: str, value: Any) -> None:
    """What every server refuses is refused before it is asked; None takes a parameter away."""
    if value is None:
        return
    if name in _COUNTS and (type(value) is not int or value < 1):
        raise ConfigError(f"parameter '{name}' is {value!r}; it must be a whole number from 1")
    if name in _NUMBERS and type(value) not in (int, float):
        raise ConfigError(f"parameter '{name}' is {value!r}; it must be a number")


def _read(row: Mapping[str, Any], field_map: FieldMap | None) -> Mapping[str, Any]:
    """The row with the names of a template. Raises MissingField for one that cannot be read."""
    try:
        reading = read_row(row, field_map)
    except BadRow as error:
        raise MissingField(f"the row cannot be read: {error}") from error
    if not field_map:
        return reading.row
    named = {name: reading.row.get(key) for name, key in (("environment", "env_id"), ("model", "model"))}
    return {**reading.row, **{name: named[name] for name in named if name in field_map}, **_group(reading)}


def _group(reading: Reading) -> dict[str, Any]:
    return {} if reading.group is None else {"group": reading.group}


def _optional(row: Mapping[str, Any], name: str) -> dict[str, str]:
    try:
        return {name: field_text(row, None, name)}
    except MissingField:
        return {}


Row = Mapping[str, Any]

_PLACE = re.compile(r"\{\{([^}]*(?:\}(?!\})[^}]*)*)(\}\}|)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_TEXT_FIELDS: Mapping[str, Callable[[Row], str | None]] = {
    "module_name": fields.module_name,
    "python_code": fields.python_code,
    "triton_code": fields.triton_code,
    "prompt": fields.prompt,
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
                "write module_name, python_code, triton_code, reward, prompt, completion, reasoning, "
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


def field_text(row: Row, reward: float | None, name: str, read: Row | None = None) -> str:
    """The text of one field as a prompt shows it. `reward` is the newest one; None means the row's own.

    `read` is the row as it is read, if that differs from how it came. The seven names of a template mean the
    functions of `samples.fields`, whatever keys the row has; any other name is a path into the row. Raises
    MissingField where the field is absent, null, of a wrong type, or (for the seven names) blank: a model is
    not asked about nothing.
    """
    read = row if read is None else read
    try:
        if name == "reward":
            text = _spelled(fields.reward(read) if reward is None else reward)
        elif name in _TEXT_FIELDS:
            text = _TEXT_FIELDS[name](read)
            if text is not None and not text.strip():
                raise MissingField(f"field '{name}' is blank; {_keys_of(row)}")
        else:
            text = _spelled(_at_path(row if "." in name else read, name.split(".")))
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
