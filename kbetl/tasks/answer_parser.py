"""Parses a completion into the value that a task asked for; never guesses from prose."""

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
    Pattern,
    Text,
    format_spec,
    normal_label,
    shown,
    undecorated,
)
from kbetl.text import is_unicode, on_one_line

PARSER_VERSION = "2"
"""Version of the code here and in `samples.messages`: raised if it may read a stored answer otherwise."""

_NUMBER = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?")
_BLANK_LINES = re.compile(r"(?:[ \t]*+\r?\n)+")
_BLANKS = " \t\n\r\f\v"
_NUMBER_DIGITS = 40
# Text of a tag in an answer that repeats the form it was asked for, such as `<difficulty>...</difficulty>`.
_ECHO = re.compile(r"[.\u2026\s]*[.\u2026][.\u2026\s]*")


def parser_version(format_: AnswerFormat) -> str:
    """Returns `outcomes.parser_version`: the version of the code and 12 digits of the format's hash."""
    return f"{PARSER_VERSION}:{hashlib.sha256(format_spec(format_).encode()).hexdigest()[:12]}"


def read_answer(format_: AnswerFormat, completion: Completion) -> ParsedAnswer:
    """Returns the status and value of a completion. Pure; never raises, whatever the text.

    An answer that was cut off is `truncated`, even if it has a value, and one that the model declined is
    `refused`; neither is parsed. Text that does not match the format exactly is `unparsed`, with a reason.
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
    if isinstance(format_, Json):
        reading = read_json_answer(format_, text)
    elif isinstance(format_, Block):
        reading = _read_block(format_, text)
    else:
        reading = _read_tag(format_, text, hidden=text != content)
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


def _read_block(format_: Block, text: str) -> ParsedAnswer:
    """Parses the text between the marks, without a code fence around it; marks must come in pairs."""
    begin, end = format_.begin, format_.end
    # the look-behind comes after the mark: a search for the first letters of a mark is 14 times faster
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
    return _read_block_text(format_, texts[0])


def _read_block_text(format_: Block, text: str) -> ParsedAnswer:
    if not any(char.isalnum() for char in text):
        return _unparsed(f"nothing between {format_.begin} and {format_.end}")
    if not is_unicode(text):
        return _unparsed(
            f"between {format_.begin} and {format_.end} stands a lone surrogate: not Unicode text"
        )
    return ParsedAnswer("ok", text)


def _unfenced(text: str) -> str:
    """Returns the text without blank lines around it, and without one code fence around all of it."""
    text = _without_blank_lines(text)
    if text.startswith("```") and text.endswith("```") and "\n" in text and text.count("```") == 2:
        text = _without_blank_lines(text[text.index("\n") + 1 : -3])
    return text


def _without_blank_lines(text: str) -> str:
    """Returns the text without leading blank lines and trailing white space, in linear time."""
    text = text.rstrip(_BLANKS)
    blank = _BLANK_LINES.match(text)
    return text[blank.end() :] if blank else text


def _read_tag(format_: Text | Label | Number | Pattern, text: str, hidden: bool) -> ParsedAnswer:
    found = _inside(format_.tag, text)
    if found.fault is not None:
        return _unparsed(found.fault)
    if not found.texts:
        return _unparsed(f"no <{format_.tag}> tag{' outside its thoughts' if hidden else ''}")
    texts = [inner for inner in found.texts if not _ECHO.fullmatch(inner)] or found.texts
    readings = [_read_value(format_, inner) for inner in texts]
    bad = next((reading for reading in readings if reading.status != "ok"), None)
    if bad is not None:
        return bad
    values = list(dict.fromkeys(reading.value or "" for reading in readings))
    if len(values) > 1:
        return _unparsed(_disagreement(format_, values))
    return readings[0]


class _Inside(NamedTuple):
    texts: list[str]
    """The text between each opening and closing tag."""
    fault: str | None
    """Why the tags do not pair up; None if they do, or if there are none."""


def _inside(name: str, text: str) -> _Inside:
    """Returns the text inside each pair of tags; opening and closing tags must alternate."""
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


def _read_value(format_: Text | Label | Number | Pattern, inner: str) -> ParsedAnswer:
    if not inner.strip():
        return _unparsed(f"<{format_.tag}> is empty")
    return _TAGGED[type(format_)].read(format_, inner)


def _read_label(format_: Label, inner: str) -> ParsedAnswer:
    plain = normal_label(inner)
    for label in format_.one_of:
        if normal_label(label) == plain:
            return ParsedAnswer("ok", label)
    return _unparsed(f"<{format_.tag}> holds {shown(inner.strip())}, not one of {', '.join(format_.one_of)}")


def _read_number(format_: Number, inner: str) -> ParsedAnswer:
    text = undecorated(inner)
    value = _shortest(text) if len(text) <= _NUMBER_DIGITS else None
    if value is None:
        return _unparsed(f"<{format_.tag}> holds {shown(inner.strip())}, not a number")
    if format_.integer and "." in value:
        return _unparsed(f"<{format_.tag}> holds {value}, which is no whole number")
    if not Decimal(str(format_.min)) <= Decimal(value) <= Decimal(str(format_.max)):
        return _unparsed(f"<{format_.tag}> holds {value}, which is not within {format_.min} to {format_.max}")
    return ParsedAnswer("ok", value)


def _shortest(text: str) -> str | None:
    """Returns a decimal number without needless signs and zeros: `7.5` for `+07.50`; None if it is none."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    fraction = (match[3] or "").rstrip("0")
    digits = (match[2].lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    return f"-{digits}" if match[1] == "-" and digits != "0" else digits


def _read_text(format_: Text, inner: str) -> ParsedAnswer:
    text = inner.strip()
    if not any(char.isalnum() for char in text):
        return _unparsed(f"<{format_.tag}> holds {shown(text)}, no words")
    if not is_unicode(text):
        return _unparsed(f"<{format_.tag}> holds a lone surrogate: not Unicode text")
    return ParsedAnswer("ok", text)


def _read_pattern(format_: Pattern, inner: str) -> ParsedAnswer:
    text = inner.strip()
    found = _read_text(Text(format_.tag), inner)
    if found.status != "ok" or re.fullmatch(format_.pattern, text):
        return found
    return _unparsed(f"<{format_.tag}> holds {shown(text)}, which {format_.pattern!r} does not match")


class _Tagged(NamedTuple):
    """How the text inside a tag is parsed, and the word for its values in a message that they differ."""

    read: Callable[[Any, str], ParsedAnswer]
    values: str
    shown: slice = slice(None)
    """Which of the values the message lists."""


_TAGGED: Mapping[type, _Tagged] = {
    Text: _Tagged(_read_text, "texts", slice(0)),
    Label: _Tagged(_read_label, "ratings"),
    Number: _Tagged(_read_number, "numbers", slice(10)),
    Pattern: _Tagged(_read_pattern, "texts", slice(10)),
}


def _disagreement(format_: AnswerFormat, values: list[str]) -> str:
    number = "two" if len(values) == 2 else str(len(values))
    tagged = _TAGGED[type(format_)]
    named = ", ".join(values[tagged.shown])
    return f"{number} different {tagged.values}{f': {named}' if named else ''}"


def _unparsed(reason: str) -> ParsedAnswer:
    return ParsedAnswer("unparsed", None, reason)


_BRACE_OR_STRING = re.compile(r'[{}]|"[^"\\]*(?:\\.[^"\\]*)*("|)', re.DOTALL)
_OPENING = re.compile(r"\{")
_LOOKS_LIKE_OBJECT = re.compile(r'\{\s*+["}]')


def read_json_answer(format_: Json, text: str) -> ParsedAnswer:
    """Returns the JSON value in the text of an answer, as JSON text with sorted keys and no white space.

    It is the whole answer, a fenced block, or an object in the text; several must be equal. Nulls stay,
    unlike in hashes, because the schema is checked with them.
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
    fault = _fault(format_, json.loads(value))
    return ParsedAnswer("ok", value) if fault is None else ParsedAnswer("unparsed", None, fault)


def _pieces(text: str) -> Iterator[str]:
    """Yields the pieces of the text that are JSON or start like a JSON object."""
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
    """Returns the text outside code fences, and each fenced block; an unclosed block is outside."""
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
    """Yields the outermost `{...}` of a text that look like JSON objects; other braces are prose.

    One that is not closed extends to the end of the text, so that it is no valid JSON. Raises BadRow for
    the first object of a list: the list would be the answer, and it was no valid JSON.
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
    """Returns JSON text in one spelling. Raises BadRow for invalid JSON, repeated keys, infinite numbers."""
    parsed = read_json(text.strip().encode("utf-8", "surrogatepass"))
    if parsed.nonfinite:
        raise BadRow(f"the number at {parsed.nonfinite[0]} is not finite")
    return json.dumps(parsed.value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _fault(format_: Json, value: Any) -> str | None:
    """Returns where and why a value is not valid by the schema; None if it is valid."""
    from jsonschema.validators import validator_for

    validator = validator_for(format_.json)(format_.json)
    try:
        errors = sorted(validator.iter_errors(value), key=lambda error: (error.json_path, error.message))
    except (OverflowError, RecursionError):
        return "the JSON is too large or too deep to check against the schema"
    return on_one_line(f"{errors[0].json_path}: {errors[0].message}") if errors else None
