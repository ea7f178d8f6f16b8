"""Reads the rows of an Arrow file (`save_to_disk` of `datasets`) or Feather file, a batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from kbetl.errors import SourceError
from kbetl.readers import arrow_values
from kbetl.readers.arrow_values import first_line
from kbetl.readers.lines import RawRow, file_error

FILE_MARK = b"ARROW1"
STREAM_MARK = b"\xff\xff\xff\xff"
# The list of a dataset's files, which `save_to_disk` writes beside them.
_STATE = "state.json"
_STATE_BYTES = 2**20


def raw_rows(file: Path | IO[bytes], name: str) -> Iterator[RawRow]:
    """Yields the rows in order, numbered from 1. Raises SourceError if the file is no Arrow file.

    A row with a value that JSON cannot express has a `fault`; the rest of a damaged file is one file error.
    """
    import pyarrow as pa

    pa.set_memory_pool(arrow_values.steady_pool())
    number = 0
    with contextlib.ExitStack() as stack:
        batches = _opened(file, name, stack)
        columns = arrow_values.Columns(batches.schema, name)
        try:
            for batch in _batches(batches):
                for raw in columns.rows(batch, number + 1):
                    number += 1
                    yield raw
        except (OSError, ValueError, pa.ArrowException) as error:
            yield file_error(number + 1, f"it cannot be read on: {first_line(error)}")


def features(file: Path) -> Any:
    """Returns the declared column types; None if the file cannot be opened."""
    with contextlib.ExitStack() as stack:
        try:
            return arrow_values.features(_opened(file, str(file), stack).schema)
        except SourceError:
            return None


def why_no_rows(path: Path) -> str | None:
    """Returns why an Arrow file is no part of the dataset in its folder; None if it is, or there is none.

    `datasets` caches what it computed from a dataset in the same folder, in files of the same format.
    """
    state = path.with_name(_STATE)
    try:
        state_json = orjson.loads(state.read_bytes()) if state.stat().st_size <= _STATE_BYTES else None
    except (OSError, orjson.JSONDecodeError):
        return None
    files = state_json.get("_data_files") if isinstance(state_json, dict) else None
    names = [each.get("filename") for each in files or () if isinstance(each, dict)]
    return None if not names or path.name in names else f"no file of the dataset that {_STATE} describes"


def _opened(file: Path | IO[bytes], name: str, stack: contextlib.ExitStack) -> Any:
    import pyarrow as pa

    try:
        source = stack.enter_context(pa.OSFile(str(file)) if isinstance(file, Path) else pa.PythonFile(file))
        mark = source.read(len(FILE_MARK))
        source.seek(0)
        open_ = pa.ipc.open_file if mark == FILE_MARK else pa.ipc.open_stream
        return stack.enter_context(open_(source))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"{name}: not a whole Arrow file: {first_line(error)}") from None


def _batches(reader: Any) -> Iterator[Any]:
    """Yields the record batches of a file or stream reader."""
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)
