"""What counts as the same code: `canonical_code`, and the hash that splits hang on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbetl import resources
from kbetl.code_identity import canonical_code
from kbetl.records import code_hash
from kbetl.samples.fields import python_code

SAME = {
    "blanks between tokens": ("a = b+c", "a=b + c"),
    "blanks at a line's end": ("a = 1\nb = 2\n", "a = 1  \t\nb = 2"),
    "a comment": ("a = 1\n", "# first\na = 1  # one\n# last"),
    "a comment that closes nothing": ("f(1)\nb", "f(1)  # ( [ {\nb"),
    "blank lines": ("a\nb", "\n\na\n\n   \n\t\nb\n\n"),
    "comments at another depth": ("if a:\n  b\n  c", "if a:\n# x\n  b\n        # y\n  c"),
    "four blanks for two": ("if a:\n  if b:\n    c\nd", "if a:\n    if b:\n        c\nd"),
    "tabs for blanks": ("if a:\n  if b:\n    c", "if a:\n\tif b:\n\t\tc"),
    "a tab is as wide as eight blanks": ("if a:\n\tb\n\tc", "if a:\n\tb\n        c"),
    "lines in brackets": ("f(a, b)[c]", "f(\n  a,\n\n # x\nb\n)[\n c]"),
    "lines joined": ("a = b + c", "a = \\\n  b \\\n+ c"),
    "line ends": ("if a:\n  b\n", "if a:\r\n  b\r\n"),
    "old line ends": ("if a:\n  b\n", "if a:\r  b\r"),
    "line ends in a docstring": ('"""a\nb"""', '"""a\r\nb"""'),
    "form feeds": ("a\nb", "a\f\n\fb"),
    "a form feed ends the indentation before it": ("if a:\n  b\nc", "if a:\n  b\n  \fc"),
    "a byte order mark": ("a", "\ufeffa"),
    "a number before a word": ("1 if a else 2", "1if a else 2"),
    "a number that ends like hexadecimal": ("0xE + 1", "0xE+1"),
    "nothing": ("", "\n  # only this\n\\\n\n"),
    "an open bracket": ("f(a, b", "f(\na,\nb\n"),
}
DIFFERENT = {
    "a word and two": ("not x", "notx"),
    "a name": ("a = 1", "b = 1"),
    "a number": ("a = 1", "a = 1.0"),
    "an operator and two": ("a == b", "a = = b"),
    "a power and two products": ("a ** b", "a * * b"),
    "an arrow": ("a -> b", "a - > b"),
    "a walrus": ("a := b", "a : = b"),
    "a number and an attribute": ("a 1.5", "a 1 .5"),
    "an exponent": ("1e-5", "1e - 5"),
    "depth": ("if a:\n  b\n  c", "if a:\n  b\nc"),
    "depth gone back": ("if a:\n  if b:\n    c\n  d", "if a:\n  if b:\n    c\n    d"),
    "two lines and one": ("a\nb", "a b"),
    "a semicolon": ("a; b", "a\nb"),
    "a trailing comma": ("f(a,)", "f(a)"),
    "blanks in a string": ("'a b'", "'a  b'"),
    "no comment in a string": ("'a # b'", "'a # c'"),
    "a docstring": ('def f():\n  """a"""', 'def f():\n  """b"""'),
    "blank lines in a docstring": ('"""a\n\nb"""', '"""a\nb"""'),
    "indentation in a docstring": ('"""a\n  b"""', '"""a\nb"""'),
    "a joined line in a string": ("'a\\\nb'", "'ab'"),
    "a prefix": ("r'a'", "'a'"),
    "a prefix and a name": ("f 'a'", "f'a'"),
    "quotes": ("'a'", '"a"'),
    "three quotes": ("'''a'''", "'a'"),
    "an escaped quote": (r"'a\'b'", "'a' b"),
    "an empty string and a docstring": ("'' 'a'", "'''a'''"),
    "a string and its words": ("' a '", "a"),
    "an open string": ("f('a )\nb", "f('a' )\nb"),
    "what follows an open string": ('"""a\nb # c', '"""a\nb # d'),
    "an open and a closed string": ("'a", "'a'"),
    "a backslash": ("a \\ b", "a b"),
    "a NUL": ("a \0 b", "a b"),
    "a blank that Python does not know": ("a\u00a0b", "a b"),
    "a sign outside ASCII": ("a = ä", "a = ö"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_layout_does_not_count(one: str, other: str) -> None:
    """Comments, blank lines and idle blanks leave the result as it is."""
    assert canonical_code(one) == canonical_code(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_content_counts(one: str, other: str) -> None:
    """Any other token, or another depth, is another text."""
    assert canonical_code(one) != canonical_code(other)


def test_result_is_a_line_per_logical_line() -> None:
    """Depth, then the tokens, a blank before each; brackets and joined lines make no line."""
    code = (
        'class M:\n    """Doc."""\n    def f(self, *, a=1e-5):\n        return {a: [\n            -1] }\nM()'
    )
    assert canonical_code(code) == (
        '0 class M :\n1 """Doc."""\n1 def f ( self , * , a = 1e-5 ) :\n2 return { a : [ - 1 ] }\n0 M ( )\n'
    )


def test_an_open_string_keeps_all_that_follows() -> None:
    """Broken code is never brought together with other code by guessing where a string ends."""
    assert canonical_code("a  =  1\nb = 'c  # d\ne  = 2\n") == "0 a = 1\n0 b = 'c  # d\ne  = 2\n\n\n"


def test_indentation_to_nowhere_opens_a_depth() -> None:
    """An indentation that Python refuses still has one result."""
    assert canonical_code("if a:\n        b\n    c\nd") == "0 if a :\n1 b\n1 c\n0 d\n"


@given(st.text(alphabet=st.characters(), max_size=200))
def test_any_text_has_a_result(text: str) -> None:
    """No text raises, and the result is the same each time."""
    assert canonical_code(text) == canonical_code(text)


@given(st.text(alphabet="'\"\\\n\r\t\f #rbfu()[]{}=*.0_1eEjx-\x00ä", max_size=80))
def test_any_ugly_text_has_a_result(text: str) -> None:
    """Quotes, escapes and line ends in any order: nothing raises, line ends do not count."""
    assert canonical_code(text) == canonical_code(text.replace("\r\n", "\n").replace("\r", "\n"))


_WORDS = "x y if not in lambda None _a1 ä 0 1 1.5 .5 1e-5 0x1F 3j 1_000"
_SIGNS = "= == != := -> - + * ** **= / // : ; , . ... @ ~ $ ?"
_STRINGS = ["'a'", '"b # c"', r"'it\'s'", r"r'\d'", 'f"{x}  {y}"', "b''", "'''a\n  b'''", '"""\n\n"""']
Token = str
Line = tuple[int, tuple[Token, ...]]


def _flatten(group: list[object]) -> list[Token]:
    found: list[Token] = []
    for child in group:
        found += [child] if isinstance(child, str) else ["(", *_flatten(child), ")"]
    return found


_atoms = st.sampled_from([*_WORDS.split(), *_SIGNS.split(), *_STRINGS])
_lines = st.lists(
    st.recursive(_atoms, lambda inner: st.lists(inner, max_size=3), max_leaves=6), min_size=1, max_size=5
)


@st.composite
def programs(draw: st.DrawFn) -> list[Line]:
    """Logical lines, each at most one deeper than the one before."""
    made: list[Line] = []
    depth = 0
    for tokens in draw(st.lists(_lines, max_size=5)):
        depth = draw(st.integers(0, min(depth + 1, 3))) if made else 0
        made.append((depth, tuple(_flatten(tokens))))
    return made


def _laid_out(program: list[Line], draw: st.DataObject) -> str:
    """The program as text, with blanks, comments and line ends as they come."""
    unit = draw.draw(st.sampled_from([" ", "  ", "    ", "\t"]))
    gaps = st.sampled_from([" ", "  ", "\t", " \f", " \\\n  "])
    open_gaps = st.sampled_from([" ", "\n", "  # ('\n\n   ", "\t"])
    between = st.sampled_from(["", "\n", "   \n", "# a 'comment'\n", "\t # (\n\f\n"])
    text = draw.draw(between)
    for depth, tokens in program:
        text += unit * depth
        nesting = 0
        for token in tokens:
            nesting += {"(": 1, ")": -1}.get(token, 0)
            text += token + draw.draw(open_gaps if nesting else gaps)
        text += draw.draw(st.sampled_from(["\n", "# end\n"])) + draw.draw(between)
    return text


@given(programs(), st.data())
def test_two_layouts_of_a_program_are_the_same_code(program: list[Line], data: st.DataObject) -> None:
    """Added comments, blank lines and other indentation never change the result."""
    assert canonical_code(_laid_out(program, data)) == canonical_code(_laid_out(program, data))


@given(programs(), programs(), st.data())
def test_two_programs_are_never_the_same_code(
    one: list[Line], other: list[Line], data: st.DataObject
) -> None:
    """Sequences of tokens and depths that differ give texts that differ."""
    same = canonical_code(_laid_out(one, data)) == canonical_code(_laid_out(other, data))
    assert same == (one == other)


@given(programs().filter(bool), st.data())
def test_a_changed_token_is_other_code(program: list[Line], data: st.DataObject) -> None:
    """One token more, anywhere, changes the result."""
    index = data.draw(st.integers(0, len(program) - 1))
    depth, tokens = program[index]
    changed = [*program[:index], (depth, (*tokens, data.draw(_atoms))), *program[index + 1 :]]
    assert canonical_code(_laid_out(changed, data)) != canonical_code(_laid_out(program, data))


STATEMENTS = "import torch\nx = torch.rand(2, 3)  # small\n"
CLASS = r"""
class Größe(nn.Module):
    '''Doubles.

    Twice.'''
  # a comment at another depth
    def forward(self, x: "Tensor", *, eps=1_0.5e-3j) -> "Tensor":
        if x.ndim != 0xFF and not x.any():
            return x ** 2 // eps @ x[..., ::-1,
                1:]; x = f"{x!r:>{5}}" + rb'\'' + '\
'
        return (y := x) is not None if x <= -1 else ~x
"""
GOLDEN = {
    "c1:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": "",
    "c1:649ed894bff23eeb47d90860b09bc1ceb10caea83e37eedfc5197d70258483b9": STATEMENTS,
    "c1:641d7cb7386a02e1552abc73bf51253a60ee91fface22c8ecc8376957366db55": CLASS,
}


@pytest.mark.parametrize(("expected", "code"), GOLDEN.items(), ids=["empty", "statements", "class"])
def test_golden_hashes(expected: str, code: str) -> None:
    """These identities hold for ever: a store made today must find its code again in any later version."""
    assert code_hash(code) == expected


_PLAIN_TOKEN = re.compile(
    r"""
    (?: [ \t\f] | \#[^\n]* | \\\n(?=.) )*
    ( \n(?:[ \t\f]*(?:\#[^\n]*)? \n)* [ \t\f]*
    | (?:[rRbBuUfFtT]{1,2}(?=["']))?
      (?:  ""\"(?:[^"\\]|\\.|"(?!""))* ""\"
         | '''(?:[^'\\]|\\.|'(?!''))* '''
         | (?!""\")"(?:[^"\\\n]|\\.)* "
         | (?!''')'(?:[^'\\\n]|\\.)* '
         | ["'].*
      )
    | [A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*
    | 0[xX][0-9a-fA-F_]+ | 0[oO][0-7_]+ | 0[bB][01_]+
    | (?:[0-9](?:_?[0-9])* \.?(?:[0-9](?:_?[0-9])* )?  | \.[0-9](?:_?[0-9])* )
      (?:[eE][+-]?[0-9](?:_?[0-9])* )? [jJ]?
    | \*\*=? | //=? | >>=? | <<=? | \.\.\. | -> | := | [-+*/%@&|^=<>!]=
    | .
    )
    """,
    re.DOTALL | re.VERBOSE,
)
"""The tokens as they are defined, without what makes reading them fast."""


def _plainly(python_code: str) -> str:
    """What `canonical_code` is defined to give, token by token."""
    text = python_code.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    made: list[str] = []
    line: list[str] = []
    depths = [0]
    nesting, indent = 0, ""

    def end_line() -> None:
        width = len(indent.rpartition("\f")[2].expandtabs(8))
        while width < depths[-1]:
            depths.pop()
        if width > depths[-1]:
            depths.append(width)
        made.append(f"{len(depths) - 1} {' '.join(line)}\n")
        line.clear()

    for token in _PLAIN_TOKEN.findall("\n" + text + "\n"):
        if token[0] != "\n":
            line.append(token)
            nesting = max(nesting + (token in "([{") - (token in ")]}"), 0)
        elif not nesting:
            if line:
                end_line()
            indent = token.rpartition("\n")[2]
    if line:
        end_line()
    return "".join(made)


_PIECES = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "\n\n",
    "",
    "\n\t",
    "#",
    "\\\n",
    "\\",
    "a",
    "rb",
    "1e5",
    ".",
    "...",
    ":=",
    "é",
    "\x0c",
    "\r\n",
    ",",
    "==",
    "~",
    ";",
    "'",
    '"',
    '"""',
    "'''",
    "'b'",
    "#c",
]


@given(st.lists(st.sampled_from([*_PIECES, " "]), max_size=30).map("".join) | st.text(max_size=100))
def test_any_text_is_read_as_the_tokens_are_defined(text: str) -> None:
    """Also beside strings and brackets that are never closed."""
    assert canonical_code(text) == _plainly(text)
    assert canonical_code(text + "\n" + text) == _plainly(text + "\n" + text)


def _codes_of(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        code = python_code(json.loads(line))
        if code is not None:
            yield code


def test_golden_text_of_modules() -> None:
    """One SHA-256 over the canonical code of the demo's modules, which no version may change."""
    codes = list(_codes_of(resources.ROOT / "data" / "sample.jsonl"))
    assert [canonical_code(code) for code in codes] == [_plainly(code) for code in codes]
    text = "".join(map(canonical_code, codes))
    expected = "106a8984673187eafc72614237963ed548a7b2f28c215dc3bf3102056470b22d"
    assert hashlib.sha256(text.encode()).hexdigest() == expected


def test_source_files_are_read_as_the_tokens_are_defined() -> None:
    """Long, real Python: this package."""
    for path in sorted(resources.PACKAGE.rglob("*.py")):
        code = path.read_text(encoding="utf-8")
        assert canonical_code(code) == _plainly(code), path


def test_real_modules_are_read_as_the_tokens_are_defined(shared: Path) -> None:
    for code in _codes_of(shared / "data" / "kernelbench" / "kernelbench.jsonl"):
        assert canonical_code(code) == _plainly(code)
