"""Reads a model server's version, models and token counters, as far as the server offers them."""

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
    """The token counters of a server at one time."""

    at_s: float
    """`time.monotonic()`."""
    counters: Mapping[str, float]
    """Tokens since the server started, by name; empty if it has no counters."""


async def server_info(endpoint: Endpoint) -> dict[str, Any]:
    """Returns host, version and models of a server; what is not available is left out. Never raises."""
    from kbetl.client.transport import FileTransport

    async with FileTransport(_root(endpoint), _LIMITS) as root, FileTransport(endpoint, _LIMITS) as api:
        version, models = await asyncio.gather(_json(root, "version"), _json(api, "models"))
    found: dict[str, Any] = {"host": endpoint.host}
    if isinstance(version, dict) and isinstance(version.get("version"), str):
        found["version"] = version["version"]
    if isinstance(models, dict) and isinstance(models.get("data"), list):
        listed = [each for each in models["data"] if isinstance(each, dict)]
        found["models"] = {str(each.get("id")): each.get("max_model_len") for each in listed[:20]}
    return found


async def read_counters(endpoint: Endpoint) -> TokenCounters:
    """Returns the token counters of the server's `/metrics`. Never raises."""
    from kbetl.client.transport import FileTransport

    async with FileTransport(_root(endpoint), _LIMITS) as root:
        body = await _body(root, "metrics")
    return TokenCounters(time.monotonic(), counters_in((body or b"").decode("utf-8", "replace")))


def counters_in(text: str) -> dict[str, float]:
    """Returns the token counters in Prometheus text, summed over the engines of the server."""
    totals: dict[str, float] = {}
    names = {metric: name for name, metric in _COUNTERS.items()}
    for metric, value in _SAMPLE.findall(text):
        if metric in names:
            try:
                totals[names[metric]] = totals.get(names[metric], 0.0) + float(value)
            except ValueError:
                continue
    return totals


def throughput(before: TokenCounters, after: TokenCounters) -> dict[str, float]:
    """Returns the tokens by kind between two readings, in all and per second; empty without counters."""
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
    """Returns the endpoint of the paths outside the API: `/version`, `/metrics`."""
    base = endpoint.base_url.rstrip("/")
    return Endpoint(base.removesuffix("/v1"), endpoint.headers)


async def _json(transport: FileTransport, path: str) -> Any:
    body = await _body(transport, path)
    try:
        return None if body is None else orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


async def _body(transport: FileTransport, path: str) -> bytes | None:
    from kbetl.client.responses import HttpResponse

    reply = await transport.get(path, {})
    return (
        reply.body
        if isinstance(reply, HttpResponse) and reply.status == 200 and reply.truncated is None
        else None
    )
