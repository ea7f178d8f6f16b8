"""The Parquet files of a dataset, written to a folder, with what tells them from those on the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kbetl.dataset import SPLITS, Columns, Opened, Split, arrow_batches, arrow_columns, write_parquet
from kbetl.errors import HubError
from kbetl.hub.columns import described, with_features

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500 * 2**20
"""Arrow bytes in a file; the file itself is smaller."""


class DataFile(NamedTuple):
    """A file as it is to stand on the Hub."""

    path: str
    local: Path
    size_bytes: int
    sha256: str


class SplitSize(NamedTuple):
    """How much a split holds; bytes as Arrow has them in memory."""

    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Built:
    """A dataset as files."""

    files: Sequence[DataFile]
    splits: Mapping[str, SplitSize]
    """Splits without rows are left out: `datasets` cannot read them."""
    features: Sequence[Mapping[str, Any]]
    """Columns as a card lists them."""
    notes: Sequence[str]

    @property
    def rows(self) -> dict[str, int]:
        """Rows by split."""
        return {split: size.rows for split, size in self.splits.items()}


def write_files(dataset: Opened, folder: Path, shard_bytes: int = SHARD_BYTES) -> Built:
    """Writes the rows of all splits; the same rows give the same bytes. Raises HubError where it cannot."""
    try:
        return _write(dataset, folder, shard_bytes)
    except OSError as error:
        raise HubError(f"the files to push cannot be written to {folder}: {error.strerror}") from None


def _write(dataset: Opened, folder: Path, shard_bytes: int) -> Built:
    columns = arrow_columns(dataset)
    columns = replace(columns, schema=with_features(columns.schema))
    files: list[DataFile] = []
    splits: dict[str, SplitSize] = {}
    for side, name in _sides(dataset):
        shards = _Shards(arrow_batches(dataset, columns, side), shard_bytes)
        files += _write_split(folder, name, columns, shards)
        splits[name] = SplitSize(shards.rows, shards.size_bytes)
    return Built(files, splits, described(columns.schema), _notes(dataset, columns))


def _sides(dataset: Opened) -> Iterator[tuple[Split | None, str]]:
    if not dataset.dataset.is_split:
        yield None, "train"
        return
    for split in SPLITS:
        if dataset.counts[split]:
            yield split, split


def _notes(dataset: Opened, columns: Columns) -> list[str]:
    empty = [f"no row is on the side {split}" for split, rows in dataset.counts.items() if split and not rows]
    replaced = [f"column {name} of the rows gave way to ours" for name in sorted(dataset.replaced)]
    return [*dataset.notes, *columns.notes, *replaced, *empty]


class _Shards:
    """Batches in portions of some `shard_bytes`; counts what went through."""

    def __init__(self, batches: Iterable[pa.RecordBatch], shard_bytes: int) -> None:
        self.batches = iter(batches)
        self.shard_bytes = shard_bytes
        self.rows = 0
        self.size_bytes = 0

    def __iter__(self) -> Iterator[Iterator[pa.RecordBatch]]:
        """Each portion has to be used up before the next."""
        for batch in self.batches:
            yield self._portion(batch)

    def _portion(self, first: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        size_bytes = 0
        batch: pa.RecordBatch | None = first
        while batch is not None:
            size_bytes += batch.nbytes
            self.size_bytes += batch.nbytes
            self.rows += batch.num_rows
            yield batch
            batch = next(self.batches, None) if size_bytes < self.shard_bytes else None


def _write_split(folder: Path, name: str, columns: Columns, shards: _Shards) -> list[DataFile]:
    written = []
    for number, batches in enumerate(shards):
        path = folder / f"{name}-{number:05}.parquet"
        with path.open("xb") as file:
            write_parquet(file, columns, batches)
        written.append(path)
    return [
        _data_file(f"data/{name}-{number:05}-of-{len(written):05}.parquet", path)
        for number, path in enumerate(written)
    ]


def _data_file(path: str, local: Path) -> DataFile:
    with local.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return DataFile(path, local, local.stat().st_size, sha256)
