"""The frozen value that a task file becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kbetl.errors import ConfigError, MissingField
from kbetl.records import Completion, Kind, Reading, content_hash
from kbetl.tasks import answers, readers, rendering
from kbetl.tasks.plain import check_json_value, check_unicode
from kbetl.tasks.readers import Reader

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
    about: Kind
    where: str | None
    """An SQL condition on the samples to ask about, with `:min_reward`; None: all of the kind."""
    system: str | None
    template: str
    parameters: Mapping[str, Any]
    """Of the request, as they go out: JSON values."""
    reader: Reader
    closing: str | None
    """What the dataset appends to the value."""
    path: Path

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
            "template": rendering.parsed(self.template),
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
        """The canonical JSON of the reader; `reader_from_spec` reads it."""
        return readers.reader_spec(self.reader)

    @property
    def parser_version(self) -> str:
        """Which code and which reader make the outcomes, such as `1:0a1b2c3d4e5f`."""
        return answers.parser_version(self.reader)

    @property
    def needs_completion(self) -> bool:
        """Whether it can be asked of rollouts with an answer alone."""
        names = rendering.template_names(self.template, first_line=1)
        return self.about == "rollout" and "completion" in names

    def fields(self, row: Mapping[str, Any], reward: float | None) -> dict[str, str]:
        """The text of each field that the template names; also `module_name` and `python_code`, if any.

        Raises MissingField, naming the field, where the row lacks one that the template names.
        """
        names = rendering.template_names(self.template, first_line=1)
        values = {name: rendering.field_text(row, reward, name) for name in names}
        for name in _FOR_THE_OFFLINE_MODEL:
            if name not in values:
                values.update(_optional(row, name))
        return values

    @property
    def first_messages(self) -> list[dict[str, str]]:
        """The chat messages that come before the prompt: the system prompt, if there is one."""
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    def prompt(self, fields: Mapping[str, str]) -> str:
        """The rendered template; `fields` are those that `fields` gave."""
        return rendering.render(self.template, fields)

    def messages(self, row: Mapping[str, Any], reward: float | None) -> list[dict[str, str]]:
        """The chat messages of the question: the system prompt, if any, and the rendered template.

        `reward` is the newest one; None means the row's own. Raises MissingField as `fields` does.
        """
        return [*self.first_messages, {"role": "user", "content": self.prompt(self.fields(row, reward))}]

    def read(self, completion: Completion) -> Reading:
        """What the completion says, read as the task file tells; never raises."""
        return answers.read_answer(self.reader, completion)


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


def _optional(row: Mapping[str, Any], name: str) -> dict[str, str]:
    try:
        return {name: rendering.field_text(row, None, name)}
    except MissingField:
        return {}
