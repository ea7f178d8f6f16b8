"""Reads JSON without loss, writes canonical JSON, and appends keys to the text of a row.

orjson reads and writes. Text that it would change silently (integers beyond 64 bit become floats, the last of
two equal keys wins, NaN is refused) is detected and read by the standard library instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import orjson

from kbetl.errors import BadRow

LARGEST_INTEGER = 2**63 - 1
"""The largest integer of SQLite."""
MAX_DEPTH = 250
"""Levels of nesting that a row may have; orjson can write 254."""

_EXACT_FLOAT = 2.0**63
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|-?\d+(?:\.\d+)?[eE][+-]?\d+|-?\d{300,}(?:\.\d+)?', re.DOTALL
)


class Parsed(NamedTuple):
    """A JSON text and its value."""

    value: Any
    """The value, with None for numbers that are not finite."""
    text: str
    """The original text, with `null` for NaN, Infinity and numbers beyond a double."""
    nonfinite: tuple[str, ...]
    """SQLite JSON paths of those numbers, such as `$.metrics.speedup`."""


def read_json(line: bytes) -> Parsed:
    """Reads one JSON text without loss.

    Raises BadRow if the text is not JSON, not UTF-8, repeats a key in an object, nests deeper than
    MAX_DEPTH or has a lone surrogate (which neither UTF-8, Parquet nor a request can express).
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _read_slowly(line)
    survey = _Survey()
    survey.visit(value, 1)
    if survey.needs_care or len(_KEY_END.findall(line)) != survey.keys:
        return _read_slowly(line)
    return Parsed(value, line.decode(), ())


# The end of a key: a quote that is not escaped, and a colon.
#
# If there are more of them than keys, a key is repeated, of which orjson keeps one. A text that starts with a
# colon is counted too, and a key that ends with a backslash is missed (`needs_care`); both are read slowly.
# A pattern that starts with a plain quote is searched with `memchr`, in half the time of parsing.
_KEY_END = re.compile(rb'"(?<!\\")[ \t\n\r]*:')


class _Survey:
    """Counts keys, and detects what orjson may have changed silently."""

    def __init__(self) -> None:
        self.keys = 0
        self.needs_care = False
        """Whether there is a number that orjson may have rounded, or a key with a backslash."""

    def visit(self, value: Any, depth: int) -> None:
        """Visits a value at a depth. Raises BadRow beyond MAX_DEPTH."""
        if depth > MAX_DEPTH:
            raise BadRow(f"it nests deeper than {MAX_DEPTH} levels")
        if type(value) is dict:
            self.keys += len(value)
            if "\\" in "".join(value):
                self.needs_care = True
            value = value.values()
        elif type(value) is not list:
            value = (value,)
        for child in value:
            kind = type(child)
            if kind is dict or kind is list:
                self.visit(child, depth + 1)
            elif kind is float and not -_EXACT_FLOAT < child < _EXACT_FLOAT:
                self.needs_care = True


def _read_slowly(line: bytes) -> Parsed:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow(f"invalid UTF-8: byte 0x{line[error.start]:02x} at offset {error.start}") from None
    try:
        value = json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise BadRow(f"not JSON: {error.msg.removesuffix(' at')} at {_place(error)}") from None
    except RecursionError:
        raise BadRow(f"it nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # integers of more than 4,300 digits
        raise BadRow(f"a number that cannot be read: {error}") from None
    _Survey().visit(value, 1)
    surrogate = next(_surrogates(value, "$"), None)
    if surrogate is not None:
        raise BadRow(f"a lone surrogate at {surrogate}: not Unicode text")
    paths: list[str] = []
    value = _finite(value, "$", paths)
    if paths:
        text = _TOKEN.sub(_null_for_nonfinite, text)
    return Parsed(value, text, tuple(paths))


def _place(error: json.JSONDecodeError) -> str:
    line = f"its line {error.lineno}, " if error.lineno > 1 else ""
    return f"{line}column {error.colno}"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadRow(f"the key {json.dumps(key)} stands twice in one object")
            seen.add(key)
    return result


def _null_for_nonfinite(match: re.Match[str]) -> str:
    token = match[0]
    return token if token[0] == '"' or math.isfinite(float(token)) else "null"


def _finite(value: Any, path: str, paths: list[str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        paths.append(path)
        return None
    if isinstance(value, dict):
        return {key: _finite(child, _step(path, key), paths) for key, child in value.items()}
    if isinstance(value, list):
        return [_finite(child, f"{path}[{index}]", paths) for index, child in enumerate(value)]
    return value


def _step(path: str, key: str) -> str:
    return f"{path}.{key}" if re.fullmatch(r"[A-Za-z_]\w*", key) else f"{path}.{json.dumps(key)}"


def _surrogates(value: Any, path: str) -> Iterator[str]:
    """Yields the paths of texts and keys with a lone surrogate."""
    if isinstance(value, str):
        if _SURROGATE.search(value):
            yield path
    elif isinstance(value, dict):
        for key, child in value.items():
            if _SURROGATE.search(key):
                yield f"a key of {path}"
            yield from _surrogates(child, _step(path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _surrogates(child, f"{path}[{index}]")


def plain_value(value: Any) -> Parsed:
    """Returns what `read_json` would return for the JSON text of a value."""
    paths: list[str] = []
    try:
        text = orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):
        spelled = json.dumps(value, ensure_ascii=False, default=_no_json_type)
        return read_json(spelled.encode("utf-8", "surrogatepass"))
    if b"null" in text:
        value = _finite(value, "$", paths)
    return Parsed(value, text.decode(), tuple(paths))


def _no_json_type(value: object) -> object:
    raise BadRow(f"a value of type {type(value).__name__} has no JSON spelling")


Leaves = Mapping[str, Any]
"""Keys to leave out, as a tree: `{"a": {}, "b": {"[]": {"c": {}}}}` excludes `a` and `b[].c`."""


def canonical_json(value: Any, exclude: Leaves | None = None) -> bytes:
    """Returns canonical JSON: sorted keys, no white space, UTF-8, without the keys of `exclude`.

    Keys whose value is None are left out at any depth, because Arrow adds them. Integral floats are written
    as integers, integers beyond 64 bit keep their digits.

    >>> canonical_json({"b": 1.0, "a": {"c": None}})
    b'{"a":{},"b":1}'

    Raises ValueError for NaN and Infinity, which JSON does not have.
    """
    return orjson.dumps(_content(value, exclude or {}), option=orjson.OPT_SORT_KEYS)


def _content(value: Any, exclude: Leaves) -> Any:
    kind = type(value)
    if kind is str or kind is bool:
        return value
    if kind is dict:
        return {
            key: child if type(child) is str else _content(child, exclude.get(key, {}))
            for key, child in value.items()
            if child is not None and not (key in exclude and not exclude[key])
        }
    if kind is list or kind is tuple:
        inner = exclude.get("[]", {})
        return [_content(child, inner) for child in value]
    if kind is float:
        return _number(value)
    if kind is int and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value


def _number(value: float) -> Any:
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON spelling")
    if value.is_integer():
        return _content(int(value), {})
    return value


def stored_value(text: bytes | str) -> Any:
    """Returns the value of a stored row. It is valid JSON, so only numbers that orjson rounds need care."""
    value = orjson.loads(text)
    survey = _Survey()
    survey.visit(value, 1)
    return json.loads(text) if survey.needs_care else value


_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_int=str)  # int() refuses 4,300 digits, and only positions are used


class SplicedText(NamedTuple):
    """A row's text with appended keys, and those of them whose own value was overwritten."""

    text: bytes
    overwritten: tuple[str, ...]


def append_keys(text: bytes, columns: Mapping[str, Any], *, is_new: bool = False) -> SplicedText:
    """Returns the text of a JSON object with more keys at its end; all other bytes are unchanged.

    A top-level key that the object has already gets our value instead. With `is_new` the caller knows that
    there is none, which saves the search, the slowest part. `columns` must not be empty.

    >>> append_keys(b'{"a": 1.0}', {"b": "x"})
    SplicedText(text=b'{"a": 1.0, "b": "x"}', overwritten=())
    """
    if not is_new and _mention(tuple(columns)).search(text):
        return _replaced(text.decode(), columns)
    return SplicedText(_joined(text, columns), ())


@cache
def _mention(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Returns a pattern for a text that is one of these names, or that may be one with escaped characters.

    One pattern that starts with a quote needs 0.5 s for a gigabyte, as long as a search for one name.
    """
    spelled = "|".join(f'{re.escape(name)}"' for name in names)
    return re.compile(
        rf'"(?:{spelled}|[a-z0-9_-]*\\u00(?:2[dD]|3[0-9]|5[fF]|6[1-9a-fA-F]|7[0-9aA]))'.encode()
    )


def json_bytes(value: Any) -> bytes:
    """Returns a value as JSON on one line, exact also for integers beyond 64 bit. Raises for NaN."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _joined(text: bytes, columns: Mapping[str, Any]) -> bytes:
    if not columns:
        return text
    end = text.rindex(b"}")
    while text[end - 1] in b" \t\r\n":
        end -= 1
    comma = ", " if end > text.index(b"{") + 1 else ""
    pairs = ", ".join(f"{json.dumps(name)}: {_spelled(value)}" for name, value in columns.items())
    return b"".join((memoryview(text)[:end], f"{comma}{pairs}}}".encode()))


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _replaced(text: str, columns: Mapping[str, Any]) -> SplicedText:
    spans = {name: span for name, span in member_spans(text).items() if name in columns}
    for name, (start, end) in sorted(spans.items(), key=lambda item: -item[1][0]):
        text = text[:start] + _spelled(columns[name]) + text[end:]
    rest = {name: value for name, value in columns.items() if name not in spans}
    return SplicedText(_joined(text.encode(), rest), tuple(spans))


def member_spans(text: str) -> dict[str, tuple[int, int]]:
    """Returns start and end of the value of each top-level key of a JSON object."""
    spans = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        spans[key] = (start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()
