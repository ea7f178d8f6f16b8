"""Defines the answer formats of tasks: checks a task's `answer` table, and spells it for the store."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kbetl.errors import BadRow, ConfigError
from kbetl.json_codec import LARGEST_INTEGER, canonical_json, read_json
from kbetl.records import MOST_FIELDS, schema_fields
from kbetl.samples.messages import THOUGHT_TAGS
from kbetl.text import is_unicode, on_one_line

_TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_MARK = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DECORATION = "\"'`*\u201c\u201d\u2018\u2019 \t\r\n\f\v"


@dataclass(frozen=True)
class Text:
    """An answer of free text inside a tag."""

    tag: str


@dataclass(frozen=True)
class Label:
    """An answer that is one of a few labels inside a tag; the value is the label as spelled here."""

    tag: str
    one_of: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """An answer that is a decimal number inside a tag, from `min` to `max`, both included."""

    tag: str
    min: float
    max: float
    integer: bool | None = None
    """True: a whole number. None, not False, if it need not be: so the spelling in the store stays."""


@dataclass(frozen=True)
class Pattern:
    """Text inside a tag that a regular expression matches as a whole."""

    tag: str
    pattern: str


@dataclass(frozen=True)
class Json:
    """An answer that is a JSON value valid by a JSON Schema."""

    json: Mapping[str, Any]


@dataclass(frozen=True)
class Block:
    """An answer of free text between two marks, such as BEGIN_PYTHON and END_PYTHON."""

    begin: str
    end: str


AnswerFormat = Text | Label | Number | Pattern | Block | Json


def format_spec(format_: AnswerFormat) -> str:
    """Returns the canonical JSON of a format, as it is stored; `format_from_spec` is the inverse."""
    return canonical_json(asdict(format_)).decode()


def format_from_spec(text: str) -> AnswerFormat:
    """Returns the format of a stored text. Raises ConfigError if this version does not know it."""
    try:
        return answer_format(read_json(text.encode("utf-8", "surrogatepass")).value)
    except (BadRow, ConfigError) as error:
        raise ConfigError(f"stored reader {shown(text)}: {error}; a newer kbetl may know it") from error


def answer_format(table: Any) -> AnswerFormat:
    """Returns the format that a task's `answer` table describes.

    Raises ConfigError unless its keys are those of one of FORMS.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"key 'answer' is {type_name(table)}, not a table such as {{tag = \"difficulty\"}}")
    form = next((form for form in FORMS if set(form) == set(table)), None)
    if form is not None:
        return FORMS[form](table)
    *others, last = (f"{{{', '.join(form)}}}" for form in FORMS)
    raise ConfigError(
        f"key 'answer' has {', '.join(sorted(table)) or 'no key'}; it takes {', '.join(others)} or {last}"
    )


def normal_label(text: str) -> str:
    """Returns a label without letter case, extra white space, quotes, emphasis and a last period."""
    return " ".join(undecorated(text).rstrip(f".{_DECORATION}").casefold().split())


def undecorated(text: str) -> str:
    """Returns the text without a code fence, quotes, backticks, asterisks and white space around it."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text[text.index("\n") : -3]
    return text.strip(_DECORATION)


def _tag(value: Any) -> str:
    if not isinstance(value, str) or not _TAG_NAME.fullmatch(value):
        raise ConfigError(
            f"answer.tag is {value!r}; a tag is a letter, then letters, digits, '_' or '-', up to 64"
        )
    if value.lower() in THOUGHT_TAGS:
        raise ConfigError(
            f"answer.tag is {value!r}, whose text is reasoning and never read; choose another tag"
        )
    return value


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(label, str) for label in value):
        raise ConfigError(f"answer.one_of is {value!r}; it is a list of two or more texts")
    seen: dict[str, str] = {}
    for label in value:
        plain = normal_label(label)
        if not plain or label != label.strip() or "<" in label:
            raise ConfigError(f"answer.one_of: {label!r} cannot be a label; use plain words")
        if plain in seen:
            raise ConfigError(f"answer.one_of: {seen[plain]!r} and {label!r} cannot be told apart")
        seen[plain] = label
    check_json_value(value, "answer.one_of")
    return tuple(value)


def _number(table: Mapping[str, Any]) -> Number:
    for key in ("min", "max"):
        value = table[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"answer.{key} is {value!r}, not a finite number")
    if table["min"] >= table["max"]:
        raise ConfigError(f"answer.min {table['min']} is not below answer.max {table['max']}")
    integer = table.get("integer", False)
    if not isinstance(integer, bool):
        raise ConfigError(f"answer.integer is {integer!r}; it is true or false")
    if integer and not all(abs(table[key]) <= LARGEST_INTEGER for key in ("min", "max")):
        raise ConfigError(f"answer.min and answer.max of an integer are within {LARGEST_INTEGER}")
    return Number(_tag(table["tag"]), table["min"], table["max"], integer or None)


def _pattern(table: Mapping[str, Any]) -> Pattern:
    value = table["pattern"]
    if not isinstance(value, str) or not value:
        raise ConfigError(f"answer.pattern is {value!r}; it is a regular expression")
    check_unicode(value, "answer.pattern")
    _check_pattern(value)
    return Pattern(_tag(table["tag"]), value)


def _block(table: Mapping[str, Any]) -> Block:
    for key in ("begin", "end"):
        value = table[key]
        if not isinstance(value, str) or not _MARK.fullmatch(value):
            raise ConfigError(
                f"answer.{key} is {value!r}; a mark is a word of letters, digits, '_' or '-', up to 64"
            )
    if table["begin"] in table["end"] or table["end"] in table["begin"]:
        raise ConfigError(f"answer.begin {table['begin']!r} and answer.end {table['end']!r} hold each other")
    return Block(table["begin"], table["end"])


def _text(table: Mapping[str, Any]) -> Text:
    return Text(_tag(table["tag"]))


def _label(table: Mapping[str, Any]) -> Label:
    return Label(_tag(table["tag"]), _labels(table["one_of"]))


def _json(table: Mapping[str, Any]) -> Json:
    return Json(_schema(table["json"]))


FORMS: Mapping[tuple[str, ...], Callable[[Mapping[str, Any]], AnswerFormat]] = {
    ("tag",): _text,
    ("tag", "one_of"): _label,
    ("tag", "min", "max"): _number,
    ("tag", "min", "max", "integer"): _number,
    ("tag", "pattern"): _pattern,
    ("begin", "end"): _block,
    ("json",): _json,
}
"""The keys of each form of a task's `answer` table, and the function that checks them."""


_FIELD_TYPES = {"integer": "integer", "number": "number", "text": "string", "boolean": "boolean"}


def _schema_of_fields(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON Schema of an object with fields of given types, each a name of a type or a list of texts."""
    properties: dict[str, Any] = {}
    for name, kind in table.items():
        if isinstance(kind, str) and kind in _FIELD_TYPES:
            properties[name] = {"type": _FIELD_TYPES[kind]}
        elif isinstance(kind, list):
            properties[name] = {"type": "string", "enum": list(_labels(kind))}
        else:
            raise ConfigError(
                f"answer.json: field {name!r} is {kind!r}; it is {', '.join(_FIELD_TYPES)} or a list of texts"
            )
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schema(value: Any) -> Mapping[str, Any]:
    """The schema itself; of a table without any keyword of JSON Schema, that of its typed fields."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(value, dict) or not value:
        raise ConfigError(f"answer.json is {type_name(value)}, not a table with a JSON Schema")
    check_json_value(value, "answer.json")
    if not any(key in Draft202012Validator.VALIDATORS or key[:1] == "$" for key in value):
        schema = _schema_of_fields(value)
        _check_columns(schema)
        return schema
    _check_columns(value)
    _check_references(value)
    dialect = value.get("$schema", "https://json-schema.org/draft/2020-12/schema")
    # None is a documented default; the stubs do not know it.
    validator = validator_for({"$schema": dialect}, default=None) if isinstance(dialect, str) else None  # type: ignore[arg-type]
    if validator is None:
        raise ConfigError(f"answer.json: $schema {dialect!r} is no dialect that is known here; leave it out")
    try:
        validator.check_schema(value)
    except SchemaError as error:
        raise ConfigError(
            f"answer.json is no JSON Schema: {on_one_line(f'{error.json_path}: {error.message}')}"
        ) from error
    return value


def _check_columns(schema: Mapping[str, Any]) -> None:
    """Refuses properties that cannot be columns of the labels."""
    fields = schema_fields(schema)
    for name in _keys(schema.get("properties")):
        if name not in fields:
            raise ConfigError(
                f"answer.json: the property {name!r} cannot be a column of the labels: it is empty, "
                "holds NUL, is called value or sample_hash, differs from another in letter case alone, or "
                f"comes after {MOST_FIELDS} others; rename it"
            )


def _check_references(schema: Mapping[str, Any]) -> None:
    """Raises ConfigError for references, which could use the network or recur, and for bad patterns."""
    for table in _tables(schema):
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            if isinstance(table.get(key), str):
                raise ConfigError(f"answer.json: {key} is not followed; write the schema out")
        patterns = [table.get("pattern"), *_keys(table.get("patternProperties"))]
        for pattern in patterns:
            _check_pattern(pattern)


def _check_pattern(pattern: Any) -> None:
    if isinstance(pattern, str):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"answer.json: pattern {pattern!r} is no regular expression: {error}"
            ) from error


def _keys(table: Any) -> list[Any]:
    return list(table) if isinstance(table, Mapping) else []


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for child in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _tables(child)


def shown(text: str, limit: int = 60) -> str:
    """Returns foreign text for a reason: quoted, on one line, at most `limit` characters of it.

    Control characters, escape codes and lone surrogates are escaped, so that it can be stored and printed.
    """
    return repr(text) if len(text) <= limit else repr(text[:limit]) + "..."


def check_json_value(value: Any, path: str) -> None:
    """Raises ConfigError, naming the path, unless JSON can express the value (no dates, no NaN)."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            check_json_value(child, f"{path}.{key}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            check_json_value(child, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value}, which JSON cannot carry")
    elif isinstance(value, str):
        check_unicode(value, path)
    elif value is not None and not isinstance(value, bool | int | float):
        raise ConfigError(f"{path} is a {type(value).__name__}, which JSON cannot carry; write it as text")


def check_unicode(text: str, path: str) -> None:
    """Raises ConfigError for a lone surrogate (an argument not in UTF-8), which no request can have."""
    if not is_unicode(text):
        raise ConfigError(f"{path} is not Unicode text: {shown(text)}")


def type_name(value: Any) -> str:
    """Returns the TOML name of a value's type, for messages."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a float",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), f"a {type(value).__name__}")
