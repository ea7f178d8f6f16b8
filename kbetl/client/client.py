"""One request in, one Completion or one error out; all that lies between is decided here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Self

from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.error_kinds import status_of
from kbetl.client.limiter import ConcurrencyLimiter
from kbetl.client.parameters import ParameterFallbacks
from kbetl.client.responses import HttpResponse, ProviderError, read_completion, read_error
from kbetl.client.retry_after import reset_after_s
from kbetl.client.retry_policy import OnBilledFailure, RequestMeter, RequestState, RetryPolicy, Say, TryState
from kbetl.errors import RequestFailed, TryAgain
from kbetl.records import Completion, Request

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from kbetl.client.transport import NoResponse, Transport

_BYTES_PER_TOKEN = 4
_LOOK_AGAIN_S = 0.5
"""After a stop of this process time seems to be up: what has arrived meanwhile is read first."""


class Stats(NamedTuple):
    """Counters of a run so far, for its progress display."""

    in_flight: int
    waiting: int
    """Requests that wait for the gate."""
    allowed: int
    """Requests that the gate lets be in flight now."""
    hold_s: float
    """Seconds for which nothing is sent, as the server wants it; 0 where it is open."""
    sent: int
    answered: int
    throttled: int
    """Tries that the server asked to make later."""
    repeated: int
    """Tries after the first."""
    wasted: int
    """Tries that may have been paid for and brought nothing usable."""


class Client:
    """Asks one endpoint within its limits; an async context manager, one per run.

    There is one loop of tries, and one gate for all requests. Once something is found that would hit
    every request, nothing is sent any more: what is in flight is still awaited, the rest gets RunStopped.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits | None = None, say: Say | None = None) -> None:
        """`say` is told when nothing is sent for a while, why, and for how long."""
        self._endpoint = endpoint
        self._limits = limits or Limits()
        self._host = endpoint.host
        self._gate = ConcurrencyLimiter(self._limits, lambda: self._sent - self._judge.throttled)
        self._adaptations = ParameterFallbacks(is_streamed=endpoint.is_streamed)
        self._judge = RetryPolicy(self._host, self._limits, self._gate, self._adaptations, say)
        self._health = self._judge.health
        self._exit = AsyncExitStack()
        self._wire: Transport | None = None
        self._in_flight: dict[TryState, tuple[float, asyncio.Timeout]] = {}
        """Since when each has been in flight, the oldest first, and what ends it."""
        self._watching: asyncio.Task[None] | None = None
        self._sent = self._answered = self._repeated = self._wasted = 0

    async def __aenter__(self) -> Self:
        from kbetl.client.transport import Transport  # 0.1 s to import; a run with nothing to ask has none

        wire = Transport(self._endpoint, self._limits, self._health.spoke)
        self._wire = await self._exit.enter_async_context(wire)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop("the run is over")
        if self._watching is not None:
            self._watching.cancel()
        await self._exit.aclose()

    async def _watch(self) -> None:
        """Ends what is in flight when nothing has come of anything for too long."""
        limit_s = self._limits.give_up_after_s
        was_due = False
        while True:
            oldest_s, _ = next(iter(self._in_flight.values()), (time.monotonic(), None))
            since = max(oldest_s, self._health.alive_at)
            left_s = since + limit_s - time.monotonic()
            if left_s <= 0 and was_due:
                self._judge.given_up()
                for _, ending in self._in_flight.values():
                    ending.reschedule(asyncio.get_running_loop().time())
                return
            was_due = left_s <= 0
            await asyncio.sleep(max(left_s, _LOOK_AGAIN_S))

    @property
    def is_gone(self) -> bool:
        """Whether the server was given up: it said nothing at all, or failed for too long."""
        return self._judge.is_gone

    @property
    def refused(self) -> Mapping[str, str | None]:
        """Parameters that the model refused in this run: the name sent instead, None if left out."""
        return MappingProxyType(self._adaptations.refused)

    @property
    def stats(self) -> Stats:
        gate = self._gate
        return Stats(
            gate.in_flight,
            gate.waiting,
            gate.allowed,
            gate.hold_s(),
            self._sent,
            self._answered,
            self._judge.throttled,
            self._repeated,
            self._wasted,
        )

    def stop(self, reason: str) -> None:
        """Sends nothing any more. What is in flight is kept; who waits or asks later gets RunStopped."""
        self._gate.close(reason)

    async def complete(
        self, request: Request, on_wasted: OnBilledFailure | None = None, meter: RequestMeter | None = None
    ) -> Completion:
        """The answer to one request.

        Raises RequestFailed where this request got none after its tries, or never will; RunStopped
        where none of the run would. A Completion that is returned has no `fault`; those that have one
        go to `on_wasted`. `meter` hears of every try.
        """
        asked = RequestState(request, on_wasted, meter)
        try:
            return await self._try(asked)
        except TryAgain as error:
            first = error
        return await self._try_again(asked, first)

    async def _try_again(self, asked: RequestState, first: TryAgain) -> Completion:
        """The loop of tries. The first one ran outside it: the loop's own cost is that of a request."""
        from tenacity import AsyncRetrying, retry_if_exception_type

        before = [first]

        async def next_try() -> Completion:
            if before:
                raise before.pop()
            self._repeated += 1
            return await self._try(asked)

        tries = AsyncRetrying(
            sleep=self._gate.sleep,
            retry=retry_if_exception_type(TryAgain),
            stop=lambda _: asked.tries >= self._limits.tries,
            wait=_wait_s,
            reraise=True,
        )
        try:
            return await tries(next_try)
        except TryAgain as error:
            times = "once" if asked.tries == 1 else f"{asked.tries} times"
            raise RequestFailed(f"{error}; tried {times}") from error

    async def _try(self, asked: RequestState) -> Completion:
        """One request out, one Completion back. Raises TryAgain where a later one may do better."""
        try:
            completion = await self._exchange(asked)
        except TryAgain as error:
            if error.paid_perhaps:
                await self._waste(asked, None)
            if asked.meter is not None:
                asked.meter.finished()
            raise
        if completion.fault is None:
            return completion
        await self._waste(asked, completion)
        raise self._judge.on_bad_body(asked, completion.fault)

    async def _waste(self, asked: RequestState, completion: Completion | None) -> None:
        self._wasted += 1
        if asked.on_wasted is not None:
            await asked.on_wasted(completion)

    async def _exchange(self, asked: RequestState) -> Completion:
        if self._wire is None:
            raise RuntimeError("the client is not open; use it as `async with Client(...)`")
        tokens = 0.0
        if self._limits.tpm is not None:
            tokens = len(asked.request.text) / _BYTES_PER_TOKEN
        round_number = await self._gate.acquire(tokens)
        try:
            if asked.meter is not None:
                await asked.meter.before_send()
            # Made behind the gate: what is refused may have been learned while this one waited.
            body = self._adaptations.body(asked.request)
            health = self._health
            sent = TryState(body, round_number, health.successes, health.silences, tokens, health.suspects)
            self._sent += 1
            if not self._in_flight:
                health.begins()
            reply = await self._post(self._wire, sent)
            if isinstance(reply, HttpResponse):
                return self._read(asked, sent, reply)
            raise self._judge.on_no_reply(asked, sent, reply)
        finally:
            self._gate.release()

    async def _post(self, wire: Transport, sent: TryState) -> HttpResponse | NoResponse:
        """Sends a try; ended where nothing has come of anything for too long."""
        try:
            async with asyncio.timeout(None) as ending:
                self._in_flight[sent] = (time.monotonic(), ending)
                return await wire.post(sent.body.data)
        except TimeoutError:
            raise self._judge.given_up() from None
        finally:
            del self._in_flight[sent]

    def _read(self, asked: RequestState, sent: TryState, reply: HttpResponse) -> Completion:
        self._health.replied = True
        if not 200 <= reply.status < 300:
            self._judge.on_error(asked, sent, reply, reply.status, read_error(reply.body))
        found = read_completion(reply, self._host, sent.body.sent)
        if reply.is_overlong and isinstance(found, Completion):
            asked.is_overlong, found = True, _without_usage(found)
        if isinstance(found, ProviderError):
            self._judge.on_error(asked, sent, reply, status_of(found), found)
        if found.fault is None:
            self._answered += 1
            self._health.succeeded()
            self._gate.succeeded(sent.round_number)
        self._pace(sent, reply, found)
        return found

    def _pace(self, sent: TryState, reply: HttpResponse, found: Completion) -> None:
        """What an answer says about how fast the next ones may go."""
        wait_s = reset_after_s(reply.headers)
        # a longer one is not waited out: if it is true, the next reply is a refusal that says so
        if wait_s is not None and wait_s <= self._limits.give_up_after_s:
            self._gate.on_exhausted(wait_s)
            self._judge.say_hold(f"{self._host}: nothing is left of a rate limit")
        if sent.tokens and found.prompt_tokens is not None:
            self._gate.settle(found.prompt_tokens + (found.completion_tokens or 0) - sent.tokens)


def _without_usage(cut: Completion) -> Completion:
    """An answer that was not awaited to its end: what it told so far is not what it takes."""
    return replace(
        cut,
        prompt_tokens=None,
        cached_tokens=None,
        completion_tokens=None,
        reasoning_tokens=None,
        cost_usd=None,
    )


def _wait_s(state: RetryCallState) -> float:
    """How long a request waits on its own; for all others the gate does the waiting."""
    error = state.outcome.exception() if state.outcome is not None else None
    return error.wait_s if isinstance(error, TryAgain) else 0.0
