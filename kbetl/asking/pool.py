"""Several servers of one model as one: each request goes to the one that has the fewest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

from kbetl.asking.answerers import ModelServer, OnWasted
from kbetl.asking.question import Question
from kbetl.client import Endpoint, Limits, Meter
from kbetl.client.facts import Load, load_of, server_facts, throughput
from kbetl.errors import ConfigError, RunStopped
from kbetl.records import Completion

PATIENCE_S = 20.0
"""How long one of several servers may do nothing but fail; then the others have its requests."""
REST_S = 30.0
"""How long such a server is let alone before it is tried again."""


@dataclass(eq=False)
class _Server:
    endpoint: Endpoint
    model: ModelServer
    busy: int = 0
    """Requests that it has: sent, or waiting to be."""
    given: int = 0
    rests_until_s: float = 0.0
    """`time.monotonic()`; 0 where it is asked."""


class ServerPool:
    """One or several servers. One that is gone is left alone for a while, and its requests go elsewhere.

    The run stops for what stops it with one server: a wrong key, an unknown model; and when no server
    has answered anything for `Limits.give_up_after_s`, or none said anything at all.
    """

    def __init__(self, endpoints: Sequence[Endpoint], limits: Limits, say: Callable[[str], None]) -> None:
        self._limits = _shared(limits, len(endpoints))
        self._give_up_after_s = limits.give_up_after_s
        self._say = say
        self._servers = [_Server(each, self._model(each)) for each in endpoints]
        self._has_answered = False
        self._answered_at_s = time.monotonic()
        self._exit = AsyncExitStack()
        self._stopped: asyncio.Event = asyncio.Event()
        self._reason = ""
        self._facts: asyncio.Task[list[tuple[dict[str, Any], Load]]] | None = None
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
        """Until the first of the servers takes requests again."""
        return min((server.model.hold_s for server in self._servers), default=0.0)

    @property
    def refused(self) -> Mapping[str, str | None]:
        """Parameters that any of the servers refused."""
        return {name: other for each in self._servers for name, other in each.model.refused.items()}

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
        self, question: Question, on_wasted: OnWasted, meter: Meter | None = None
    ) -> Completion:
        while True:
            server = await self._least_busy()
            model = server.model
            server.busy += 1
            server.given += 1
            try:
                completion = await model.complete(question, on_wasted, meter)
            except RunStopped as error:
                if not model.is_gone or self._reason:
                    raise
                if meter is not None:
                    meter.end()
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

    def _model(self, endpoint: Endpoint) -> ModelServer:
        return ModelServer(endpoint, self._limits, self._say)

    async def _least_busy(self) -> _Server:
        """The server to ask next; waits where all are left alone. Raises RunStopped once that is over."""
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

    async def _wake(self, server: _Server) -> None:
        """A client that was given up is of no more use: a new one tries."""
        server.model = await self._exit.enter_async_context(self._model(server.endpoint))
        server.rests_until_s = 0.0

    def _leave_alone(self, server: _Server, model: ModelServer, error: RunStopped) -> None:
        """Raises RunStopped where there is no other server, or where none has answered for too long."""
        if server.model is not model or server.rests_until_s:
            return  # the same loss, seen by another of its requests
        now = time.monotonic()
        server.rests_until_s = now + REST_S
        others = [each for each in self._servers if not each.rests_until_s]
        is_over = now - self._answered_at_s >= self._give_up_after_s
        if len(self._servers) == 1 or (not others and (is_over or not self._has_answered)):
            raise error
        self._say(f"{error}; the other servers have its requests for {REST_S:.0f} s")

    async def _gather(self) -> list[tuple[dict[str, Any], Load]]:
        async def told(server: _Server) -> tuple[dict[str, Any], Load]:
            facts, load = await asyncio.gather(server_facts(server.endpoint), load_of(server.endpoint))
            return facts, load

        return await asyncio.gather(*(told(server) for server in self._servers))

    async def _finish_facts(self) -> None:
        """What was told at the beginning, and what was done since; nothing is waited for long."""
        if self._facts is None:
            return
        if self._reason:  # the run was stopped: nobody is kept waiting for this
            self._facts.cancel()
            return
        before = await self._facts
        after = await asyncio.gather(*(load_of(server.endpoint) for server in self._servers))
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
