"""Rows of a CSV file, as JSON text.

The first record names the columns. A cell of a column in TEXT_COLUMNS is text. In any other column an empty
cell is null, and a cell that is spelled exactly as a JSON number, true, false, null, list or object is that
value (in TEXT_OR_LIST_COLUMNS a list or object alone); every other cell is text. So a CSV export of a store
gives the same samples again, as far as CSV can tell text from values.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence

import orjson

from kbetl.errors import BadRow, SourceError
from kbetl.lines import Raw, file_fault, raw_lines_with_ends, row_fault

TEXT_COLUMNS = frozenset(
    (
        "module_name",
        "entry_point",
        "name",
        "python_code",
        "pytorch_code",
        "code",
        "triton_code",
        "original_triton_code",
        "repo_name",
        "repo_link",
        "sha",
        "answer",
        "task",
        "difficulty",
        "evaluation_raw",
    )
)
TEXT_OR_LIST_COLUMNS = frozenset(("prompt", "completion", "info", "oai_tools", "error"))
_CONSTANTS = frozenset(("true", "false", "null", "NaN", "Infinity", "-Infinity"))
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_PYTHON_SPELLING = re.compile(r"\[?\{'")


def raw_records(chunks: Iterator[bytes], name: str) -> Iterator[Raw]:
    """The records as JSON objects, and the line on which each starts.

    A record with too few or too many cells, or one that is not CSV, is a fault. Raises SourceError for a
    header that does not name each column once.
    """
    csv.field_size_limit(sys.maxsize)
    records = _records(chunks)
    header = next(records, None)
    if header is None:
        return
    if isinstance(header, Raw):
        raise SourceError(f"{name}:{header.line}: {header.fault}; nothing could be read")
    columns = header[1]
    _check(columns, name)
    for record in records:
        yield record if isinstance(record, Raw) else _raw(record, columns)


def _records(chunks: Iterator[bytes]) -> Iterator[Raw | tuple[int, Sequence[str]]]:
    """Each record with its first line; a Raw where there is a fault."""
    lines = (line.decode("utf-8", "surrogateescape") for line in raw_lines_with_ends(chunks))
    reader = csv.reader(lines, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield row_fault(line, f"not CSV: {error}")
            continue
        except BadRow as cut:
            yield file_fault(line, str(cut))
            return
        if cells is None:
            return
        if cells:
            yield line, cells


def _check(columns: Sequence[str], name: str) -> None:
    for number, column in enumerate(columns, 1):
        if not column.strip():
            raise SourceError(
                f"{name}:1: column {number} has no name; write it without the index (pandas: index=False)"
            )
        if column in columns[: number - 1]:
            raise SourceError(f"{name}:1: two columns are called {column!r}")


def _raw(record: tuple[int, Sequence[str]], columns: Sequence[str]) -> Raw:
    line, cells = record
    try:
        if len(cells) != len(columns):
            raise BadRow(f"{len(cells)} cells where the header names {len(columns)} columns")
        fields = (f"{json.dumps(key)}:{_value(key, cell)}" for key, cell in zip(columns, cells, strict=True))
        return Raw(line, f"{{{','.join(fields)}}}".encode())
    except UnicodeEncodeError as error:
        return row_fault(line, f"invalid UTF-8: byte 0x{ord(error.object[error.start]) - 0xDC00:02x}")
    except BadRow as bad:
        return row_fault(line, str(bad))


def _value(column: str, cell: str) -> str:
    """A cell as JSON text."""
    if not cell:
        return "null"
    if column in TEXT_COLUMNS:
        return json.dumps(cell, ensure_ascii=False)
    if cell[0] in "[{" and _is_json(cell):
        return cell
    if _PYTHON_SPELLING.match(cell):
        raise BadRow(
            f"column '{column}' holds Python's spelling of a list or object; write it with json.dumps"
        )
    if column not in TEXT_OR_LIST_COLUMNS and (cell in _CONSTANTS or _NUMBER.fullmatch(cell)):
        return cell
    return json.dumps(cell, ensure_ascii=False)


def _is_json(cell: str) -> bool:
    try:
        orjson.loads(cell)
    except orjson.JSONDecodeError:
        try:
            json.loads(cell)  # NaN, Infinity, 1e400
        except (ValueError, RecursionError):
            return False
    return cell[-1] in "]}"
