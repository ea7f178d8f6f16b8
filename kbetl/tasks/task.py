"""Defines a task: its hash, the prompt that it renders for a sample, and the parser of its answers."""

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
from kbetl.tasks.answer_formats import AnswerFormat, check_json_value, check_unicode
from kbetl.text import is_unicode, listed, on_one_line

RESERVED = ("model", "messages", "stream", "n")
"""Request parameters that a task cannot set, because `kbetl` does."""
KEYS = ("name", "about", "where", "answer", "system", "closing", "parameters")
"""The keys of a task file."""

_COUNTS = ("max_tokens", "max_completion_tokens")
_NUMBERS = ("temperature", "top_p")
_FOR_THE_OFFLINE_MODEL = ("module_name", "python_code")


@dataclass(frozen=True)
class Task:
    """A question to a model about a sample, as read from a task file."""

    name: str
    about: tuple[Kind, ...]
    """The kinds of samples that it is asked about."""
    where: str | None
    """An SQL condition on the samples to ask about, with `:min_reward`; None for all of these kinds."""
    system: str | None
    template: str
    parameters: Mapping[str, Any]
    """Request parameters as they are sent: JSON values."""
    answer_format: AnswerFormat
    closing: str | None
    """Text that the dataset appends to the value; None for none."""
    path: Path | None = None
    """Of its file; None if the task is read from a store."""

    def hash(self, model: str) -> str:
        """Returns the identity of the task with a model: `t1:` and a SHA-256.

        Hashed: name, template, system prompt, model, parameters, which the model sees. Left out: `about`
        and `where` (which samples), the answer format and `closing` (the use of the answer), the path.
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
        """Returns the identity of the question without the sample: `q1:` and a SHA-256.

        Hashed: system prompt, template as parsed, model, and the parameters as they are sent. Tasks that
        differ only in their names, or in the white space of `{{ name }}`, have the same hash.
        """
        content = {
            "template": parsed(self.template),
            "system": self.system,
            "model": model,
            "parameters": dict(parameters),
        }
        return content_hash("q1", content)

    def with_parameters(self, overrides: Mapping[str, Any]) -> Task:
        """Returns the task with other request parameters; the value None removes one.

        Raises ConfigError for a parameter that a task cannot set.
        """
        check_parameters(overrides)
        merged = {**self.parameters, **overrides}
        return replace(self, parameters={key: value for key, value in merged.items() if value is not None})

    @property
    def format_spec(self) -> str:
        """The canonical JSON of the answer format; `format_from_spec` reads it."""
        return answer_formats.format_spec(self.answer_format)

    @property
    def parser_version(self) -> str:
        """The version of the parser and the answer format, such as `1:0a1b2c3d4e5f`."""
        return answer_parser.parser_version(self.answer_format)

    @property
    def needs_completion(self) -> bool:
        """Whether it can be asked only about rollouts that have a completion."""
        return "rollout" in self.about and "completion" in template_names(self.template, first_line=1)

    @property
    def needs_code(self) -> bool:
        """Whether it can be asked only about modules that have PyTorch code, not about bare prompts."""
        return "python_code" in template_names(self.template, first_line=1)

    def fields(
        self, row: Mapping[str, Any], reward: float | None, field_map: FieldMap | None = None
    ) -> dict[str, str]:
        """Returns the text of each field that the template names, and of `module_name` and `python_code`.

        `reward` is the newest one; None for the row's own. `field_map` says how the row is read. Raises
        MissingField, naming the field, if the row lacks one that the template names.
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
        """The chat messages before the prompt: the system prompt, if there is one."""
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    def prompt(self, fields: Mapping[str, str]) -> str:
        """Returns the rendered template; `fields` are what `Task.fields` returned."""
        return render(self.template, fields)

    def messages(self, row: Mapping[str, Any], reward: float | None) -> list[dict[str, str]]:
        """Returns the chat messages of the question: the system prompt, if any, and the rendered template.

        `reward` is the newest one; None for the row's own. Raises MissingField as `fields` does.
        """
        return [*self.first_messages, {"role": "user", "content": self.prompt(self.fields(row, reward))}]

    def read(self, completion: Completion) -> ParsedAnswer:
        """Parses a completion by the task's answer format; never raises."""
        return answer_parser.read_answer(self.answer_format, completion)


def is_column_name(name: str) -> bool:
    """Whether a template can name a column that is called so."""
    return "." not in name and _NAME.fullmatch(name) is not None


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raises ConfigError for reserved names, keys of a task file, and values that cannot be sent."""
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
    """Raises ConfigError for a number that every server would refuse."""
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

_PLACEHOLDER = re.compile(r"\{\{([^}]*(?:\}(?!\})[^}]*)*)(\}\}|)")
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
    """Returns the field names in a template, each once, in order.

    Raises ConfigError, with the line in the file, if a `{{` is not closed or has no name.
    """
    names: dict[str, None] = {}
    for match in _PLACEHOLDER.finditer(template):
        line = first_line + template.count("\n", 0, match.start())
        if not match[2]:
            raise ConfigError(f"line {line}: '{{{{' without '}}}}'; a field is written {{{{ name }}}}")
        name = match[1].strip()
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"line {line}: {name[:60]!r} between '{{{{' and '}}}}' is no name; "
                "write module_name, python_code, triton_code, reward, prompt, completion, reasoning, "
                "or a path into the row such as info.level or prompt.0.content"
            )
        names[name] = None
    return tuple(names)


def parsed(template: str) -> str:
    """Returns the template in one spelling: `{{x}}` becomes `{{ x }}`."""
    return render(template, {name: f"{{{{ {name} }}}}" for name in template_names(template, first_line=1)})


def render(template: str, values: Mapping[str, str]) -> str:
    """Returns the template with each `{{ name }}` replaced by its value, in one pass over the template."""
    return _PLACEHOLDER.sub(lambda match: values[match[1].strip()], template)


def field_text(row: Row, reward: float | None, name: str, read: Row | None = None) -> str:
    """Returns the text of one field for a prompt. `reward` is the newest one; None for the row's own.

    `read` is the row as its map reads it; None if it has no map. The seven names of a template are read by
    `samples.fields`, whatever keys the row has; any other name is a path into the row. Raises MissingField
    if the field is absent, null, of a wrong type, or (for the seven names) blank, so that no model is asked
    about nothing.
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
    shown = on_one_line(", ".join(keys[:_KEYS_SHOWN]), 400)
    return f"the row has {listed([shown], max(len(keys) - _KEYS_SHOWN, 0))}"


def _at_path(row: Row, steps: Sequence[str]) -> Any:
    """Returns the value at a path of keys and list indexes; None if there is none.

    `info` is read by `fields.info`, because some tools store that object as JSON text.
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
    """Returns a JSON value as text, the same from JSONL and from Arrow; None for null.

    Text is unchanged; other values are compact JSON in the row's key order, with integral floats as
    integers and without keys whose value is null, because Arrow changes the one and adds the other.
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
