"""Rows of a CSV file, as JSON text.

The first record names the columns, and tells what parts them: a comma, semicolon, tab or bar. A cell of
a column in TEXT_COLUMNS is text. In any other column an empty cell is null, and a cell that is spelled
exactly as a JSON number, true, false, null, list or object is that value (in TEXT_OR_LIST_COLUMNS a list or
object alone); every other cell is text. So a CSV export of a store gives the same samples again, as far as
CSV can tell text from values. A first column without a name is the index that pandas writes, and is called
as pandas calls it when it reads it.
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
from kbetl.readers.lines import RawRow, file_fault, is_whole, raw_lines_with_ends, row_fault

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
_SEPARATOR_TOLD = re.compile(r"\ufeff?sep=(.)\r?\n?")
"""The first line of a file that spreadsheets write for their own kind."""
_PANDAS_INDEX = "Unnamed: 0"
_CONSTANTS = frozenset(("true", "false", "null", "NaN", "Infinity", "-Infinity"))
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_PYTHON_SPELLING = re.compile(r"\[?\{'")


def raw_records(chunks: Iterator[bytes], name: str) -> Iterator[RawRow]:
    """The records as JSON objects, and the line on which each starts.

    A record with too few or too many cells, or one that is not CSV, is a fault. Raises SourceError for a
    header that does not name each column once.
    """
    csv.field_size_limit(sys.maxsize)
    lines = (line.decode("utf-8", "surrogateescape") for line in raw_lines_with_ends(chunks))
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
    """Where it starts."""
    cells: Sequence[str]


def _records(lines: Iterator[str], name: str) -> Iterator[RawRow | _Record]:
    """Each record with its first line; a Raw where there is a fault."""
    try:
        skipped, header = next(((number, line) for number, line in enumerate(lines) if line.strip()), (0, ""))
    except BadRow as cut:
        yield file_fault(1, str(cut))
        return
    told = _SEPARATOR_TOLD.fullmatch(header)
    separator = _separator(header, name) if told is None else told[1]
    first = [header] if told is None else [""]
    reader = csv.reader(chain(first, lines), strict=True, delimiter=separator)
    while True:
        line = skipped + reader.line_num + 1
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
            yield _Record(line, cells)


def _separator(header: str, name: str) -> str:
    """What parts the columns: by the names that it gives, else by whether it parts the line at all.

    Raises SourceError where it may be one or the other.
    """
    parted = {mark: _cells(header, mark) for mark in _SEPARATORS}
    known = {mark: len(_KNOWN_COLUMNS.intersection(cells)) for mark, cells in parted.items()}
    most = max(known.values())
    if most:
        found = [mark for mark in _SEPARATORS if known[mark] == most]
    else:
        found = [mark for mark, cells in parted.items() if len(cells) > 1] or [","]
    if "," not in found and len(found) > 1:
        words = " or ".join(_SEPARATORS[mark] for mark in found)
        raise SourceError(f"{name}:1: {words} may part its columns; write it with commas")
    return found[0]


def _cells(line: str, mark: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:  # a quoted name that goes over the end of the line
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
    return row_fault(line, reason, json.dumps(cells).encode())


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


_UNTIL_STRUCTURE = re.compile(rb'(?:[^"{}\[\],]++|"[^"\\]*+(?:\\.[^"\\]*+)*")*', re.DOTALL)
"""Everything that neither opens, closes nor parts a value; it stops before a string that has no end yet."""
_DEPTH = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1, ord(","): 0}
_COMMA = ord(",")
_LIST_ENDERS = frozenset(b",]")
_CUT = "the file ends in the middle of this row"
_UNCLOSED = "the file is cut: its list has no closing bracket"
_AFTER = "text after the end of the list"


def raw_values(chunks: Iterator[bytes]) -> Iterator[RawRow]:
    """Each row as it is spelled, and where it starts; faults where the file is cut or goes on too long."""
    scan = _Scan(chunks)
    scan.skip_blanks()
    if scan.buffer[scan.start : scan.start + 1] == b"[":
        scan.start = scan.at = scan.start + 1
        yield from _elements(scan)
    else:
        yield from _sequence(scan)
    if scan.fault is not None:
        yield file_fault(scan.line, scan.fault)


def _elements(scan: _Scan) -> Iterator[RawRow]:
    """The elements of a list that has just been opened."""
    is_first = True
    while True:
        ender = scan.next_end(in_list=True)
        row = scan.take(scan.at)
        if ender is None:
            if is_whole(row.text):
                yield row
                row = RawRow(scan.line, b"")
            scan.line = row.line
            scan.fault = scan.fault or (_CUT if row.text else _UNCLOSED)
            return
        scan.start = scan.at = scan.at + 1
        if row.text:
            yield row
        elif not (is_first and ender != _COMMA):
            yield row_fault(row.line, "no value beside a comma")
        is_first = False
        if ender != _COMMA:
            break
    scan.skip_blanks()
    if scan.buffer[scan.start :]:
        yield row_fault(scan.line, _AFTER)


def _sequence(scan: _Scan) -> Iterator[RawRow]:
    """Values that follow each other, with blanks or nothing between."""
    while True:
        ender = scan.next_end(in_list=False)
        row = scan.take(scan.at)
        if ender is None:
            if row.text and (scan.fault is None or is_whole(row.text)):
                yield row
            elif row.text:
                scan.line = row.line
            return
        yield row


class _Scan:
    """A window on the file: `start` is where a value may start, `at` how far it was looked at."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.buffer = b""
        self.start = 0
        self.at = 0
        self.line = 1
        """Of `start`, from 1."""
        self.fault: str | None = None
        """Why the file could not be read to its end."""
        self._chunks = chunks

    def more(self) -> bool:
        """Doubles what is at hand, so that a long value is looked at few times; False at the end."""
        rest = self.buffer[self.start :]
        pieces, size_bytes = [rest], 0
        try:
            while size_bytes <= len(rest):
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                pieces.append(chunk)
                size_bytes += len(chunk)
        except BadRow as cut:
            self.fault = str(cut)
            self._chunks = iter(())
        self.buffer = b"".join(pieces)
        self.at -= self.start
        self.start = 0
        return size_bytes > 0

    def skip_blanks(self) -> None:
        """Moves `start` and `at` to the next byte that is no blank, or to the end."""
        while True:
            rest = self.buffer[self.start :]
            stripped = rest.lstrip()
            self._pass(self.start + len(rest) - len(stripped))
            if stripped or not self.more():
                return

    def next_end(self, *, in_list: bool) -> int | None:
        """Moves `at` to what ends the value: the comma or bracket in a list, else behind its last bracket.

        Gives the byte that ended it; None where the file ends first.
        """
        depth = 0
        while True:
            self.at = _end(self.buffer, self.at)
            byte = self.buffer[self.at] if self.at < len(self.buffer) else None
            step = None if byte is None else _DEPTH.get(byte)
            if step is None:  # the end of the buffer, or a string that has none in it
                if not self.more():
                    self.at = len(self.buffer)
                    return None
                continue
            if in_list and depth == 0 and byte in _LIST_ENDERS:
                return byte
            depth = max(depth + step, 0)
            self.at += 1
            if not in_list and step < 0 and depth <= 0:
                return byte

    def take(self, end: int) -> RawRow:
        """The value from `start` to `end`, less blanks around it; `start` moves to `end`."""
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
