"""`batch submit` and `batch fetch`: batch files at an OpenAI-compatible service, begun once each."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbetl.batch.files import URL, finish_files, shown
from kbetl.client import Endpoint
from kbetl.client.batch_api import BatchApi, RemoteBatch
from kbetl.client.endpoint import check_names, endpoint_at
from kbetl.errors import Busy, ConfigError, ServiceError
from kbetl.store import Store, task_lock
from kbetl.store.batches import (
    Batch,
    State,
    batches,
    set_create_began,
    set_input_file,
    set_service,
    set_state,
)

# How long a service may need to list a batch that it was asked to begin.
LISTED_WITHIN_S = 60.0
_LOOK_EVERY_S = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class ServiceAddress:
    """A service and the names of what holds its key; no secrets. Raises ConfigError for a key typed in."""

    base_url: str
    api_key_var: str | None = None
    headers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.api_key_var, self.headers)

    def endpoint(self) -> Endpoint:
        """The endpoint with its key; raises KbetlError if the variable of the key is not set."""
        return endpoint_at(self.base_url, self.api_key_var, self.headers)


def address_of(batch: Batch) -> ServiceAddress:
    """The address of the service that a batch was submitted to."""
    if batch.base_url is None:
        raise ValueError("the batch was not submitted")
    return ServiceAddress(batch.base_url, batch.api_key_var, batch.headers)


def submit(
    store: Store,
    address: ServiceAddress,
    files: Sequence[Path],
    say: Say,
    *,
    listed_within_s: float = LISTED_WITHIN_S,
) -> list[str]:
    """Submits batch files (none named: all that are not) and begins their batches; returns a line for each.

    Each step is recorded before and after, and what a stopped command began is looked for at
    the service before anything is begun again. Raises ServiceError, ConfigError, Busy.
    """
    endpoint = address.endpoint()
    with service_lock(store):
        finish_files(store)
        chosen = _chosen(batches(store, is_own=True), files)
        for batch in chosen:
            _check(batch, address)
        if not chosen:
            return ["no batch file waits to be submitted; see: kbetl batch status"]
        return asyncio.run(_submit_all(store, address, endpoint, chosen, say, listed_within_s))


@contextlib.contextmanager
def service_lock(store: Store) -> Iterator[None]:
    """Holds the lock of submitting and fetching; raises Busy if another command has it."""
    try:
        with task_lock(store.path, "batch submit and fetch"):
            yield
    except Busy:
        raise Busy(f"another process submits or fetches batches of {store.path}; wait for it") from None


def record(store: Store, batch: Batch, remote: RemoteBatch) -> None:
    """Stores the state of a batch at its service."""
    state = State(remote.id, remote.status, remote.output_file_id, remote.error_file_id)
    set_state(store, batch.id, state)


def _chosen(known: Sequence[Batch], files: Sequence[Path]) -> list[Batch]:
    if not files:
        return [each for each in known if each.server_id is None and each.still_out == each.requests]
    by_file = {each.file: each for each in known}
    found = []
    for file in files:
        batch = by_file.get(str(file.absolute()))
        if batch is None:
            raise ConfigError(
                f"{file} was not written by `kbetl batch write` of this store; see: kbetl batch status"
            )
        found.append(batch)
    return found


def _check(batch: Batch, address: ServiceAddress) -> None:
    """Raises ConfigError for a file that would be paid for twice, or is not what was written."""
    name = shown(Path(batch.file))
    if batch.server_id is not None:
        raise ConfigError(f"{name} was submitted before, as {batch.server_id}; see: kbetl batch status")
    if batch.still_out != batch.requests:
        raise ConfigError(
            f"{name}: {batch.requests - batch.still_out} of its {batch.requests} requests are answered or "
            "taken back, and would be paid for again; write those that are out anew: "
            "kbetl batch write ... --again"
        )
    if batch.base_url not in (None, address.base_url):
        raise ConfigError(
            f"{name} was being submitted to {batch.base_url}; go on there with -b, -k as before"
        )
    try:
        with Path(batch.file).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be read: {error.strerror}; it is not where it was written"
        ) from None
    if found != batch.file_hash:
        raise ConfigError(
            f"{name} is not as it was written; write its requests anew: kbetl batch write ... --again"
        )


async def _submit_all(
    store: Store,
    address: ServiceAddress,
    endpoint: Endpoint,
    chosen: Sequence[Batch],
    say: Say,
    listed_within_s: float,
) -> list[str]:
    lines = []
    async with BatchApi(endpoint) as service:
        for batch in chosen:
            submission = _Submission(store, address, service, batch, say)
            remote = await submission.submit(listed_within_s)
            lines.append(f"{shown(Path(batch.file))}: {remote.id} at {service.host}, {remote.status}")
    return lines


class _Submission:
    """One file that is submitted to a service."""

    def __init__(
        self, store: Store, address: ServiceAddress, service: BatchApi, batch: Batch, say: Say
    ) -> None:
        self._store = store
        self._address = address
        self._service = service
        self._batch = batch
        self._say = say
        self._of_others = {each.server_id for each in batches(store)}
        """An older file may have had the very same requests: its batch is not this one's."""

    async def submit(self, listed_within_s: float) -> RemoteBatch:
        """Uploads and begins, or finds what was begun."""
        batch, address = self._batch, self._address
        set_service(self._store, batch.id, address.base_url, address.api_key_var, address.headers)
        remote = await self._find_started(listed_within_s)
        if remote is None:
            remote = await self._begin(await self._input_file())
        record(self._store, batch, remote)
        return remote

    async def _input_file(self) -> str:
        batch = self._batch
        if batch.input_file_id is not None:
            return batch.input_file_id
        name = f"kbetl-{batch.file_hash[:32]}.jsonl"
        found = await self._service.uploaded(name) if batch.base_url is not None else None
        if found is None:
            self._say(f"uploading {shown(Path(batch.file))}: {batch.size_bytes:,} bytes")
            found = await self._service.upload(Path(batch.file), name)
        set_input_file(self._store, batch.id, found)
        return found

    async def _begin(self, input_file_id: str) -> RemoteBatch:
        batch = self._batch
        if not set_create_began(self._store, batch.id, began=True):  # released meanwhile
            _check(batches(self._store, batch.id)[0], self._address)
        try:
            return await self._service.begin(input_file_id, URL, batch.file_hash)
        except ServiceError as error:
            if error.is_certain:
                set_create_began(self._store, batch.id, began=False)
                raise
            raise ServiceError(
                f"{error}; the batch may have begun all the same: submit again, which looks for it first",
                is_certain=False,
            ) from error

    async def _find_started(self, listed_within_s: float) -> RemoteBatch | None:
        """The service's batch of this file; waits a while if it was asked to begin and nothing came back.

        The whole while, whenever that was: by a clock that was changed a batch could be begun twice.
        """
        batch = self._batch
        until = time.monotonic() + (0.0 if batch.create_began_at is None else listed_within_s)
        while True:
            found = await self._service.find_batches(batch.file_hash, batch.input_file_id)
            found = [each for each in found if each.id not in self._of_others]
            if found:
                return await self._only(found)
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            self._say(
                f"{shown(Path(batch.file))}: a command that was stopped asked {self._service.host} to begin; "
                f"looking for that batch for {left_s:.0f} s more"
            )
            await asyncio.sleep(min(_LOOK_EVERY_S, left_s))

    async def _only(self, found: Sequence[RemoteBatch]) -> RemoteBatch:
        """The first of them; others are cancelled, so that they are not paid for."""
        for other in found[1:]:
            if not other.has_ended:
                self._say(f"{other.id} holds the same file as {found[0].id}: cancelling it")
                await self._service.cancel(other.id)
        return found[0]
