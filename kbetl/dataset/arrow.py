"""Rows as Arrow: types that hold every value exactly, and batches of a few megabytes.

A place gets the type that its source declares where all its values fit, else the one its values show,
over all rows: keys of objects are united (a row gets null where it lacks one), integers and floats
together are float64, null alone is null. Where no Arrow type holds all values as they are (text beside
objects, integers beyond 64 bit, empty objects alone) the place is JSON text, and that is said; its Arrow
field is marked, so that `ingest` reads the values back.
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

BATCH_BYTES = 2 * 2**20
GROUP_BYTES = 16 * 2**20
"""Arrow bytes in a row group of a Parquet file. With 48 MB an export peaks 110 MB higher and is no faster."""
MOST_BATCH_ROWS = 5000
MOST_KEYS = 250
"""An object with more different keys than this is a dictionary, not a record: JSON text."""
_EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class Columns:
    """What rows become in Arrow."""

    schema: pa.Schema
    notes: Sequence[str] = ()
    """Columns that are not of the type declared, or are JSON text, a line each."""
    readers: Mapping[str, Reader] = field(default_factory=dict)
    """What makes JSON text of the values inside a column; columns without such text are not named."""


def columns_of(
    values: Iterable[Value], declared: Mapping[str, DeclaredType] | None = None, last: Sequence[str] = ()
) -> Columns:
    """The columns that hold all these rows; reads them all, one at a time.

    Columns stand in the order in which they were first seen, those of `last` at the end; of what is
    declared, only columns that some row has.
    """
    seen = SeenTypes()
    for value in values:
        seen.see_object(value)  # type: ignore[arg-type]
    return columns_of_shape(seen, declared or {}, last)


def batches_of(values: Iterable[tuple[Value, int]], columns: Columns) -> Iterator[pa.RecordBatch]:
    """Rows, each with its size in bytes, as batches with the schema of `columns`."""
    batch: list[Value] = []
    size_bytes = 0
    for value, value_bytes in values:
        batch.append(value)
        size_bytes += value_bytes
        if size_bytes >= BATCH_BYTES or len(batch) >= MOST_BATCH_ROWS:
            yield _batch(batch, columns)
            batch, size_bytes = [], 0
    if batch:
        yield _batch(batch, columns)


def write_parquet(file: IO[bytes], columns: Columns, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes batches to a Parquet file, row groups of some 16 MB at a time; gives the number of rows."""
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


def columns_of_shape(seen: SeenTypes, declared: Mapping[str, DeclaredType], last: Sequence[str]) -> Columns:
    """The columns that hold all rows that a shape has seen."""
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
    """The Arrow type of a place, and what makes JSON text of the values in it that need it."""

    type: Any
    reader: Reader | None = None
    is_json_text: bool = False
    """Whether the place itself holds such text."""


def _field(name: str, typed: ColumnType) -> Any:
    import pyarrow as pa

    return pa.field(name, typed.type, metadata=IS_JSON_TEXT if typed.is_json_text else None)


class TypeInference:
    """Finds Arrow types for shapes, and notes what could not be as declared."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def type_of(self, shape: SeenTypes, declared: DeclaredType, path: str) -> ColumnType:
        """The type for all values of a shape."""
        if isinstance(declared, str) and (shape.kinds == 0 or _fits(shape, declared)):
            return ColumnType(_plain(declared))
        if isinstance(declared, list) and shape.kinds in (0, LIST):
            return self._list(shape, declared[0], path)
        if isinstance(declared, dict) and declared and shape.kinds in (0, OBJECT):
            return self._struct(shape, declared, path)
        if declared is not None and declared != "null":
            self.notes.append(f"column {path} holds values that are not as its source declares them")
        return self._inferred(shape, path)

    def _inferred(self, shape: SeenTypes, path: str) -> ColumnType:
        import pyarrow as pa

        if shape.kinds == 0:
            return ColumnType(pa.null())
        if shape.kinds == LIST:
            return self._list(shape, None, path)
        if shape.kinds == OBJECT:
            return self._struct(shape, {}, path)
        for name in ("bool", "string", "int64", "uint64", "float64"):
            if _fits(shape, name):
                return ColumnType(_plain(name))
        return self._json(path, "values of different kinds, or numbers beyond 64 bit")

    def _list(self, shape: SeenTypes, declared: DeclaredType, path: str) -> ColumnType:
        import pyarrow as pa

        item = self.type_of(shape.item or SeenTypes(), declared, f"{path}[]")
        reader = None if item.reader is None else _list_reader(item.reader)
        return ColumnType(pa.list_(_field("item", item)), reader)

    def _struct(self, shape: SeenTypes, declared: Mapping[str, DeclaredType], path: str) -> ColumnType:
        import pyarrow as pa

        names = list(dict.fromkeys((*declared, *shape.fields)))
        if not names:
            return self._json(path, "empty objects")
        if len(names) > MOST_KEYS:
            return self._json(path, f"objects with {len(names)} different keys")
        fields, readers = [], {}
        for name in names:
            inner = shape.fields.get(name) or SeenTypes()
            typed = self.type_of(inner, declared.get(name), f"{path}.{name}")
            fields.append(_field(name, typed))
            if typed.reader is not None:
                readers[name] = typed.reader
        return ColumnType(pa.struct(fields), _struct_reader(readers) if readers else None)

    def _json(self, path: str, why: str) -> ColumnType:
        import pyarrow as pa

        self.notes.append(f"column {path} is JSON text: it holds {why}")
        return ColumnType(pa.string(), _json_reader, is_json_text=True)


def _fits(shape: SeenTypes, name: str) -> bool:
    """Whether a plain type holds all values as they are."""
    kinds = shape.kinds
    if name == "bool":
        return kinds == BOOLEAN
    if name in ("string", "large_string"):
        return kinds == TEXT
    if name == "float64":
        exact = shape.lowest >= -_EXACT_INTEGER and shape.highest <= _EXACT_INTEGER
        return kinds in (FLOAT, INTEGER, INTEGER | FLOAT) and exact
    if kinds != INTEGER:
        return False
    bits = int(name.removeprefix("u").removeprefix("int"))
    if name.startswith("u"):
        return shape.lowest >= 0 and shape.highest < 1 << bits
    bound = 1 << (bits - 1)
    return shape.lowest >= -bound and shape.highest < bound


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
