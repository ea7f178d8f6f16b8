"""Decides what a failed request costs: a pause for all requests, a try, the sample, or the run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from kbetl.client.endpoint import Limits
from kbetl.client.error_kinds import (
    AFFECTS_ALL,
    ErrorKind,
    advice,
    classify_error,
    error_text,
    unsupported_parameter,
)
from kbetl.client.limiter import ConcurrencyLimiter
from kbetl.client.parameters import Body, ParameterFallbacks
from kbetl.client.responses import HttpResponse, ProviderError
from kbetl.client.retry_after import retry_after_s
from kbetl.errors import Declined, RequestFailed, RunStopped, TryAgain, Undecided
from kbetl.records import Completion, Request

if TYPE_CHECKING:
    from kbetl.client.transport import NoResponse

OnBilledFailure = Callable[[Completion | None], Awaitable[None]]
"""Awaited after a try that may be billed and brought nothing usable, before the next try is sent. Its
argument is what came back, None if nothing did. An exception that it raises ends the request."""


class RequestMeter(Protocol):
    """Is called around each try of one request, so that a budget can reserve and charge it."""

    async def before_send(self) -> None:
        """Awaited before a try is sent. If it raises, nothing is sent and the request ends."""

    def not_billed(self) -> None:
        """Called if the last try was not billed: it did not reach the server, or the server refused it."""

    def finished(self) -> None:
        """Called when the last try is over, whatever its result; may be called more than once."""


SILENT_ROUNDS = 3
"""Tries without a reply after which a run stops that never had a reply."""

# Failures of one request that are blamed on the server; later ones use up tries of the request.
_MAX_FREE_OUTAGES = 10
# Refusals of one request while others succeed that count as throttling; later ones use up its tries.
_MAX_FREE_THROTTLES = 100
# Requests that fail in a row, without a success between them, from which on it is an outage.
_MANY_ERRORS = 3
# Timeouts per success from which on the server is slow, rather than the prompt too hard.
_SILENT_SHARE = 0.1
# The shortest pause that is reported, and the time between two reports.
_REPORTED_PAUSE_S = 1.0
_REPORT_EVERY_S = 30.0

# Statuses of a gateway that timed out: the server behind it may have answered.
_MAYBE_BILLED = frozenset({408, 504, 524})
# Statuses from 500 on that say that the server did not start on the request.
_REFUSED_UNSTARTED = frozenset({503, 529})


@dataclass(slots=True)
class RequestState:
    """The tries and failures of one request so far."""

    request: Request
    on_billed_failure: OnBilledFailure | None
    meter: RequestMeter | None
    tries: int = 0
    """Tries that count against `Limits.tries`."""
    outages: int = 0
    """Failures that were blamed on the server."""
    throttles: int = 0
    """Refusals as too many while other requests succeeded."""
    silences: int = 0
    """Tries that timed out without a reply."""
    failures: int = 0
    """Failures after which this request alone waited."""
    exceeded_timeout: bool = False
    """Whether it ran into the time limit of a request; then it is not sent again."""


@dataclass(slots=True, eq=False)
class TryState:
    """One try: its body, and the counters of the run when it was sent."""

    body: Body
    round_number: int
    successes: int
    silences: int
    tokens: float
    suspects: frozenset[int] = frozenset()
    """Statuses seen so often that one more of them means that every request gets it."""


class Failure(NamedTuple):
    """What went wrong with one try."""

    reason: str
    is_isolated: bool
    """Whether other requests succeed, so that only this one waits."""
    wait_s: float | None = None
    """Seconds that the server asks to wait; None if it names none."""


Say = Callable[[str], None]
"""Shows a line to the user."""


class RetryPolicy:
    """Decides which exception a failed try means, and slows the limiter down."""

    def __init__(
        self,
        host: str,
        limits: Limits,
        limiter: ConcurrencyLimiter,
        fallbacks: ParameterFallbacks,
        say: Say | None,
    ) -> None:
        self.is_gone = False
        """Whether the run gave the server up: it never replied, or only failed for too long."""
        self.throttled = 0
        """Tries that the server refused as too many."""
        self.health = ServerHealth(limits.give_up_after_s, limits.patience_s)
        self._host = host
        self._limits = limits
        self._limiter = limiter
        self._fallbacks = fallbacks
        self._say = say
        self._reported_at_s: float | None = None

    def given_up(self) -> RunStopped:
        """Stops the run, because no request succeeded or received text for too long."""
        return self._give_up(
            f"{self._host}: no answer and no text of one for {self._limits.give_up_after_s:.0f} s "
            "(--give-up-after); run again later to go on"
        )

    def on_bad_body(self, state: RequestState, fault: str) -> Exception:
        """Returns the exception for a 2xx reply that cannot be used; `fault` says why."""
        self._check_health(fault)
        if state.exceeded_timeout:
            return RequestFailed(f"{self._host}: {fault}; it is not sent again in this run")
        return self._retry(state, Failure(f"{self._host}: {fault}", is_isolated=True), counts_as_try=True)

    def on_error(
        self, state: RequestState, sent: TryState, reply: HttpResponse, status: int, error: ProviderError
    ) -> NoReturn:
        """Raises the exception for an error reply."""
        if state.meter is not None and not _may_be_billed(status):
            state.meter.not_billed()
        reason = error_text(self._host, status, error)
        names = state.request.parameters if sent.body.names is None else sent.body.names
        parameter = unsupported_parameter(status, error, names)
        if parameter is not None:
            self._on_unsupported(parameter, reason, value_only=error.code == "unsupported_value")
        kind = classify_error(status, error)
        if kind in AFFECTS_ALL:
            raise self._stop(f"{reason}; {advice(status, error)}")
        self._check_health(reason)
        if kind == "moderation":
            raise Declined(reason)
        if kind == "too_long":
            raise RequestFailed(reason)
        if kind == "refused":
            raise self._on_refusal(reason)
        if kind == "unsure":
            raise self._on_ambiguous(state, sent, status, reason, advice(status, error))
        wait_s = retry_after_s(reply.headers, error.wait_s)
        failure = Failure(reason, self._is_isolated(sent), wait_s)
        if wait_s is not None and wait_s > self._limits.give_up_after_s:
            raise self._on_long_wait(state, sent, failure, status)
        self._on_transient_error(state, sent, reply, failure, kind=kind, status=status)

    def _on_refusal(self, reason: str) -> Exception:
        """Returns the exception for a refusal of one request; stops if all so far got the same words."""
        if self.health.refused_alike(reason):
            return self._stop(
                f"{reason}; the first {REFUSED_ALIKE} requests were all refused so: "
                "change the model or the parameters and run again"
            )
        return RequestFailed(reason) if self.health.successes else Undecided(reason)

    def _on_ambiguous(
        self, state: RequestState, sent: TryState, status: int, reason: str, help_: str
    ) -> Exception:
        """Returns the exception for a status that may hold for one request or for all.

        After many of them without a success, a probe that was sent after them and alone decides: if it
        gets the status too, the run stops.
        """
        if status in sent.suspects and self._limiter.in_flight == 1:
            return self._stop(f"{reason}; other requests got the same, and none an answer: {help_}")
        self._limiter.doubt(is_strong=self.health.suspect(status, state.request.hash))
        return Undecided(reason)

    def _on_long_wait(self, state: RequestState, sent: TryState, failure: Failure, status: int) -> Exception:
        """Returns the exception for an error whose wait is longer than `give_up_after_s`."""
        reason = f"{failure.reason}; it asks to wait {failure.wait_s:.0f} s, longer than --give-up-after"
        if status == 429 or (self.health.successes and not failure.is_isolated):
            return self._stop(f"{reason}: run again later")
        return self._on_ambiguous(state, sent, status, reason, "run again later")

    def _on_transient_error(
        self,
        state: RequestState,
        sent: TryState,
        reply: HttpResponse,
        failure: Failure,
        *,
        kind: ErrorKind,
        status: int,
    ) -> NoReturn:
        """Raises TryAgain for an error that a later try may not meet."""
        if kind == "throttled":
            counts_as_try = self._on_throttled(state, sent, failure, is_rate=status == 429)
        else:
            # an error object in a 200 reply comes from behind the gateway, which was there
            many = 2 if kind == "gateway" and reply.status >= 300 else _MANY_ERRORS
            others_broke = self.health.broke(state.request.hash) >= many
            counts_as_try = not others_broke and (many > 2 or self.health.successes > sent.successes)
            counts_as_try = counts_as_try or state.outages >= _MAX_FREE_OUTAGES
            if not counts_as_try:
                self._blames_server(state, sent, failure)
        raise self._retry(state, failure, counts_as_try=counts_as_try, may_be_billed=status in _MAYBE_BILLED)

    def _is_isolated(self, sent: TryState) -> bool:
        """Records a failure; returns whether it is isolated: no slow-down and few other failures."""
        return not self._limiter.is_stale(sent.round_number) and not self.health.is_trouble()

    def _retry(
        self, state: RequestState, failure: Failure, *, counts_as_try: bool, may_be_billed: bool = False
    ) -> TryAgain:
        """Returns TryAgain; a failure of this request alone waits alone, others wait in the limiter."""
        wait_s = 0.0
        if counts_as_try or failure.is_isolated:
            state.failures += 1
            wait_s = max(failure.wait_s or 0.0, self._limiter.backoff_s(state.failures))
        state.tries += counts_as_try
        return TryAgain(failure.reason, counts=counts_as_try, may_be_billed=may_be_billed, wait_s=wait_s)

    def _on_throttled(self, state: RequestState, sent: TryState, failure: Failure, *, is_rate: bool) -> bool:
        """Slows down; returns whether this request is refused again and again while others succeed."""
        self.throttled += 1
        reason, wait_s = failure.reason, failure.wait_s
        is_known = failure.is_isolated and (
            (wait_s is None and not is_rate) or self._limiter.on_single_refusal(wait_s)
        )
        if is_known or self._limiter.on_throttled(sent.round_number, wait_s, is_rate=is_rate):
            self.report_pause(reason)
        state.throttles += self.health.successes > sent.successes
        return state.throttles > _MAX_FREE_THROTTLES

    def _blames_server(self, state: RequestState, sent: TryState, failure: Failure) -> None:
        """Counts a failure of the server; slows all requests down if it is not isolated."""
        state.outages += 1
        if failure.is_isolated:
            return
        if self.health.successes > sent.successes:
            is_news = self._limiter.on_throttled(sent.round_number, None)
        else:
            is_news = self._limiter.on_outage(sent.round_number)
            self.health.silent_rounds += is_news and not self.health.replied
        if is_news:
            self.report_pause(failure.reason)

    def report_pause(self, reason: str) -> None:
        """Shows why and how long nothing is sent, unless the pause is short or was reported just now."""
        hold_s = self._limiter.hold_s()
        now = time.monotonic()
        is_news = self._reported_at_s is None or now - self._reported_at_s >= _REPORT_EVERY_S
        if self._say is not None and hold_s >= _REPORTED_PAUSE_S and is_news:
            self._reported_at_s = now + hold_s
            until = time.strftime("%H:%M:%S", time.localtime(time.time() + hold_s))
            self._say(f"{reason}; nothing is sent for {hold_s:.0f} s, until {until}")

    def _on_unsupported(self, parameter: str, reason: str, *, value_only: bool) -> NoReturn:
        """Leaves an unsupported parameter out from now on, and raises TryAgain or RunStopped."""
        if self._fallbacks.on_unsupported(parameter, value_only=value_only) == "fatal":
            raise self._stop(f"{reason}; the request makes no sense without {parameter}: change or remove it")
        raise TryAgain(reason, counts=False)

    def on_no_reply(self, state: RequestState, sent: TryState, no_response: NoResponse) -> Exception:
        """Returns the exception for a try without a reply: an outage, or this request's own failure."""
        if state.meter is not None and not no_response.was_sent:
            state.meter.not_billed()
        reason = f"{self._host}: {no_response.reason}"
        if no_response.affects_all:
            return self._stop(f"{reason}; {advice(407, ProviderError(''))}")
        self._check_health(reason)
        if no_response.exceeded_timeout:
            return RequestFailed(f"{reason}; it is not sent again in this run")
        failure = Failure(reason, self._is_isolated(sent))
        if self._blames_request(state, sent, no_response):
            return self._retry(state, failure, counts_as_try=True, may_be_billed=True)
        self._blames_server(state, sent, failure)
        if self.health.silent_rounds >= SILENT_ROUNDS and not self.health.replied:
            return self._give_up(
                f"{reason}; no reply at all in {SILENT_ROUNDS} tries: "
                "check the base URL, the network and the proxy"
            )
        return self._retry(state, failure, counts_as_try=False, may_be_billed=no_response.was_sent)

    def _blames_request(self, state: RequestState, sent: TryState, no_response: NoResponse) -> bool:
        """Whether a try without a reply is the request's own fault: others succeeded meanwhile."""
        others_broke = self.health.broke(state.request.hash) > 1
        succeeded = self.health.successes - sent.successes
        if no_response.was_silent:
            others_silent = self.health.silences - sent.silences
            self.health.silences += 1
            state.silences += 1
            others_broke = state.silences == 1 or others_silent > _SILENT_SHARE * succeeded
        if not no_response.was_sent:
            return False
        return state.outages >= _MAX_FREE_OUTAGES or (succeeded > 0 and not others_broke)

    def _check_health(self, reason: str) -> None:
        """Records a failure. Raises RunStopped if there were only failures for too long."""
        if self.health.failed():
            limit_s = self._limits.patience_s or self._limits.give_up_after_s
            raise self._give_up(
                f"nothing but failures for {limit_s:.0f} s, the last one: {reason}; run again later to go on"
            )

    def _give_up(self, message: str) -> RunStopped:
        self.is_gone = True
        return self._stop(message)

    def _stop(self, message: str) -> RunStopped:
        self._limiter.close(message)
        return RunStopped(message)


def _may_be_billed(status: int) -> bool:
    """Whether a request that got this error status may be billed."""
    return status == 408 or (status >= 500 and status not in _REFUSED_UNSTARTED)


SUSPECT_FIRST = 3
"""Requests with one ambiguous status, before any success, after which a probe decides."""
SUSPECT_LATER = 20
"""The same after a success: then the status did not hold for all requests."""
REFUSED_ALIKE = 20
"""Refusals in the same words, and nothing else since the start, that stop the run."""

# Failures from which on all requests are slowed down; each success cancels this share of one failure.
_MANY = 4.0
_OUTWEIGHED = 0.25


class ServerHealth:
    """Counts successes and failures of the run, and says from them how the server is."""

    def __init__(self, give_up_after_s: float, patience_s: float | None = None) -> None:
        """`patience_s`: seconds of failures alone after which the server is given up, if that is sooner."""
        self.successes = 0
        self.silences = 0
        """Tries that timed out without a reply."""
        self.replied = False
        """Whether any reply came, of whatever status."""
        self.silent_rounds = 0
        """Rounds of tries without a reply, before the first reply of the run."""
        self.alive_at = time.monotonic()
        """Time of the last success or text of an answer, or of the first request after an idle time."""
        self.suspects: frozenset[int] = frozenset()
        """Statuses that so many requests got since the last success that a probe decides."""
        self._give_up_after_s = give_up_after_s
        self._patience_s = give_up_after_s if patience_s is None else patience_s
        self._failing_since: float | None = None
        # Per ambiguous status, the hashes of requests that got it since the last success.
        self._ambiguous: defaultdict[int, set[str]] = defaultdict(set)
        self._broken: set[str] = set()
        self._broken_at = 0
        self._trouble = 0.0
        self._trouble_at = 0
        self._refusals = 0
        self._refusal: str | None = None

    def begins(self) -> None:
        """Records that a request is sent while none is in flight: the time before was no silence."""
        if self._failing_since is None:
            self.alive_at = time.monotonic()

    def text_arrived(self) -> None:
        """Records that text of an answer arrived."""
        self.alive_at = time.monotonic()
        self._failing_since = None

    def succeeded(self) -> None:
        """Records a success."""
        self.successes += 1
        self.text_arrived()
        if self._ambiguous:
            self._ambiguous.clear()
            self.suspects = frozenset()

    def suspect(self, status: int, request_hash: str) -> bool:
        """Records an ambiguous status; returns whether so many requests got it that a probe decides."""
        self._ambiguous[status].add(request_hash)
        many = SUSPECT_LATER if self.successes else SUSPECT_FIRST
        if len(self._ambiguous[status]) >= many:
            self.suspects |= {status}
        return status in self.suspects

    def broke(self, request_hash: str) -> int:
        """Records a broken exchange; returns how many requests broke since the last success."""
        if self._broken_at != self.successes:
            self._broken_at = self.successes
            self._broken.clear()
        self._broken.add(request_hash)
        return len(self._broken)

    def is_trouble(self) -> bool:
        """Records a failed try; returns whether failures are frequent or nothing succeeded yet."""
        eased = _OUTWEIGHED * (self.successes - self._trouble_at)
        self._trouble = min(_MANY, max(0.0, self._trouble - eased) + 1.0)
        self._trouble_at = self.successes
        return self.successes == 0 or self._trouble >= _MANY

    def refused_alike(self, reason: str) -> bool:
        """Records a refusal; returns whether the first `REFUSED_ALIKE` requests all got it in these words."""
        self._refusals = self._refusals + 1 if reason == self._refusal else 1
        self._refusal = reason
        return self.successes == 0 and self._refusals >= REFUSED_ALIKE

    def failed(self) -> bool:
        """Records a failure; returns whether there were only failures for too long."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        is_over = now - self.alive_at >= self._give_up_after_s
        return is_over or now - self._failing_since >= self._patience_s
