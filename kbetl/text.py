"""Text in CSV cells that no spreadsheet runs. Pure."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
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
