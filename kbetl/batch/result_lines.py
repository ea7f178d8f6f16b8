"""Reads a line of a result file: of OpenAI's batches, of their error files, of vLLM's run-batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kbetl.batch.files import Key, key_of
from kbetl.client.error_kinds import classify_error, error_text, status_of
from kbetl.client.responses import HttpResponse, ProviderError, one_line, read_completion, read_error
from kbetl.errors import BadRow
from kbetl.json_codec import canonical_json, member_spans
from kbetl.records import Completion

_NEVER_RUN = frozenset({"batch_expired", "batch_cancelled"})
"""Codes of requests that the service did not get to."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error instead of an answer."""

    reason: str
    never_run: bool
    """Whether the service says that it did not get to it."""
    is_declined: bool = False
    """Whether a moderation or a content filter refused it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one line says about one request."""

    key: Key
    hash: bytes
    """SHA-256 of its content: the same line, spelled in any way, is the same result."""
    result_id: str | None
    found: Completion | Failure


def read_result(line: bytes, host: str) -> Result:
    """One line of a result file. Raises BadRow, with the reason, for what is no result of ours."""
    text = line.decode("utf-8", "replace")
    row = _parsed(line, text)
    if not isinstance(row, dict):
        raise BadRow("it is JSON but no object")
    name = row.get("custom_id")
    if not isinstance(name, str):
        raise BadRow("it has no custom_id: no line of a batch's results")
    if "response" not in row and "error" not in row:
        raise BadRow("it has neither response nor error: a line of an input file, not of its results")
    key = key_of(name)
    if key is None:
        raise BadRow(f"custom_id {one_line(name, 80)!r} was not given by kbetl")
    result_id = row.get("id")
    try:
        found = _found(row, text, host)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"it is JSON that cannot be read: {type(error).__name__}") from None
    return Result(
        key,
        _hash_of(row, line),
        one_line(result_id, 200) if isinstance(result_id, str) else None,
        found,
    )


def _parsed(line: bytes, text: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRow(f"it is not JSON: {error.msg} at character {error.pos} of {len(text)}") from None
    except (ValueError, RecursionError) as error:
        raise BadRow(f"it is JSON that cannot be read: {type(error).__name__}") from None


def _hash_of(row: Mapping[str, Any], line: bytes) -> bytes:
    try:
        content = canonical_json(row)
    except (ValueError, TypeError, RecursionError):  # NaN, a lone surrogate: then the line as it is
        content = line
    return hashlib.sha256(content).digest()


def _found(row: Mapping[str, Any], text: str, host: str) -> Completion | Failure:
    response = row.get("response")
    error = row.get("error")
    if not isinstance(response, dict):
        return _failure(0, error, host)
    status = response.get("status_code")
    status = status if isinstance(status, int) else 0 if error else 200
    body = response.get("body")
    if error or not 200 <= status < 300 or body is None:
        return _failure(status, error or body, host)
    found = read_completion(HttpResponse(status, {}, _body(text).encode("utf-8", "replace"), 0.0), host)
    return found if isinstance(found, Completion) else _failed(host, status, found)


def _body(text: str) -> str:
    """The body of the response as the line spells it."""
    start, end = member_spans(text)["response"]
    response = text[start:end]
    start, end = member_spans(response)["body"]
    return response[start:end]


def _failure(status: int, error: Any, host: str) -> Failure:
    """An error in any of its shapes: an object, one inside another, a text, or nothing at all."""
    if error is None:
        return Failure(f"{host}: the result has neither an answer nor an error", False)
    said = read_error(_bytes_of(error))
    if said.code in _NEVER_RUN:
        return Failure(f"{host}: {said.message or said.code} ({said.code})", True)
    return _failed(host, status, said)


def _failed(host: str, status: int, said: ProviderError) -> Failure:
    """What an error means, by the same table as online; status 0: it has none."""
    has_status = not 200 <= status < 300 and status > 0
    kind = classify_error(status if has_status else status_of(said), said)
    reason = error_text(host, status, said) if status else _words(host, said)
    return Failure(reason, False, kind == "moderation")


def _bytes_of(error: Any) -> bytes:
    """An error as the bytes of a reply's body: text as it is, anything else as JSON."""
    text = error if isinstance(error, str) else json.dumps(error)
    return text.encode("utf-8", "replace")


def _words(host: str, said: ProviderError) -> str:
    codes = f" ({said.code})" if said.code else ""
    return f"{host}: {said.message}{codes}"
