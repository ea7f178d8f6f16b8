"""Requests that were handed out in batch files, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from kbetl.prices import pusd_of
from kbetl.records import Request
from kbetl.store.reservations import MaxUsage, ToReserve, reserve
from kbetl.store.store import Store, now

Ending = Literal["answered", "failed", "expired", "released"]


class BatchRequest(NamedTuple):
    """One request of a batch file."""

    id: int
    batch_id: int
    task_hash: str
    """The task whose run handed it out."""
    run_id: int
    """That run."""
    ending: Ending | None
    """None if it is pending."""
    request: str
    """The body as asked."""


class PendingRequest(NamedTuple):
    """A pending request, and the batch file that it is in."""

    id: int
    batch_id: int
    is_at_service: bool
    """Whether a service was asked to begin the file: its answer is billed, even after a release."""


class ReleasedRequests(NamedTuple):
    """How many requests were released from batch files."""

    requests: int
    at_service: int
    """Of those, in files that a service was asked to begin."""


class RequestSample(NamedTuple):
    """A sample that a request asks about; `status` is that of its outcome, None if it has none."""

    task_hash: str
    sample_hash: str
    status: str | None


class NewBatch(NamedTuple):
    """A batch file that is complete and has no name yet."""

    run_id: int
    task_hash: str
    model: str
    file: str
    file_hash: str
    size_bytes: int
    requests: int


class BatchResult(NamedTuple):
    """What one line of a result file says about a request."""

    result_hash: bytes
    handed_out_id: int
    result_id: str | None
    try_number: int | None
    """None for an error."""
    reason: str | None
    """None for an answer."""
    run_id: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch file, what became of its requests, and where it was submitted."""

    id: int
    file: str
    file_hash: str
    size_bytes: int
    requests: int
    task: str
    model: str
    command: str
    written_at: str | None
    still_out: int
    answered: int
    failed: int
    expired: int
    released: int
    base_url: str | None
    """None, as all that follows, if it was not submitted."""
    api_key_var: str | None
    headers: tuple[str, ...]
    input_file_id: str | None
    create_began_at: str | None
    server_id: str | None
    server_status: str | None
    output_file_id: str | None
    error_file_id: str | None
    checked_at: str | None
    fetched_at: str | None


class BatchDraft:
    """The requests of the batch file that is being written, as temp tables on disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.clear()

    def clear(self) -> None:
        """Drops the requests of the file before."""
        with self._store.translate_errors():
            for query in (
                "batches/drop_handing",
                "batches/drop_handing_samples",
                "batches/handing_table",
                "batches/handing_samples_table",
            ):
                self._store.execute(query)

    def has(self, request_hash: str, attempt: int) -> bool:
        """Whether the file has a request already."""
        key = {"request_hash": request_hash, "attempt": attempt}
        return bool(self._store.rows("batches/is_in_handing", key))

    def requests(self) -> list[tuple[str, int]]:
        """Hash and attempt of all that the file has so far."""
        return self._store.rows("batches/handing_requests")

    def add(self, request: Request, attempt: int, custom_id: str, worst: MaxUsage | None = None) -> None:
        """One more request; `worst` is to be reserved when it is handed out."""
        values = {
            "request_hash": request.hash,
            "attempt": attempt,
            "custom_id": custom_id,
            "request": request.text,
            "tokens": None if worst is None else worst.tokens,
            "pusd": None if worst is None else worst.pusd,
        }
        with self._store.translate_errors():
            self._store.execute("batches/add_handing", values)

    def add_sample(self, request_hash: str, attempt: int, sample_hash: str) -> None:
        """Adds a sample that the request asks about."""
        key = {"request_hash": request_hash, "attempt": attempt}
        with self._store.translate_errors():
            self._store.execute("batches/add_handing_sample", {**key, "sample_hash": sample_hash})

    def keep(self, batch: NewBatch) -> int:
        """Records the file and its requests as handed out, in one transaction; returns the batch's id.

        Those that are pending in an older file are released from it; what a budget is to count is reserved.
        """
        store = self._store
        with store.transaction():
            batch_id = int(store.execute("batches/add_batch", batch._asdict()).lastrowid or 0)
            store.execute("batches/take_back_handing", {"ended_at": now()})
            store.execute("batches/keep_handed_out", {"batch_id": batch_id})
            store.execute("batches/keep_handed_out_samples", {"task_hash": batch.task_hash})
            store.execute("batches/drop_reservations_taken_back")
            for request_hash, attempt, tokens, pusd in store.execute(
                "batches/handing_worst_cases"
            ).fetchall():
                worst = MaxUsage(tokens, pusd)
                reserve(store, ToReserve(batch.run_id, request_hash, attempt, batch.model, worst))
        return batch_id


def any_handed_out(store: Store) -> bool:
    """Whether any request is pending in a batch file."""
    return bool(store.rows("batches/any_handed_out")[0][0])


def pending_request(store: Store, request_hash: str, attempt: int = 0) -> PendingRequest | None:
    """A request that is pending in a batch file; None if it is pending in none."""
    found = store.rows("batches/is_handed_out", {"request_hash": request_hash, "attempt": attempt})
    return PendingRequest(*found[0]) if found else None


def add_request_sample(store: Store, handed_out_id: int, task_hash: str, sample_hash: str) -> None:
    """Records that a pending request asks about one more sample. Call within a transaction."""
    store.execute(
        "batches/add_handed_out_sample",
        {"handed_out_id": handed_out_id, "task_hash": task_hash, "sample_hash": sample_hash},
    )


def publish(store: Store, batch_id: int) -> None:
    """Records that a batch file has its name."""
    with store.transaction():
        store.execute("batches/publish_batch", {"id": batch_id, "written_at": now()})


def latest_batch_request(
    store: Store, request_hash: str, attempt: int, batch_id: int | None = None
) -> BatchRequest | None:
    """The request of a batch file that a result is about; None if the request never was in a batch file.

    `batch_id` is the batch that brought it; None if that is not known.
    """
    key = {"request_hash": request_hash, "attempt": attempt, "batch_id": batch_id}
    found = store.rows("batches/newest_handed_out", key)
    return BatchRequest(*found[0]) if found else None


def is_known_result(store: Store, result_hash: bytes) -> bool:
    """Whether a result was read before."""
    return bool(store.rows("batches/is_known_result", {"result_hash": result_hash}))


def add_result(store: Store, result: BatchResult) -> None:
    """Records that a result was read. Call within a transaction."""
    values = result._asdict()
    store.execute("batches/add_batch_result", {**values, "try": values.pop("try_number"), "read_at": now()})


def end_handed_out(store: Store, handed_out_id: int, ending: Ending) -> None:
    """Records what became of a request. Call within a transaction."""
    store.execute("batches/end_handed_out", {"id": handed_out_id, "ending": ending, "ended_at": now()})


def samples_of_request(store: Store, request_hash: str, attempt: int) -> list[RequestSample]:
    """The samples for which a request was handed out."""
    key = {"request_hash": request_hash, "attempt": attempt}
    return [RequestSample(*row) for row in store.rows("batches/samples_of_request", key)]


def batches(store: Store, batch_id: int | None = None, *, is_own: bool = False) -> list[Batch]:
    """Every batch file, or the one of an id, in the order in which they were written.

    With `is_own` those alone that this store wrote: where others lie and were submitted, with which key, is
    the word of another store.
    """
    found = store.rows("batches/batches_by_id", {"id": batch_id, "is_own": is_own})
    return [replace(Batch(*row), headers=tuple(json.loads(row[16] or "[]"))) for row in found]


def reserved_for_file(store: Store, request_hash: str, attempt: int) -> MaxUsage | None:
    """What a budget has reserved for a pending request, and gets back if it is released; None if nothing."""
    found = store.rows("batches/reserved_for_file", {"request_hash": request_hash, "attempt": attempt})
    if not found:
        return None
    tokens, cost_usd = found[0]
    return MaxUsage(tokens, None if cost_usd is None else pusd_of(cost_usd))


def release_waiting(store: Store, task_hash: str) -> ReleasedRequests:
    """Releases from batch files the requests that are pending in a `Selection`."""
    with store.transaction():
        at_service = store.execute("batches/count_waiting_at_service", {"task_hash": task_hash}).fetchone()[0]
        values = {"task_hash": task_hash, "ended_at": now()}
        released = store.execute("batches/take_back_waiting", values).rowcount
        store.execute("batches/drop_reservations_taken_back")
    return ReleasedRequests(released, at_service)


class State(NamedTuple):
    """What a service says of a batch."""

    server_id: str
    server_status: str
    output_file_id: str | None
    error_file_id: str | None


def set_service(
    store: Store, batch_id: int, base_url: str, api_key_var: str | None, headers: Sequence[str]
) -> None:
    """Records which service a file is about to be submitted to: names of variables, never a key."""
    values = {"base_url": base_url, "api_key_var": api_key_var, "headers": json.dumps(list(headers))}
    with store.transaction():
        store.execute("batches/set_batch_service", {"id": batch_id, **values})


def set_input_file(store: Store, batch_id: int, input_file_id: str) -> None:
    """Records that the service has the file."""
    with store.transaction():
        store.execute("batches/set_batch_input_file", {"id": batch_id, "input_file_id": input_file_id})


def set_create_began(store: Store, batch_id: int, *, began: bool) -> bool:
    """Records that the service is about to be asked to begin, or that it refused to.

    Returns False, and records nothing, if a request of the file was released or answered meanwhile.
    """
    with store.transaction():
        values = {"id": batch_id, "create_began_at": now() if began else None}
        return store.execute("batches/set_batch_create_began", values).rowcount == 1


def set_state(store: Store, batch_id: int, state: State) -> None:
    """Records the state of a batch at its service."""
    with store.transaction():
        store.execute("batches/set_batch_state", {"id": batch_id, **state._asdict(), "checked_at": now()})


def set_fetched(store: Store, batch_id: int) -> None:
    """Records that all that the service has was read."""
    with store.transaction():
        store.execute("batches/set_batch_fetched", {"id": batch_id, "fetched_at": now()})


def pending_requests_of(
    store: Store, batch_id: int, limit: int = 500
) -> Iterator[list[tuple[int, str, int]]]:
    """Yields the pending requests of a file in chunks: id in the file, request hash and attempt."""
    after = 0
    while rows := store.rows("batches/still_out_of_batch", {"id": batch_id, "after": after, "limit": limit}):
        after = rows[-1][0]
        yield rows


def batches_without_rollouts(store: Store) -> list[tuple[int, Mapping[str, Any]]]:
    """Batches of `synth` whose answers have not all become rollouts, each with the options that wrote it."""
    return [
        (batch_id, json.loads(options))
        for batch_id, options in store.rows("batches/batches_without_rollouts")
    ]
