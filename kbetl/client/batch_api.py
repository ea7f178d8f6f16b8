"""Talks to an OpenAI-compatible batch service: uploads files, starts batches, downloads results."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.error_kinds import advice, error_text
from kbetl.client.responses import HttpResponse, one_line, read_error
from kbetl.client.retry_after import retry_after_s
from kbetl.client.transport import FileTransport, NoResponse
from kbetl.errors import ServiceError

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""Statuses of a batch that has ended."""
METADATA_KEY = "kbetl"
"""Key of the batch's `metadata` that holds the hash of its input file."""

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}")
_TRIES = 4
_PAGE = 100
_MAX_WAIT_S = 60.0
# Statuses after which a retry may succeed.
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class RemoteBatch(NamedTuple):
    """A batch as the service describes it."""

    id: str
    status: str
    input_file_id: str | None
    output_file_id: str | None
    error_file_id: str | None
    file_hash: str | None
    """Hash of the input file, from `metadata`; None if it has none."""
    created_at: int
    """Unix time in seconds; 0 if the service names none."""
    counts: str
    """`3 of 8 done, 1 failed`; empty if the service has no counts."""
    errors: str
    """Why the batch failed; empty if it did not."""

    @property
    def has_ended(self) -> bool:
        """Whether no more results will come."""
        return self.status in ENDED


class BatchApi:
    """An HTTP session with one batch service; an async context manager. Its methods raise ServiceError."""

    def __init__(self, endpoint: Endpoint, limits: Limits | None = None) -> None:
        self.host = endpoint.host
        self._transport = FileTransport(endpoint, limits or Limits())

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__(*_)

    async def upload(self, file: Path, name: str) -> str:
        """Uploads an input file under a name; returns its id."""
        reply = await self._transport.post_file("files", file, name, {"purpose": "batch"})
        return _text(self._object(reply, "files"), "id", self.host)

    async def uploaded(self, name: str) -> str | None:
        """Returns the id of the input file that was uploaded under a name; None if there is none."""
        async for found in self._listed("files", {"purpose": "batch"}):
            if found.get("filename") == name:
                return _text(found, "id", self.host)
        return None

    async def begin(self, input_file_id: str, endpoint: str, file_hash: str) -> RemoteBatch:
        """Starts a batch, which costs from then on. `ServiceError.is_certain`: it surely did not start."""
        body = {
            "input_file_id": input_file_id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {METADATA_KEY: file_hash},
        }
        reply = await self._transport.post_json("batches", orjson.dumps(body))
        return _batch(self._object(reply, "batches"), self.host)

    async def find_batches(self, file_hash: str, input_file_id: str | None) -> list[RemoteBatch]:
        """Returns the batches of an input file, oldest first."""
        found = [
            _batch(each, self.host)
            async for each in self._listed("batches", {})
            if _is_of(each, file_hash, input_file_id)
        ]
        return sorted(found, key=lambda batch: (batch.created_at, batch.id))

    async def batch(self, batch_id: str) -> RemoteBatch:
        """Returns the batch as it is now."""
        path = f"batches/{batch_id}"
        return _batch(
            self._object(await self._with_retries(lambda: self._transport.get(path, {})), path), self.host
        )

    async def cancel(self, batch_id: str) -> None:
        """Asks the service to cancel a batch."""
        path = f"batches/{batch_id}/cancel"
        self._object(await self._transport.post_json(path, b"{}"), path)

    async def download(self, file_id: str, target: Path) -> None:
        """Writes a file of the service to `target`. Raises OSError too."""
        path = f"files/{file_id}/content"
        reply = await self._with_retries(lambda: self._transport.download(path, target))
        self._check(reply, path)

    async def _listed(self, path: str, parameters: Mapping[str, str]) -> Any:
        after: dict[str, str] = {}
        while True:
            query = {**parameters, "limit": str(_PAGE), **after}
            reply = await self._with_retries(lambda query=query: self._transport.get(path, query))  # type: ignore[misc]
            page = self._value(reply, path)
            data = page.get("data") if isinstance(page, dict) else page
            rows = [each for each in data or () if isinstance(each, dict)]
            for each in rows:
                yield each
            last = rows[-1].get("id") if rows else None
            if not isinstance(page, dict) or not page.get("has_more") or not isinstance(last, str):
                return
            after = {"after": last}

    async def _with_retries(
        self, exchange: Callable[[], Awaitable[HttpResponse | NoResponse]]
    ) -> HttpResponse | NoResponse:
        """Retries a request that changes nothing at the service."""
        for usual_s in _waits():
            wait_s = usual_s
            reply = await exchange()
            if isinstance(reply, HttpResponse):
                if reply.status not in _LATER and reply.truncated is None:
                    return reply
                wait_s = min(retry_after_s(reply.headers) or usual_s, _MAX_WAIT_S)
            await asyncio.sleep(wait_s)
        return await exchange()

    def _object(self, reply: HttpResponse | NoResponse, path: str) -> dict[str, Any]:
        value = self._value(reply, path)
        if not isinstance(value, dict):
            raise ServiceError(f"{self.host}: /{path} answered no object", is_certain=False)
        return value

    def _value(self, reply: HttpResponse | NoResponse, path: str) -> Any:
        try:
            return orjson.loads(self._check(reply, path).body)
        except orjson.JSONDecodeError:
            raise ServiceError(f"{self.host}: /{path} answered no JSON", is_certain=False) from None

    def _check(self, reply: HttpResponse | NoResponse, path: str) -> HttpResponse:
        if isinstance(reply, NoResponse):
            raise ServiceError(f"{self.host}: /{path}: {reply.reason}", is_certain=not reply.was_sent)
        if reply.truncated is not None:
            raise ServiceError(f"{self.host}: /{path}: {reply.truncated}", is_certain=False)
        if not 200 <= reply.status < 300:
            error = read_error(reply.body)
            help_ = advice(reply.status, error) if reply.status in (401, 402, 403) else ""
            raise ServiceError(
                f"/{path}: {error_text(self.host, reply.status, error)}{f'; {help_}' if help_ else ''}",
                is_certain=reply.status < 500 and reply.status not in (408, 409),
            )
        return reply


def _waits() -> Iterator[float]:
    return iter([0.5 * 2**number for number in range(_TRIES - 1)])


def _is_of(row: Mapping[str, Any], file_hash: str, input_file_id: str | None) -> bool:
    metadata = row.get("metadata")
    if isinstance(metadata, dict) and METADATA_KEY in metadata:
        return bool(metadata[METADATA_KEY] == file_hash)
    return input_file_id is not None and row.get("input_file_id") == input_file_id


def _batch(row: Mapping[str, Any], host: str) -> RemoteBatch:
    metadata = row.get("metadata")
    created_at = row.get("created_at")
    return RemoteBatch(
        id=_text(row, "id", host),
        status=_text(row, "status", host),
        input_file_id=_optional(row, "input_file_id"),
        output_file_id=_optional(row, "output_file_id"),
        error_file_id=_optional(row, "error_file_id"),
        file_hash=_optional(metadata, METADATA_KEY) if isinstance(metadata, dict) else None,
        created_at=created_at if isinstance(created_at, int) else 0,
        counts=_counts(row.get("request_counts")),
        errors=_errors(row.get("errors")),
    )


def _text(row: Mapping[str, Any], key: str, host: str) -> str:
    value = _optional(row, key)
    if value is None:
        raise ServiceError(f"{host}: the service told no {key}", is_certain=False)
    return value


def _optional(row: Mapping[str, Any], key: str) -> str | None:
    """Returns a value that is safe as a part of a URL, such as an id; None for any other."""
    value = row.get(key)
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _counts(counts: Any) -> str:
    if not isinstance(counts, dict) or not isinstance(counts.get("total"), int):
        return ""
    return f"{counts.get('completed', 0)} of {counts['total']} done, {counts.get('failed', 0)} failed"


def _errors(errors: Any) -> str:
    data = errors.get("data") if isinstance(errors, dict) else errors
    if not isinstance(data, list):
        return ""
    return "; ".join(
        one_line(str(each.get("message", each)) if isinstance(each, dict) else str(each), 200)
        for each in data[:3]
    )
