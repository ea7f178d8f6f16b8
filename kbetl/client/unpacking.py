"""A body as it comes, unpacked piece by piece: what is held grows with what is read, not with what it says.

aiohttp unpacks each packet at once, and 60 KB of gzip may be 64 MB.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import aiohttp

ACCEPTED = "gzip, deflate"
"""What a request says that it takes; a session unpacks nothing itself."""
PIECE_BYTES = 1 << 20
_PACKET_BYTES = 1 << 16
_GZIP = b"\x1f\x8b"
_AUTOMATIC = 32 + zlib.MAX_WBITS
"""zlib finds out itself whether it is gzip or zlib."""


class BrokenEncoding(ConnectionError):
    """A body that is not packed as its header says, or that ends too early."""


class Room:
    """What all answers in flight may hold: beyond it few go on at a time, and the others' servers wait."""

    def __init__(self, max_bytes: int, at_once: int = 2) -> None:
        self._left_bytes = max_bytes
        self._turns = asyncio.Semaphore(at_once)

    def place(self) -> Place:
        """A context for one answer."""
        return Place(self)

    async def take(self, size_bytes: int, *, has_turn: bool) -> bool:
        """Counts what an answer holds more; whether it has its turn to go on without room."""
        self._left_bytes -= size_bytes
        if has_turn or self._left_bytes >= 0:
            return has_turn
        await self._turns.acquire()
        return True

    def leave(self, size_bytes: int, *, has_turn: bool) -> None:
        """Gives back what an answer held."""
        self._left_bytes += size_bytes
        if has_turn:
            self._turns.release()


class Place:
    """What one answer holds; it never waits for more than the answers that have their turn."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._has_turn = False
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.leave(self.size_bytes, has_turn=self._has_turn)

    async def take(self, size_bytes: int) -> None:
        """Awaits the room for so many bytes more."""
        self.size_bytes += size_bytes
        self._has_turn = await self._room.take(size_bytes, has_turn=self._has_turn)


async def pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body, unpacked, in pieces of at most 1 MiB. Raises BrokenEncoding."""
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
        while unpacker.unused_data.startswith(_GZIP):  # it may go on with another member
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
