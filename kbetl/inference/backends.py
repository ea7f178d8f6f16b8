"""Backends: one model server over HTTP, several, or the offline model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol, Self

from kbetl import offline
from kbetl.client import Client, Endpoint, Limits, RequestMeter, Stats
from kbetl.client.server_info import TokenCounters, read_counters, server_info, throughput
from kbetl.errors import ConfigError, RunStopped
from kbetl.inference.requests import PreparedRequest
from kbetl.records import Completion

OnBilledFailure = Callable[[Completion | None], Awaitable[None]]
"""Awaited after each try that may have been billed and gave no usable answer."""


class Backend(Protocol):
    """Answers requests, each with a completion or one error; open for the length of a run."""

    @property
    def hosts(self) -> Collection[str]:
        """The values that `answers.host` may have."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def complete(
        self, question: PreparedRequest, on_billed_failure: OnBilledFailure, meter: RequestMeter | None = None
    ) -> Completion:
        """Returns the answer. Raises RequestFailed (this sample), RunStopped (all). `meter` counts tries."""

    @property
    def in_flight(self) -> int:
        """Requests that were sent and are not answered yet; what waits to be sent is not among them."""

    @property
    def hold_s(self) -> float:
        """Seconds for which nothing is sent, as the server wants it; 0 if it may be asked."""

    @property
    def replaced(self) -> Mapping[str, str | None]:
        """Parameters that the model refused so far: the name sent instead, None if left out."""

    def stop(self, reason: str) -> None:
        """Ends new requests: whoever waits to send gets RunStopped; what was sent goes on."""


class OfflineBackend:
    """The built-in model; costs nothing and needs no network."""

    hosts = ("offline",)
    in_flight = 0
    hold_s = 0.0
    replaced: Mapping[str, str | None] = MappingProxyType({})

    def __init__(self, task_name: str) -> None:
        self._task_name = task_name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def complete(
        self, question: PreparedRequest, on_billed_failure: OnBilledFailure, meter: RequestMeter | None = None
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


class ServerBackend:
    """A chat-completions server over HTTP."""

    def __init__(self, endpoint: Endpoint, limits: Limits, say: Callable[[str], None] | None = None) -> None:
        """`say` is called with a line when nothing is sent for a while."""
        self.hosts = (endpoint.host,)
        self._client = Client(endpoint, limits, say)

    @property
    def is_gone(self) -> bool:
        """Whether the server was given up: it said nothing at all, or failed for too long."""
        return self._client.is_gone

    @property
    def stats(self) -> Stats:
        """Counts of what the client has sent, waits for and was refused so far."""
        return self._client.stats

    @property
    def in_flight(self) -> int:
        return self._client.stats.in_flight

    @property
    def hold_s(self) -> float:
        return self._client.stats.hold_s

    @property
    def replaced(self) -> Mapping[str, str | None]:
        """Parameters that the model refused: the name sent instead, None if left out."""
        return self._client.replaced

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(*_)

    async def complete(
        self, question: PreparedRequest, on_billed_failure: OnBilledFailure, meter: RequestMeter | None = None
    ) -> Completion:
        if question.request is None:
            raise ValueError("a question without a request cannot be sent")
        return await self._client.complete(question.request, on_billed_failure, meter)

    def stop(self, reason: str) -> None:
        self._client.stop(reason)


# How long one of several servers may do nothing but fail; then the others have its requests.
PATIENCE_S = 20.0
# How long such a server is let alone before it is tried again.
REST_S = 30.0


@dataclass(eq=False)
class _Replica:
    endpoint: Endpoint
    model: ServerBackend
    busy: int = 0
    """Requests that it has: sent, or waiting to be."""
    given: int = 0
    rests_until_s: float = 0.0
    """`time.monotonic()` until which it is not asked; 0 if it is asked."""


class LoadBalancer:
    """One or several servers. One that is gone is left alone for a while, and its requests go elsewhere.

    The run stops for what stops it with one server: a wrong key, an unknown model; and when no server
    has answered anything for `Limits.give_up_after_s`, or none said anything at all.
    """

    def __init__(self, endpoints: Sequence[Endpoint], limits: Limits, say: Callable[[str], None]) -> None:
        self._limits = _shared(limits, len(endpoints))
        self._give_up_after_s = limits.give_up_after_s
        self._say = say
        self._servers = [_Replica(each, self._model(each)) for each in endpoints]
        self._has_answered = False
        self._answered_at_s = time.monotonic()
        self._exit = AsyncExitStack()
        self._stopped: asyncio.Event = asyncio.Event()
        self._reason = ""
        self._facts: asyncio.Task[list[tuple[dict[str, Any], TokenCounters]]] | None = None
        self.facts: list[dict[str, Any]] = []
        """What each server said of itself and did meanwhile; filled when the pool is closed."""

    @property
    def hosts(self) -> Collection[str]:
        return [server.endpoint.host for server in self._servers]

    @property
    def in_flight(self) -> int:
        return sum(server.model.in_flight for server in self._servers)

    @property
    def hold_s(self) -> float:
        """Seconds until the first of the servers may be asked again."""
        return min((server.model.hold_s for server in self._servers), default=0.0)

    @property
    def replaced(self) -> Mapping[str, str | None]:
        """Parameters that any of the servers refused."""
        return {name: other for each in self._servers for name, other in each.model.replaced.items()}

    async def __aenter__(self) -> Self:
        for server in self._servers:
            await self._exit.enter_async_context(server.model)
        self._facts = asyncio.create_task(self._gather())
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._finish_facts()
        finally:
            await self._exit.aclose()

    async def complete(
        self, question: PreparedRequest, on_billed_failure: OnBilledFailure, meter: RequestMeter | None = None
    ) -> Completion:
        while True:
            server = await self._least_busy()
            model = server.model
            server.busy += 1
            server.given += 1
            try:
                completion = await model.complete(question, on_billed_failure, meter)
            except RunStopped as error:
                if not model.is_gone or self._reason:
                    raise
                if meter is not None:
                    meter.finished()
                self._leave_alone(server, model, error)
            else:
                self._has_answered = True
                self._answered_at_s = time.monotonic()
                return completion
            finally:
                server.busy -= 1

    def stop(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._stopped.set()
        for server in self._servers:
            server.model.stop(reason)

    def _model(self, endpoint: Endpoint) -> ServerBackend:
        return ServerBackend(endpoint, self._limits, self._say)

    async def _least_busy(self) -> _Replica:
        """The server to ask next; waits if all are left alone. Raises RunStopped once the run is stopped."""
        while not self._reason:
            now = time.monotonic()
            awake = [server for server in self._servers if server.rests_until_s <= now]
            if awake:
                found = min(awake, key=lambda server: (server.busy, server.given))
                if found.rests_until_s:
                    await self._wake(found)
                return found
            wait_s = min(server.rests_until_s for server in self._servers) - now
            try:
                await asyncio.wait_for(self._stopped.wait(), wait_s)
            except TimeoutError:
                continue
        raise RunStopped(self._reason)

    async def _wake(self, server: _Replica) -> None:
        """Replaces the client of a server that was given up: that client sends nothing more."""
        server.model = await self._exit.enter_async_context(self._model(server.endpoint))
        server.rests_until_s = 0.0

    def _leave_alone(self, server: _Replica, model: ServerBackend, error: RunStopped) -> None:
        """Leaves a server alone for a while. Raises RunStopped if it is the only one, or no other answers."""
        if server.model is not model or server.rests_until_s:
            return  # the same loss, seen by another of its requests
        now = time.monotonic()
        server.rests_until_s = now + REST_S
        others = [each for each in self._servers if not each.rests_until_s]
        is_over = now - self._answered_at_s >= self._give_up_after_s
        if len(self._servers) == 1 or (not others and (is_over or not self._has_answered)):
            raise error
        self._say(f"{error}; the other servers have its requests for {REST_S:.0f} s")

    async def _gather(self) -> list[tuple[dict[str, Any], TokenCounters]]:
        async def read(server: _Replica) -> tuple[dict[str, Any], TokenCounters]:
            facts, load = await asyncio.gather(server_info(server.endpoint), read_counters(server.endpoint))
            return facts, load

        return await asyncio.gather(*(read(server) for server in self._servers))

    async def _finish_facts(self) -> None:
        """Stores in `facts` what each server said at the beginning, and its throughput since."""
        if self._facts is None:
            return
        if self._reason:  # the run was stopped, which does not wait for this
            self._facts.cancel()
            return
        before = await self._facts
        after = await asyncio.gather(*(read_counters(server.endpoint) for server in self._servers))
        for (facts, load), later in zip(before, after, strict=True):
            self.facts.append({**facts, **throughput(load, later)})


def _shared(limits: Limits, servers: int) -> Limits:
    """The limits of each of several servers, so that together they keep to what was asked for."""
    if servers == 1:
        return limits
    for name, value in (("--rpm", limits.rpm), ("--tpm", limits.tpm)):
        if value is not None and value < servers:
            raise ConfigError(f"{name} {value} is less than one for each of {servers} servers")
    return replace(
        limits,
        rpm=None if limits.rpm is None else limits.rpm // servers,
        tpm=None if limits.tpm is None else limits.tpm // servers,
        patience_s=min(limits.give_up_after_s, PATIENCE_S),
    )
