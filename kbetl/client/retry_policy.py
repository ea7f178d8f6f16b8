"""What an exchange that went wrong means: time for all, a try, the sample, or the run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from kbetl.client.endpoint import Limits
from kbetl.client.error_kinds import (
    FOR_ALL,
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
from collections import defaultdict

OnBilledFailure = Callable[[Completion | None], Awaitable[None]]
"""Awaited after a try that may have been paid for and brought nothing usable, before anything else is
sent: with what came back, or None where nothing did. What it raises ends the request."""


class RequestMeter(Protocol):
    """Hears of each try of one request, where a budget is kept."""

    async def before_send(self) -> None:
        """Awaited before a try is sent; what it raises ends the request, and nothing is sent."""

    def not_billed(self) -> None:
        """The last try did not reach the server, or was refused by it: it was not billed."""

    def finished(self) -> None:
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


@dataclass(slots=True)
class RequestState:
    """One request on its way."""

    request: Request
    on_wasted: OnBilledFailure | None
    meter: RequestMeter | None
    tries: int = 0
    """Those that count."""
    outages: int = 0
    """Failures that were taken for the server's trouble."""
    throttles: int = 0
    """Refusals as too many, while others succeeded."""
    silences: int = 0
    failures: int = 0
    """After which it waited on its own."""
    is_overlong: bool = False
    """Whether it took longer than a request may; it is not sent again."""


@dataclass(slots=True, eq=False)
class TryState:
    """One try on its way: its body, and what the run had seen when it went out."""

    body: Body
    round_number: int
    successes: int
    silences: int
    tokens: float
    suspects: frozenset[int] = frozenset()
    """Statuses that had come so often that the next request with it tells that all get it."""


class Failure(NamedTuple):
    """What went wrong with one try."""

    reason: str
    is_alone: bool
    """Whether others succeed, so that nobody else has to wait for it."""
    wait_s: float | None = None
    """Seconds that the server asks to wait; None if it names none."""


Say = Callable[[str], None]
"""Takes a line for the user."""


class RetryPolicy:
    """Decides what failures mean, and tells the gate. Asked only where something went wrong."""

    def __init__(
        self,
        host: str,
        limits: Limits,
        gate: ConcurrencyLimiter,
        adaptations: ParameterFallbacks,
        say: Say | None,
    ) -> None:
        self.is_gone = False
        """Whether the server was given up: it said nothing at all, or failed for too long."""
        self.throttled = 0
        """Refusals as too many."""
        self.health = ServerHealth(limits.give_up_after_s, limits.patience_s)
        self._host = host
        self._limits = limits
        self._gate = gate
        self._adaptations = adaptations
        self._say = say
        self._said_at_s: float | None = None

    def given_up(self) -> RunStopped:
        """What it means that nothing came of anything for too long."""
        return self._gone(
            f"{self._host}: no answer and no text of one for {self._limits.give_up_after_s:.0f} s "
            "(--give-up-after); run again later to go on"
        )

    def on_bad_body(self, asked: RequestState, fault: str) -> Exception:
        """What an answer means that came and cannot be used."""
        self._check_health(fault)
        if asked.is_overlong:
            return RequestFailed(f"{self._host}: {fault}; it is not sent again in this run")
        return self._again(asked, Failure(f"{self._host}: {fault}", is_alone=True), is_own=True)

    def on_error(
        self, asked: RequestState, sent: TryState, reply: HttpResponse, status: int, error: ProviderError
    ) -> NoReturn:
        """Raises what an error reply means."""
        if asked.meter is not None and not _may_be_billed(status):
            asked.meter.not_billed()
        reason = error_text(self._host, status, error)
        names = asked.request.parameters if sent.body.names is None else sent.body.names
        parameter = unsupported_parameter(status, error, names)
        if parameter is not None:
            self._adapt(parameter, reason, value_only=error.code == "unsupported_value")
        kind = classify_error(status, error)
        if kind in FOR_ALL:
            raise self._stopped(f"{reason}; {advice(status, error)}")
        self._check_health(reason)
        if kind == "moderation":
            raise Declined(reason)
        if kind == "too_long":
            raise RequestFailed(reason)
        if kind == "refused":
            raise self._refused(reason)
        if kind == "unsure":
            raise self._unsure(asked, sent, status, reason, advice(status, error))
        wait_s = retry_after_s(reply.headers, error.wait_s)
        failure = Failure(reason, self._is_isolated(sent), wait_s)
        if wait_s is not None and wait_s > self._limits.give_up_after_s:
            raise self._beyond(asked, sent, failure, status)
        self._fail(asked, sent, reply, failure, kind=kind, status=status)

    def _refused(self, reason: str) -> Exception:
        """What a refusal means that is one request's own, unless the first ones all get the same words."""
        if self.health.refused_alike(reason):
            return self._stopped(
                f"{reason}; the first {REFUSED_ALIKE} requests were all refused so: "
                "change the model or the parameters and run again"
            )
        return RequestFailed(reason) if self.health.successes else Undecided(reason)

    def _unsure(self, asked: RequestState, sent: TryState, status: int, reason: str, help_: str) -> Exception:
        """What a status means that is one request's own or everybody's: the next successes tell.

        Where many got it and none succeeded since, one that was sent after them, and alone, decides.
        """
        if status in sent.suspects and self._gate.in_flight == 1:
            return self._stopped(f"{reason}; other requests got the same, and none an answer: {help_}")
        self._gate.doubt(is_strong=self.health.suspect(status, asked.request.hash))
        return Undecided(reason)

    def _beyond(self, asked: RequestState, sent: TryState, failure: Failure, status: int) -> Exception:
        """What an error means that asks for a wait which is not waited out."""
        reason = f"{failure.reason}; it asks to wait {failure.wait_s:.0f} s, longer than --give-up-after"
        if status == 429 or (self.health.successes and not failure.is_alone):
            return self._stopped(f"{reason}: run again later")
        return self._unsure(asked, sent, status, reason, "run again later")

    def _fail(
        self,
        asked: RequestState,
        sent: TryState,
        reply: HttpResponse,
        failure: Failure,
        *,
        kind: ErrorKind,
        status: int,
    ) -> NoReturn:
        """Raises what an error means that a later try may not meet."""
        if kind == "throttled":
            is_own = self._throttle(asked, sent, failure, is_rate=status == 429)
        else:
            # an error within a reply comes from behind the gateway: it was there
            many = 2 if kind == "gateway" and reply.status >= 300 else _MANY_ERRORS
            others_broke = self.health.broke(asked.request.hash) >= many
            is_own = not others_broke and (many > 2 or self.health.successes > sent.successes)
            is_own = is_own or asked.outages >= _OUTAGES_FREE
            if not is_own:
                self._blames_server(asked, sent, failure)
        raise self._again(asked, failure, is_own=is_own, paid_perhaps=status in _PAID_PERHAPS)

    def _is_isolated(self, sent: TryState) -> bool:
        """Notes a failure; whether it stands alone, and is no part of what holds everybody back."""
        return not self._gate.is_stale(sent.round_number) and not self.health.is_trouble()

    def _again(
        self, asked: RequestState, failure: Failure, *, is_own: bool, paid_perhaps: bool = False
    ) -> TryAgain:
        """Another try: what is one request's own trouble waits on its own, all else at the gate."""
        wait_s = 0.0
        if is_own or failure.is_alone:
            asked.failures += 1
            wait_s = max(failure.wait_s or 0.0, self._gate.backoff_s(asked.failures))
        asked.tries += is_own
        return TryAgain(failure.reason, counts=is_own, paid_perhaps=paid_perhaps, wait_s=wait_s)

    def _throttle(self, asked: RequestState, sent: TryState, failure: Failure, *, is_rate: bool) -> bool:
        """Slows down; whether it is this request alone that is refused so, time and again."""
        self.throttled += 1
        reason, wait_s = failure.reason, failure.wait_s
        is_known = failure.is_alone and (
            (wait_s is None and not is_rate) or self._gate.on_single_refusal(wait_s)
        )
        if is_known or self._gate.on_throttled(sent.round_number, wait_s, is_rate=is_rate):
            self.say_hold(reason)
        asked.throttles += self.health.successes > sent.successes
        return asked.throttles > _THROTTLED_FREE

    def _blames_server(self, asked: RequestState, sent: TryState, failure: Failure) -> None:
        """A failure that is the server's: where it is not the only one, all are slowed down, or wait."""
        asked.outages += 1
        if failure.is_alone:
            return
        if self.health.successes > sent.successes:
            is_news = self._gate.on_throttled(sent.round_number, None)
        else:
            is_news = self._gate.on_outage(sent.round_number)
            self.health.silent_rounds += is_news and not self.health.replied
        if is_news:
            self.say_hold(failure.reason)

    def say_hold(self, reason: str) -> None:
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
        if self._adaptations.on_unsupported(parameter, value_only=value_only) == "fatal":
            raise self._stopped(
                f"{reason}; the request makes no sense without {parameter}: change or remove it"
            )
        raise TryAgain(reason, counts=False)

    def on_no_reply(self, asked: RequestState, sent: TryState, no_reply: NoResponse) -> Exception:
        """What an exchange without a reply means: an outage, or this request's own trouble."""
        if asked.meter is not None and not no_reply.was_sent:
            asked.meter.not_billed()
        reason = f"{self._host}: {no_reply.reason}"
        if no_reply.for_all:
            return self._stopped(f"{reason}; {advice(407, ProviderError(''))}")
        self._check_health(reason)
        if no_reply.was_overlong:
            return RequestFailed(f"{reason}; it is not sent again in this run")
        failure = Failure(reason, self._is_isolated(sent))
        if self._blames_request(asked, sent, no_reply):
            return self._again(asked, failure, is_own=True, paid_perhaps=True)
        self._blames_server(asked, sent, failure)
        if self.health.silent_rounds >= SILENT_ROUNDS and not self.health.replied:
            return self._gone(
                f"{reason}; no reply at all in {SILENT_ROUNDS} tries: "
                "check the base URL, the network and the proxy"
            )
        return self._again(asked, failure, is_own=False, paid_perhaps=no_reply.was_sent)

    def _blames_request(self, asked: RequestState, sent: TryState, no_reply: NoResponse) -> bool:
        """Whether an exchange without a reply is the request's own fault: others meanwhile had theirs."""
        others_broke = self.health.broke(asked.request.hash) > 1
        succeeded = self.health.successes - sent.successes
        if no_reply.was_silent:
            others_silent = self.health.silences - sent.silences
            self.health.silences += 1
            asked.silences += 1
            others_broke = asked.silences == 1 or others_silent > _SILENT_SHARE * succeeded
        if not no_reply.was_sent:
            return False
        return asked.outages >= _OUTAGES_FREE or (succeeded > 0 and not others_broke)

    def _check_health(self, reason: str) -> None:
        """Notes a failure. Raises RunStopped where there has been nothing else for too long."""
        if self.health.failed():
            limit_s = self._limits.patience_s or self._limits.give_up_after_s
            raise self._gone(
                f"nothing but failures for {limit_s:.0f} s, the last one: {reason}; run again later to go on"
            )

    def _gone(self, message: str) -> RunStopped:
        self.is_gone = True
        return self._stopped(message)

    def _stopped(self, message: str) -> RunStopped:
        self._gate.close(message)
        return RunStopped(message)


def _may_be_billed(status: int) -> bool:
    """Whether a request that got an error of this status may be billed all the same."""
    return status == 408 or (status >= 500 and status not in _REFUSED_BUSY)


SUSPECT_FIRST = 3
"""So many requests that got one status before any success: it may be everybody's, a probe tells."""
SUSPECT_LATER = 20
"""The same since the last success, where there was one: it was not everybody's then."""
REFUSED_ALIKE = 20
"""Refusals in the same words, and nothing else since the run began, that are taken for everybody's."""

_MANY = 4.0
_OUTWEIGHED = 0.25
"""So many failures are trouble for all; each success between them outweighs this share of one."""


class ServerHealth:
    """What the replies of a run, taken together, say about the server."""

    def __init__(self, give_up_after_s: float, patience_s: float | None = None) -> None:
        """`patience_s`: with nothing but failures for so long it is given up, where that is sooner."""
        self.successes = 0
        self.silences = 0
        """Exchanges that ended in silence."""
        self.replied = False
        """Whether any reply came, of whatever status."""
        self.silent_rounds = 0
        """Rounds of tries without a reply, while there was none at all."""
        self.alive_at = time.monotonic()
        """When there last was a success or a text of an answer, or work began after none."""
        self.suspects: frozenset[int] = frozenset()
        """Statuses that so many different requests got since the last success that a probe decides."""
        self._give_up_after_s = give_up_after_s
        self._patience_s = give_up_after_s if patience_s is None else patience_s
        self._failing_since: float | None = None
        self._unsure: defaultdict[int, set[str]] = defaultdict(set)
        """By status, the requests that got it since the last success, where it may be everybody's."""
        self._broken: set[str] = set()
        self._broken_at = 0
        self._trouble = 0.0
        self._trouble_at = 0
        self._refusals = 0
        self._refusal: str | None = None

    def begins(self) -> None:
        """A request is sent while none is in flight: what lay before was no silence of the server."""
        if self._failing_since is None:
            self.alive_at = time.monotonic()

    def spoke(self) -> None:
        """Text of an answer came."""
        self.alive_at = time.monotonic()
        self._failing_since = None

    def succeeded(self) -> None:
        self.successes += 1
        self.spoke()
        if self._unsure:
            self._unsure.clear()
            self.suspects = frozenset()

    def suspect(self, status: int, request_hash: str) -> bool:
        """Notes a status that may be everybody's; whether so many got it that a probe has to decide."""
        self._unsure[status].add(request_hash)
        many = SUSPECT_LATER if self.successes else SUSPECT_FIRST
        if len(self._unsure[status]) >= many:
            self.suspects |= {status}
        return status in self.suspects

    def broke(self, request_hash: str) -> int:
        """Notes that an exchange broke; of how many requests since the last success, this one."""
        if self._broken_at != self.successes:
            self._broken_at = self.successes
            self._broken.clear()
        self._broken.add(request_hash)
        return len(self._broken)

    def is_trouble(self) -> bool:
        """Notes that a try failed; whether failures come in numbers, or nothing ever succeeded."""
        eased = _OUTWEIGHED * (self.successes - self._trouble_at)
        self._trouble = min(_MANY, max(0.0, self._trouble - eased) + 1.0)
        self._trouble_at = self.successes
        return self.successes == 0 or self._trouble >= _MANY

    def refused_alike(self, reason: str) -> bool:
        """Notes that a sample was refused for good; whether that is what happens to all of them."""
        self._refusals = self._refusals + 1 if reason == self._refusal else 1
        self._refusal = reason
        return self.successes == 0 and self._refusals >= REFUSED_ALIKE

    def failed(self) -> bool:
        """Notes a failure; whether there has been nothing else for too long."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        is_over = now - self.alive_at >= self._give_up_after_s
        return is_over or now - self._failing_since >= self._patience_s
