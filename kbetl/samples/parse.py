"""Turns a parsed row into a Sample: which kind it is, and what is asked about it most. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kbetl import records
from kbetl.errors import BadRow
from kbetl.json_codec import Parsed
from kbetl.records import Kind, Sample
from kbetl.samples import fields
from kbetl.samples.rollout_facts import RolloutFacts, rollout_facts

_REMEMBERED_CODES = 40_000
"""Per generation, 250 bytes each."""
_NAMED_FIELDS = 12
_FIELD_NAME_CHARACTERS = 40
_WANTED, _NAMES, _ASKED = ("completion", "python_code"), ("module_name",), ("prompt",)
"""In whose place a near miss may stand."""
_OTHER_SHAPES = {
    "traces": "a verifiers trace, not an evals row: `kbetl synth record` reads it",
    "nodes": "a verifiers trace, not an evals row: `kbetl synth record` reads it",
    "custom_id": "a line of a batch file, not an evals row: `kbetl synth record` reads it",
}


def parse_row(parsed: Parsed) -> Sample:
    """The sample that a row is: a rollout if it has a completion, a module if it has PyTorch code and a name.

    Raises BadRow with the reason for a row that is neither, and for one whose fields have wrong types.
    """
    return _sample(parsed, "module" if _checked(_object(parsed)) is None else "rollout")


class ParsedRow(NamedTuple):
    """What a row says."""

    sample: Sample
    facts: RolloutFacts | None
    """None for a module."""


def parse_row_with_facts(parsed: Parsed) -> ParsedRow:
    """`parse_row` and `rollout_facts` from one reading of the messages; raises BadRow as they do."""
    spoken = _checked(_object(parsed))
    if spoken is None:
        return ParsedRow(_sample(parsed, "module"), None)
    return ParsedRow(_sample(parsed, "rollout"), rollout_facts(parsed.value, spoken))


def parse_prompt(parsed: Parsed) -> Sample:
    """The problem that a row with a prompt is, with or without PyTorch code.

    Raises BadRow with the reason for a row that is none.
    """
    row = _object(parsed)
    if row.get("completion") is not None:
        raise BadRow("it has a completion: a rollout, not a prompt; `kbetl ingest` stores it")
    prompt = row.get("prompt")
    said = [prompt] if isinstance(prompt, str) else [fields.text_of(each) for each in _asking(row)]
    if not any((text or "").strip() for text in said):
        raise BadRow(
            f"no field 'prompt' with text or messages; it has {_names(row)}{fields.meant_words(row, _ASKED)}"
        )
    return _sample(parsed, "module")


def _asking(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    messages = fields.messages(row, "prompt")
    for index, message in enumerate(messages):
        if not isinstance(message.get("role"), str) or message.get("content") is None:
            raise BadRow(f"field 'prompt[{index}]' is no message with a role and content")
    return messages


def _object(parsed: Parsed) -> Mapping[str, Any]:
    if not isinstance(parsed.value, dict):
        raise BadRow(f"the row is {fields.type_name(parsed.value)}, not an object with fields")
    return parsed.value


def _sample(parsed: Parsed, kind: Kind) -> Sample:
    row = parsed.value
    name = fields.module_name(row)
    code = fields.python_code(row)
    identity = records.sample_hash(row)
    code_identity = None if code is None else _remembered.code_hash(code)
    return Sample(
        hash=identity,
        kind=kind,
        module_name=name,
        code_hash=code_identity,
        code_point=records.hash_point(code_identity, name, identity),
        name_point=records.hash_point(name, code_identity, identity),
        reward=fields.reward(row),
        nonfinite=json.dumps(parsed.nonfinite) if parsed.nonfinite else None,
        row=parsed.text,
    )


def looks_like_a_row(row: Mapping[str, Any]) -> bool:
    """Whether an object has any field of a row, good or bad; settings and metadata have none."""
    return any(key in row for key in ("completion", *fields.PYTHON_CODE, *_OTHER_SHAPES))


def _checked(row: Mapping[str, Any]) -> fields.Spoken | None:
    """What the assistant says in a rollout; None for a module. Raises BadRow for a row that is neither."""
    try:
        return _spoken(row)
    except BadRow as bad:
        raise BadRow(f"{bad}{_hint(row)}") from None


def _spoken(row: Mapping[str, Any]) -> fields.Spoken | None:
    for key, reason in _OTHER_SHAPES.items():
        if row.get(key) is not None:
            raise BadRow(reason)
    if row.get("completion") is None:
        _check_module(row)
        return None
    # All that later stages read is read here, so that a wrong type is found now.
    fields.messages(row, "prompt")
    spoken = fields.spoken(row)
    fields.triton_code(row)
    return spoken


def _check_module(row: Mapping[str, Any]) -> None:
    """Code and name stand at the top; those in `info` belong to a rollout."""
    top = {key: row[key] for key in (*fields.PYTHON_CODE, *fields.MODULE_NAME) if key in row}
    code, name = fields.python_code(top), fields.module_name(top)
    if code is None and not any(key in row for key in fields.PYTHON_CODE):
        raise BadRow(
            "neither a module (no field 'python_code') nor a rollout (no field 'completion'); "
            f"it has {_names(row)}{fields.meant_words(row, _WANTED)}"
        )
    if not (code or "").strip():
        key = next(key for key in fields.PYTHON_CODE if key in row)
        raise BadRow(f"a module without code: field '{key}' is {'null' if code is None else 'blank'}")
    if not (name or "").strip():
        meant = fields.meant_words(row, _NAMES)
        raise BadRow(f"a module without a name (no field 'module_name'); it has {_names(row)}{meant}")


def _hint(row: Mapping[str, Any]) -> str:
    """What to do about a whole table in one object, as pandas writes it unless told otherwise."""
    if len(row) > 1 and all(isinstance(value, list | dict) for value in row.values()):
        return "; a table in one object? Write one row per line (pandas: orient='records', lines=True)"
    return ""


def _names(row: Mapping[str, Any]) -> str:
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
