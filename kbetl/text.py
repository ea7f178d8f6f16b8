"""Escapes foreign text for a terminal, one line, a CSV cell or Markdown; cuts lists short. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_ACTIVE = re.compile(r"[\\`*_\[\]#|~$!@]")
_ADDRESS = re.compile(r"(?i)(://|www\.|mailto:)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def inert_cell(text: str) -> str:
    """Returns text for a CSV cell, with a `'` before what a spreadsheet would run as a formula.

    A plain number such as `-0.5` is unchanged.
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain_text(text: str) -> str:
    """Returns text with control characters, escape codes and lone surrogates escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def on_one_line(text: str, limit: int = 200) -> str:
    """Returns `plain_text` of the first `limit` characters, for a message of a library or a model."""
    return plain_text(text if len(text) <= limit else text[:limit] + "...")


def blanked(text: str) -> str:
    """Returns the text with a space for each character that is not printable."""
    return "".join(char if char.isprintable() else " " for char in text)


def inert_markdown(text: str) -> str:
    """Returns text escaped for Markdown, so that it is shown without markup, HTML, links or table cells."""
    text = plain_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _ACTIVE.sub(lambda found: f"\\{found[0]}", text)
    return _ADDRESS.sub(lambda found: found[0][:-1] + f"&#{ord(found[0][-1])};", text)


def listed(shown: Iterable[str], hidden: int) -> str:
    """The first of a list, and how many more there are.

    >>> listed(["a", "b"], 1200), listed(["a", "b"], 0)
    ('a, b and 1,200 more', 'a, b')
    """
    return ", ".join(shown) + (f" and {hidden:,} more" if hidden else "")


def hidden_line(hidden: int, what: str = "") -> list[str]:
    """The line below the first lines of many: how many more there are, and of what. Empty if none."""
    return [f"... and {hidden:,} more{what and f' {what}'}"] if hidden else []
