"""Reads an answer: exact, and tolerant only where no other reading is possible."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kbetl.errors import BadRow
from kbetl.json_codec import read_json
from kbetl.records import Completion, ParsedAnswer
from kbetl.samples.messages import ending_of, split_thoughts
from kbetl.tasks.answer_formats import (
    AnswerFormat,
    Block,
    Json,
    Label,
    Number,
    Text,
    format_spec,
    is_unicode,
    normal_label,
    shown,
    undecorated,
)
from kbetl.text import on_one_line

PARSER_VERSION = "2"
"""Of the code here, in `json_answers` and in `samples.messages`: raised when an answer may be read anew."""

_NUMBER = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?")
_BLANK_LINES = re.compile(r"(?:[ \t]*+\r?\n)+")
_BLANKS = " \t\n\r\f\v"
_NUMBER_DIGITS = 40
_ECHO = re.compile(r"[.\u2026\s]*[.\u2026][.\u2026\s]*")
"""What stands in a tag where the answer repeats the form that it was asked to have."""


def parser_version(reader: AnswerFormat) -> str:
    """What `outcomes.parser_version` holds: the version of the code and 12 digits of the reader's hash."""
    return f"{PARSER_VERSION}:{hashlib.sha256(format_spec(reader).encode()).hexdigest()[:12]}"


def read_answer(reader: AnswerFormat, completion: Completion) -> ParsedAnswer:
    """What a completion says to a task. Pure; never raises, whatever text came back.

    An answer that was cut is `truncated` even where it holds a value, and one that was declined is
    `refused`; neither is looked at further. Nothing is guessed from prose: what the reader's form does
    not settle is `unparsed`, with the reason.
    """
    unusable = _unusable(completion)
    if unusable is not None:
        return unusable
    content = completion.content or ""
    if not content.strip():
        return _unparsed(
            f"the answer is empty{' (reasoning only)' if (completion.reasoning or '').strip() else ''}"
        )
    text = split_thoughts(content).answer
    if not text.strip():
        return _unparsed("the answer is empty outside its thoughts")
    if isinstance(reader, Json):
        reading = read_json_answer(reader, text)
    elif isinstance(reader, Block):
        reading = _read_block(reader, text)
    else:
        reading = _read_tag(reader, text, hidden=text != content)
    if reading.status == "ok" and ending_of(completion.finish_reason) == "unknown":
        return _unparsed(f"it may not be whole: nothing is known of {_finish(completion)}")
    return reading


def _unusable(completion: Completion) -> ParsedAnswer | None:
    if completion.fault is not None:
        return ParsedAnswer("failed", None, completion.fault)
    ending = ending_of(completion.finish_reason)
    if ending == "cut":
        return ParsedAnswer(
            "truncated", None, f"cut off at the limit of output tokens ({_finish(completion)})"
        )
    if (completion.refusal or "").strip():
        return ParsedAnswer(
            "refused", None, f"the model declined: {on_one_line((completion.refusal or '').strip())}"
        )
    if ending == "declined":
        return ParsedAnswer("refused", None, f"the model declined ({_finish(completion)})")
    if ending == "broken":
        return ParsedAnswer("failed", None, f"the server gave up on the answer ({_finish(completion)})")
    return None


def _finish(completion: Completion) -> str:
    return f"finish_reason {on_one_line((completion.finish_reason or '').strip(), 60)}"


def _read_block(reader: Block, text: str) -> ParsedAnswer:
    """What stands between the marks, less a code fence around it; the marks come in pairs."""
    begin, end = reader.begin, reader.end
    # what stands before a mark is looked at last: a search for first letters is 14 times faster
    opening, closing = (rf"{each}(?<![\w-]{each})" for each in (re.escape(begin), re.escape(end)))
    mark = re.compile(rf"(?:{opening}|{closing})(?![\w-])", re.ASCII)
    texts: list[str] = []
    opened: int | None = None
    for match in mark.finditer(text):
        if match[0] == end and opened is None:
            return _unparsed(f"{end} without {begin} before it")
        if match[0] == begin and opened is not None:
            return _unparsed(f"{begin} twice without {end} between them")
        if opened is not None:
            texts.append(_unfenced(text[opened : match.start()]))
        opened = None if match[0] == end else match.end()
    if opened is not None:
        return _unparsed(f"{begin} without {end} after it")
    texts = [inner for inner in texts if not _ECHO.fullmatch(inner)] or texts
    if not texts:
        return _unparsed(f"no {begin}")
    if len(set(texts)) > 1:
        return _unparsed(f"{len(set(texts))} different texts between {begin} and {end}")
    return _read_block_text(reader, texts[0])


def _read_block_text(reader: Block, text: str) -> ParsedAnswer:
    if not any(char.isalnum() for char in text):
        return _unparsed(f"nothing between {reader.begin} and {reader.end}")
    if not is_unicode(text):
        return _unparsed(f"between {reader.begin} and {reader.end} stands a lone surrogate: not Unicode text")
    return ParsedAnswer("ok", text)


def _unfenced(text: str) -> str:
    """The text less blank lines around it, and less one code fence that encloses all of it."""
    text = _without_blank_lines(text)
    if text.startswith("```") and text.endswith("```") and "\n" in text and text.count("```") == 2:
        text = _without_blank_lines(text[text.index("\n") + 1 : -3])
    return text


def _without_blank_lines(text: str) -> str:
    """The text less blank lines before it and blanks behind it, in time that grows with its length alone."""
    text = text.rstrip(_BLANKS)
    blank = _BLANK_LINES.match(text)
    return text[blank.end() :] if blank else text


def _read_tag(reader: Text | Label | Number, text: str, hidden: bool) -> ParsedAnswer:
    found = _inside(reader.tag, text)
    if found.fault is not None:
        return _unparsed(found.fault)
    if not found.texts:
        return _unparsed(f"no <{reader.tag}> tag{' outside its thoughts' if hidden else ''}")
    texts = [inner for inner in found.texts if not _ECHO.fullmatch(inner)] or found.texts
    readings = [_read_value(reader, inner) for inner in texts]
    bad = next((reading for reading in readings if reading.status != "ok"), None)
    if bad is not None:
        return bad
    values = list(dict.fromkeys(reading.value or "" for reading in readings))
    if len(values) > 1:
        return _unparsed(_disagreement(reader, values))
    return readings[0]


class _Inside(NamedTuple):
    texts: list[str]
    """What stands between each opening and closing tag."""
    fault: str | None
    """Why the tags do not pair up; None where they do, or there are none."""


def _inside(name: str, text: str) -> _Inside:
    """The text inside each pair of tags; they must come as opening, closing, opening, closing."""
    tag = re.compile(rf"<\s*+(/?+)\s*+{re.escape(name)}\s*+>", re.ASCII | re.IGNORECASE)
    texts: list[str] = []
    opened: int | None = None
    for match in tag.finditer(text):
        closing = bool(match[1])
        if closing and opened is None:
            return _Inside([], f"a </{name}> tag without <{name}> before it")
        if not closing and opened is not None:
            return _Inside([], f"a <{name}> tag inside <{name}>")
        if opened is not None:
            texts.append(text[opened : match.start()])
        opened = None if closing else match.end()
    return _Inside(texts, f"the <{name}> tag is not closed" if opened is not None else None)


def _read_value(reader: Text | Label | Number, inner: str) -> ParsedAnswer:
    if not inner.strip():
        return _unparsed(f"<{reader.tag}> is empty")
    return _TAGGED[type(reader)].read(reader, inner)


def _read_label(reader: Label, inner: str) -> ParsedAnswer:
    plain = normal_label(inner)
    for label in reader.one_of:
        if normal_label(label) == plain:
            return ParsedAnswer("ok", label)
    return _unparsed(f"<{reader.tag}> holds {shown(inner.strip())}, not one of {', '.join(reader.one_of)}")


def _read_number(reader: Number, inner: str) -> ParsedAnswer:
    text = undecorated(inner)
    value = _shortest(text) if len(text) <= _NUMBER_DIGITS else None
    if value is None:
        return _unparsed(f"<{reader.tag}> holds {shown(inner.strip())}, not a number")
    if reader.integer and "." in value:
        return _unparsed(f"<{reader.tag}> holds {value}, which is no whole number")
    if not Decimal(str(reader.min)) <= Decimal(value) <= Decimal(str(reader.max)):
        return _unparsed(f"<{reader.tag}> holds {value}, which is not within {reader.min} to {reader.max}")
    return ParsedAnswer("ok", value)


def _shortest(text: str) -> str | None:
    """A decimal number without idle signs and zeros, such as `7.5` for `+07.50`; None where it is none."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    fraction = (match[3] or "").rstrip("0")
    digits = (match[2].lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    return f"-{digits}" if match[1] == "-" and digits != "0" else digits


def _read_text(reader: Text, inner: str) -> ParsedAnswer:
    text = inner.strip()
    if not any(char.isalnum() for char in text):
        return _unparsed(f"<{reader.tag}> holds {shown(text)}, no words")
    if not is_unicode(text):
        return _unparsed(f"<{reader.tag}> holds a lone surrogate: not Unicode text")
    return ParsedAnswer("ok", text)


class _Tagged(NamedTuple):
    """How the text inside a tag is read, and what its values are called where they differ."""

    read: Callable[[Any, str], ParsedAnswer]
    values: str
    shown: slice = slice(None)
    """Those of them that are shown then."""


_TAGGED: Mapping[type, _Tagged] = {
    Text: _Tagged(_read_text, "texts", slice(0)),
    Label: _Tagged(_read_label, "ratings"),
    Number: _Tagged(_read_number, "numbers", slice(10)),
}


def _disagreement(reader: AnswerFormat, values: list[str]) -> str:
    number = "two" if len(values) == 2 else str(len(values))
    tagged = _TAGGED[type(reader)]
    named = ", ".join(values[tagged.shown])
    return f"{number} different {tagged.values}{f': {named}' if named else ''}"


def _unparsed(reason: str) -> ParsedAnswer:
    return ParsedAnswer("unparsed", None, reason)


_BRACE_OR_STRING = re.compile(r'[{}]|"[^"\\]*(?:\\.[^"\\]*)*("|)', re.DOTALL)
_OPENING = re.compile(r"\{")
_LOOKS_LIKE_OBJECT = re.compile(r'\{\s*+["}]')


def read_json_answer(reader: Json, text: str) -> ParsedAnswer:
    """The JSON value that the visible text of an answer holds, as JSON text with sorted keys, no blanks.

    It is the whole answer, a fenced block, or an object in the text; where there are several they must
    say the same. Nulls stay, unlike in hashes: the schema was checked with them.
    """
    try:
        values = {_spelled(piece): None for piece in _pieces(text)}
    except BadRow as error:
        return ParsedAnswer("unparsed", None, on_one_line(f"the JSON cannot be read: {error}"))
    if not values:
        return ParsedAnswer("unparsed", None, "no JSON object in the answer")
    if len(values) > 1:
        return ParsedAnswer("unparsed", None, f"{len(values)} different JSON values")
    value = next(iter(values))
    fault = _fault(reader, json.loads(value))
    return ParsedAnswer("ok", value) if fault is None else ParsedAnswer("unparsed", None, fault)


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
