"""Converts Arrow batches to rows of JSON text; every type of Parquet and Arrow has one spelling.

Dates and times are ISO 8601 text with all their digits, durations too (`PT1.5S`); a decimal is a number if a
double holds it exactly, else text with its digits; a map is an object; bytes that are UTF-8 text are text,
other bytes reject their row. NaN and Infinity are kept.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from kbetl.errors import BadRow, SourceError
from kbetl.readers.lines import RawRow, row_error

IS_JSON_TEXT = {b"kbetl": b"json"}
"""Metadata of an Arrow field of JSON text, used if no Arrow type holds the values unchanged."""

ROWS_IN_MEMORY = 16
"""Rows whose values are in memory at once. It is a number of rows, because the sizes in a file are those of
the encoded values, where a repeated text counts once."""
Reader = Callable[[Any], Any]
"""Converts an Arrow scalar that is not null to a JSON value."""
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = dt.datetime(1970, 1, 1)
_TEXT_CONTROLS = frozenset("\t\n\r\f")


class Columns:
    """Converts batches of one schema. Raises SourceError if two columns have the same name."""

    def __init__(self, schema: Any, name: str) -> None:
        self._readers = {field.name: reader_of(field) for field in schema}
        if len(self._readers) < len(schema.names):
            twice, _ = Counter(schema.names).most_common(1)[0]
            raise SourceError(f"{name}: two columns are called {twice!r}")

    def rows(self, batch: Any, first: int) -> Iterator[RawRow]:
        """Yields the rows of a batch, numbered from `first`; ROWS_IN_MEMORY of them are in memory at once."""
        for start in range(0, batch.num_rows, ROWS_IN_MEMORY):
            part = batch.slice(start, ROWS_IN_MEMORY)
            columns = part.columns
            read = [
                _read(column, reader) for column, reader in zip(columns, self._readers.values(), strict=True)
            ]
            for index in range(part.num_rows):
                raw = self._row(first + start + index, [column[index] for column in read])
                yield raw if raw.fault is None else raw._replace(text=_content(columns, index))

    def _row(self, number: int, cells: Sequence[Any]) -> RawRow:
        bad = next(
            ((name, cell) for name, cell in zip(self._readers, cells, strict=True) if type(cell) is BadRow),
            None,
        )
        if bad is not None:
            return row_error(number, f"column '{bad[0]}': {bad[1]}")
        row = dict(zip(self._readers, cells, strict=True))
        try:
            text = orjson.dumps(row)
            return RawRow(number, orjson.dumps(_spelled(row)) if b"null" in text else text)
        except (orjson.JSONEncodeError, TypeError) as error:
            return row_error(number, str(error))


def _read(column: Any, reader: Reader | None) -> Sequence[Any]:
    """Returns the values of a column as JSON values; a BadRow instead of each that JSON cannot express."""
    try:
        return column.to_pylist() if reader is None else [_value(scalar, reader) for scalar in column]
    except (BadRow, ValueError, OverflowError):
        return [_cell(scalar, reader) for scalar in column]


def _cell(scalar: Any, reader: Reader | None) -> Any:
    try:
        return _value(scalar, reader)
    except BadRow as bad:
        return bad
    except UnicodeDecodeError:
        return BadRow("invalid UTF-8")
    except OverflowError:
        return BadRow("a date or time beyond the year 9999")
    except ValueError as error:
        return BadRow(first_line(error))


def features(schema: Any) -> Any:
    """Returns the declared column types: those of `datasets` if it wrote the file, else Arrow's names.

    Columns of JSON text are left out, because Arrow has no type for them.
    """
    for_datasets = (schema.metadata or {}).get(b"huggingface")
    if for_datasets:
        try:
            return json.loads(for_datasets)["info"]["features"]
        except (ValueError, KeyError, TypeError):
            pass  # not as `datasets` writes it: Arrow's own types hold
    return {field.name: str(field.type) for field in schema if not _holds_json(field)}


def steady_pool() -> Any:
    """Returns a memory pool that does not grow: for 3,500 rows of 54 KB mimalloc's grew by 70 MB."""
    import pyarrow as pa

    try:
        return pa.jemalloc_memory_pool()
    except NotImplementedError:  # this build has none
        return pa.system_memory_pool()


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's message."""
    return str(error).strip().partition("\n")[0]


def reader_of(field: Any) -> Reader | None:
    """Returns the reader for the values of an Arrow field; None if `as_py` gives a JSON value.

    `datasets` 5 writes objects with different keys as `arrow.json`; our own exports mark such text.
    """
    import pyarrow.types as of

    type_ = field.type
    if _is_json(field):
        return lambda scalar: orjson.Fragment(scalar.as_py())
    if of.is_dictionary(type_):
        inner = reader_of(field.with_type(type_.value_type))
        return None if inner is None else lambda scalar: _value(scalar.value, inner)
    if hasattr(type_, "value_field"):
        return _list_reader(reader_of(type_.value_field))
    if of.is_struct(type_):
        return _struct_reader(type_)
    if of.is_map(type_):
        return _map_reader(type_)
    if hasattr(type_, "extension_name"):
        return _extension_reader(field)
    return next((make(type_) for is_of, make in _READERS if getattr(of, f"is_{is_of}")(type_)), None)


def _holds_json(field: Any) -> bool:
    """Whether a column holds JSON text, at any depth."""
    type_ = field.type
    inner = [type_.field(index) for index in range(type_.num_fields)]
    return _is_json(field) or any(_holds_json(each) for each in inner)


def _is_json(field: Any) -> bool:
    """Whether a field is JSON text: of type `arrow.json`, or marked by us and still of a text type.

    The type is checked because other tools keep the metadata of columns that they changed.
    """
    import pyarrow.types as of

    metadata = field.metadata or {}
    is_text = of.is_string(field.type) or of.is_large_string(field.type)
    is_marked = is_text and all(metadata.get(key) == value for key, value in IS_JSON_TEXT.items())
    return is_marked or getattr(field.type, "extension_name", None) == "arrow.json"


def _value(scalar: Any, reader: Reader | None) -> Any:
    if reader is None or not scalar.is_valid:
        return scalar.as_py()
    return reader(scalar)


def _list_reader(inner: Reader | None) -> Reader | None:
    return None if inner is None else lambda scalar: [_value(each, inner) for each in scalar.values]


def _struct_reader(type_: Any) -> Reader | None:
    fields = [type_.field(index) for index in range(type_.num_fields)]
    readers = [(field.name, reader_of(field)) for field in fields]
    if not any(reader for _, reader in readers):
        return None
    return lambda scalar: {name: _value(scalar[at], reader) for at, (name, reader) in enumerate(readers)}


def _map_reader(type_: Any) -> Reader:
    key_reader, item_reader = reader_of(type_.key_field), reader_of(type_.item_field)

    def read(scalar: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry in scalar.values or ():
            key = _value(entry[0], key_reader)
            text = key if isinstance(key, str) else orjson.dumps(key).decode()
            if text in found:
                raise BadRow(f"its map has the key {json.dumps(text)} twice")
            found[text] = _value(entry[1], item_reader)
        return found

    return read


def _extension_reader(field: Any) -> Reader:
    """Returns a reader of the storage of an extension type; for a UUID, one that returns text."""
    if field.type.extension_name == "arrow.uuid":
        return lambda scalar: str(scalar.as_py())
    inner = reader_of(field.with_type(field.type.storage_type))
    return lambda scalar: _value(scalar.value, inner)


def _decimal(scalar: Any) -> Any:
    """Returns an integer with all its digits, a number if a double spells it exactly, else text."""
    value: Decimal = scalar.as_py()
    if value == value.to_integral_value():
        return orjson.Fragment(f"{value:.0f}")
    number = float(value)
    return number if math.isfinite(number) and Decimal(repr(number)) == value else f"{value:f}"


def _text_of_bytes(scalar: Any) -> str:
    """Returns bytes as text: older Parquet writers do not declare text. Raises BadRow for other bytes."""
    try:
        text: str = scalar.as_py().decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() or all(char.isprintable() or char in _TEXT_CONTROLS for char in text):
        return text
    return _no_text(scalar)


def _no_text(_: Any) -> str:
    raise BadRow("it holds bytes that are no text; leave it out, or write it as text (base64)")


def _timestamp_reader(type_: Any) -> Reader:
    per_second, zone = _PER_SECOND[type_.unit], None if type_.tz is None else _zone(type_.tz)

    def read(scalar: Any) -> str:
        seconds, rest = divmod(scalar.value, per_second)
        nanoseconds = rest * (10**9 // per_second)
        moment = _EPOCH + dt.timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
        if zone is not None:
            moment = moment.replace(tzinfo=dt.UTC).astimezone(zone)
        return _with_nanoseconds(moment, nanoseconds % 1000)

    return read


def _zone(name: str) -> dt.tzinfo:
    """Returns the time zone of a column; UTC, which gives the same moment, if it is unknown here."""
    import pyarrow as pa

    try:
        zone: dt.tzinfo = pa.lib.string_to_tzinfo(name)
    except (ValueError, KeyError, OSError, ImportError):
        return dt.UTC
    return zone


def _time_reader(type_: Any) -> Reader:
    def read(scalar: Any) -> str:
        nanoseconds = scalar.value % 1000 if type_.unit == "ns" else 0
        return _with_nanoseconds(scalar.as_py(), nanoseconds)

    return read


def _with_nanoseconds(moment: dt.datetime | dt.time, nanoseconds: int) -> str:
    """Returns ISO 8601 text, with nine decimals if the last three are not zero."""
    if not nanoseconds:
        return moment.isoformat()
    text = moment.isoformat(timespec="microseconds")
    end = text.index(".") + 7
    return f"{text[:end]}{nanoseconds:03d}{text[end:]}"


def _duration_reader(type_: Any) -> Reader:
    return lambda scalar: _duration(scalar.value, _PER_SECOND[type_.unit])


def _duration(value: int, per_second: int) -> str:
    seconds = Decimal(abs(value)) / per_second
    return f"{'-' if value < 0 else ''}PT{seconds.normalize():f}S"


def _interval(scalar: Any) -> str:
    value = scalar.as_py()
    return f"P{value.months}M{value.days}D{_duration(value.nanoseconds, 10**9).replace('-PT', 'PT-')[1:]}"


# By the name in `pyarrow.types.is_NAME`.
_READERS: tuple[tuple[str, Callable[[Any], Reader]], ...] = (
    ("decimal", lambda _: _decimal),
    ("timestamp", _timestamp_reader),
    ("date", lambda _: lambda scalar: scalar.as_py().isoformat()),
    ("time", _time_reader),
    ("duration", _duration_reader),
    ("interval", lambda _: _interval),
    ("fixed_size_binary", lambda _: _no_text),
    ("binary", lambda _: _text_of_bytes),
    ("large_binary", lambda _: _text_of_bytes),
    ("binary_view", lambda _: _text_of_bytes),
)


def _content(columns: Sequence[Any], index: int) -> bytes:
    """Returns bytes that identify a row which JSON cannot express."""
    return repr([_shown(column[index]) for column in columns]).encode("utf-8", "surrogatepass")


def _shown(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return getattr(scalar, "value", None)


def _spelled(value: Any) -> Any:
    """Returns the value with NaN and Infinity spelled as Python's `json` does; orjson makes them null."""
    if isinstance(value, float) and not math.isfinite(value):
        return orjson.Fragment("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {key: _spelled(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(child) for child in value]
    return value
