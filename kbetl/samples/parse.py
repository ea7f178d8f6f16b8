"""Turns a parsed row into a Sample: its kind, and the fields that are used most. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from kbetl import records
from kbetl.errors import BadRow
from kbetl.json_codec import Parsed
from kbetl.records import Kind, Sample
from kbetl.samples import fields
from kbetl.samples.reading import FieldMap, Reading, has_prompt, kind_of, read_row
from kbetl.samples.rollout_facts import RolloutFacts, rollout_facts

# Per generation, 250 bytes each.
_REMEMBERED_CODES = 40_000
_NAMED_FIELDS = 12
_FIELD_NAME_CHARACTERS = 40
_ASKED = ("prompt",)
"""Fields that a near miss may have been meant for."""
_OF_MODULES = ("module_name", "python_code", "pytorch_code")
_TRACE = "a verifiers trace, not an evals row: `kbetl synth record` reads it"
_BATCH = "a line of a batch file, not an evals row: `kbetl synth record` reads it"
_OTHER_SHAPES = (
    (("traces",), _TRACE),
    (("nodes", "task"), _TRACE),
    (("custom_id", "response"), _BATCH),
    (("custom_id", "error"), _BATCH),
    (("custom_id", "body"), _BATCH),
)
"""Fields of what other tools write, and what it is."""
_MARKERS = frozenset(keys[0] for keys, _ in _OTHER_SHAPES)


def parse_row(parsed: Parsed, field_map: FieldMap | None = None) -> Sample:
    """The sample that a row is: a rollout, a module, or else a record; `field_map` says how it is read.

    Raises BadRow with the reason for what is no object, for what another command reads, and for a row whose
    fields have wrong types or contradict each other.
    """
    reading = reading_of(parsed, field_map)
    kind = _kind(parsed.value, reading.row)
    if kind == "rollout":
        _spoken(reading.row)
    return _sample(parsed, kind, reading)


def reading_of(parsed: Parsed, field_map: FieldMap | None = None) -> Reading:
    """How a row is read. Raises BadRow as `parse_row` does."""
    return read_row(_object(parsed), field_map)


class ParsedRow(NamedTuple):
    """What a row says."""

    sample: Sample
    facts: RolloutFacts | None
    """None unless it is a rollout."""
    reading: Reading


def parse_row_with_facts(parsed: Parsed, field_map: FieldMap | None = None) -> ParsedRow:
    """`parse_row` and `rollout_facts` from one reading of the messages; raises BadRow as they do."""
    reading = reading_of(parsed, field_map)
    kind = _kind(parsed.value, reading.row)
    if kind != "rollout":
        return ParsedRow(_sample(parsed, kind, reading), None, reading)
    spoken = _spoken(reading.row)
    facts = rollout_facts(parsed.value, reading, spoken)
    return ParsedRow(_sample(parsed, kind, reading), facts, reading)


def parse_prompt(parsed: Parsed) -> Sample:
    """The problem that a row with a prompt is, with or without PyTorch code.

    Raises BadRow with the reason for a row that is none.
    """
    row = _object(parsed)
    if row.get("completion") is not None:
        raise BadRow("it has a completion: a rollout, not a prompt; `kbetl ingest` stores it")
    if not has_prompt(row):
        meant = fields.meant_words(row, _ASKED)
        raise BadRow(f"no field 'prompt' with text or messages; it has {field_names(row)}{meant}")
    return _sample(parsed, "module", Reading(row))


def _object(parsed: Parsed) -> Mapping[str, Any]:
    if not isinstance(parsed.value, dict):
        raise BadRow(f"the row is {fields.type_name(parsed.value)}, not an object with fields")
    return parsed.value


def _sample(parsed: Parsed, kind: Kind, reading: Reading) -> Sample:
    row, group = reading.row, reading.group
    if kind == "record":  # a `name` or `code` of another kind of row means something else
        row = {key: row[key] for key in (*_OF_MODULES, "reward") if key in row}
    name = fields.module_name(row)
    code = fields.python_code(row)
    identity = records.sample_hash(parsed.value)
    code_identity = None if code is None else _remembered.code_hash(code)
    return Sample(
        hash=identity,
        kind=kind,
        module_name=name,
        code_hash=code_identity,
        code_point=records.hash_point(group, code_identity, name, identity),
        name_point=records.hash_point(group, name, code_identity, identity),
        reward=fields.reward(row),
        nonfinite=json.dumps(parsed.nonfinite) if parsed.nonfinite else None,
        row=parsed.text,
    )


def looks_like_a_row(row: Mapping[str, Any]) -> bool:
    """Whether an object has any field of a row, good or bad; settings and metadata have none."""
    return any(
        key in row for key in ("completion", "messages", "conversations", *fields.PYTHON_CODE, *_MARKERS)
    )


def _kind(row: Mapping[str, Any], read: Mapping[str, Any]) -> Kind:
    """The kind of a row, with `read` its fields as they are read."""
    if not _MARKERS.isdisjoint(row):
        for keys, reason in _OTHER_SHAPES:
            if all(row.get(key) is not None for key in keys):
                raise BadRow(reason)
    kind = kind_of(read)
    if kind == "record":
        _check_record(row, read)
    return kind


def _spoken(row: Mapping[str, Any]) -> fields.Spoken:
    """What the assistant says in a rollout; reads all that later stages read, to find a wrong type now."""
    fields.messages(row, "prompt")
    spoken = fields.spoken(row)
    fields.triton_code(row)
    return spoken


def _check_record(row: Mapping[str, Any], read: Mapping[str, Any]) -> None:
    """Raises BadRow for a module without its code, and for a whole table in one object."""
    if not row:
        raise BadRow("an object without fields")
    if _is_table(row):
        raise BadRow("a table in one object? Write one row per line (pandas: orient='records', lines=True)")
    top = {key: read[key] for key in (*_OF_MODULES, "entry_point") if key in read}
    name, code = fields.module_name(top), fields.python_code(top)
    key = next((key for key in ("python_code", "pytorch_code") if key in top), None)
    if (name or "").strip() and key is not None:
        raise BadRow(f"a module without code: field '{key}' is {'null' if code is None else 'blank'}")
    if name is not None and (code or "").strip():
        raise BadRow("a module without a name: its name is blank")


def _is_table(row: Mapping[str, Any]) -> bool:
    """Whether an object is a whole table, as pandas writes it by columns or split."""
    by_columns = all(
        isinstance(value, dict) and value and all(map(str.isdecimal, value)) for value in row.values()
    )
    return by_columns or row.keys() == {"columns", "index", "data"}


def field_names(row: Mapping[str, Any]) -> str:
    """The names of a row's first fields, for a message."""
    names = [_short(key) for key in list(row)[:_NAMED_FIELDS]]
    if len(row) > _NAMED_FIELDS:
        names.append(f"... ({len(row)} in all)")
    return ", ".join(names) or "no fields"


def _short(name: str) -> str:
    return name if len(name) <= _FIELD_NAME_CHARACTERS else f"{name[:_FIELD_NAME_CHARACTERS]}..."


def remember_code(code: str, code_hash: str) -> None:
    """Notes the hash of source that a stored sample has, for rows that hold the same source."""
    _remembered.note(code, code_hash)


class _Remembered:
    """Code hashes by the SHA-256 of the source: many rollouts share a module, and reading one costs 0.3 ms.

    Two generations: what was not asked for during the last one is forgotten, so memory has a ceiling.
    """

    def __init__(self) -> None:
        self._young: dict[bytes, str] = {}
        self._old: dict[bytes, str] = {}

    def code_hash(self, code: str) -> str:
        """`records.code_hash`."""
        key = hashlib.sha256(code.encode()).digest()
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key) or records.code_hash(code)
            self._note(key, found)
        return found

    def note(self, code: str, code_hash: str) -> None:
        """What `records.code_hash` gives for this source."""
        self._note(hashlib.sha256(code.encode()).digest(), code_hash)

    def _note(self, key: bytes, code_hash: str) -> None:
        if len(self._young) >= _REMEMBERED_CODES:
            self._young, self._old = {}, self._young
        self._young[key] = code_hash


_remembered = _Remembered()
