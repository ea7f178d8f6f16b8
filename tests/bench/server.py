"""A chat-completions server that answers at once, or after a drawn time; it prints its port.

python -m tests.bench.server [MEDIAN_S]
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys

SIGMA = 0.35
"""Of the log-normal times."""
_BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It fuses steps.\n<difficulty>high</difficulty>"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 2900, "completion_tokens": 60, "total_tokens": 2960},
    }
).encode()
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)


class _Connection(asyncio.Protocol):
    median_s = 0.0

    def __init__(self) -> None:
        self._held = bytearray()
        self._draw = random.Random(1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._held[:end]).lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._held) < end + 4 + size:
                return
            del self._held[: end + 4 + size]
            self._answer()

    def _answer(self) -> None:
        if not self.median_s:
            self._transport.write(_REPLY)
            return
        after_s = self.median_s * math.exp(_DRAW.gauss(0, SIGMA))
        asyncio.get_running_loop().call_later(after_s, self._transport.write, _REPLY)


_DRAW = random.Random(1)


async def _serve(median_s: float) -> None:
    _Connection.median_s = median_s
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
