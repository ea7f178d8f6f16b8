"""Who answers: a model server over HTTP, or the offline model."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Protocol, Self

from kbetl import offline
from kbetl.asking.question import Question
from kbetl.client import Client, Endpoint, Limits, Meter, Stats
from kbetl.records import Completion

OnWasted = Callable[[Completion | None], Awaitable[None]]
"""Awaited after each try that may have been paid for and brought nothing usable."""


class Answerer(Protocol):
    """One question in, one answer or one error out; open for the length of a run."""

    @property
    def hosts(self) -> Collection[str]:
        """What `answers.host` may say."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def complete(
        self, question: Question, on_wasted: OnWasted, meter: Meter | None = None
    ) -> Completion:
        """Raises RequestFailed (this sample) or RunStopped (all of them). `meter` hears of every try."""

    @property
    def in_flight(self) -> int:
        """Requests that were sent and are not answered yet; what waits to be sent is not among them."""

    @property
    def hold_s(self) -> float:
        """Seconds for which nothing is sent, as the server wants it; 0 where it takes requests."""

    @property
    def refused(self) -> Mapping[str, str | None]:
        """Parameters that the model refused so far: the name sent instead, None if left out."""

    def stop(self, reason: str) -> None:
        """No new requests: who still waits to send gets RunStopped; what was sent goes on."""


class OfflineModel:
    """The built-in model; costs nothing and needs no network."""

    hosts = ("offline",)
    in_flight = 0
    hold_s = 0.0
    refused: Mapping[str, str | None] = MappingProxyType({})

    def __init__(self, task_name: str) -> None:
        self._task_name = task_name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def complete(
        self, question: Question, on_wasted: OnWasted, meter: Meter | None = None
    ) -> Completion:
        started_s = time.perf_counter()
        text = offline.answer(self._task_name, question.fields)
        latency_ms = (time.perf_counter() - started_s) * 1000
        return Completion(
            response=text,
            host=self.hosts[0],
            latency_ms=latency_ms,
            content=text,
            finish_reason="stop",
            cost_usd=0.0,
        )

    def stop(self, reason: str) -> None:
        return None


class ModelServer:
    """A chat-completions server over HTTP."""

    def __init__(self, endpoint: Endpoint, limits: Limits, say: Callable[[str], None] | None = None) -> None:
        """`say` takes a line when nothing is sent for a while."""
        self.hosts = (endpoint.host,)
        self._client = Client(endpoint, limits, say)

    @property
    def is_gone(self) -> bool:
        """Whether the server was given up: it said nothing at all, or failed for too long."""
        return self._client.is_gone

    @property
    def stats(self) -> Stats:
        """What the client has sent, waits for and was refused so far."""
        return self._client.stats

    @property
    def in_flight(self) -> int:
        return self._client.stats.in_flight

    @property
    def hold_s(self) -> float:
        return self._client.stats.hold_s

    @property
    def refused(self) -> Mapping[str, str | None]:
        """Parameters that the model refused: the name sent instead, None if left out."""
        return self._client.refused

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(*_)

    async def complete(
        self, question: Question, on_wasted: OnWasted, meter: Meter | None = None
    ) -> Completion:
        if question.request is None:
            raise ValueError("a question without a request cannot be sent")
        return await self._client.complete(question.request, on_wasted, meter)

    def stop(self, reason: str) -> None:
        self._client.stop(reason)
