"""Reads the rows of files: JSONL, JSON, CSV, Parquet and Arrow, also compressed."""

from kbetl.readers.arrow_values import IS_JSON_TEXT
from kbetl.readers.files import (
    KINDS_IN_WORDS,
    features_of,
    kind_of,
    rows_of_file,
    rows_of_pipe,
    rows_of_stream,
    why_no_rows,
)

__all__ = [
    "IS_JSON_TEXT",
    "KINDS_IN_WORDS",
    "features_of",
    "kind_of",
    "rows_of_file",
    "rows_of_pipe",
    "rows_of_stream",
    "why_no_rows",
]
