"""The values of a JSON file that is no JSONL: the elements of one list, or objects one after the other.

Only their ends are found here, a few megabytes at a time; what they say is read later, one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kbetl.errors import BadRow
from kbetl.lines import Raw, file_fault, is_whole, row_fault

_UNTIL_STRUCTURE = re.compile(rb'(?:[^"{}\[\],]++|"[^"\\]*+(?:\\.[^"\\]*+)*")*', re.DOTALL)
"""Everything that neither opens, closes nor parts a value; it stops before a string that has no end yet."""
_DEPTH = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1, ord(","): 0}
_COMMA = ord(",")
_LIST_ENDERS = frozenset(b",]")
_CUT = "the file ends in the middle of this row"
_UNCLOSED = "the file is cut: its list has no closing bracket"
_AFTER = "text after the end of the list"


def raw_values(chunks: Iterator[bytes]) -> Iterator[Raw]:
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


def _elements(scan: _Scan) -> Iterator[Raw]:
    """The elements of a list that has just been opened."""
    is_first = True
    while True:
        ender = scan.next_end(in_list=True)
        row = scan.take(scan.at)
        if ender is None:
            if is_whole(row.text):
                yield row
                row = Raw(scan.line, b"")
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


def _sequence(scan: _Scan) -> Iterator[Raw]:
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

    def take(self, end: int) -> Raw:
        """The value from `start` to `end`, less blanks around it; `start` moves to `end`."""
        text = self.buffer[self.start : end]
        stripped = text.lstrip()
        self._pass(self.start + len(text) - len(stripped))
        row = Raw(self.line, stripped.rstrip())
        self.line += stripped.count(b"\n")
        self.start = self.at = end
        return row

    def _pass(self, position: int) -> None:
        self.line += self.buffer.count(b"\n", self.start, position)
        self.start = self.at = position


def _end(buffer: bytes, at: int) -> int:
    found = _UNTIL_STRUCTURE.match(buffer, at)
    return at if found is None else found.end()
