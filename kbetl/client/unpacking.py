"""Decompresses response bodies piece by piece, within a limit on the memory of all of them.

aiohttp decompresses each packet at once, and 60 KB of gzip may become 64 MB.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import aiohttp

ACCEPTED = "gzip, deflate"
"""Value of the header `Accept-Encoding`."""
PIECE_BYTES = 1 << 20
"""Size of the decompressed pieces, at most."""
_PACKET_BYTES = 1 << 16
_GZIP = b"\x1f\x8b"
# zlib then detects gzip or zlib itself.
_AUTOMATIC = 32 + zlib.MAX_WBITS


class BrokenEncoding(ConnectionError):
    """A body that is not compressed as its header says, or that ends too early."""


class BufferLimit:
    """Limits the bytes that all bodies in flight hold together.

    Beyond `max_bytes` only `at_once` bodies are read further; the others are not read, so that TCP
    makes their servers wait.
    """

    def __init__(self, max_bytes: int, at_once: int = 2) -> None:
        self._free_bytes = max_bytes
        self._overrun_slots = asyncio.Semaphore(at_once)

    def buffer(self) -> Buffer:
        """Returns the context in which one body is read."""
        return Buffer(self)

    async def reserve(self, size_bytes: int, *, has_slot: bool) -> bool:
        """Adds bytes of one body, waiting if needed; returns whether it now may exceed the limit."""
        self._free_bytes -= size_bytes
        if has_slot or self._free_bytes >= 0:
            return has_slot
        await self._overrun_slots.acquire()
        return True

    def release(self, size_bytes: int, *, has_slot: bool) -> None:
        """Subtracts the bytes of one body."""
        self._free_bytes += size_bytes
        if has_slot:
            self._overrun_slots.release()


class Buffer:
    """The bytes that one body holds."""

    def __init__(self, limit: BufferLimit) -> None:
        self._limit = limit
        self._has_slot = False
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._limit.release(self.size_bytes, has_slot=self._has_slot)

    async def reserve(self, size_bytes: int) -> None:
        """Waits until this body may hold `size_bytes` more."""
        self.size_bytes += size_bytes
        self._has_slot = await self._limit.reserve(size_bytes, has_slot=self._has_slot)


async def pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yields the decompressed body in pieces of at most 1 MiB. Raises BrokenEncoding."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        while chunk := await response.content.read(PIECE_BYTES):
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BrokenEncoding(f"its content encoding {encoding[:40]!r} was not asked for")
    unpacker: zlib._Decompress | None = None
    while chunk := await response.content.read(_PACKET_BYTES):
        if unpacker is None:
            is_raw = encoding == "deflate" and chunk[0] & 0x0F != 8
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else _AUTOMATIC)
        for piece in _unpacked(unpacker, chunk):
            yield piece
        while unpacker.unused_data.startswith(_GZIP):  # another gzip member follows
            rest, unpacker = unpacker.unused_data, zlib.decompressobj(_AUTOMATIC)
            for piece in _unpacked(unpacker, rest):
                yield piece
    if unpacker is not None and not unpacker.eof:
        raise BrokenEncoding("the encoding ends early")


def _unpacked(unpacker: zlib._Decompress, chunk: bytes) -> Iterator[bytes]:
    try:
        piece = unpacker.decompress(chunk, PIECE_BYTES)
        while piece:
            yield piece
            piece = unpacker.decompress(unpacker.unconsumed_tail, PIECE_BYTES)
    except zlib.error as error:
        raise BrokenEncoding("the encoding is broken") from error
