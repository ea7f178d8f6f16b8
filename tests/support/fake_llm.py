"""A chat-completions server on 127.0.0.1 that answers by content, and fails on order.

In a test:

    with FakeLlm(faults=["429", None, "cut body"]) as llm:
        ...                       # ask llm.url
        assert len(llm.requests) == 4

As a process of its own: `python tests/support/fake_llm.py --latency-s 2` prints its base
URL and serves until it is killed; `-h` lists what may be ordered. `GET /fake/stats`, `/fake/requests`,
`/fake/log` (a line per request: when it came, when its reply was delivered, what it would have cost) and
`/fake/forget` say and forget what it saw.

It speaks HTTP/1.1 by hand: any byte can be wrong where a test wants it, and it serves thousands a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Self

import orjson
from fake_faults import (
    DRIPS,
    FAULTS,
    Answered,
    Asked,
    Billed,
    Order,
    Reply,
    error_reply,
    first_refused,
    json_reply,
    refuse_parameter,
)
from fake_limits import SAYS, Allowed, Outage
from fake_schedule import ByContent

__all__ = [
    "FAULTS",
    "Allowed",
    "Answered",
    "Asked",
    "Billed",
    "ByContent",
    "FakeLlm",
    "Order",
    "Outage",
    "Reply",
    "error_reply",
    "first_refused",
    "json_reply",
    "log_normal",
    "refuse_parameter",
]

ABOUT_ITSELF = ("version", "models", "metrics")
"""What a server is asked about itself; none of the requests that are counted."""
LABELS = ("low", "medium", "high")
PHRASES = {200: "OK", 400: "Bad Request", 429: "Too Many Requests", 500: "Internal Server Error"}


class FakeLlm:
    """The server. Its attributes may be read, and `faults` and `latency_s` set, while it serves.

    `faults`: what goes wrong, in the order of the requests, then nothing any more; or a function that
    names the fault for a request. `latency_s`: a number, or a function of the request's index.
    `content`: the text of a good answer, by default a rating drawn from the messages and the seed.
    `max_concurrent`, `per_minute`: what is beyond them gets 429; `allowed` orders limits in detail.
    `outage`: when it is not there. `prices`: US dollars per million prompt and completion tokens;
    `tells_cost`: whether answers say what they cost. `keep` False keeps no bodies, for load.
    """

    def __init__(
        self,
        faults: Iterable[Order] | Callable[[Asked], Order] = (),
        *,
        latency_s: float | Callable[[int], float] = 0.0,
        **options: Any,
    ) -> None:
        self.faults = faults if callable(faults) else deque(faults)
        self.latency_s = latency_s
        self.seed: int = options.pop("seed", 0)
        at_once, per_minute = options.pop("max_concurrent", None), options.pop("per_minute", None)
        self.allowed: Allowed = options.pop("allowed", None) or Allowed(at_once, per_minute)
        self.outage: Outage | None = options.pop("outage", None)
        self.prices: tuple[float, float] = options.pop("prices", (1.0, 4.0))
        self.tells_cost: bool = options.pop("tells_cost", False)
        self.content: Callable[[Asked], str] = options.pop("content", self._rating)
        self.port: int = options.pop("port", 0)
        self.keep: bool = options.pop("keep", True)
        self.about_itself: dict[str, Reply] = {}
        """What `GET` of a path answers, 404 where it has none; see ABOUT_ITSELF."""
        if options:
            raise TypeError(f"FakeLlm has no option {', '.join(options)}")
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.forget()

    def forget(self) -> None:
        """Forgets requests, answers and counters; faults that were ordered stay."""
        self.requests: list[Asked] = []
        self.answered: list[Answered] = []
        self.billed: list[Billed] = []
        self._began_at: float | None = None
        self.counts: Counter[str] = Counter()
        self.in_flight = 0
        self.max_in_flight = 0
        self.connections = 0

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def start(self) -> None:
        """Listens, on a free port unless one was given."""
        loop = asyncio.get_running_loop()
        make = lambda: _Connection(self)  # noqa: E731
        self._server = await loop.create_server(make, "127.0.0.1", self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        while self._connections:  # noqa: ASYNC110 - each takes itself out when it is lost
            await asyncio.sleep(0)

    def stop_listening(self) -> None:
        """From now on connections are refused, and those there are reset, as if the server had died."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    def listen_again(self) -> None:
        """The server is back, on the same port."""
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result()

    def reply_to(self, asked: Asked) -> Reply:
        """The reply to a request, its fault included. Faults are taken in the order of arrival."""
        wrong = _not_understood(asked)
        if wrong is not None:
            return wrong
        away = self._away(asked.at)
        if away is not None:
            return FAULTS[away](asked, self.completion(asked))
        refusal = self.allowed.refuse(asked, self.in_flight)
        if refusal is not None:
            return refusal
        order = self.faults(asked) if callable(self.faults) else self._next_fault()
        if isinstance(order, Reply):
            return order
        fault = FAULTS[order] if isinstance(order, str) else order
        good = self.completion(asked)
        headers = self.allowed.headers(asked.at)
        reply = json_reply(good, headers=headers) if fault is None else fault(asked, good)
        if is_billed(reply):
            self._bill(asked, good)
        return reply

    def _bill(self, asked: Asked, good: dict[str, Any]) -> None:
        usage = good["usage"]
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        cost_usd = self._cost_usd(prompt, completion)
        self.counts["billed requests"] += 1
        self.counts["billed microdollars"] += round(cost_usd * 1e6)
        if self.keep:
            self.billed.append(Billed(asked.index, prompt, completion, cost_usd))

    def _cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prices[0] + completion_tokens * self.prices[1]) / 1e6

    def _away(self, now: float) -> str | None:
        """The fault of a request within an outage; the first request of all sets its clock."""
        outage = self.outage
        if self._began_at is None:
            self._began_at = now
            if outage is not None and outage.kind == "refuse":
                loop = asyncio.get_running_loop()
                loop.call_later(outage.begins_s, self._refuse_for, outage.lasts_s)
        if outage is None or outage.kind == "refuse":
            return None
        since_s = now - self._began_at - outage.begins_s
        return outage.kind if 0 <= since_s < outage.lasts_s else None

    def _refuse_for(self, lasts_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        loop.call_later(lasts_s, lambda: self._keep_task(loop.create_task(self.start())))

    def _keep_task(self, task: asyncio.Task[None]) -> None:
        self._starting = task

    def completion(self, asked: Asked) -> dict[str, Any]:
        """The good answer to a request."""
        content = self.content(asked)
        prompt_tokens, completion_tokens = len(asked.raw) // 4, len(content) // 4 + 1
        cost = {"cost": self._cost_usd(prompt_tokens, completion_tokens)} if self.tells_cost else {}
        return {
            "id": f"chatcmpl-{asked.index}",
            "object": "chat.completion",
            "model": asked.body.get("model", "fake"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "prompt_tokens_details": {"cached_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 0},
                **cost,
            },
        }

    def _rating(self, asked: Asked) -> str:
        # Only the messages count: the same question gets the same rating, whatever the parameters.
        digest = hashlib.sha256(b"%d" % self.seed + orjson.dumps(asked.body["messages"])).digest()
        return f"<difficulty>{LABELS[digest[0] % 3]}</difficulty>"

    def _next_fault(self) -> Order:
        assert isinstance(self.faults, deque)
        return self.faults.popleft() if self.faults else None

    def control(self, path: str) -> Reply:
        """What `/fake/...` answers."""
        if path == "/fake/forget":
            self.forget()
        if path == "/fake/requests":
            return Reply(b"\n".join(asked.raw for asked in self.requests), content_type="application/jsonl")
        if path == "/fake/log":
            lines = map(orjson.dumps, self.log())
            return Reply(b"\n".join(lines), content_type="application/jsonl")
        names = ("in_flight", "max_in_flight", "connections")
        return json_reply({**self.counts, **{name: getattr(self, name) for name in names}})

    def log(self) -> list[dict[str, Any]]:
        """Every request in order of arrival: when it came, when its reply was delivered whole, its cost."""
        delivered = {answer.index: answer for answer in self.answered}
        billed = {each.index: each.cost_usd for each in self.billed}
        return [
            {
                "index": asked.index,
                "request": hashlib.sha256(asked.raw).hexdigest(),
                "at_s": asked.at,
                "delivered_at_s": answer.at if (answer := delivered.get(asked.index)) else None,
                "status": answer.status if answer else None,
                "billed_usd": billed.get(asked.index, 0.0),
            }
            for asked in self.requests
        ]

    def delay_s(self, index: int) -> float:
        return self.latency_s(index) if callable(self.latency_s) else self.latency_s


def is_billed(reply: Reply) -> bool:
    """Whether a provider would bill a request that it replied to so: it made a completion for it."""
    if reply.status != 200 or reply.instead == "reset" or reply.raw is not None:
        return False
    return b'"error":{' not in reply.body[:20] and not reply.body.startswith(b"<")


def _not_understood(asked: Asked) -> Reply | None:
    """What a real server says to what is no chat completion; None for what is one."""
    if asked.method == "CONNECT":  # it plays a proxy; order a Reply
        return None
    if not asked.path.partition("?")[0].endswith("/chat/completions"):
        return error_reply(404, f"no such path: {asked.path}")
    if asked.method != "POST":
        return error_reply(405, "Method Not Allowed")
    try:
        body = asked.body
    except orjson.JSONDecodeError:
        return error_reply(400, "JSON decode error", type="Bad Request", code=400, param="body")
    if not isinstance(body, dict) or not body.get("messages"):
        return error_reply(400, "Field required", type="Bad Request", code=400, param="body.messages")
    return None


class _Connection(asyncio.Protocol):
    """One connection: reads requests one after the other, and answers each when its time has come."""

    def __init__(self, llm: FakeLlm) -> None:
        self._llm = llm
        self._buffer = bytearray()
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._llm.connections += 1
        self._llm._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._llm._connections.discard(self)
        if self._busy:
            self._done()

    def abort(self) -> None:
        """Ends the connection with a reset."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # closing without lingering sends RST in place of FIN
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer[0] == 0x16:  # the start of a TLS handshake
            self._write(Reply(status=400, cut_after=0))
            return
        self._read_request()

    def _read_request(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._busy:
            return
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = end + 4 + int(headers.get("content-length", 0))
        if len(self._buffer) < length:
            return
        raw = bytes(self._buffer[end + 4 : length])
        del self._buffer[:length]
        method, path, _ = lines[0].split(" ", 2)
        if path.startswith("/fake/"):
            self._write(self._llm.control(path))
            return
        if method == "GET" and path.rsplit("/", 1)[-1] in ABOUT_ITSELF:
            self._write(self._llm.about_itself.get(path, error_reply(404, f"no such path: {path}")))
            return
        self._serve(method, path, headers, raw)

    def _serve(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> None:
        llm = self._llm
        asked = Asked(llm.counts["requests"], time.monotonic(), method, path, headers, raw)
        llm.counts["requests"] += 1
        if llm.keep:
            llm.requests.append(asked)
        self._busy = True
        llm.in_flight += 1
        llm.max_in_flight = max(llm.max_in_flight, llm.in_flight)
        reply = llm.reply_to(asked)
        delay_s = llm.delay_s(asked.index)
        if delay_s > 0 and reply.status not in (429, 503):
            asyncio.get_running_loop().call_later(delay_s, self._answer, asked, reply)
        else:
            self._answer(asked, reply)

    def _answer(self, asked: Asked, reply: Reply) -> None:
        if not self._busy:  # the client has gone
            return
        if reply.instead == "silence":
            return
        self._done()
        if reply.instead == "reset":
            self.abort()
            return
        if reply.cut_after is None and reply.raw is None:  # noted first: the client may be as quick
            self._llm.counts[f"answered {reply.status}"] += 1
            if self._llm.keep:
                answered = Answered(asked.index, time.monotonic(), reply.status, reply.body)
                self._llm.answered.append(answered)
        self._write(reply)
        if not reply.drops:
            self._read_request()

    def _done(self) -> None:
        self._busy = False
        self._llm.in_flight -= 1

    def _write(self, reply: Reply) -> None:
        if reply.raw is not None:
            self._transport.write(reply.raw)
            self._transport.close()
            return
        lines = [f"HTTP/1.1 {reply.status} {PHRASES.get(reply.status, 'Other')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        lines += [f"Content-Type: {reply.content_type}", f"Content-Length: {len(reply.body)}", "", ""]
        head, body = "\r\n".join(lines).encode(), reply.body[: reply.cut_after]
        if reply.drip_s:
            self._transport.write(head)
            self._drip(body, reply.drip_s, len(body) // DRIPS + 1)
            return
        self._transport.write(head + body)
        if reply.drops or (reply.cut_after is not None and reply.ending == "close"):
            self._transport.close()
        elif reply.cut_after is not None and reply.ending == "reset":
            # the half must be on its way before the reset, which would overtake it
            asyncio.get_running_loop().call_later(0.01, self.abort)

    def _drip(self, body: bytes, drip_s: float, size_bytes: int) -> None:
        self._transport.write(body[:size_bytes])
        if body[size_bytes:]:
            loop = asyncio.get_running_loop()
            loop.call_later(drip_s, self._drip, body[size_bytes:], drip_s, size_bytes)


def log_normal(median_s: float, sigma: float, seed: int = 0) -> Callable[[int], float]:
    """Latencies by index: the same for the same seed, whatever the order of arrival."""
    return lambda index: median_s * random.Random(f"{seed}:{index}").lognormvariate(0, sigma)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--sigma", type=float, default=0.0, help="of the log-normal latency")
    parser.add_argument(
        "--faults",
        type=json.loads,
        default=[],
        help="a JSON list of names, null for none, in the order"
        " of the requests; or an object: the share of questions that get each, drawn from their content",
    )
    parser.add_argument(
        "--times",
        type=json.loads,
        default={},
        help="with an object: how often a question gets each, null: ever",
    )
    parser.add_argument("--max-concurrent", type=int)
    parser.add_argument("--per-minute", type=int)
    parser.add_argument("--tokens-per-minute", type=int)
    parser.add_argument("--window-s", type=float, default=60.0, help="what those two take for a minute")
    parser.add_argument("--says", choices=sorted(SAYS), default="seconds", help="how 429 names the wait")
    parser.add_argument(
        "--outage", type=json.loads, metavar="[BEGINS_S, LASTS_S, KIND]", help="KIND: a fault, or refuse"
    )
    parser.add_argument("--tells-cost", action="store_true", help="answers have usage.cost")
    parser.add_argument("--list", action="store_true", help="name every fault, and end")
    parser.add_argument(
        "--keep", action="store_true", help="keep the bodies for /fake/requests and /fake/log"
    )
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    latency_s: float | Callable[[int], float] = options.latency_s
    if options.sigma:
        latency_s = log_normal(options.latency_s, options.sigma, options.seed)
    faults = options.faults
    if isinstance(faults, dict):
        faults = ByContent(faults, seed=options.seed, times=options.times)
    llm = FakeLlm(
        faults,
        latency_s=latency_s,
        seed=options.seed,
        allowed=Allowed(
            options.max_concurrent,
            options.per_minute,
            options.tokens_per_minute,
            options.window_s,
            options.says,
        ),
        outage=Outage(*options.outage) if options.outage else None,
        tells_cost=options.tells_cost,
        port=options.port,
        keep=options.keep,
    )
    await llm.start()
    print(llm.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    chosen = _options()
    if chosen.list:
        print("\n".join(FAULTS))
    else:
        asyncio.run(_serve(chosen))
