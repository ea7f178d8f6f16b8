"""One request in, one Completion or one error out; all that lies between is decided here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol, Self

from kbetl.client.adapting import Adaptations, Body
from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.gate import Gate
from kbetl.client.health import REFUSED_ALIKE, Health
from kbetl.client.reading import ProviderError, Reply, read_completion, read_error
from kbetl.client.sorting import Kind, advice, describe, refused_parameter, sort_error, status_of
from kbetl.client.waits import asked_wait_s, exhausted_wait_s
from kbetl.errors import RequestFailed, RunStopped, TryAgain
from kbetl.records import Completion, Request

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from kbetl.client.wire import NoReply, Wire

OnWasted = Callable[[Completion | None], Awaitable[None]]
"""Awaited after a try that may have been paid for and brought nothing usable, before anything else is
sent: with what came back, or None where nothing did. What it raises ends the request."""


class Meter(Protocol):
    """Hears of each try of one request, where a budget is kept."""

    async def before_send(self) -> None:
        """Awaited before a try is sent; what it raises ends the request, and nothing is sent."""

    def unpaid(self) -> None:
        """The last try did not reach the server, or was refused by it: it was not billed."""

    def end(self) -> None:
        """The last try is over, whatever came of it; said more than once, it means nothing more."""


SILENT_ROUNDS = 3
"""Tries without a reply after which a run that never had one stops."""

_OUTAGES_FREE = 10
"""Failures of one request that pass as the server's own trouble; later ones use up its tries."""
_THROTTLED_FREE = 100
"""Refusals of one request while others succeed that pass as throttling; later ones use up its tries."""
_MANY_ERRORS = 3
"""So many requests with an error and no success between them are an outage, and not their own fault."""
_SILENT_SHARE = 0.1
"""Silences per success from which on the server is slow, and not the question too hard."""
_SAY_HOLD_S = 1.0
_SAY_AGAIN_S = 30.0
"""Holds that are worth a line, and how long it is before there may be another one."""

_PAID_PERHAPS = frozenset({408, 504, 524})
_REFUSED_BUSY = frozenset({503, 529})
"""Answers of a server, from 500 on, that did not begin with the request."""
_BYTES_PER_TOKEN = 4


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


@dataclass(slots=True)
class _Asked:
    """One request on its way."""

    request: Request
    on_wasted: OnWasted | None
    meter: Meter | None
    tries: int = 0
    """Those that count."""
    outages: int = 0
    """Failures that were taken for the server's trouble."""
    throttles: int = 0
    """Refusals as too many, while others succeeded."""
    silences: int = 0


@dataclass(slots=True)
class _Sent:
    """One try on its way: its body, and what the run had seen when it went out."""

    body: Body
    round_number: int
    successes: int
    silences: int
    tokens: float


Say = Callable[[str], None]
"""Takes a line for the user."""


class Client:
    """Asks one endpoint within its limits; an async context manager, one per run.

    There is one loop of tries, and one gate for all requests. Once something is found that would hit
    every request, nothing is sent any more: what is in flight is still awaited, the rest gets RunStopped.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits | None = None, say: Say | None = None) -> None:
        """`say` is told when nothing is sent for a while, why, and for how long."""
        self._endpoint = endpoint
        self._limits = limits or Limits()
        self.is_gone = False
        """Whether the server was given up: it said nothing at all, or failed for too long."""
        self._host = endpoint.host
        self._say = say
        self._said_at_s: float | None = None
        self._gate = Gate(self._limits, lambda: self._sent - self._throttled)
        self._health = Health(self._limits.give_up_after_s)
        self._adaptations = Adaptations(is_streamed=endpoint.is_streamed)
        self._exit = AsyncExitStack()
        self._wire: Wire | None = None
        self._sent = self._answered = self._throttled = self._repeated = self._wasted = 0

    async def __aenter__(self) -> Self:
        from kbetl.client.wire import (
            Wire,
        )  # 0.1 s to import; a run with nothing to ask has none

        self._wire = await self._exit.enter_async_context(Wire(self._endpoint, self._limits))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop("the run is over")
        await self._exit.aclose()

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
            self._throttled,
            self._repeated,
            self._wasted,
        )

    def stop(self, reason: str) -> None:
        """Sends nothing any more. What is in flight is kept; who waits or asks later gets RunStopped."""
        self._gate.close(reason)

    async def complete(
        self, request: Request, on_wasted: OnWasted | None = None, meter: Meter | None = None
    ) -> Completion:
        """The answer to one request.

        Raises RequestFailed where this request got none after its tries, or never will; RunStopped
        where none of the run would. A Completion that is returned has no `fault`; those that have one
        go to `on_wasted`. `meter` hears of every try.
        """
        asked = _Asked(request, on_wasted, meter)
        try:
            return await self._try(asked)
        except TryAgain as error:
            first = error
        return await self._try_again(asked, first)

    async def _try_again(self, asked: _Asked, first: TryAgain) -> Completion:
        """The loop of tries. The first one ran outside it: the loop's own cost is that of a request."""
        from tenacity import AsyncRetrying, retry_if_exception_type

        before = [first]

        async def next_try() -> Completion:
            if before:
                raise before.pop()
            self._repeated += 1
            return await self._try(asked)

        tries = AsyncRetrying(
            sleep=self._gate.pause,
            retry=retry_if_exception_type(TryAgain),
            stop=lambda _: asked.tries >= self._limits.tries,
            wait=lambda state: self._wait_s(state, asked),
            reraise=True,
        )
        try:
            return await tries(next_try)
        except TryAgain as error:
            times = "once" if asked.tries == 1 else f"{asked.tries} times"
            raise RequestFailed(f"{error}; tried {times}") from error

    def _wait_s(self, state: RetryCallState, asked: _Asked) -> float:
        """How long this request waits on its own; for all others the gate does the waiting."""
        error = state.outcome.exception() if state.outcome is not None else None
        if not isinstance(error, TryAgain) or not error.counts:
            return 0.0
        return max(error.wait_s, self._gate.backoff_s(asked.tries))

    async def _try(self, asked: _Asked) -> Completion:
        """One request out, one Completion back. Raises TryAgain where a later one may do better."""
        try:
            completion = await self._exchange(asked)
        except TryAgain as error:
            if error.paid_perhaps:
                await self._waste(asked, None)
            if asked.meter is not None:
                asked.meter.end()
            raise
        if completion.fault is None:
            return completion
        await self._waste(asked, completion)
        asked.tries += 1
        self._check_health(completion.fault)
        raise TryAgain(f"{self._host}: {completion.fault}", counts=True)

    async def _waste(self, asked: _Asked, completion: Completion | None) -> None:
        self._wasted += 1
        if asked.on_wasted is not None:
            await asked.on_wasted(completion)

    async def _exchange(self, asked: _Asked) -> Completion:
        if self._wire is None:
            raise RuntimeError("the client is not open; use it as `async with Client(...)`")
        tokens = 0.0
        if self._limits.tpm is not None:
            tokens = len(asked.request.text) / _BYTES_PER_TOKEN
        round_number = await self._gate.enter(tokens)
        try:
            if asked.meter is not None:
                await asked.meter.before_send()
            # Made behind the gate: what is refused may have been learned while this one waited.
            body = self._adaptations.body(asked.request)
            health = self._health
            sent = _Sent(body, round_number, health.successes, health.silences, tokens)
            self._sent += 1
            reply = await self._wire.post(body.data)
            if isinstance(reply, Reply):
                return self._read(asked, sent, reply)
            raise self._unanswered(asked, sent, reply)
        finally:
            self._gate.leave()

    def _read(self, asked: _Asked, sent: _Sent, reply: Reply) -> Completion:
        self._health.replied = True
        if not 200 <= reply.status < 300:
            self._refuse(asked, sent, reply, reply.status, read_error(reply.body))
        found = read_completion(reply, self._host, sent.body.sent)
        if isinstance(found, ProviderError):
            self._refuse(asked, sent, reply, status_of(found), found)
        if found.fault is None:
            self._answered += 1
            self._health.succeeded()
            self._gate.succeeded(sent.round_number)
        self._pace(sent, reply, found)
        return found

    def _pace(self, sent: _Sent, reply: Reply, found: Completion) -> None:
        """What an answer says about how fast the next ones may go."""
        wait_s = exhausted_wait_s(reply.headers)
        if wait_s is not None:
            self._gate.exhausted(wait_s)
            self._say_hold(f"{self._host}: nothing is left of a rate limit")
        if sent.tokens and found.prompt_tokens is not None:
            self._gate.settle(found.prompt_tokens + (found.completion_tokens or 0) - sent.tokens)

    def _refuse(
        self, asked: _Asked, sent: _Sent, reply: Reply, status: int, error: ProviderError
    ) -> NoReturn:
        """Raises what an error reply means."""
        if asked.meter is not None and not _may_be_billed(status):
            asked.meter.unpaid()
        reason = describe(self._host, status, error)
        names = asked.request.parameters if sent.body.names is None else sent.body.names
        parameter = refused_parameter(status, error, names)
        if parameter is not None:
            self._adapt(parameter, reason, value_only=error.code == "unsupported_value")
        kind = sort_error(status, error)
        if kind == "run":
            raise self._stopped(f"{reason}; {advice(status, error)}")
        self._check_health(reason)
        if kind == "sample":
            if self._health.refused_alike(reason):
                raise self._stopped(
                    f"{reason}; the first {REFUSED_ALIKE} requests were all refused so: "
                    "change the model or the parameters and run again"
                )
            raise RequestFailed(reason)
        self._fail(asked, sent, reply, kind=kind, reason=reason, status=status)

    def _fail(
        self, asked: _Asked, sent: _Sent, reply: Reply, *, kind: Kind, reason: str, status: int
    ) -> NoReturn:
        """Raises what an error means that a later try may not meet."""
        wait_s = asked_wait_s(reply.headers)
        paid_perhaps = status in _PAID_PERHAPS
        if kind == "throttled":
            is_own = self._throttle(asked, sent, wait_s, reason, is_rate=status == 429)
        else:
            # an error within a reply comes from behind the gateway: it was there
            many = 2 if kind == "gateway" and reply.status >= 300 else _MANY_ERRORS
            others_broke = self._health.broke(asked.request.hash) >= many
            is_own = not others_broke and (many > 2 or self._health.successes > sent.successes)
            is_own = is_own or asked.outages >= _OUTAGES_FREE
            if not is_own:
                self._blame_server(asked, sent, reason)
        if not is_own:
            raise TryAgain(reason, counts=False, paid_perhaps=paid_perhaps)
        asked.tries += 1
        raise TryAgain(reason, counts=True, paid_perhaps=paid_perhaps, wait_s=wait_s or 0.0)

    def _throttle(
        self, asked: _Asked, sent: _Sent, wait_s: float | None, reason: str, *, is_rate: bool
    ) -> bool:
        """Slows down; whether it is this request alone that is refused so, time and again."""
        self._throttled += 1
        if wait_s is not None and wait_s > self._limits.give_up_after_s:
            raise self._stopped(
                f"{reason}; it asks to wait {wait_s:.0f} s, longer than --give-up-after: run again later"
            )
        if self._gate.throttled(sent.round_number, wait_s, is_rate=is_rate):
            self._say_hold(reason)
        asked.throttles += self._health.successes > sent.successes
        return asked.throttles > _THROTTLED_FREE

    def _blame_server(self, asked: _Asked, sent: _Sent, reason: str) -> None:
        """A failure that is the server's: it slows down who still succeeds, or waits until it is back."""
        asked.outages += 1
        if self._health.successes > sent.successes:
            is_news = self._gate.throttled(sent.round_number, None)
        else:
            is_news = self._gate.outage(sent.round_number)
            self._health.silent_rounds += is_news and not self._health.replied
        if is_news:
            self._say_hold(reason)

    def _say_hold(self, reason: str) -> None:
        """One line about what holds everything back, unless it is short or was said just now."""
        hold_s = self._gate.hold_s()
        now = time.monotonic()
        is_news = self._said_at_s is None or now - self._said_at_s >= _SAY_AGAIN_S
        if self._say is not None and hold_s >= _SAY_HOLD_S and is_news:
            self._said_at_s = now + hold_s
            until = time.strftime("%H:%M:%S", time.localtime(time.time() + hold_s))
            self._say(f"{reason}; nothing is sent for {hold_s:.0f} s, until {until}")

    def _adapt(self, parameter: str, reason: str, *, value_only: bool) -> NoReturn:
        """A refused parameter is not the sample's fault: learn it, and send the request without it."""
        if self._adaptations.learn(parameter, value_only=value_only) == "fatal":
            raise self._stopped(
                f"{reason}; the request makes no sense without {parameter}: change or remove it"
            )
        raise TryAgain(reason, counts=False)

    def _unanswered(self, asked: _Asked, sent: _Sent, failure: NoReply) -> Exception:
        """What an exchange without a reply means: an outage, or this request's own trouble."""
        if asked.meter is not None and not failure.was_sent:
            asked.meter.unpaid()
        reason = f"{self._host}: {failure.reason}"
        if failure.for_all:
            return self._stopped(f"{reason}; {advice(407, ProviderError(''))}")
        self._check_health(reason)
        if self._is_own(asked, sent, failure):
            asked.tries += 1
            return TryAgain(reason, counts=True, paid_perhaps=True)
        self._blame_server(asked, sent, reason)
        if self._health.silent_rounds >= SILENT_ROUNDS and not self._health.replied:
            return self._gone(
                f"{reason}; no reply at all in {SILENT_ROUNDS} tries: "
                "check the base URL, the network and the proxy"
            )
        return TryAgain(reason, counts=False, paid_perhaps=failure.was_sent)

    def _is_own(self, asked: _Asked, sent: _Sent, failure: NoReply) -> bool:
        """Whether an exchange without a reply is the request's own fault: others meanwhile had theirs."""
        others_broke = self._health.broke(asked.request.hash) > 1
        succeeded = self._health.successes - sent.successes
        if failure.was_silent:
            others_silent = self._health.silences - sent.silences
            self._health.silences += 1
            asked.silences += 1
            others_broke = asked.silences == 1 or others_silent > _SILENT_SHARE * succeeded
        if not failure.was_sent:
            return False
        return asked.outages >= _OUTAGES_FREE or (succeeded > 0 and not others_broke)

    def _check_health(self, reason: str) -> None:
        """Notes a failure. Raises RunStopped where there has been nothing else for too long."""
        if self._health.failed():
            limit_s = self._limits.give_up_after_s
            raise self._gone(
                f"nothing but failures for {limit_s:.0f} s, the last one: {reason}; run again later to go on"
            )

    def _gone(self, message: str) -> RunStopped:
        self.is_gone = True
        return self._stopped(message)

    def _stopped(self, message: str) -> RunStopped:
        self.stop(message)
        return RunStopped(message)


def _may_be_billed(status: int) -> bool:
    """Whether a request that got an error of this status may be billed all the same."""
    return status == 408 or (status >= 500 and status not in _REFUSED_BUSY)
