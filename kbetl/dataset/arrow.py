"""Converts rows to Arrow, with types that keep every value exactly, in batches of a few megabytes.

A column or field gets the type that its source declares if all values fit, else one inferred from all rows:
keys of objects are united (missing ones are null), integers with floats are float64, nulls alone are null.
If no Arrow type keeps all values (text beside objects, integers beyond 64 bit, only empty objects), it is
JSON text, with a note; its Arrow field is marked, so that `ingest` reads the values back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from kbetl.dataset.column_types import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    LIST,
    OBJECT,
    TEXT,
    DeclaredType,
    SeenTypes,
)
from kbetl.json_codec import json_bytes
from kbetl.readers import IS_JSON_TEXT

if TYPE_CHECKING:
    import pyarrow as pa

Value = Mapping[str, Any]
Reader = Callable[[Any], Any]

# Bytes of JSON text in a record batch, which bounds the memory of an export.
BATCH_BYTES = 2 * 2**20
# Arrow bytes in a row group of Parquet. With 48 MB an export needs 110 MB more memory and is no faster.
GROUP_BYTES = 16 * 2**20
MAX_BATCH_ROWS = 5000
MAX_KEYS = 250
"""An object with more different keys is a dictionary, not a record, and becomes JSON text."""
# Integers up to here are exact in float64.
_EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class Columns:
    """The Arrow columns for some rows."""

    schema: pa.Schema
    notes: Sequence[str] = ()
    """Columns that differ from their declared type or are JSON text, a line each."""
    readers: Mapping[str, Reader] = field(default_factory=dict)
    """Functions that convert values to JSON text, by column; columns without JSON text have none."""


def columns_of(
    values: Iterable[Value], declared: Mapping[str, DeclaredType] | None = None, last: Sequence[str] = ()
) -> Columns:
    """Returns the columns for all these rows, which it reads one at a time.

    The columns are in the order in which they were first seen, those of `last` at the end; a declared
    column is there only if some row has it.
    """
    seen = SeenTypes()
    for value in values:
        seen.add_object(value)  # type: ignore[arg-type]
    return columns_of_types(seen, declared or {}, last)


def batches_of(values: Iterable[tuple[Value, int]], columns: Columns) -> Iterator[pa.RecordBatch]:
    """Yields rows, which come with their sizes in bytes, as batches with the schema of `columns`."""
    batch: list[Value] = []
    size_bytes = 0
    for value, value_bytes in values:
        batch.append(value)
        size_bytes += value_bytes
        if size_bytes >= BATCH_BYTES or len(batch) >= MAX_BATCH_ROWS:
            yield _batch(batch, columns)
            batch, size_bytes = [], 0
    if batch:
        yield _batch(batch, columns)


def write_parquet(file: IO[bytes], columns: Columns, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes batches to a Parquet file in row groups of GROUP_BYTES; returns the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetWriter(file, columns.schema, compression="snappy", use_dictionary=False) as writer:
        for group in _groups(batches):
            writer.write_table(pa.Table.from_batches(group, columns.schema), row_group_size=2**30)
            rows += sum(batch.num_rows for batch in group)
    return rows


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(each.nbytes for each in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _batch(values: list[Value], columns: Columns) -> pa.RecordBatch:
    import pyarrow as pa

    arrays = []
    for column in columns.schema:
        reader = columns.readers.get(column.name)
        cells = [value.get(column.name) for value in values]
        arrays.append(pa.array(cells if reader is None else list(map(reader, cells)), column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=columns.schema)


def columns_of_types(seen: SeenTypes, declared: Mapping[str, DeclaredType], last: Sequence[str]) -> Columns:
    """Returns the columns for all rows whose types are in `seen`."""
    import pyarrow as pa

    names = [name for name in seen.fields if name not in last] + [
        name for name in last if name in seen.fields
    ]
    typing = TypeInference()
    fields, readers = [], {}
    for name in names:
        typed = typing.type_of(seen.fields[name], declared.get(name), name)
        fields.append(_field(name, typed))
        if typed.reader is not None:
            readers[name] = typed.reader
    return Columns(pa.schema(fields), tuple(typing.notes), readers)


class ColumnType(NamedTuple):
    """The Arrow type of a column or field, and the function that converts values to JSON text, if any."""

    type: Any
    reader: Reader | None = None
    is_json_text: bool = False
    """Whether the column or field itself is JSON text."""


def _field(name: str, typed: ColumnType) -> Any:
    import pyarrow as pa

    return pa.field(name, typed.type, metadata=IS_JSON_TEXT if typed.is_json_text else None)


class TypeInference:
    """Infers Arrow types, and notes which columns differ from what is declared."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def type_of(self, seen: SeenTypes, declared: DeclaredType, path: str) -> ColumnType:
        """Returns the type for all values that were seen; `path` names them in notes."""
        if isinstance(declared, str) and (seen.kinds == 0 or _fits(seen, declared)):
            return ColumnType(_plain(declared))
        if isinstance(declared, list) and seen.kinds in (0, LIST):
            return self._list(seen, declared[0], path)
        if isinstance(declared, dict) and declared and seen.kinds in (0, OBJECT):
            return self._struct(seen, declared, path)
        if declared is not None and declared != "null":
            self.notes.append(f"column {path} holds values that are not as its source declares them")
        return self._inferred(seen, path)

    def _inferred(self, seen: SeenTypes, path: str) -> ColumnType:
        import pyarrow as pa

        if seen.kinds == 0:
            return ColumnType(pa.null())
        if seen.kinds == LIST:
            return self._list(seen, None, path)
        if seen.kinds == OBJECT:
            return self._struct(seen, {}, path)
        for name in ("bool", "string", "int64", "uint64", "float64"):
            if _fits(seen, name):
                return ColumnType(_plain(name))
        return self._json(path, "values of different kinds, or numbers beyond 64 bit")

    def _list(self, seen: SeenTypes, declared: DeclaredType, path: str) -> ColumnType:
        import pyarrow as pa

        item = self.type_of(seen.item or SeenTypes(), declared, f"{path}[]")
        reader = None if item.reader is None else _list_reader(item.reader)
        return ColumnType(pa.list_(_field("item", item)), reader)

    def _struct(self, seen: SeenTypes, declared: Mapping[str, DeclaredType], path: str) -> ColumnType:
        import pyarrow as pa

        names = list(dict.fromkeys((*declared, *seen.fields)))
        if not names:
            return self._json(path, "empty objects")
        if len(names) > MAX_KEYS:
            return self._json(path, f"objects with {len(names)} different keys")
        fields, readers = [], {}
        for name in names:
            inner = seen.fields.get(name) or SeenTypes()
            typed = self.type_of(inner, declared.get(name), f"{path}.{name}")
            fields.append(_field(name, typed))
            if typed.reader is not None:
                readers[name] = typed.reader
        return ColumnType(pa.struct(fields), _struct_reader(readers) if readers else None)

    def _json(self, path: str, why: str) -> ColumnType:
        import pyarrow as pa

        self.notes.append(f"column {path} is JSON text: it holds {why}")
        return ColumnType(pa.string(), _json_reader, is_json_text=True)


def _fits(seen: SeenTypes, name: str) -> bool:
    """Whether a plain type keeps all values exactly."""
    kinds = seen.kinds
    if name == "bool":
        return kinds == BOOLEAN
    if name in ("string", "large_string"):
        return kinds == TEXT
    if name == "float64":
        exact = seen.lowest >= -_EXACT_INTEGER and seen.highest <= _EXACT_INTEGER
        return kinds in (FLOAT, INTEGER, INTEGER | FLOAT) and exact
    if kinds != INTEGER:
        return False
    bits = int(name.removeprefix("u").removeprefix("int"))
    if name.startswith("u"):
        return seen.lowest >= 0 and seen.highest < 1 << bits
    bound = 1 << (bits - 1)
    return seen.lowest >= -bound and seen.highest < bound


def _plain(name: str) -> Any:
    import pyarrow as pa

    return pa.type_for_alias(name)


def _json_reader(value: Any) -> str | None:
    return None if value is None else json_bytes(value).decode()


def _list_reader(reader: Reader) -> Reader:
    return lambda value: None if value is None else [reader(child) for child in value]


def _struct_reader(readers: Mapping[str, Reader]) -> Reader:
    def read(value: Any) -> Any:
        if value is None:
            return None
        return {**value, **{name: reader(value.get(name)) for name, reader in readers.items()}}

    return read
