"""Decompresses files and reads their lines; reports where a file is cut or damaged."""

from __future__ import annotations

import codecs
import os
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from kbetl.errors import BadRow
from kbetl.text import plain_text

CHUNK_BYTES = 2**20
# Pieces that the allocator uses again without asking the system: a fifth faster than 1 MB.
_PLAIN_CHUNK_BYTES = 2**17
# Compressed bytes per step, so that the decompressed bytes of a step stay few.
_COMPRESSED_CHUNK_BYTES = 16 * 1024
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
# A frame, or the skippable frame with which `pzstd` begins.
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
# The window of `zstd --long=31`; memory is bounded by the size of the content as well.
_ZSTD_WINDOW_BYTES = 2**31
_MAGIC_BYTES = 4
# Byte order marks; UTF-32 comes first, because its mark begins with that of UTF-16.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Two ASCII characters in UTF-16 without a mark: no JSON or CSV in UTF-8 has a NUL there.
_UNMARKED = re.compile(rb"(?P<le>[\t\n\r -~]\0){2}|(?P<be>\0[\t\n\r -~]){2}", re.DOTALL)
# Last characters of the first line of an object that spans several lines.
_OPENED = (b"{", b"[", b",", b":")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"')
# Size of an object over several lines; beyond it the lines are read one by one.
_MAX_OBJECT_BYTES = 64 * 2**20
# Memory of a line beside its text.
_LINE_OVERHEAD_BYTES = 64


class RawRow(NamedTuple):
    """A row of a file: its JSON text, or the reason why it cannot be read."""

    line: int
    """The line where it starts, from 1; in Parquet and Arrow the number of the row."""
    text: bytes
    fault: str | None = None
    """Why it cannot be read; None if it can."""
    is_of_file: bool = False
    """Whether the fault is one of the file from here on, not of one row."""


def row_error(line: int, reason: str, text: bytes = b"") -> RawRow:
    """Returns a row that cannot be read. Its `text` identifies it when it is read again."""
    return RawRow(line, text, reason)


def file_error(line: int, reason: str) -> RawRow:
    """Returns the error that a file cannot be read from a line on."""
    return RawRow(line, b"", reason, is_of_file=True)


class Readable(Protocol):
    """A binary file. `read` may return fewer bytes than `size`; it returns none at the end."""

    def read(self, size: int, /) -> bytes: ...


def printable_path(path: str | os.PathLike[str]) -> str:
    """Returns a path as valid text without control characters; bytes that are no UTF-8 become `\\xNN`."""
    return plain_text(os.fsencode(path).decode("utf-8", "backslashreplace"))


def read_lines(chunks: Iterator[bytes]) -> Iterator[RawRow]:
    """Yields the rows of JSONL: all lines that are not blank, and an error if the input is cut.

    An object over several lines is one row at its first line. U+2028 and its like end no line.
    """
    open_object: _OpenObject | None = None
    for raw in _lines(chunks):
        if open_object is None and raw.fault is None and raw.text.endswith(_OPENED) and _opens(raw.text):
            open_object = _OpenObject(raw)
        elif open_object is None:
            yield raw
        elif raw.fault is not None or open_object.is_ended_by(raw.text):
            yield from open_object.rows()
            yield raw
            open_object = None
        elif open_object.add(raw):
            yield from open_object.rows()
            open_object = None
    if open_object is not None:
        yield from open_object.rows()


def _opens(line: bytes) -> bool:
    return line.lstrip().startswith(b"{") and _depth(line) > 0


def _depth(line: bytes) -> int:
    """Returns how many brackets a line of JSON leaves open; strings of JSON never span lines."""
    rest = _STRING.sub(b"", line)
    return rest.count(b"{") + rest.count(b"[") - rest.count(b"}") - rest.count(b"]")


class _OpenObject:
    """Collects lines that may be one JSON object."""

    def __init__(self, first: RawRow) -> None:
        self._lines = [first]
        self._depth = _depth(first.text)
        self._size_bytes = len(first.text)

    def is_ended_by(self, line: bytes) -> bool:
        """Whether a line is a complete row, not indented, so that the lines before it are no object."""
        return line.startswith(b"{") and line != b"{}" and is_complete(line)

    def add(self, raw: RawRow) -> bool:
        """Adds a line; returns whether the object is complete, or larger than `_MAX_OBJECT_BYTES`."""
        self._lines.append(raw)
        self._depth += _depth(raw.text)
        self._size_bytes += len(raw.text) + _LINE_OVERHEAD_BYTES
        return self._depth <= 0 or self._size_bytes > _MAX_OBJECT_BYTES

    def rows(self) -> list[RawRow]:
        """Returns the object as one row, valid or not; its lines if some of them may be rows."""
        text = b"\n".join(line.text for line in self._lines)
        if self._depth == 0 and is_complete(text):
            return [RawRow(self._lines[0].line, text)]
        if self._size_bytes > _MAX_OBJECT_BYTES or any(is_complete(line.text) for line in self._lines):
            return self._lines
        return [RawRow(self._lines[0].line, text)]


def _lines(chunks: Iterator[bytes]) -> Iterator[RawRow]:
    number = 0
    pending: list[bytes] = []
    fault = None
    try:
        for chunk in chunks:
            lines = chunk.split(b"\n")
            pending.append(lines[0])
            if len(lines) > 1:
                lines[0] = b"".join(pending)
                pending = [lines.pop()]
                for line in lines:
                    number += 1
                    if not line.isspace() and line:
                        yield RawRow(number, line.rstrip(b"\r"))
    except BadRow as error:
        fault = str(error)
    rest = b"".join(pending)
    number += 1
    if rest.strip() and (fault is None or is_complete(rest)):
        yield RawRow(number, rest.rstrip(b"\r"))
        number += 1
    if fault is not None:
        yield file_error(number, fault)


def lines_with_ends(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields all lines, blank ones too, with their line ends."""
    pending: list[bytes] = []
    for chunk in chunks:
        lines = chunk.split(b"\n")
        pending.append(lines[0])
        if len(lines) > 1:
            lines[0] = b"".join(pending)
            pending = [lines.pop()]
            for line in lines:
                yield line + b"\n"
    rest = b"".join(pending)
    if rest:
        yield rest


def is_complete(line: bytes) -> bool:
    """Whether a line is a complete JSON object, which the last line of a cut file may be."""
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def decompressed(file: Readable) -> Iterator[bytes]:
    """Yields the content of a file in UTF-8, decompressed if it is gzip or Zstandard, whatever its name.

    Raises BadRow at the point where compressed data is cut or damaged or the file cannot be read.
    """
    head, chunks = peek(_plain(file), _MAGIC_BYTES)
    if head.startswith(_GZIP):
        chunks = _decompressed(_small(chunks), "gzip", _gzip)
    elif _ZSTD.match(head):
        chunks = _decompressed(_small(chunks), "Zstandard", _zstandard)
    head, chunks = peek(chunks, _MAGIC_BYTES)
    if head.startswith(_BOM):
        yield next(chunks).removeprefix(_BOM)
    encoding = _encoding_of(head)
    yield from chunks if encoding is None else _decoded(chunks, encoding)


def _encoding_of(head: bytes) -> str | None:
    """Returns UTF-16 or UTF-32 by the first bytes, as PowerShell and spreadsheets write; else None."""
    for mark, encoding in _ENCODINGS:
        if head.startswith(mark):
            return encoding
    found = _UNMARKED.match(head)
    return None if found is None else f"utf-16-{found.lastgroup}"


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yields the chunks in UTF-8. A lone surrogate is passed on, so that its row alone is rejected."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    is_first = True
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            if text:
                yield (text.removeprefix("\ufeff") if is_first else text).encode("utf-8", "surrogatepass")
                is_first = False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise BadRow(f"damaged {encoding[:6].upper()} text: {error.reason}") from None


def needs_full_read(path: Path) -> bool:
    """Whether a file can only be read from its start, because it is compressed or not in UTF-8.

    Raises OSError if it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(_MAGIC_BYTES)
    return head.startswith(_GZIP) or _ZSTD.match(head) is not None or _encoding_of(head) is not None


def peek(chunks: Iterator[bytes], size_bytes: int) -> tuple[bytes, Iterator[bytes]]:
    """Returns the first bytes, at least `size_bytes` if there are as many, and an iterator over all."""
    head = b""
    while len(head) < size_bytes:
        try:
            chunk = next(chunks, None)
        except BadRow as error:
            return head, chain((head,), _raising(error))
        if chunk is None:
            break
        head += chunk
    return head, chain((head,), chunks)


def _raising(error: BadRow) -> Iterator[bytes]:
    """Returns an iterator that raises at once."""
    raise error
    yield


def _plain(file: Readable) -> Iterator[bytes]:
    while chunk := _read(file, _PLAIN_CHUNK_BYTES):
        yield chunk


def _small(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _COMPRESSED_CHUNK_BYTES):
            yield chunk[start : start + _COMPRESSED_CHUNK_BYTES]


def _read(file: Readable, size_bytes: int) -> bytes:
    try:
        return file.read(size_bytes)
    except OSError as error:
        raise BadRow(f"it cannot be read on: {error.strerror or error}") from None


def _decompressed(chunks: Iterator[bytes], name: str, start: Callable[[], Any]) -> Iterator[bytes]:
    """Yields the content of compressed chunks: any number of members, as `cat a.gz b.gz` makes them."""
    member = start()
    for chunk in chunks:
        rest = chunk
        while rest:
            if member.eof:
                rest = rest.lstrip(b"\0")  # padding, as on tapes
                if not rest:
                    break
                member = start()
            try:
                content = member.decompress(rest)
            except (zlib.error, _zstandard_error()) as error:
                raise BadRow(f"damaged {name} data: {error}") from None
            rest = member.unused_data if member.eof else b""
            if content:
                yield content
    if not member.eof:
        raise BadRow(f"the {name} data is cut: it ends before its end mark")


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _zstandard() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()


def _zstandard_error() -> type[Exception]:
    import zstandard

    error: type[Exception] = zstandard.ZstdError
    return error
