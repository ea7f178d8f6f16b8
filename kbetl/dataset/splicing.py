"""Puts columns into the text of a row without spelling the rest of it anew. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import orjson

_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_int=str)  # int() refuses 4,300 digits, and only places are wanted


class Spliced(NamedTuple):
    """A row's text with columns put in, and those of them that the row had itself."""

    text: bytes
    replaced: tuple[str, ...]


def appended(text: bytes, columns: Mapping[str, str | float | None], *, is_new: bool = False) -> Spliced:
    """The text of a JSON object with more keys at its end; all other bytes are as they were.

    A key that stands at the top of the object already gets our value, at its place; with `is_new` none does,
    and nobody looks, which takes longer than all the rest. `columns` is not empty.

    >>> appended(b'{"a": 1.0}', {"b": "x"})
    Spliced(text=b'{"a": 1.0, "b": "x"}', replaced=())
    """
    if not is_new and _mention(tuple(columns)).search(text):
        return _replaced(text.decode(), columns)
    return Spliced(_joined(text, columns), ())


@cache
def _mention(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Finds a text that is one of these names, or begins with a letter's escape after plain letters.

    A name could be spelled so; nobody does, but then the key is there all the same. One pattern that starts
    with a quote takes 0.5 s for a gigabyte, as much as looking for one name alone.
    """
    spelled = "|".join(f'{re.escape(name)}"' for name in names)
    return re.compile(rf'"(?:{spelled}|[a-z_]*\\u00(?:5[fF]|6[1-9a-fA-F]|7[0-9aA]))'.encode())


def json_bytes(value: Any) -> bytes:
    """A value as JSON on one line, exact also for integers beyond 64 bit; NaN is not expected here."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _joined(text: bytes, columns: Mapping[str, str | float | None]) -> bytes:
    if not columns:
        return text
    end = text.rindex(b"}")
    while text[end - 1] in b" \t\r\n":
        end -= 1
    comma = ", " if end > text.index(b"{") + 1 else ""
    pairs = ", ".join(f"{json.dumps(name)}: {_spelled(value)}" for name, value in columns.items())
    return b"".join((memoryview(text)[:end], f"{comma}{pairs}}}".encode()))


def _spelled(value: str | float | None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _replaced(text: str, columns: Mapping[str, str | float | None]) -> Spliced:
    spans = {name: span for name, span in member_spans(text).items() if name in columns}
    for name, (start, end) in sorted(spans.items(), key=lambda item: -item[1][0]):
        text = text[:start] + _spelled(columns[name]) + text[end:]
    rest = {name: value for name, value in columns.items() if name not in spans}
    return Spliced(_joined(text.encode(), rest), tuple(spans))


def member_spans(text: str) -> dict[str, tuple[int, int]]:
    """Where the value of each top-level key of a JSON object stands."""
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
