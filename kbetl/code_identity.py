"""Python source in one spelling, for the identity of a module's code.

A small lexer of our own: `tokenize` and `ast` change with every version of Python, and the split of a
sample hangs on this text. For the same reason nothing here asks Unicode for the class of a character.
A change of any output of `canonical_code` makes new identities: it needs a new hash prefix.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?: [ \t\f]++ | \#[^\n]*+ | \\\n(?=.) )*            # idle: blanks, comments, joined lines
    (
      [A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*+(?!["'])  # a name: most tokens are one
    | [()\[\]{},;~]                                     # what begins no longer token, for speed
    | \n(?:[ \t\f]*+(?:\#[^\n]*+)? \n)* [ \t\f]*+       # a line's end, idle lines, the next indentation
    | (?:[rRbBuUfFtT]{1,2}+(?=["']))?                   # a string with its prefix
      (?:  ""\"(?:[^"\\]++|\\.|"(?!""))* ""\"
         | '''(?:[^'\\]++|\\.|'(?!''))* '''
         | (?!""\")"(?:[^"\\\n]++|\\.)* "
         | (?!''')'(?:[^'\\\n]++|\\.)* '
         | ["'].*                                       # never closed: all that is left, as it is
      )
    | [A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*+
    | 0[xX][0-9a-fA-F_]++ | 0[oO][0-7_]++ | 0[bB][01_]++
    | (?:[0-9](?:_?[0-9])* \.?+(?:[0-9](?:_?[0-9])* )?  | \.[0-9](?:_?[0-9])* )
      (?:[eE][+-]?+[0-9](?:_?[0-9])* )? [jJ]?+
    | \*\*=? | //=? | >>=? | <<=? | \.\.\. | -> | := | [-+*/%@&|^=<>!]=
    | .
    )
    """,
    re.DOTALL | re.VERBOSE,
)
_NESTING = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_TAB = 8
_REMEMBERED_LINES = 20_000
_REMEMBERED_CHARACTERS = 200


def canonical_code(python_code: str) -> str:
    r"""The source less comments, blank lines and blanks that do not matter.

    One line per logical line: its depth of indentation, then its tokens, a blank before each. Texts
    with the same tokens at the same depths give the same result, others another. Strings are tokens
    and stay as they are, docstrings and prefixes included; an f-string is read as a plain string.

    >>> canonical_code("if a:  # why\n    b(1,\n      '#')")
    "0 if a :\n1 b ( 1 , '#' )\n"

    Any text has a result, broken code too: what follows a quote that is never closed is one token.
    As Python does, line ends CRLF and CR are read as LF, and a byte order mark at the start is none.
    """
    text = python_code.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text += "\n"
    lines: list[str] = []
    parts: list[str] = []
    indents = [0]
    nesting, width, at = 0, 0, 0
    while at < len(text):
        end = text.index("\n", at)
        known = _lines.get(text[at:end])
        line, at = (known, end + 1) if known is not None else _read_line(text, at, end)
        line_width, tokens, opened, open_at_least = line
        if not tokens:
            continue
        if not parts:
            width = line_width
        parts.append(tokens)
        if nesting or opened or open_at_least:
            nesting = max(nesting + opened, open_at_least)
        if not nesting:
            lines.append(f"{_depth(width, indents)} {' '.join(parts)}\n")
            parts = []
    if parts:  # an open bracket, or a string that is never closed
        lines.append(f"{_depth(width, indents)} {' '.join(parts)}\n")
    return "".join(lines)


class _Line(NamedTuple):
    """A line of source, and those that a string or a backslash joins to it."""

    width: int
    """Of its indentation, in columns."""
    tokens: str
    """With a blank between; empty for an idle line."""
    opened: int
    """Brackets opened less brackets closed."""
    open_at_least: int
    """Of its own, open at its end whatever was open before: closing more brackets than are open is idle."""


class _LineAt(NamedTuple):
    line: _Line
    next_at: int


_lines: dict[str, _Line] = {}
"""Lines that mean the same wherever they stand. Modules share many: remembering them halves the time."""


def _read_line(text: str, at: int, end: int) -> _LineAt:
    """The line that starts at `at` in a text whose next line end is at `end`; remembered if it ends there."""
    physical = text[at:end]
    if '"' in physical or "'" in physical or "\\" in physical:
        tokens, stop = _tokens_to_line_end(text, at)
    else:
        tokens, stop = _TOKEN.findall(physical + "\n")[:-1], end
    line = _line(physical, tokens)
    if stop == end and len(physical) <= _REMEMBERED_CHARACTERS and not physical.endswith("\\"):
        if len(_lines) >= _REMEMBERED_LINES:
            _lines.clear()
        _lines[physical] = line
    return _LineAt(line, stop + 1)


def _tokens_to_line_end(text: str, at: int) -> tuple[list[str], int]:
    """Tokens up to a line end that is outside strings, and where that is."""
    tokens: list[str] = []
    for found in _TOKEN.finditer(text, at):
        if found[1][0] == "\n":
            return tokens, found.start(1)
        tokens.append(found[1])
    return tokens, len(text)


def _line(physical: str, tokens: list[str]) -> _Line:
    opened = open_at_least = 0
    for token in tokens:
        if token in _NESTING:
            opened += _NESTING[token]
            open_at_least = max(open_at_least + _NESTING[token], 0)
    indent = physical[: len(physical) - len(physical.lstrip(" \t\f"))]
    return _Line(_width(indent), " ".join(tokens), opened, open_at_least)


def _width(indent: str) -> int:
    """Columns of an indentation: a tab goes to the next multiple of eight, a form feed begins anew."""
    return len(indent.rpartition("\f")[2].expandtabs(_TAB))


def _depth(width: int, indents: list[int]) -> int:
    """How many indentations are open at a line that starts at column `width`; brings `indents` up to date.

    An indentation that goes back to no earlier one opens a new one there; Python refuses it.
    """
    while width < indents[-1]:
        indents.pop()
    if width > indents[-1]:
        indents.append(width)
    return len(indents) - 1
