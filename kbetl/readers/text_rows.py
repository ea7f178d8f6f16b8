"""Reads the rows of CSV files, and the elements of JSON lists and sequences, as JSON text.

The first record of CSV names the columns and shows the delimiter: comma, semicolon, tab or bar. A cell of a
column in TEXT_COLUMNS is text. In other columns an empty cell is null, and a cell spelled as a JSON number,
true, false, null, list or object is that value (in TEXT_OR_LIST_COLUMNS only a list or object); every other
cell is text. So a CSV export of a store gives the same samples again, as far as CSV can tell text from
values. A first column without a name is the index of pandas and gets the name that pandas gives it.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import orjson

from kbetl.errors import BadRow, SourceError
from kbetl.readers.lines import RawRow, file_error, is_complete, lines_with_ends, row_error

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
_OTHER_COLUMNS = frozenset(("reward", "example_id", "sample_hash", "uuid", "attempt", "source"))
_KNOWN_COLUMNS = TEXT_COLUMNS | TEXT_OR_LIST_COLUMNS | _OTHER_COLUMNS
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# The first line by which spreadsheets declare their delimiter.
_SEPARATOR_LINE = re.compile(r"\ufeff?sep=(.)\r?\n?")
_PANDAS_INDEX = "Unnamed: 0"
_CONSTANTS = frozenset(("true", "false", "null", "NaN", "Infinity", "-Infinity"))
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_PYTHON_SPELLING = re.compile(r"\[?\{'")


def raw_records(chunks: Iterator[bytes], name: str) -> Iterator[RawRow]:
    """Yields the records as JSON objects, each with the line where it starts.

    A record with too few or too many cells, or one that is not CSV, is yielded with its `fault`. Raises
    SourceError if the header does not name each column once.
    """
    csv.field_size_limit(sys.maxsize)
    lines = (line.decode("utf-8", "surrogateescape") for line in lines_with_ends(chunks))
    records = _records(lines, name)
    header = next(records, None)
    if header is None:
        return
    if isinstance(header, RawRow):
        raise SourceError(f"{name}:{header.line}: {header.fault}; nothing could be read")
    columns = [_PANDAS_INDEX if not header.cells[0].strip() else header.cells[0], *header.cells[1:]]
    _check(columns, name)
    for record in records:
        yield record if isinstance(record, RawRow) else _raw(record, columns)


class _Record(NamedTuple):
    line: int
    """The line where it starts."""
    cells: Sequence[str]


def _records(lines: Iterator[str], name: str) -> Iterator[RawRow | _Record]:
    """Yields each record with its first line; a RawRow for one with a fault."""
    try:
        skipped, header = next(((number, line) for number, line in enumerate(lines) if line.strip()), (0, ""))
    except BadRow as error:
        yield file_error(1, str(error))
        return
    declared = _SEPARATOR_LINE.fullmatch(header)
    separator = _separator(header, name) if declared is None else declared[1]
    first = [header] if declared is None else [""]
    reader = csv.reader(chain(first, lines), strict=True, delimiter=separator)
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield row_error(line, f"not CSV: {error}")
            continue
        except BadRow as error:
            yield file_error(line, str(error))
            return
        if cells is None:
            return
        if cells:
            yield _Record(line, cells)


def _separator(header: str, name: str) -> str:
    """Returns the delimiter that gives most known column names, else the one that splits the header.

    Raises SourceError if several do.
    """
    split = {mark: _cells(header, mark) for mark in _SEPARATORS}
    known = {mark: len(_KNOWN_COLUMNS.intersection(cells)) for mark, cells in split.items()}
    most = max(known.values())
    if most:
        found = [mark for mark in _SEPARATORS if known[mark] == most]
    else:
        found = [mark for mark, cells in split.items() if len(cells) > 1] or [","]
    if "," not in found and len(found) > 1:
        words = " or ".join(_SEPARATORS[mark] for mark in found)
        raise SourceError(f"{name}:1: {words} may part its columns; write it with commas")
    return found[0]


def _cells(line: str, mark: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:  # a quoted name with a line break
        return []


def _check(columns: Sequence[str], name: str) -> None:
    for number, column in enumerate(columns, 1):
        if not column.strip():
            raise SourceError(f"{name}:1: column {number} has no name")
        if column in columns[: number - 1]:
            raise SourceError(f"{name}:1: two columns are called {column!r}")


def _raw(record: _Record, columns: Sequence[str]) -> RawRow:
    line, cells = record
    try:
        if len(cells) != len(columns):
            raise BadRow(f"{len(cells)} cells where the header names {len(columns)} columns")
        fields = (f"{json.dumps(key)}:{_value(key, cell)}" for key, cell in zip(columns, cells, strict=True))
        return RawRow(line, f"{{{','.join(fields)}}}".encode())
    except UnicodeEncodeError as error:
        reason = f"invalid UTF-8: byte 0x{ord(error.object[error.start]) - 0xDC00:02x}"
    except BadRow as bad:
        reason = str(bad)
    return row_error(line, reason, json.dumps(cells).encode())


def _value(column: str, cell: str) -> str:
    """Returns a cell as JSON text. Raises BadRow for a list or object in Python's spelling."""
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


# All bytes up to the next bracket or comma outside strings, or to a string whose end is not read yet.
_UNTIL_STRUCTURE = re.compile(rb'(?:[^"{}\[\],]++|"[^"\\]*+(?:\\.[^"\\]*+)*")*', re.DOTALL)
_DEPTH = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1, ord(","): 0}
_COMMA = ord(",")
_LIST_ENDERS = frozenset(b",]")
_CUT = "the file ends in the middle of this row"
_UNCLOSED = "the file is cut: its list has no closing bracket"
_AFTER = "text after the end of the list"


def raw_values(chunks: Iterator[bytes]) -> Iterator[RawRow]:
    """Yields the elements of a JSON list or the values of a sequence as they are spelled.

    The last row has a `fault` if the file is cut, or if text follows the list.
    """
    scan = _Scan(chunks)
    scan.skip_blanks()
    if scan.buffer[scan.start : scan.start + 1] == b"[":
        scan.start = scan.at = scan.start + 1
        yield from _elements(scan)
    else:
        yield from _sequence(scan)
    if scan.fault is not None:
        yield file_error(scan.line, scan.fault)


def _elements(scan: _Scan) -> Iterator[RawRow]:
    """Yields the elements of a list, from behind its opening bracket."""
    is_first = True
    while True:
        end_byte = scan.next_end(in_list=True)
        row = scan.value_until(scan.at)
        if end_byte is None:
            if is_complete(row.text):
                yield row
                row = RawRow(scan.line, b"")
            scan.line = row.line
            scan.fault = scan.fault or (_CUT if row.text else _UNCLOSED)
            return
        scan.start = scan.at = scan.at + 1
        if row.text:
            yield row
        elif not (is_first and end_byte != _COMMA):
            yield row_error(row.line, "no value beside a comma")
        is_first = False
        if end_byte != _COMMA:
            break
    scan.skip_blanks()
    if scan.buffer[scan.start :]:
        yield row_error(scan.line, _AFTER)


def _sequence(scan: _Scan) -> Iterator[RawRow]:
    """Yields values that follow each other with white space or nothing between them."""
    while True:
        end_byte = scan.next_end(in_list=False)
        row = scan.value_until(scan.at)
        if end_byte is None:
            if row.text and (scan.fault is None or is_complete(row.text)):
                yield row
            elif row.text:
                scan.line = row.line
            return
        yield row


class _Scan:
    """A window on the file: `start` is where a value may start, `at` how far it was scanned."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.buffer = b""
        self.start = 0
        self.at = 0
        self.line = 1
        """Line of `start`, from 1."""
        self.fault: str | None = None
        """Why the file cannot be read to its end; None if it can."""
        self._chunks = chunks

    def read_more(self) -> bool:
        """Doubles the buffer, so that a long value is scanned few times; returns False at the end."""
        rest = self.buffer[self.start :]
        pieces, size_bytes = [rest], 0
        try:
            while size_bytes <= len(rest):
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                pieces.append(chunk)
                size_bytes += len(chunk)
        except BadRow as error:
            self.fault = str(error)
            self._chunks = iter(())
        self.buffer = b"".join(pieces)
        self.at -= self.start
        self.start = 0
        return size_bytes > 0

    def skip_blanks(self) -> None:
        """Moves `start` and `at` to the next byte that is no white space, or to the end."""
        while True:
            rest = self.buffer[self.start :]
            stripped = rest.lstrip()
            self._pass(self.start + len(rest) - len(stripped))
            if stripped or not self.read_more():
                return

    def next_end(self, *, in_list: bool) -> int | None:
        """Moves `at` to the comma or bracket that ends an element, or behind the last bracket of a value.

        Returns the byte that ended it; None if the file ends first.
        """
        depth = 0
        while True:
            self.at = _end(self.buffer, self.at)
            byte = self.buffer[self.at] if self.at < len(self.buffer) else None
            step = None if byte is None else _DEPTH.get(byte)
            if step is None:  # the end of the buffer, or a string that has none in it
                if not self.read_more():
                    self.at = len(self.buffer)
                    return None
                continue
            if in_list and depth == 0 and byte in _LIST_ENDERS:
                return byte
            depth = max(depth + step, 0)
            self.at += 1
            if not in_list and step < 0 and depth <= 0:
                return byte

    def value_until(self, end: int) -> RawRow:
        """Returns the value from `start` to `end` without white space around it; moves `start` to `end`."""
        text = self.buffer[self.start : end]
        stripped = text.lstrip()
        self._pass(self.start + len(text) - len(stripped))
        row = RawRow(self.line, stripped.rstrip())
        self.line += stripped.count(b"\n")
        self.start = self.at = end
        return row

    def _pass(self, position: int) -> None:
        self.line += self.buffer.count(b"\n", self.start, position)
        self.start = self.at = position


def _end(buffer: bytes, at: int) -> int:
    found = _UNTIL_STRUCTURE.match(buffer, at)
    return at if found is None else found.end()
