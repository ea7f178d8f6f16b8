"""Sends a request, with retries, and returns its Completion or raises why there is none."""

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

# Characters per token, to estimate the tokens of a prompt before the server counts them.
_CHARACTERS_PER_TOKEN = 4
# Wait before giving up: after a stop of this process (SIGSTOP) the time seems to be over, although text
# that has arrived meanwhile was not read yet.
_LOOK_AGAIN_S = 0.5


class Stats(NamedTuple):
    """Counters of the run so far, for its progress display."""

    in_flight: int
    waiting: int
    """Requests that wait for the concurrency limiter."""
    allowed: int
    """Requests that may be in flight now."""
    hold_s: float
    """Seconds for which nothing more is sent, because the server asked for it; 0 if requests are sent."""
    sent: int
    answered: int
    throttled: int
    """Tries that the server refused as too many."""
    repeated: int
    """Tries after the first of a request."""
    wasted: int
    """Tries that may be billed and brought nothing usable."""


class Client:
    """Sends requests to one endpoint within its limits; an async context manager, one per run.

    All requests share one retry loop and one concurrency limiter. After an error that every request
    would get, nothing more is sent: requests in flight are awaited, all others raise RunStopped.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits | None = None, say: Say | None = None) -> None:
        """`say` gets a line whenever nothing is sent for a while: the reason and the seconds."""
        self._endpoint = endpoint
        self._limits = limits or Limits()
        self._host = endpoint.host
        self._limiter = ConcurrencyLimiter(self._limits, lambda: self._sent - self._policy.throttled)
        self._fallbacks = ParameterFallbacks(is_streamed=endpoint.is_streamed)
        self._policy = RetryPolicy(self._host, self._limits, self._limiter, self._fallbacks, say)
        self._health = self._policy.health
        self._exit = AsyncExitStack()
        self._transport: Transport | None = None
        # Since when each has been in flight, the oldest first, and what ends it.
        self._in_flight: dict[TryState, tuple[float, asyncio.Timeout]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._sent = self._answered = self._repeated = self._billed_failures = 0

    async def __aenter__(self) -> Self:
        from kbetl.client.transport import Transport  # aiohttp takes 0.1 s to import

        transport = Transport(self._endpoint, self._limits, self._health.text_arrived)
        self._transport = await self._exit.enter_async_context(transport)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop("the run is over")
        if self._watching is not None:
            self._watching.cancel()
        await self._exit.aclose()

    async def _watch(self) -> None:
        """Ends all requests in flight after `give_up_after_s` without a success or a text of an answer."""
        limit_s = self._limits.give_up_after_s
        was_due = False
        while True:
            oldest_s, _ = next(iter(self._in_flight.values()), (time.monotonic(), None))
            since = max(oldest_s, self._health.alive_at)
            left_s = since + limit_s - time.monotonic()
            if left_s <= 0 and was_due:
                self._policy.given_up()
                for _, ending in self._in_flight.values():
                    ending.reschedule(asyncio.get_running_loop().time())
                return
            was_due = left_s <= 0
            await asyncio.sleep(max(left_s, _LOOK_AGAIN_S))

    @property
    def is_gone(self) -> bool:
        """Whether the run gave the server up: it never replied, or only failed for too long."""
        return self._policy.is_gone

    @property
    def replaced(self) -> Mapping[str, str | None]:
        """Parameters that the model refused in this run: the name sent instead of each, None if left out."""
        return MappingProxyType(self._fallbacks.replaced)

    @property
    def stats(self) -> Stats:
        """The counters of now."""
        limiter = self._limiter
        return Stats(
            limiter.in_flight,
            limiter.waiting,
            limiter.allowed,
            limiter.hold_s(),
            self._sent,
            self._answered,
            self._policy.throttled,
            self._repeated,
            self._billed_failures,
        )

    def stop(self, reason: str) -> None:
        """Sends nothing more. Requests in flight are still awaited; all others raise RunStopped."""
        self._limiter.close(reason)

    async def complete(
        self,
        request: Request,
        on_billed_failure: OnBilledFailure | None = None,
        meter: RequestMeter | None = None,
    ) -> Completion:
        """Returns the answer to one request.

        Raises RequestFailed if this request got no answer in its tries or never can, and RunStopped if
        no request of the run can. A returned Completion has no `fault`; one with a fault is passed to
        `on_billed_failure`. `meter` is called before and after every try.
        """
        state = RequestState(request, on_billed_failure, meter)
        try:
            return await self._try(state)
        except TryAgain as error:
            first = error
        return await self._try_again(state, first)

    async def _try_again(self, state: RequestState, first: TryAgain) -> Completion:
        """Retries after a first try, which ran outside: tenacity's loop costs as much CPU as a request."""
        from tenacity import AsyncRetrying, retry_if_exception_type

        before = [first]

        async def next_try() -> Completion:
            if before:
                raise before.pop()
            self._repeated += 1
            return await self._try(state)

        tries = AsyncRetrying(
            sleep=self._limiter.sleep,
            retry=retry_if_exception_type(TryAgain),
            stop=lambda _: state.tries >= self._limits.tries,
            wait=_wait_s,
            reraise=True,
        )
        try:
            return await tries(next_try)
        except TryAgain as error:
            times = "once" if state.tries == 1 else f"{state.tries} times"
            raise RequestFailed(f"{error}; tried {times}") from error

    async def _try(self, state: RequestState) -> Completion:
        """Sends the request once; returns the Completion. Raises TryAgain if another try may succeed."""
        try:
            completion = await self._exchange(state)
        except TryAgain as error:
            if error.may_be_billed:
                await self._count_billed_failure(state, None)
            if state.meter is not None:
                state.meter.finished()
            raise
        if completion.fault is None:
            return completion
        await self._count_billed_failure(state, completion)
        raise self._policy.on_bad_body(state, completion.fault)

    async def _count_billed_failure(self, state: RequestState, completion: Completion | None) -> None:
        self._billed_failures += 1
        if state.on_billed_failure is not None:
            await state.on_billed_failure(completion)

    async def _exchange(self, state: RequestState) -> Completion:
        if self._transport is None:
            raise RuntimeError("the client is not open; use it as `async with Client(...)`")
        tokens = 0.0
        if self._limits.tpm is not None:
            tokens = len(state.request.text) / _CHARACTERS_PER_TOKEN
        round_number = await self._limiter.acquire(tokens)
        try:
            if state.meter is not None:
                await state.meter.before_send()
            # Made after the wait: which parameters the model refuses may have been learned meanwhile.
            body = self._fallbacks.body(state.request)
            health = self._health
            sent = TryState(body, round_number, health.successes, health.silences, tokens, health.suspects)
            self._sent += 1
            if not self._in_flight:
                health.begins()
            reply = await self._post(self._transport, sent)
            if isinstance(reply, HttpResponse):
                return self._read(state, sent, reply)
            raise self._policy.on_no_reply(state, sent, reply)
        finally:
            self._limiter.release()

    async def _post(self, transport: Transport, sent: TryState) -> HttpResponse | NoResponse:
        """Sends one try. Raises RunStopped if `_watch` ended it."""
        try:
            async with asyncio.timeout(None) as ending:
                self._in_flight[sent] = (time.monotonic(), ending)
                return await transport.post(sent.body.data)
        except TimeoutError:
            raise self._policy.given_up() from None
        finally:
            del self._in_flight[sent]

    def _read(self, state: RequestState, sent: TryState, reply: HttpResponse) -> Completion:
        self._health.replied = True
        if not 200 <= reply.status < 300:
            self._policy.on_error(state, sent, reply, reply.status, read_error(reply.body))
        found = read_completion(reply, self._host, sent.body.sent)
        if reply.exceeded_timeout and isinstance(found, Completion):
            state.exceeded_timeout, found = True, _without_usage(found)
        if isinstance(found, ProviderError):
            self._policy.on_error(state, sent, reply, status_of(found), found)
        if found.fault is None:
            self._answered += 1
            self._health.succeeded()
            self._limiter.succeeded(sent.round_number)
        self._apply_rate_headers(sent, reply, found)
        return found

    def _apply_rate_headers(self, sent: TryState, reply: HttpResponse, found: Completion) -> None:
        """Applies the rate-limit headers and the token usage of an answer to the next requests."""
        wait_s = reset_after_s(reply.headers)
        # a longer wait is ignored: if it is true, the next reply is a refusal that names it
        if wait_s is not None and wait_s <= self._limits.give_up_after_s:
            self._limiter.on_exhausted(wait_s)
            self._policy.report_pause(f"{self._host}: nothing is left of a rate limit")
        if sent.tokens and found.prompt_tokens is not None:
            self._limiter.correct(found.prompt_tokens + (found.completion_tokens or 0) - sent.tokens)


def _without_usage(completion: Completion) -> Completion:
    """Returns an answer that was cut off by the time limit without its usage, which is not final."""
    return replace(
        completion,
        prompt_tokens=None,
        cached_tokens=None,
        completion_tokens=None,
        reasoning_tokens=None,
        cost_usd=None,
    )


def _wait_s(state: RetryCallState) -> float:
    """Returns the seconds that one request waits alone; waits that hold for all are the limiter's."""
    error = state.outcome.exception() if state.outcome is not None else None
    return error.wait_s if isinstance(error, TryAgain) else 0.0
