"""Text from outside made safe: for a terminal, one line, a CSV cell, Markdown; and lists cut short. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_ACTIVE = re.compile(r"[\\`*_\[\]#|~$!@]")
_ADDRESS = re.compile(r"(?i)(://|www\.|mailto:)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def inert_cell(text: str) -> str:
    """Text for a CSV cell: what a spreadsheet would run as a formula gets a `'` in front.

    Text that is a plain number, such as `-0.5`, stays as it is.
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def plain_text(text: str) -> str:
    """Text from outside for a message: what would act on a terminal, or is no Unicode, is spelled out."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def on_one_line(text: str, limit: int = 200) -> str:
    """`plain_text` of at most so many characters, for a message that another library or a model wrote."""
    return plain_text(text if len(text) <= limit else text[:limit] + "...")


def blanked(text: str) -> str:
    """The text with a blank for each character that is not printable."""
    return "".join(char if char.isprintable() else " " for char in text)


def inert_markdown(text: str) -> str:
    """Text from outside as Markdown that shows it and does nothing: no markup, HTML, link or table cell."""
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
