"""The lines of a file, whatever it is packed in; and what is wrong with a file that ends too soon."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from kbetl.errors import BadRow

CHUNK_BYTES = 2**20
_PACKED_CHUNK_BYTES = 16 * 1024
"""Of compressed input at a time, so that what comes out of it stays small."""
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class Raw(NamedTuple):
    """A row as it stands in a file: JSON text, or the reason why there is none."""

    line: int
    """Where it starts, from 1; in Parquet the row."""
    text: bytes
    fault: str | None = None
    is_of_file: bool = False
    """Whether the fault is the file's, which cannot be read here, and not one row's."""


def row_fault(line: int, reason: str) -> Raw:
    """A row that cannot be read."""
    return Raw(line, b"", reason)


def file_fault(line: int, reason: str) -> Raw:
    """A place where a file cannot be read."""
    return Raw(line, b"", reason, is_of_file=True)


class Readable(Protocol):
    """What is asked of a file: bytes, fewer than wanted where there are no more just now."""

    def read(self, size: int, /) -> bytes: ...


def plain_text(text: str) -> str:
    """Text from outside for a message: what would act on a terminal, or is no Unicode, is spelled out."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def printable_path(path: str | os.PathLike[str]) -> str:
    """A path as text that any terminal and SQLite can take: bytes that are no UTF-8 as `\\xNN`."""
    return plain_text(os.fsencode(path).decode("utf-8", "backslashreplace"))


def raw_lines(chunks: Iterator[bytes]) -> Iterator[Raw]:
    """The lines that are not blank, without their ends; a fault at the place where the input is cut.

    A byte order mark at the start is not part of the first line.
    """
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
                        yield Raw(number, line.rstrip(b"\r"))
    except BadRow as cut:
        fault = str(cut)
    rest = b"".join(pending)
    number += 1
    if rest.strip() and (fault is None or is_whole(rest)):
        yield Raw(number, rest.rstrip(b"\r"))
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


def unpacked(file: Readable) -> Iterator[bytes]:
    """The content of a file in chunks, decompressed if it is gzip or Zstandard, whatever its name.

    Raises BadRow where compressed data is cut or damaged, after all that came before, and for a file
    that cannot be read on.
    """
    head, chunks = begun(_plain(file), len(_ZSTD))
    if head.startswith(_GZIP):
        chunks = _decompressed(_small(chunks), "gzip", _gzip)
    elif head.startswith(_ZSTD):
        chunks = _decompressed(_small(chunks), "Zstandard", _zstandard)
    head, chunks = begun(chunks, len(_BOM))
    if head.startswith(_BOM):
        yield next(chunks).removeprefix(_BOM)
    yield from chunks


def is_packed(path: Path) -> bool:
    """Whether a file begins as gzip or Zstandard. Raises OSError where it cannot be read."""
    with path.open("rb", buffering=0) as file:
        return file.read(len(_ZSTD)).startswith((_GZIP, _ZSTD))


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
    while chunk := _read(file, CHUNK_BYTES):
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

    return zstandard.ZstdDecompressor().decompressobj()


def _zstandard_error() -> type[Exception]:
    import zstandard

    error: type[Exception] = zstandard.ZstdError
    return error
