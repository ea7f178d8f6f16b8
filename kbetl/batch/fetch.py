"""`batch fetch` and `batch status`: asks services for the state of their batches and for results."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbetl.atomic_files import mode_of, open_partial
from kbetl.batch.files import finish_files, partial_path, publish_file, shown
from kbetl.batch.read import BatchReadReport, Ended, read_batches
from kbetl.batch.submit import address_of, record, service_lock
from kbetl.client.batch_api import BatchApi, RemoteBatch
from kbetl.errors import ConfigError, KbetlError, SourceError, exit_status_for
from kbetl.store import Store
from kbetl.store.answers import InUse
from kbetl.store.batches import Batch, batches, set_fetched

Say = Callable[[str], None]


@dataclass
class Fetched:
    """What `batch fetch` did."""

    waiting: list[str] = field(default_factory=list)
    """A line for each batch that goes on."""
    reports: list[BatchReadReport] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        return exit_status_for(self.waiting, *(report.exit_status for report in self.reports))

    @property
    def in_use(self) -> list[InUse]:
        """The tasks that came into use."""
        return [task for report in self.reports for task in report.in_use]

    def lines(self) -> list[str]:
        """For a person: what was not done before what was."""
        lines = [*self.waiting, *(line for report in self.reports for line in report.lines())]
        return lines or ["no batch waits to be fetched; see: kbetl batch status"]


def fetch(store: Store, names: Sequence[str], *, folder: Path | None = None) -> Fetched:
    """Stores the results of batches that ended; `names` are their ids or files, none means all of this store.

    Result files are written beside their input file, or into `folder`. Raises ServiceError, ConfigError.
    """
    report = Fetched()
    with service_lock(store):
        for batch in _chosen(batches(store, is_own=True), names):
            _fetch_one(store, batch, folder, report)
    return report


def _chosen(known: Sequence[Batch], names: Sequence[str]) -> list[Batch]:
    submitted = [each for each in known if each.server_id is not None]
    if not names:
        return [each for each in submitted if each.fetched_at is None]
    found = []
    for name in names:
        of_name = [each for each in submitted if name == each.server_id or _path(name) == each.file]
        if not of_name:
            raise ConfigError(
                f"{name} is no batch that was submitted from this store; see: kbetl batch status"
            )
        found += of_name
    return found


def _path(name: str) -> str:
    return str(Path(name).absolute())


def _fetch_one(store: Store, batch: Batch, folder: Path | None, report: Fetched) -> None:
    source = Path(batch.file)
    target = (folder.absolute() if folder is not None else source.parent) / source.stem
    remote, files = asyncio.run(_ask_and_download(store, batch, target))
    if not remote.has_ended:
        counts = f", {remote.counts}" if remote.counts else ""
        report.waiting.append(f"{shown(source)}: {remote.id} is {remote.status}{counts}")
        return
    host = f"batch:{address_of(batch).endpoint().host}"
    why = f": {remote.errors}" if remote.errors else ""
    reason = f"{host}: the batch is {remote.status} without a result for it{why}"
    read = read_batches(store, files, host=host, ended=Ended(batch.id, reason))
    report.reports.append(read)
    if not read.rejected:
        set_fetched(store, batch.id)


async def _ask_and_download(store: Store, batch: Batch, target: Path) -> tuple[RemoteBatch, list[Path]]:
    """The batch as the service reports it, and its result files, downloaded; no files while it goes on."""
    assert batch.server_id is not None
    async with BatchApi(address_of(batch).endpoint()) as service:
        remote = await service.batch(batch.server_id)
        record(store, batch, remote)
        files = []
        if remote.has_ended:
            for file_id, kind in ((remote.output_file_id, "output"), (remote.error_file_id, "errors")):
                if file_id is not None:
                    path = target.with_name(f"{target.name}.{kind}.jsonl")
                    await _download(service, file_id, path, mode_of(store.path))
                    files.append(path)
    return remote, files


async def _download(service: BatchApi, file_id: str, path: Path, mode: int) -> None:
    """Writes a result file under a partial name until it is whole."""
    part = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        open_partial(part, mode).close()
        await service.download(file_id, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise SourceError(f"{shown(path)} cannot be written: {error.strerror or error}") from None
    publish_file(path)


def status(store: Store, say: Say, *, is_offline: bool = False) -> list[Batch]:
    """Every batch file, with the state at its service if one has it; `say` names those not reached."""
    finish_files(store)
    if not is_offline:
        for batch in batches(store, is_own=True):
            if batch.server_id is not None and batch.fetched_at is None:
                try:
                    asyncio.run(_ask(store, batch, batch.server_id))
                except KbetlError as error:
                    say(f"{shown(Path(batch.file))}: not asked anew: {error}")
    return batches(store)


async def _ask(store: Store, batch: Batch, server_id: str) -> None:
    async with BatchApi(address_of(batch).endpoint()) as service:
        record(store, batch, await service.batch(server_id))


def status_line(batch: Batch) -> str:
    """A batch file in one line, for a person: what is pending first."""
    counts = (
        ("out", batch.still_out),
        ("failed", batch.failed),
        ("expired", batch.expired),
        ("taken back", batch.released),
        ("answered", batch.answered),
    )
    parts = ", ".join(f"{name} {count}" for name, count in counts if count)
    there = "" if Path(batch.file).exists() else " (not there)"
    return (
        f"{shown(Path(batch.file))}{there}: {batch.task} by {batch.model}, {batch.requests} requests: {parts}"
        f"{_at_service(batch)}"
    )


def _at_service(batch: Batch) -> str:
    if batch.server_id is not None:
        done = "fetched" if batch.fetched_at is not None else "not fetched"
        return f"; {batch.server_id} {batch.server_status}, {done}"
    if batch.create_began_at is not None:
        return f"; submitting to {batch.base_url} was stopped: submit again"
    return ""


def as_json(batch: Batch) -> dict[str, Any]:
    """For `json.dumps`."""
    return {name: getattr(batch, name) for name in batch.__slots__}
