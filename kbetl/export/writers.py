"""Writes rows of JSON text as JSONL, gzip, CSV or Parquet. The same rows give the same bytes."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from kbetl.dataset.arrow import Columns, batches_of, columns_of, columns_of_types, write_parquet
from kbetl.dataset.column_types import DeclaredType, SeenTypes
from kbetl.export.target import FileKind
from kbetl.json_codec import json_bytes, stored_value
from kbetl.store.datasets import Split
from kbetl.text import inert_cell

_GZIP_LEVEL = 6
# Rows from which the columns of a Parquet file are guessed first.
_GUESSED_ROWS = 200


class RowSource(Protocol):
    """Rows that can be read several times, one split at a time."""

    @property
    def splits(self) -> Sequence[Split | None]:
        """The splits; None alone if there are none."""

    def texts(self, split: Split | None) -> Iterator[bytes]:
        """Yields the rows of one split, each a JSON object on one line."""

    @property
    def declared(self) -> dict[str, DeclaredType]:
        """The types of columns that a source declares."""

    @property
    def last(self) -> Sequence[str]:
        """The names of columns that come after all others."""


@dataclass(slots=True)
class FileWriter:
    """Writes the splits of some rows to files with the same columns."""

    rows: RowSource
    columns: Columns | None = None
    names: Sequence[str] | None = None

    def write(self, files: Mapping[Split | None, IO[bytes]], kind: FileKind) -> dict[Split | None, int]:
        """Writes each split to its file; returns the number of rows of each."""
        if kind == "parquet":
            return self._write_parquet(files)
        return {split: self._write_text(file, kind, split) for split, file in files.items()}

    def _write_text(self, file: IO[bytes], kind: FileKind, split: Split | None) -> int:
        texts = self.rows.texts(split)
        if kind == "csv":
            return _write_csv(file, self._names(), texts)
        if kind == "jsonl":
            return _write_lines(file, texts)
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
            return _write_lines(packed, texts)

    def _write_parquet(self, files: Mapping[Split | None, IO[bytes]]) -> dict[Split | None, int]:
        """Writes with the columns of the first rows; writes again if all rows need other columns.

        Reading all rows first, for their types, takes a third of the time of writing.
        """
        import pyarrow as pa

        first = itertools.islice(self._values(), _GUESSED_ROWS)
        guessed = columns_of(first, self.rows.declared, self.rows.last)
        seen = SeenTypes()
        try:
            written = self._write_columns(files, guessed, seen)
            self.columns = columns_of_types(seen, self.rows.declared, self.rows.last)
        except (pa.ArrowException, OverflowError):
            self.columns = columns_of(self._values(), self.rows.declared, self.rows.last)
        else:
            if (self.columns.schema, self.columns.notes) == (guessed.schema, guessed.notes):
                return written
        return self._write_columns(files, self.columns, SeenTypes())

    def _write_columns(
        self, files: Mapping[Split | None, IO[bytes]], columns: Columns, seen: SeenTypes
    ) -> dict[Split | None, int]:
        written = {}
        for split, file in files.items():
            file.seek(0)
            file.truncate()
            values = _seen_by(seen, self.rows.texts(split))
            written[split] = write_parquet(file, columns, batches_of(values, columns))
        return written

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on the columns that were written, a line each."""
        return () if self.columns is None else self.columns.notes

    def column_names(self) -> Sequence[str]:
        """Returns the names of the columns of all rows."""
        return self._names() if self.columns is None else self.columns.schema.names

    def _names(self) -> Sequence[str]:
        if self.names is None:
            found: dict[str, None] = {}
            for value in self._values():
                found.update(dict.fromkeys(value))
            last = [name for name in self.rows.last if name in found]
            self.names = [name for name in found if name not in last] + last
        return self.names

    def _values(self) -> Iterator[dict[str, Any]]:
        for split in self.rows.splits:
            for text in self.rows.texts(split):
                yield stored_value(text)


def _seen_by(seen: SeenTypes, texts: Iterable[bytes]) -> Iterator[tuple[Any, int]]:
    for text in texts:
        value = stored_value(text)
        seen.add_object(value)
        yield value, len(text)


def _write_lines(file: IO[bytes] | gzip.GzipFile, texts: Iterable[bytes]) -> int:
    rows = 0
    for text in texts:
        file.write(text)
        file.write(b"\n")
        rows += 1
    return rows


def _write_csv(file: IO[bytes], names: Sequence[str], texts: Iterable[bytes]) -> int:
    """Writes a header and a record for each row; nested values are JSON text, null is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([inert_cell(name) for name in names])
    rows = 0
    for text in texts:
        value = stored_value(text)
        writer.writerow([_cell(value.get(name)) for name in names])
        file.write(buffer.getvalue().encode())
        buffer.seek(0)
        buffer.truncate()
        rows += 1
    file.write(buffer.getvalue().encode())
    return rows


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return inert_cell(value) if isinstance(value, str) else json_bytes(value).decode()
