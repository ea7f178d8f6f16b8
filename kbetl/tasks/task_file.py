"""Reads a task file: TOML front matter between `+++` lines, above the prompt template."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from kbetl.errors import ConfigError
from kbetl.records import Kind
from kbetl.resources import data_path, view_columns
from kbetl.tasks.answer_formats import answer_format, type_name
from kbetl.tasks.task import KEYS, Task, check_parameters, template_names

_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_FENCE = "+++"
_REQUIRED = ("name", "about", "answer")


def builtin_names() -> list[str]:
    """Returns the names of the built-in tasks, sorted."""
    return sorted(path.stem for path in data_path("tasks").glob("*.md"))


def is_task_file(text: str) -> bool:
    """Whether a task is named by its file: with a slash, or an end in `.md`."""
    return "/" in text or "\\" in text or text.endswith(".md")


def task_name(text: str) -> str:
    """The name of a task that is named so, or by its file. Raises ConfigError for a broken file."""
    return load_task(text).name if is_task_file(text) else text


def load_task(name_or_path: str) -> Task:
    """Returns the built-in task of a name, or the task in a file (a slash in it, or `.md` at its end).

    Raises ConfigError, with file and line or key, if it cannot be used.
    """
    if is_task_file(name_or_path):
        return _task_in(Path(name_or_path))
    if name_or_path not in builtin_names():
        raise ConfigError(
            f"no task {name_or_path!r}; built in: {', '.join(builtin_names())}. "
            "A file of your own is named by its path, such as ./style.md"
        )
    return _task_in(data_path("tasks") / f"{name_or_path}.md")


def _task_in(path: Path) -> Task:
    try:
        return _task_of(path, _text_of(path))
    except ConfigError as error:
        raise ConfigError(f"task file {path}: {error}") from error


def _text_of(path: Path) -> str:
    """Returns the text of a file with `\\n` as line ends: those of an editor are no part of a prompt."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    except FileNotFoundError as error:
        raise ConfigError("no such file") from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
        ) from error
    return text.replace("\r\n", "\n")


class _Parts(NamedTuple):
    front: str
    """The TOML, with an empty line for the first `+++`, so that its line numbers are those of the file."""
    template: str
    line: int
    """The line where the template starts, from 1."""


def _task_of(path: Path, text: str) -> Task:
    parts = _split(text)
    keys = _front_matter(parts.front)
    template_names(parts.template, parts.line)
    return Task(
        name=check_name(keys["name"]),
        about=_about(keys["about"]),
        where=_text(keys, "where"),
        system=_system(keys),
        template=parts.template,
        parameters=_parameters(keys),
        answer_format=answer_format(keys["answer"]),
        closing=_text(keys, "closing"),
        path=path,
    )


def _split(text: str) -> _Parts:
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        raise ConfigError(f"line 1: no front matter; the file starts with a line {_FENCE}")
    end = next((number for number, line in enumerate(lines) if number and line.rstrip() == _FENCE), None)
    if end is None:
        raise ConfigError(f"the front matter is not closed by a line {_FENCE}")
    below = "\n".join(lines[end + 1 :])
    template = below.rstrip()
    if not template:
        raise ConfigError(f"line {end + 1}: no prompt template below the front matter")
    return _Parts("\n".join(["", *lines[1:end], ""]), template, end + 2)


def _front_matter(toml: str) -> dict[str, Any]:
    try:
        keys = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the front matter is not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError("the front matter nests too deep") from error
    if "parameters" in keys and not isinstance(keys["parameters"], dict):
        raise ConfigError(f"key 'parameters' is {type_name(keys['parameters'])}, not a table")
    check_parameters(keys.get("parameters", {}))
    for key in keys:
        if key not in KEYS:
            raise ConfigError(
                f"unknown key '{key}'; a task has {', '.join(KEYS)} and request parameters below [parameters]"
            )
    for key in _REQUIRED:
        if key not in keys:
            raise ConfigError(f"key '{key}' is missing; a task needs {', '.join(_REQUIRED)}")
    return keys


def check_name(value: Any) -> str:
    """The name of a task. Raises ConfigError for one that it cannot have."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(f"key 'name' is {value!r}; it takes a-z, 0-9, '_' and '-', up to 64 of them")
    if value in view_columns("selectable") and value != "difficulty":
        raise ConfigError(
            f"key 'name' is {value!r}, a column that --where has already; choose another, such as my_{value}"
        )
    return value


def _about(value: Any) -> tuple[Kind, ...]:
    """The kinds of samples, each once, in the order of `Kind`."""
    kinds = get_args(Kind)
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(each, str) and each in kinds for each in given):
        raise ConfigError(f"key 'about' is {value!r}; it is one of {', '.join(kinds)}, or a list of some")
    return cast(tuple[Kind, ...], tuple(kind for kind in kinds if kind in given))


def _text(keys: Mapping[str, Any], key: str) -> str | None:
    value = keys.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"key '{key}' is {type_name(value)}, not text")
    if value is not None and not value.strip():
        raise ConfigError(f"key '{key}' is blank; leave it out")
    return value


def _system(keys: Mapping[str, Any]) -> str | None:
    system = _text(keys, "system")
    if system is not None and "{{" in system:
        raise ConfigError("key 'system' has '{{': fields are put into the template alone; move it there")
    return system


def _parameters(keys: Mapping[str, Any]) -> dict[str, Any]:
    return dict(keys.get("parameters", {}))
