"""Finds the one JSON value of an answer and checks it against a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kbetl.errors import BadRow
from kbetl.json_text import read_json
from kbetl.records import Reading
from kbetl.tasks.plain import on_one_line
from kbetl.tasks.readers import Json

_BRACE_OR_STRING = re.compile(r'[{}]|"[^"\\]*(?:\\.[^"\\]*)*("|)', re.DOTALL)
_OPENING = re.compile(r"\{")
_LOOKS_LIKE_OBJECT = re.compile(r'\{\s*+["}]')


def read_json_answer(reader: Json, text: str) -> Reading:
    """The JSON value that the visible text of an answer holds, as JSON text with sorted keys, no blanks.

    It is the whole answer, a fenced block, or an object in the text; where there are several they must
    say the same. Nulls stay, unlike in hashes: the schema was checked with them.
    """
    try:
        values = {_spelled(piece): None for piece in _pieces(text)}
    except BadRow as error:
        return Reading("unparsed", None, on_one_line(f"the JSON cannot be read: {error}"))
    if not values:
        return Reading("unparsed", None, "no JSON object in the answer")
    if len(values) > 1:
        return Reading("unparsed", None, f"{len(values)} different JSON values")
    value = next(iter(values))
    fault = _fault(reader, json.loads(value))
    return Reading("ok", value) if fault is None else Reading("unparsed", None, fault)


def _pieces(text: str) -> Iterator[str]:
    """The pieces of text that are JSON, or start as a JSON object does."""
    if _is_json(text):
        yield text
        return
    outside, blocks = _fenced(text)
    for block in blocks:
        if block.strip() and _is_json(block):
            yield block
        else:
            yield from _objects(block)
    yield from _objects(outside)


def _fenced(text: str) -> tuple[str, list[str]]:
    """The text outside code fences, and each fenced block; a block that is never closed is outside."""
    outside: list[str] = []
    blocks: list[str] = []
    block: list[str] | None = None
    for line in text.split("\n"):
        fence = line.strip()
        if block is None and fence.startswith("```") and "`" not in fence[3:]:
            block = []
        elif block is not None and fence == "```":
            blocks.append("\n".join(block))
            block = None
        else:
            (outside if block is None else block).append(line)
    return "\n".join(outside + (block or [])), blocks


def _objects(text: str) -> Iterator[str]:
    """The outermost `{...}` of a text that look like JSON objects; braces of another sort are prose.

    One that is not closed goes to the end of the text, where it will not read as JSON. Raises BadRow for
    one that opens a list: the list is the answer then, and it was not JSON.
    """
    depth = start = 0
    position = 0
    while match := (_BRACE_OR_STRING if depth else _OPENING).search(text, position):
        position = match.end()
        if match[0] == "{":
            if not depth:
                start = match.start()
                _refuse_in_list(text, start)
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0 and _LOOKS_LIKE_OBJECT.match(text, start):
                yield text[start:position]
    if depth and _LOOKS_LIKE_OBJECT.match(text, start):
        yield text[start:]


def _refuse_in_list(text: str, start: int) -> None:
    before = start - 1
    while before >= 0 and text[before].isspace():
        before -= 1
    if before >= 0 and text[before] == "[" and _LOOKS_LIKE_OBJECT.match(text, start):
        raise BadRow("an object stands in a list that is not the whole answer")


def _is_json(text: str) -> bool:
    try:
        _spelled(text)
    except BadRow:
        return False
    return True


def _spelled(text: str) -> str:
    """Raises BadRow where the text is not JSON, names a key twice, or has a number that is not finite."""
    parsed = read_json(text.strip().encode("utf-8", "surrogatepass"))
    if parsed.nonfinite:
        raise BadRow(f"the number at {parsed.nonfinite[0]} is not finite")
    return json.dumps(parsed.value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _fault(reader: Json, value: Any) -> str | None:
    """Where and why a value does not fit the schema; None where it does."""
    from jsonschema.validators import validator_for

    validator = validator_for(reader.json)(reader.json)
    try:
        errors = sorted(validator.iter_errors(value), key=lambda error: (error.json_path, error.message))
    except (OverflowError, RecursionError):
        return "the JSON is too large or too deep to check against the schema"
    return on_one_line(f"{errors[0].json_path}: {errors[0].message}") if errors else None
