"""Limits how many requests are in flight, and pauses all of them when the server asks for it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable

from kbetl.client.endpoint import Limits
from kbetl.client.rate import RateEstimator, RateLimiter
from kbetl.errors import RunStopped

# How long a single probe request is in flight alone, to see whether the server answers again.
_PROBE_S = 2.0
# The same if all requests may be refused: a refusal comes soon, an answer takes longer.
_DOUBT_PROBE_S = 10.0
# How long the ramp lasts after a probe: sent in one burst all requests would hit the same limit.
_RAMP_S = 0.1
_RAMP_STEPS = 40
# Longest pause if a limit is used up while a learned rate is in force: it refills soon.
_LEARNED_PAUSE_MAX_S = 2.0
# Requests that may be sent at once before the ramp begins.
_BURST = 16
# Share of the backoff that the first wait lasts: most failures are over by then.
_FIRST_SHARE = 0.25
# How much each success raises the concurrency once it is above the known good one.
_GROWTH = 1 / 16
# Share of the concurrency at which the server throttled that counts as known good.
_KNOWN_GOOD_SHARE = 0.9


class ConcurrencyLimiter:
    """Gives slots to requests: as many as the server accepts, none during a pause or above the rate.

    A throttled round lowers the concurrency, by half at most; each success raises it, by one up to the
    known good concurrency, then more slowly. A round is what was sent between two slow-downs, so that a
    hundred refusals at once count as one. At the start, and after a pause whose length the server did
    not name, a single probe is sent first. If the server refuses many and names the wait, its rate limit
    is estimated and obeyed. An isolated refusal pauses the others only for the time that it names.
    """

    def __init__(self, limits: Limits, accepted: Callable[[], int] = lambda: 0) -> None:
        """`accepted` returns how many requests so far the server did not refuse as too many."""
        self.in_flight = 0
        self._limits = limits
        self._accepted = accepted
        self._fixed = [RateLimiter(each) for each in (limits.rpm, limits.tpm) if each is not None]
        self._tokens = self._fixed[-1] if limits.tpm is not None else None
        self._estimator = RateEstimator(time.monotonic())
        self._raise_timer: asyncio.TimerHandle | None = None
        self._rate_limiters = self._fixed
        self._allowed = self._known_good = float(limits.concurrency)
        self._halving_floor: float | None = None
        # Slots while a probe is in flight; None if there is no probe.
        self._probe_slots: int | None = 1 if limits.concurrency > 1 and limits.alone_s > 0 else None
        self._probe_s = limits.alone_s
        self._ramp_limit: float | None = None
        # Ends the probe, then raises the ramp step by step.
        self._ramp_timer: asyncio.TimerHandle | None = None
        self._round = 0
        # Slow-downs since a request that was sent after the last of them succeeded.
        self._slowdowns = 0
        self._paused_until = 0.0
        # Whether a probe is sent when the pause ends.
        self._probes = False
        # Since when the server refuses for a rate without naming a wait; 0 if it does not.
        self._unnamed_since = 0.0
        # Whether it refused a request that was in flight alone: then its limit is not on concurrency.
        self._refused_single = False
        # The longest wait that a refusal for a rate named since the last pause; 0 if none did.
        self._longest_named_s = 0.0
        self._waiting: deque[tuple[asyncio.Future[int], float]] = deque()
        self._sleeping: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed: str | None = None
        # Whether the newest request is sent first: it has least in common with those that were refused.
        self._is_in_doubt = False
        self._update_slots()

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return self._slots

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return sum(not future.done() for future, _ in self._waiting)

    def hold_s(self) -> float:
        """Returns the seconds left of a pause, 0 if there is none."""
        return max(0.0, self._paused_until - time.monotonic()) if self._paused_until else 0.0

    async def acquire(self, tokens: float = 0) -> int:
        """Waits for a slot and returns the number of its round. Each call needs one `release`.

        `tokens` is the estimate that counts for a limit on tokens per minute. Raises RunStopped if the
        limiter is closed, also during the wait.
        """
        if self._closed is not None:
            raise RunStopped(self._closed)
        if not self._waiting and self.in_flight < self._slots and self._wait_s() <= 0:
            self._grant(tokens)
            return self._round
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self._admit()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release()
            raise

    def release(self) -> None:
        """Frees a slot. Report success or failure before, because this may send the next request."""
        self.in_flight -= 1
        if self._probe_slots is not None and not self.in_flight:
            self._cancel_ramp()
        if self._waiting:
            self._admit()

    def succeeded(self, round_number: int) -> None:
        """Records an answer to a request of a round, which may raise the concurrency."""
        self._is_in_doubt = False
        if self._slowdowns or self._slots < self._limits.concurrency:
            self._recover(round_number)

    def is_stale(self, round_number: int) -> bool:
        """Whether a failure in a round belongs to a slow-down that is already known."""
        return self._slowdowns > 0 or round_number < self._round

    def on_single_refusal(self, wait_s: float | None) -> bool:
        """Handles one refusal as too many while others succeed: one slot fewer, or the named pause.

        Returns False if the caller has to call `on_throttled`, because a learned rate was too high.
        """
        if wait_s is not None:
            if self._estimator.limiter is not None:
                return False
            self.pause_all(wait_s)
        elif 2 * self.in_flight >= self._slots:
            self._allowed = max(1.0, self._allowed - 1)
            self._known_good = min(self._known_good, self._allowed)
            self._update_slots()
        return True

    def on_throttled(self, round_number: int, wait_s: float | None, *, is_rate: bool = False) -> bool:
        """Slows down: pauses all requests for `wait_s`, or for the backoff if it is None.

        `is_rate`: the limit is one on requests per time, so that with a named wait the rate is learned
        and the concurrency stays. Returns False if the round was already slowed down.
        """
        learns = is_rate and wait_s is not None
        if learns:
            self._longest_named_s = max(self._longest_named_s, wait_s or 0.0)
        if not self._begin_round(round_number):
            if wait_s is not None:
                self.pause_all(wait_s)
            return False
        if self._slowdowns == 0 and not learns and 2 * self.in_flight >= self._slots:
            self._halving_floor = self._slots / 2
            self._known_good = self._slots * _KNOWN_GOOD_SHARE
        self._pause_with_backoff(wait_s)
        self._probes = wait_s is None or self._slowdowns > 1
        if is_rate and wait_s is None:
            self._unnamed_since = self._unnamed_since or time.monotonic()
            self._refused_single |= self.in_flight == 1 < self._limits.concurrency
        return True

    def on_outage(self, round_number: int) -> bool:
        """Pauses all requests, then probes one at a time. Returns False if the round was already paused."""
        if not self._begin_round(round_number):
            return False
        self._pause_with_backoff(None)
        self._probes = True
        return True

    def doubt(self, *, is_strong: bool) -> None:
        """Sends the newest requests first until one succeeds, because all may be refused.

        `is_strong`: also sends one at a time, for `_DOUBT_PROBE_S`.
        """
        self._is_in_doubt = True
        if not is_strong:
            return
        self._cancel_ramp()
        self._probe_slots, self._probe_s, self._ramp_limit = 1, _DOUBT_PROBE_S, None
        self._ramp_timer = asyncio.get_running_loop().call_later(_DOUBT_PROBE_S, self._start_ramp)
        self._update_slots()

    def on_exhausted(self, wait_s: float) -> None:
        """Pauses for a rate limit that an answer says is used up for `wait_s` seconds.

        With a learned rate the pause is short: the rate was a little too high, and the limit refills soon.
        """
        if self._estimator.limiter is not None:
            wait_s = min(wait_s, _LEARNED_PAUSE_MAX_S)
        self._longest_named_s = max(self._longest_named_s, wait_s)
        self.pause_all(wait_s)

    def pause_all(self, wait_s: float) -> None:
        """Sends nothing for `wait_s` seconds from now; a longer pause that is already set stays."""
        self._paused_until = max(self._paused_until, time.monotonic() + wait_s)

    def correct(self, tokens: float) -> None:
        """Counts the tokens used beyond the estimate given to `acquire`; negative if fewer were used."""
        if self._tokens is not None:
            self._tokens.correct(tokens)

    def backoff_s(self, failures: int) -> float:
        """Returns the seconds to wait after `failures` failures in a row, with jitter."""
        longest_s, step_s = self._limits.backoff_max_s, self._limits.backoff_s
        if failures <= 1:
            return min(longest_s, step_s * _FIRST_SHARE) * random.uniform(0.4, 1.0)
        return min(longest_s, step_s * 2.0 ** min(failures - 2, 60)) * random.uniform(0.75, 1.0)

    async def sleep(self, wait_s: float) -> None:
        """Waits without a slot. Raises RunStopped as soon as the limiter is closed."""
        if wait_s <= 0:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(wait_s, _set_done, future)
        self._sleeping.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._sleeping.discard(future)

    def close(self, reason: str) -> None:
        """Gives no more slots; all waiting calls raise RunStopped with the first reason given."""
        self._closed = self._closed or reason
        pausing: list[asyncio.Future[int] | asyncio.Future[None]] = [*self._sleeping]
        for future in pausing + [future for future, _ in self._waiting]:
            if not future.done():
                future.set_exception(RunStopped(self._closed))
        self._waiting.clear()
        for timer in (self._timer, self._ramp_timer, self._raise_timer):
            if timer is not None:
                timer.cancel()

    # Concurrency

    def _update_slots(self) -> None:
        slots = max(1, int(self._allowed))
        if self._probe_slots is not None:
            slots = min(slots, self._probe_slots)
        elif self._ramp_limit is not None:
            slots = min(slots, int(self._ramp_limit))
        self._slots = slots

    def _recover(self, round_number: int) -> None:
        if round_number == self._round:
            if self._unnamed_since:
                self._learn_unnamed()
            self._slowdowns = 0
            if self._probe_slots is not None:
                self._start_ramp()
        limit = float(self._limits.concurrency)
        if self._allowed < limit and self.in_flight >= int(self._allowed):
            step = 1.0 if self._allowed < self._known_good else _GROWTH
            self._allowed = min(limit, self._allowed + step)
            self._update_slots()

    def _start_ramp(self) -> None:
        """Ends the probe and raises the slots in small steps."""
        self._cancel_ramp()
        self._probe_slots = None
        self._ramp_limit = self.in_flight + float(_BURST)
        self._raise_ramp()

    def _raise_ramp(self) -> None:
        self._ramp_timer = None
        if self._ramp_limit is not None:
            self._ramp_limit += self._allowed / _RAMP_STEPS
            if self._ramp_limit >= self._allowed:
                self._ramp_limit = None
            elif self._closed is None:
                loop = asyncio.get_running_loop()
                self._ramp_timer = loop.call_later(_RAMP_S / _RAMP_STEPS, self._raise_ramp)
        self._update_slots()
        self._admit()

    def _cancel_ramp(self) -> None:
        if self._ramp_timer is not None:
            self._ramp_timer.cancel()
            self._ramp_timer = None

    # Pauses and rates

    def _begin_round(self, round_number: int) -> bool:
        if round_number < self._round:
            return False
        self._round += 1
        return True

    def _pause_with_backoff(self, wait_s: float | None) -> None:
        """Pauses for `wait_s` or the backoff; longer than named if the wait named before was too short."""
        self._slowdowns += 1
        own_s = self.backoff_s(self._slowdowns if wait_s is None else self._slowdowns - 1)
        self.pause_all(own_s if wait_s is None else max(wait_s, own_s) if self._slowdowns > 1 else wait_s)
        self._cancel_ramp()

    def _wait_s(self) -> float:
        """Returns the seconds until the next request may be sent; 0 or less if it may be sent now."""
        if not self._paused_until and not self._rate_limiters:
            return 0.0
        now = time.monotonic()
        wait_s = self._paused_until - now
        if self._paused_until and wait_s <= 0:
            self._resume(now)
        return max(wait_s, *(each.wait_s(now) for each in self._rate_limiters), -1.0)

    def _resume(self, now: float) -> None:
        """Ends a pause: the concurrency falls to what is still in flight, but by half at most."""
        self._paused_until = 0.0
        if self._halving_floor is not None:
            known_good = min(self._allowed, float(self.in_flight))
            self._allowed = max(1.0, self._halving_floor, known_good)
            self._known_good = max(self._known_good, known_good)
            self._halving_floor = None
        if self._longest_named_s:
            self._learn(now)
        elif self._probes and not self._unnamed_since:
            self._estimator.forget(now, self._accepted())
        self._cancel_ramp()
        if self._probes:
            self._probe_slots, self._probe_s = self.in_flight + 1, _PROBE_S
        else:
            self._probe_slots, self._ramp_limit = None, self.in_flight + float(_BURST)
            self._ramp_timer = asyncio.get_running_loop().call_later(0, self._raise_ramp)
        self._probes, self._longest_named_s = False, 0.0
        self._update_slots()

    def _learn_unnamed(self) -> None:
        """Learns a rate from refusals without a named wait: the wait is the time until the first success."""
        now = time.monotonic()
        if self._refused_single:
            self._longest_named_s = now - self._unnamed_since
            self._learn(now)
            self._longest_named_s = 0.0
        elif self._slowdowns > 1:
            self._estimator.forget(now, self._accepted())
        self._unnamed_since, self._refused_single = 0.0, False

    def _learn(self, now: float) -> None:
        self._estimator.on_refusal(now, self._accepted(), self._longest_named_s)
        self._apply_learned_rate()
        if self._raise_timer is not None:
            self._raise_timer.cancel()
        self._raise_timer = asyncio.get_running_loop().call_later(self._estimator.period_s, self._raise_rate)

    def _raise_rate(self) -> None:
        self._raise_timer = None
        self._estimator.grow()
        self._apply_learned_rate()
        if self._estimator.limiter is not None:
            loop = asyncio.get_running_loop()
            self._raise_timer = loop.call_later(self._estimator.period_s, self._raise_rate)

    def _apply_learned_rate(self) -> None:
        learned = self._estimator.limiter
        self._rate_limiters = self._fixed if learned is None else [*self._fixed, learned]

    # Slots

    def _grant(self, tokens: float) -> None:
        self.in_flight += 1
        if self._rate_limiters:
            now = time.monotonic()
            for each in self._rate_limiters:
                each.consume(now, tokens if each is self._tokens else 1)
        if self._probe_slots is not None and self._ramp_timer is None:
            loop = asyncio.get_running_loop()
            self._ramp_timer = loop.call_later(self._probe_s, self._start_ramp)

    def _admit(self) -> None:
        """Gives free slots to waiting requests, in order."""
        while self._waiting and self.in_flight < self._slots:
            future, tokens = self._waiting[-1 if self._is_in_doubt else 0]
            if not future.done():
                wait_s = self._wait_s()
                if wait_s > 0:
                    self._wake_in(wait_s)
                    return
                if self.in_flight >= self._slots:
                    return
                self._grant(tokens)
                future.set_result(self._round)
            if self._is_in_doubt:
                self._waiting.pop()
            else:
                self._waiting.popleft()

    def _wake_in(self, wait_s: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._admit()


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
