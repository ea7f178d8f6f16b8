"""Writes the Parquet files of a dataset, and describes their columns as the Hub does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kbetl.dataset.arrow import Columns, batches_of, columns_of, write_parquet
from kbetl.errors import HubError
from kbetl.export.source import DatasetSource, LeftOut
from kbetl.json_codec import stored_value

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500 * 2**20
"""Arrow bytes per file; the file itself is smaller."""


class DataFile(NamedTuple):
    """A local file, and its path on the Hub."""

    path: str
    local: Path
    size_bytes: int
    sha256: str


class SplitSize(NamedTuple):
    """The size of a split: its rows, and its bytes as Arrow in memory."""

    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BuiltFiles:
    """The files of a dataset."""

    files: Sequence[DataFile]
    splits: Mapping[str, SplitSize]
    """Sizes by split, without empty ones, which `datasets` cannot read."""
    features: Sequence[Mapping[str, Any]]
    """Columns as a card lists them."""
    notes: Sequence[str]
    format: str = "rows"
    left_out: LeftOut = field(default_factory=LeftOut)
    """Rows that the format cannot express."""

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows by split."""
        return {split: size.rows for split, size in self.splits.items()}


def write_files(rows: DatasetSource, folder: Path, shard_bytes: int = SHARD_BYTES) -> BuiltFiles:
    """Writes the rows of all splits; the same rows give the same bytes. Raises HubError if the disk fails."""
    try:
        return _write(rows, folder, shard_bytes)
    except OSError as error:
        raise HubError(f"the files to push cannot be written to {folder}: {error.strerror}") from None


def _write(rows: DatasetSource, folder: Path, shard_bytes: int) -> BuiltFiles:
    values = (stored_value(text) for side in rows.splits for text in rows.texts(side))
    columns = columns_of(values, rows.declared, rows.last)
    columns = replace(columns, schema=with_features(columns.schema))
    files: list[DataFile] = []
    splits: dict[str, SplitSize] = {}
    for side in rows.splits:
        name = side or "train"
        batches = batches_of(((stored_value(text), len(text)) for text in rows.texts(side)), columns)
        shards = _Shards(batches, shard_bytes)
        files += _write_split(folder, name, columns, shards)
        if shards.rows:
            splits[name] = SplitSize(shards.rows, shards.size_bytes)
    notes = _notes(rows, columns, splits)
    return BuiltFiles(files, splits, described(columns.schema), notes, rows.format, rows.all_left_out())


def _notes(rows: DatasetSource, columns: Columns, splits: Collection[str]) -> list[str]:
    empty = [f"no row is on the side {side}" for side in rows.splits if side and side not in splits]
    replaced = [
        f"column {name} of the rows gave way to ours" for name in sorted(rows.dataset.overwritten_columns)
    ]
    return [*rows.dataset.notes, *columns.notes, *replaced, *empty]


class _Shards:
    """Groups batches into shards of about `shard_bytes`, and counts rows and bytes."""

    def __init__(self, batches: Iterable[pa.RecordBatch], shard_bytes: int) -> None:
        self.batches = iter(batches)
        self.shard_bytes = shard_bytes
        self.rows = 0
        self.size_bytes = 0

    def __iter__(self) -> Iterator[Iterator[pa.RecordBatch]]:
        """Yields the batches of each shard; one must be consumed before the next."""
        for batch in self.batches:
            yield self._shard(batch)

    def _shard(self, first: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
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


_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}
# Types that differ only in their memory layout.
_EQUAL_TYPES = {"large_string": "string"}


def described(schema: pa.Schema) -> list[dict[str, Any]]:
    """Returns columns as `dataset_info.features` of a card lists them."""
    return [{"name": column.name, **_in_card(column.type)} for column in schema]


def with_features(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with the metadata in which `datasets` stores features in a Parquet file."""
    features = {column.name: _feature(column.type) for column in schema}
    text = json.dumps({"info": {"features": features}})
    return schema.with_metadata({"huggingface": text})


def column_types(features: Any) -> dict[str, str] | None:
    """Returns the type of each column as one text; None if `features` is no list of columns.

    `features` are those of a card, by any version of `datasets`. Keys of objects are sorted, so that their
    order makes no difference.
    """
    if not isinstance(features, list) or not all(isinstance(each, Mapping) for each in features):
        return None
    return {str(each.get("name")): _type_text(each) for each in features}


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Returns the differences of two sets of columns, a line each: `-` for theirs, `+` for ours."""
    lines = []
    for name in dict.fromkeys((*theirs, *ours)):
        before, after = theirs.get(name), ours.get(name)
        if before != after:
            lines += [f"- {name}: {before}"] if before is not None else []
            lines += [f"+ {name}: {after}"] if after is not None else []
    return lines


def _name(type_: pa.DataType) -> str:
    return _NAMES.get(str(type_), str(type_))


def _in_card(type_: pa.DataType) -> dict[str, Any]:
    import pyarrow as pa

    if pa.types.is_struct(type_):
        return {"struct": described(type_)}
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        key = "large_list" if pa.types.is_large_list(type_) else "list"
        inner = _in_card(type_.value_type)
        is_short = list(inner) in (["dtype"], ["struct"])
        return {key: next(iter(inner.values())) if is_short else inner}
    return {"dtype": _name(type_)}


def _feature(type_: pa.DataType) -> dict[str, Any]:
    import pyarrow as pa

    if pa.types.is_struct(type_):
        return {child.name: _feature(child.type) for child in type_}
    if pa.types.is_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "List"}
    if pa.types.is_large_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "LargeList"}
    return {"dtype": _name(type_), "_type": "Value"}


def _type_text(feature: Any) -> str:
    """Returns a type such as `list<struct<content: string>>`; an unknown feature is its JSON."""
    if isinstance(feature, str):
        return _EQUAL_TYPES.get(feature, feature)
    if isinstance(feature, list):
        return _struct_text(feature)
    if isinstance(feature, Mapping):
        for key in ("list", "large_list", "sequence"):
            if key in feature:
                return f"list<{_type_text(feature[key])}>"
        if "struct" in feature:
            return _struct_text(feature["struct"])
        if isinstance(feature.get("dtype"), str):
            return _type_text(feature["dtype"])
        return _type_text(json.dumps(feature.get("dtype", feature), sort_keys=True, default=str))
    return json.dumps(feature, default=str)


def _struct_text(fields: Sequence[Any]) -> str:
    types = column_types(fields)
    if types is None:
        return json.dumps(fields, sort_keys=True, default=str)
    return f"struct<{', '.join(f'{name}: {type_}' for name, type_ in sorted(types.items()))}>"
