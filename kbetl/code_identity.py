"""Python source in one spelling, for the identity of a module's code.

A small lexer of our own: `tokenize` and `ast` change with every version of Python, and the split of a
sample hangs on this text. For the same reason nothing here asks Unicode for the class of a character.
A change of any output of `canonical_code` makes new identities: it needs a new hash prefix.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    [ \t\f]*+(?:(?: \#[^\n]*+ | \\\n(?=.) )[ \t\f]*+)*  # idle: blanks, comments, joined lines
    (
      [A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*+(?!["'])  # a name: most tokens are one
    | [()\[\]{},;~]|[=:](?!=)|\.(?![.0-9])              # what begins no longer token, for speed
    | \n(?:[ \t\f]*+(?:\#[^\n]*+)? \n)* [ \t\f]*+       # a line's end, idle lines, the next indentation
    | (?:[rRbBuUfFtT]{1,2}+(?=["']))?                   # a string with its prefix
      (?:  ""\"(?:[^"\\]++|\\.|"(?!""))* ""\"
         | '''(?:[^'\\]++|\\.|'(?!''))* '''
         | (?!""\")"(?:[^"\\\n]++|\\.)* "
         | (?!''')'(?:[^'\\\n]++|\\.)* '
         | ["'].*                                       # never closed: all that is left, as it is
      )
    | [A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*+
    | [0-9]++(?![.0-9_eEjJxXoObB])                      # most numbers, for speed
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
    tokens = _TOKEN.findall(f"\n{text}\n")
    lines: list[str] = []
    line: list[str] = []
    indents = [0]
    nesting = start = width = 0
    for at in [at for at, token in enumerate(tokens) if token[0] in "\n()[]{}"]:
        token = tokens[at]
        if token[0] != "\n":
            nesting = max(nesting + _NESTING[token], 0)
            continue
        line += tokens[start:at]
        start = at + 1
        if line and not nesting:
            lines.append(f"{_depth(width, indents)} {' '.join(line)}\n")
            line = []
        if not line:
            width = _width(token.rpartition("\n")[2])
    line += tokens[start:]
    if line:  # an open bracket, or a string that is never closed
        lines.append(f"{_depth(width, indents)} {' '.join(line)}\n")
    return "".join(lines)


def _width(indent: str) -> int:
    """Columns of an indentation: a tab goes to the next multiple of eight, a form feed begins anew."""
    if "\t" not in indent and "\f" not in indent:
        return len(indent)
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
