"""Rows of an Arrow file, as `save_to_disk` of `datasets` writes them, and of Feather: a batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from kbetl.errors import SourceError
from kbetl.readers import arrow_values
from kbetl.readers.arrow_values import first_line
from kbetl.readers.lines import RawRow, file_fault

FILE_MARK = b"ARROW1"
STREAM_MARK = b"\xff\xff\xff\xff"
_STATE = "state.json"
"""What `save_to_disk` writes beside the files of a dataset: which they are."""
_STATE_BYTES = 2**20


def raw_rows(file: Path | IO[bytes], name: str) -> Iterator[RawRow]:
    """The rows in order, numbered from 1. Raises SourceError where the file is none of Arrow's.

    A row with a value that has no JSON spelling is a fault, and so is the rest of a file that is damaged.
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
            yield file_fault(number + 1, f"it cannot be read on: {first_line(error)}")


def features(file: Path) -> Any:
    """The declared column types; None where the file cannot be opened."""
    with contextlib.ExitStack() as stack:
        try:
            return arrow_values.features(_opened(file, str(file), stack).schema)
        except SourceError:
            return None


def why_no_rows(path: Path) -> str | None:
    """Why an Arrow file holds no rows of the dataset in its folder; None where it does, or there is none.

    `datasets` keeps what it computed from a dataset beside it, in files that look the same.
    """
    state = path.with_name(_STATE)
    try:
        told = orjson.loads(state.read_bytes()) if state.stat().st_size <= _STATE_BYTES else None
    except (OSError, orjson.JSONDecodeError):
        return None
    files = told.get("_data_files") if isinstance(told, dict) else None
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
    """Of a stream as they come, of a file by their number."""
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)
