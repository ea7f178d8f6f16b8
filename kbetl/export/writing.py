"""Rows, as texts of JSON objects, to a file of one kind. The same rows give the same bytes."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from kbetl.csv_text import inert_cell
from kbetl.dataset import Columns, Split, batches_of, columns_of, write_parquet
from kbetl.dataset.declared import Declared
from kbetl.dataset.splicing import json_bytes
from kbetl.export.target import FileKind
from kbetl.json_text import stored_value

_GZIP_LEVEL = 6


class Rows(Protocol):
    """Rows that can be read again and again, one side at a time."""

    @property
    def splits(self) -> Sequence[Split | None]:
        """The sides that there are; None alone where rows are on no side."""

    def texts(self, split: Split | None) -> Iterator[bytes]:
        """The rows of one side, each the text of a JSON object on one line."""

    @property
    def declared(self) -> dict[str, Declared]:
        """Columns whose types a source declares."""

    @property
    def last(self) -> Sequence[str]:
        """Columns that stand behind the others."""


@dataclass(slots=True)
class Writer:
    """Writes sides of some rows to files; what all files must share is found once."""

    rows: Rows
    columns: Columns | None = None
    names: Sequence[str] | None = None

    def write(self, file: IO[bytes], kind: FileKind, splits: Iterable[Split | None]) -> int:
        """Writes these sides, one after the other; gives the number of rows."""
        texts = (text for split in splits for text in self.rows.texts(split))
        if kind == "jsonl":
            return _write_lines(file, texts)
        if kind == "jsonl.gz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
                return _write_lines(packed, texts)
        if kind == "csv":
            return _write_csv(file, self._names(), texts)
        columns = self._columns()
        return write_parquet(file, columns, batches_of(_sized(texts), columns))

    @property
    def notes(self) -> Sequence[str]:
        """What is to be said of the columns that were written."""
        return () if self.columns is None else self.columns.notes

    def column_names(self) -> Sequence[str]:
        """The columns of all rows."""
        return self._columns().schema.names if self.names is None else self.names

    def _columns(self) -> Columns:
        if self.columns is None:
            self.columns = columns_of(self._values(), self.rows.declared, self.rows.last)
        return self.columns

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


def _sized(texts: Iterable[bytes]) -> Iterator[tuple[Any, int]]:
    return ((stored_value(text), len(text)) for text in texts)


def _write_lines(file: IO[bytes] | gzip.GzipFile, texts: Iterable[bytes]) -> int:
    rows = 0
    for text in texts:
        file.write(text)
        file.write(b"\n")
        rows += 1
    return rows


def _write_csv(file: IO[bytes], names: Sequence[str], texts: Iterable[bytes]) -> int:
    """A header and a record for each row; nested values as JSON text, null as an empty cell."""
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
