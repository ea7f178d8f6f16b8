"""What a model server says of itself: its version, its models, how much it has done. All of it optional."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kbetl.client.endpoint import Endpoint, Limits

if TYPE_CHECKING:
    from kbetl.client.transport import FileTransport

_LIMITS = Limits(connect_timeout_s=2.0, idle_timeout_s=3.0, timeout_s=3.0, body_max_bytes=4 * 2**20)
_COUNTERS = {
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
}
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{[^\n]*\})? ([0-9.eE+-]+)$", re.MULTILINE | re.ASCII)


class TokenCounters(NamedTuple):
    """What a server had done at a time."""

    at_s: float
    """`time.monotonic()`."""
    counters: Mapping[str, float]
    """Tokens since the server began, by name; empty where it does not tell."""


async def server_info(endpoint: Endpoint) -> dict[str, Any]:
    """Version and models of a server; what it does not tell is left out, and nothing is raised."""
    from kbetl.client.transport import FileTransport

    async with FileTransport(_root(endpoint), _LIMITS) as root, FileTransport(endpoint, _LIMITS) as api:
        version, models = await asyncio.gather(_json(root, "version"), _json(api, "models"))
    found: dict[str, Any] = {"host": endpoint.host}
    if isinstance(version, dict) and isinstance(version.get("version"), str):
        found["version"] = version["version"]
    if isinstance(models, dict) and isinstance(models.get("data"), list):
        told = [each for each in models["data"] if isinstance(each, dict)]
        found["models"] = {str(each.get("id")): each.get("max_model_len") for each in told[:20]}
    return found


async def read_counters(endpoint: Endpoint) -> TokenCounters:
    """What the server's `/metrics` say it has done; never raises."""
    from kbetl.client.transport import FileTransport

    async with FileTransport(_root(endpoint), _LIMITS) as root:
        body = await _body(root, "metrics")
    return TokenCounters(time.monotonic(), counters_in((body or b"").decode("utf-8", "replace")))


def counters_in(text: str) -> dict[str, float]:
    """The token counters in a text of Prometheus, over all engines of the server."""
    totals: dict[str, float] = {}
    names = {told: name for name, told in _COUNTERS.items()}
    for told, value in _SAMPLE.findall(text):
        if told in names:
            try:
                totals[names[told]] = totals.get(names[told], 0.0) + float(value)
            except ValueError:
                continue
    return totals


def throughput(before: TokenCounters, after: TokenCounters) -> dict[str, float]:
    """What a server did between two times: tokens by kind, and per second; empty where it does not tell."""
    seconds = after.at_s - before.at_s
    done = {
        name: after.counters[name] - value
        for name, value in before.counters.items()
        if after.counters.get(name, -1.0) >= value
    }
    if not done or seconds <= 0:
        return {}
    rates = {f"{name}_per_s": round(value / seconds, 1) for name, value in done.items()}
    return {"seconds": round(seconds, 1), **done, **rates}


def _root(endpoint: Endpoint) -> Endpoint:
    """Where a server keeps what is not of its API: `/version`, `/metrics`."""
    base = endpoint.base_url.rstrip("/")
    return Endpoint(base.removesuffix("/v1"), endpoint.headers)


async def _json(wire: FileTransport, path: str) -> Any:
    body = await _body(wire, path)
    try:
        return None if body is None else orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


async def _body(wire: FileTransport, path: str) -> bytes | None:
    from kbetl.client.responses import HttpResponse

    reply = await wire.get(path, {})
    return (
        reply.body if isinstance(reply, HttpResponse) and reply.status == 200 and reply.cut is None else None
    )
