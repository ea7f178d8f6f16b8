"""Small checks on text and TOML values that several files of this folder share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kbetl.errors import ConfigError


def shown(text: str, limit: int = 60) -> str:
    """A piece of foreign text for a reason: quoted, on one line, at most `limit` characters, and inert.

    Control characters, escape codes and lone surrogates are spelled out, so any store or terminal bears it.
    """
    return repr(text) if len(text) <= limit else repr(text[:limit]) + "..."


def on_one_line(text: str, limit: int = 200) -> str:
    """The same without quotes, for a message that another library wrote."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def check_json_value(value: Any, path: str) -> None:
    """Raises ConfigError, naming the path, unless JSON can carry the value (no dates, no NaN)."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            check_json_value(child, f"{path}.{key}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            check_json_value(child, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value}, which JSON cannot carry")
    elif isinstance(value, str):
        check_unicode(value, path)
    elif value is not None and not isinstance(value, bool | int | float):
        raise ConfigError(f"{path} is a {type(value).__name__}, which JSON cannot carry; write it as text")


def check_unicode(text: str, path: str) -> None:
    """Raises ConfigError for a lone surrogate (an argument that was not UTF-8): no request can carry it."""
    if not is_unicode(text):
        raise ConfigError(f"{path} is not Unicode text: {shown(text)}")


def is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def type_name(value: Any) -> str:
    """The TOML name of a value's type, for messages."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a float",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), f"a {type(value).__name__}")
