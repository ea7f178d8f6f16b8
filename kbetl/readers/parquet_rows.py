"""Reads the rows of a Parquet file as JSON text, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kbetl.errors import SourceError
from kbetl.readers import arrow_values
from kbetl.readers.arrow_values import ROWS_IN_MEMORY, first_line
from kbetl.readers.lines import RawRow, file_error

_READ_BYTES = 2**20


def raw_rows(file: Path | IO[bytes], name: str) -> Iterator[RawRow]:
    """Yields the rows in order, numbered from 1. Raises SourceError if the file has no Parquet footer.

    A row with a value that JSON cannot express has a `fault`; a damaged row group is one file error.
    """
    import pyarrow as pa

    pa.set_memory_pool(arrow_values.steady_pool())
    parquet = _opened(file, name)
    columns = arrow_values.Columns(parquet.schema_arrow, name)
    number = 0
    for group in range(parquet.metadata.num_row_groups):
        end = number + parquet.metadata.row_group(group).num_rows
        try:
            for batch in parquet.iter_batches(
                batch_size=ROWS_IN_MEMORY, row_groups=[group], use_threads=False
            ):
                for raw in columns.rows(batch, number + 1):
                    number += 1
                    yield raw
        except (OSError, ValueError, pa.ArrowException) as error:
            yield file_error(number + 1, f"rows {number + 1} to {end} cannot be read: {first_line(error)}")
        number = end


def features(file: Path) -> Any:
    """Returns the declared column types; None if the file cannot be opened."""
    try:
        return arrow_values.features(_opened(file, str(file)).schema_arrow)
    except SourceError:
        return None


def _opened(file: Path | IO[bytes], name: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, buffer_size=_READ_BYTES, pre_buffer=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"{name}: not a whole Parquet file: {first_line(error)}") from None
