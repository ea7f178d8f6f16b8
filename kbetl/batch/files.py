"""Writes batch files: JSONL within the limits of the services, under a partial name until they are whole."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from kbetl import atomic_files
from kbetl.errors import ConfigError, ExportFailed, KbetlError
from kbetl.records import Request
from kbetl.store import Store
from kbetl.store.batches import publish

MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
URL = "/v1/chat/completions"


@dataclass(frozen=True)
class FileLimits:
    """What one batch file may hold; by default as the OpenAI Batch API has it."""

    requests: int = MAX_REQUESTS
    size_bytes: int = MAX_BYTES


class WholeFile(NamedTuple):
    """A file that is whole and durable, still under its partial name."""

    path: Path
    """Its final name."""
    file_hash: str
    size_bytes: int
    requests: int


def line_of(custom_id: str, request: Request) -> bytes:
    """One line of a batch file: the body is what an online request would send."""
    body = request.sent_body
    head = f'{{"custom_id":"{custom_id}","method":"POST","url":"{URL}","body":'
    return head.encode() + body + b"}\n"


class BatchFile:
    """One batch file that is being written."""

    def __init__(self, path: Path, mode: int | None = None) -> None:
        """`mode` is its permission bits. A part that a killed command left is written over."""
        if path.exists() or atomic_files.is_being_written(partial_path(path)):
            raise ConfigError(f"{path} is there already; name another folder")
        self.path = path
        self.requests = 0
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] = _opened(partial_path(path), mode)

    def add(self, line: bytes) -> None:
        """Appends a request."""
        try:
            self._file.write(line)
        except OSError as error:
            raise _failed(self.path, error) from None
        self._hash.update(line)
        self.requests += 1
        self.size_bytes += len(line)

    def fits(self, line: bytes, limits: FileLimits) -> bool:
        """Whether one more line keeps within the limits."""
        return self.requests < limits.requests and self.size_bytes + len(line) <= limits.size_bytes

    def finish(self) -> WholeFile:
        """Makes the file durable; `publish_file` gives it its name."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _failed(self.path, error) from None
        return WholeFile(self.path, self._hash.hexdigest(), self.size_bytes, self.requests)

    def discard(self) -> None:
        """Removes what was written."""
        self._file.close()
        partial_path(self.path).unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return atomic_files.partial_path(path, is_resumable=True)


def publish_file(path: Path) -> None:
    """Gives a complete file its name, durably; does nothing if it has it."""
    try:
        os.replace(partial_path(path), path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(path, error) from None
    atomic_files.sync_folder(path.parent)


def finish_files(store: Store) -> None:
    """Gives complete and recorded files their names, if a command was stopped before it could."""
    for batch_id, file, size_bytes in store.rows("batches/unpublished_batches"):
        path = Path(file)
        part = partial_path(path)
        if part.exists() and part.stat().st_size != size_bytes:
            raise KbetlError(
                f"{part} is not what batch {batch_id} recorded; remove it, and take the requests back "
                "with: kbetl batch write ... --again"
            )
        publish_file(path)
        publish(store, batch_id)


def shown(path: Path) -> str:
    """A path as a person would type it here."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _opened(path: Path, mode: int | None) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return atomic_files.open_partial(path, mode)
    except OSError as error:
        raise _failed(path, error) from None


def _failed(path: Path, error: OSError) -> ExportFailed:
    return ExportFailed(f"{path} cannot be written: {error.strerror or error}")


_CUSTOM_ID = re.compile(r"r1-([A-Za-z0-9_-]{43})-(0|[1-9][0-9]{0,8})")


class Key(NamedTuple):
    """A request, and the number of the answer to it, from 0."""

    request_hash: str
    attempt: int


def custom_id(request_hash: str, attempt: int) -> str:
    """`r1-HASH-ATTEMPT`, the hash in URL-safe base64.

    In hex it would be longer than the 64 characters that some services accept.

    >>> custom_id("r1:" + "0f" * 32, 2)
    'r1-Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8-2'
    """
    digest = bytes.fromhex(request_hash.removeprefix("r1:"))
    return f"r1-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-{attempt}"


def key_of(name: str) -> Key | None:
    """The request that a `custom_id` names; None if it is none of ours.

    >>> key_of("r1-Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8-2").attempt
    2
    >>> key_of("request-1")
    """
    found = _CUSTOM_ID.fullmatch(name)
    if found is None:
        return None
    try:
        digest = base64.urlsafe_b64decode(found[1] + "=")
    except binascii.Error:
        return None
    key = Key("r1:" + digest.hex(), int(found[2]))
    return key if custom_id(*key) == name else None
