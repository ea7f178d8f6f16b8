"""The lines of a file, whatever it is packed in; and what is wrong with a file that ends too soon."""

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
_PACKED_CHUNK_BYTES = 16 * 1024
"""Of compressed input at a time, so that what comes out of it stays small."""
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
"""A frame, or one that is to be skipped, with which `pzstd` begins."""
_ZSTD_WINDOW_BYTES = 2**31
"""What `zstd --long=31` may look back. As much as comes out of a file is held of it, at most."""
_MAGIC_BYTES = 4
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""By the mark at the start; that of UTF-32 begins as that of UTF-16."""
_UNMARKED = re.compile(rb"(?P<le>[\t\n\r -~]\0){2}|(?P<be>\0[\t\n\r -~]){2}", re.DOTALL)
"""Two ASCII characters of UTF-16: no JSON and no CSV begins with a NUL in UTF-8."""
_OPENED = (b"{", b"[", b",", b":")
"""What the first line of an object over several lines ends with."""
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"')
_HELD_BYTES = 64 * 2**20
"""Of lines that may be one object: more are taken one by one."""
_LINE_BYTES = 64
"""What a line takes in memory beside its text."""


class RawRow(NamedTuple):
    """A row as it stands in a file: JSON text, or the reason why it is none."""

    line: int
    """Where it starts, from 1; in Parquet the row."""
    text: bytes
    fault: str | None = None
    is_of_file: bool = False
    """Whether the fault is the file's, which cannot be read here, and not one row's."""


def row_fault(line: int, reason: str, text: bytes = b"") -> RawRow:
    """A row that cannot be read; `text` is what there is of it, by which it is known when it comes again."""
    return RawRow(line, text, reason)


def file_fault(line: int, reason: str) -> RawRow:
    """A place where a file cannot be read."""
    return RawRow(line, b"", reason, is_of_file=True)


class Readable(Protocol):
    """What is asked of a file: bytes, fewer than wanted where there are no more just now."""

    def read(self, size: int, /) -> bytes: ...


def printable_path(path: str | os.PathLike[str]) -> str:
    """A path as text that any terminal and SQLite can take: bytes that are no UTF-8 as `\\xNN`."""
    return plain_text(os.fsencode(path).decode("utf-8", "backslashreplace"))


def read_lines(chunks: Iterator[bytes]) -> Iterator[RawRow]:
    """The rows of JSONL: the lines that are not blank, without their ends; a fault where the input is cut.

    An object over several lines is one row at its first line. A byte order mark at the start is not part
    of the first line; U+2028 and its like end none.
    """
    held: _Held | None = None
    for raw in _lines(chunks):
        if held is None and raw.fault is None and raw.text.endswith(_OPENED) and _opens(raw.text):
            held = _Held(raw)
        elif held is None:
            yield raw
        elif raw.fault is not None or held.is_passed_by(raw.text):
            yield from held.rows()
            yield raw
            held = None
        elif held.take(raw):
            yield from held.rows()
            held = None
    if held is not None:
        yield from held.rows()


def _opens(line: bytes) -> bool:
    return line.lstrip().startswith(b"{") and _depth(line) > 0


def _depth(line: bytes) -> int:
    """By how many brackets a line of JSON goes deeper; no text of JSON goes over the end of a line."""
    rest = _STRING.sub(b"", line)
    return rest.count(b"{") + rest.count(b"[") - rest.count(b"}") - rest.count(b"]")


class _Held:
    """Lines that may be one object."""

    def __init__(self, first: RawRow) -> None:
        self._lines = [first]
        self._depth = _depth(first.text)
        self._size_bytes = len(first.text)

    def is_passed_by(self, line: bytes) -> bool:
        """Whether a line is a row by itself: not indented, so that those before it were no open object."""
        return line.startswith(b"{") and line != b"{}" and is_whole(line)

    def take(self, raw: RawRow) -> bool:
        """Holds one more line; gives whether the object has ended, or grown beyond what is held."""
        self._lines.append(raw)
        self._depth += _depth(raw.text)
        self._size_bytes += len(raw.text) + _LINE_BYTES
        return self._depth <= 0 or self._size_bytes > _HELD_BYTES

    def rows(self) -> list[RawRow]:
        """The object as one row, good or bad; the lines themselves where rows may be among them."""
        text = b"\n".join(line.text for line in self._lines)
        if self._depth == 0 and is_whole(text):
            return [RawRow(self._lines[0].line, text)]
        if self._size_bytes > _HELD_BYTES or any(is_whole(line.text) for line in self._lines):
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
    except BadRow as cut:
        fault = str(cut)
    rest = b"".join(pending)
    number += 1
    if rest.strip() and (fault is None or is_whole(rest)):
        yield RawRow(number, rest.rstrip(b"\r"))
        number += 1
    if fault is not None:
        yield file_fault(number, fault)


def raw_lines_with_ends(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """All lines as they are, blank ones too, each with its end but for the last."""
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


def is_whole(line: bytes) -> bool:
    """Whether the last line before a cut is a JSON object all the same."""
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def decompressed(file: Readable) -> Iterator[bytes]:
    """The content of a file in chunks: decompressed if it is gzip or Zstandard, whatever its name; in UTF-8.

    Raises BadRow where compressed data is cut or damaged, after all that came before, and for a file
    that cannot be read on.
    """
    head, chunks = begun(_plain(file), _MAGIC_BYTES)
    if head.startswith(_GZIP):
        chunks = _decompressed(_small(chunks), "gzip", _gzip)
    elif _ZSTD.match(head):
        chunks = _decompressed(_small(chunks), "Zstandard", _zstandard)
    head, chunks = begun(chunks, _MAGIC_BYTES)
    if head.startswith(_BOM):
        yield next(chunks).removeprefix(_BOM)
    encoding = _encoding_of(head)
    yield from chunks if encoding is None else _decoded(chunks, encoding)


def _encoding_of(head: bytes) -> str | None:
    """UTF-16 or UTF-32, as PowerShell and spreadsheets write it, by its first bytes; None for any other."""
    for mark, encoding in _ENCODINGS:
        if head.startswith(mark):
            return encoding
    found = _UNMARKED.match(head)
    return None if found is None else f"utf-16-{found.lastgroup}"


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The same in UTF-8; half a surrogate stays one, so that its row is refused and no other."""
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


def is_packed(path: Path) -> bool:
    """Whether a file must be read from its start: one that is compressed, or not in UTF-8.

    Raises OSError where it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(_MAGIC_BYTES)
    return head.startswith(_GZIP) or _ZSTD.match(head) is not None or _encoding_of(head) is not None


def begun(chunks: Iterator[bytes], size_bytes: int) -> tuple[bytes, Iterator[bytes]]:
    """The start of what comes, at least of that size where there is so much, and all of it again."""
    head = b""
    while len(head) < size_bytes:
        try:
            chunk = next(chunks, None)
        except BadRow as cut:
            return head, chain((head,), _raising(cut))
        if chunk is None:
            break
        head += chunk
    return head, chain((head,), chunks)


def _raising(error: BadRow) -> Iterator[bytes]:
    """A stream that can be read no further."""
    raise error
    yield


def _plain(file: Readable) -> Iterator[bytes]:
    while chunk := _read(file, _PLAIN_CHUNK_BYTES):
        yield chunk


def _small(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _PACKED_CHUNK_BYTES):
            yield chunk[start : start + _PACKED_CHUNK_BYTES]


def _read(file: Readable, size_bytes: int) -> bytes:
    try:
        return file.read(size_bytes)
    except OSError as error:
        raise BadRow(f"it cannot be read on: {error.strerror or error}") from None


def _decompressed(chunks: Iterator[bytes], name: str, start: Callable[[], Any]) -> Iterator[bytes]:
    """What compressed chunks hold: any number of members, as `cat a.gz b.gz` makes them."""
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
