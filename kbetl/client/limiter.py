"""The gate: every request of a run passes here, and all waiting for the server happens here."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable

from kbetl.client.endpoint import Limits
from kbetl.client.rate import RateEstimator, RateLimiter
from kbetl.errors import RunStopped

_PROBE_S = 2.0
"""How long one request goes ahead of the others, to see whether the server is there again."""
_SUSPECT_S = 10.0
"""The same where it may be that everybody is refused: what is refused is refused soon."""
_RAMP_S = 0.1
"""Over how long the others follow: sent in one burst they would all meet a limit that one of them meets."""
_RAMP_STEPS = 40
_PACED_S = 2.0
"""How long nothing is sent at most where a learned pace has used up a limit."""
_BURST = 16
"""So many may go at once without a ramp."""
_FIRST_SHARE = 0.25
"""Share of the backoff that the first wait takes: most trouble is over by then."""
_GROWTH = 1 / 16
"""By how much each success raises the concurrency beyond what was borne."""
_BORNE_SHARE = 0.9
"""Share of the concurrency at which the server wanted less that is quickly gone back to."""


class ConcurrencyLimiter:
    """Lets requests in, as many at once as the server bears, and none before their time.

    Concurrency halves at most with each throttled round and grows with successes: by one for each up to
    nearly what it was, then more slowly. A round is what was sent between two slow-downs, so a hundred
    refusals at once count as one. At the start, and after a hold that nobody named, one request goes
    ahead alone. Where a server refuses many and names how long to wait, the pace that it bore is learned
    and kept to. A refusal that stands alone holds nobody but for the time that it names.
    """

    def __init__(self, limits: Limits, accepted: Callable[[], int] = lambda: 0) -> None:
        """`accepted` counts the requests sent so far that the server did not refuse as too many."""
        self.in_flight = 0
        self._limits = limits
        self._accepted = accepted
        self._fixed = [RateLimiter(each) for each in (limits.rpm, limits.tpm) if each is not None]
        self._tokens = self._fixed[-1] if limits.tpm is not None else None
        self._learner = RateEstimator(time.monotonic())
        self._faster_timer: asyncio.TimerHandle | None = None
        self._paces = self._fixed
        self._allowed = self._known_good = float(limits.concurrency)
        self._halving_floor: float | None = None
        self._probe_slots: int | None = 1 if limits.concurrency > 1 and limits.alone_s > 0 else None
        """Room while one request goes ahead; None where all may go."""
        self._ahead_s = limits.alone_s
        self._ramp_limit: float | None = None
        self._step_timer: asyncio.TimerHandle | None = None
        """Ends the time that one goes ahead, then lets the others follow step by step."""
        self._round = 0
        self._slowdowns = 0
        """Slow-downs since something that was sent after one of them succeeded."""
        self._not_before = 0.0
        self._probes = False
        """Whether one goes ahead when the hold is over."""
        self._unnamed_since = 0.0
        """Since when it wants fewer in a time and names no wait; 0 where it does not."""
        self._refused_single = False
        """Whether it refused what was in flight alone meanwhile: it is no limit on how many at once."""
        self._longest_named_s = 0.0
        """The longest wait that a refusal for a rate named; 0: none since the last hold."""
        self._waiting: deque[tuple[asyncio.Future[int], float]] = deque()
        self._pausing: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed: str | None = None
        self._is_in_doubt = False
        """Whether who came last goes first: it has least in common with those that were refused."""
        self._set_room()

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return self._slots

    @property
    def waiting(self) -> int:
        """Requests that wait to be let in."""
        return sum(not future.done() for future, _ in self._waiting)

    def hold_s(self) -> float:
        """Seconds for which nothing is let in, 0 where the gate is open."""
        return max(0.0, self._not_before - time.monotonic()) if self._not_before else 0.0

    async def acquire(self, tokens: float = 0) -> int:
        """Waits for a place and takes it; the number of the round. Each needs its `leave`.

        Raises RunStopped where the gate is closed, also while waiting.
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
        """Gives the place back. Say first how it went, or the next one is let in unwarned."""
        self.in_flight -= 1
        if self._probe_slots is not None and not self.in_flight:
            self._cancel_step()
        if self._waiting:
            self._admit()

    def succeeded(self, round_number: int) -> None:
        """An answer came to what was sent in a round: more may go at once, up to the limit."""
        self._is_in_doubt = False
        if self._slowdowns or self._slots < self._limits.concurrency:
            self._recover(round_number)

    def is_stale(self, round_number: int) -> bool:
        """Whether a failure of what was sent in a round is part of what holds everybody back."""
        return self._slowdowns > 0 or round_number < self._round

    def on_single_refusal(self, wait_s: float | None) -> bool:
        """One was refused as too many while others succeed: one fewer at once, or the pause that it names.

        False where it has to be taken as `throttled`: a pace that is kept to was too fast.
        """
        if wait_s is not None:
            if self._learner.pace is not None:
                return False
            self.pause_all(wait_s)
        elif 2 * self.in_flight >= self._slots:
            self._allowed = max(1.0, self._allowed - 1)
            self._known_good = min(self._known_good, self._allowed)
            self._set_room()
        return True

    def on_throttled(self, round_number: int, wait_s: float | None, *, is_rate: bool = False) -> bool:
        """The server wants less: nothing is let in for `wait_s`, or for our own backoff if None.

        `is_rate`: it wants fewer in a time, so where it names a time the pace is learned, and not fewer
        at once. False where the round is known.
        """
        learns = is_rate and wait_s is not None
        if learns:
            self._longest_named_s = max(self._longest_named_s, wait_s or 0.0)
        if not self._is_first_of(round_number):
            if wait_s is not None:
                self.pause_all(wait_s)
            return False
        if self._slowdowns == 0 and not learns and 2 * self.in_flight >= self._slots:
            self._halving_floor = self._slots / 2
            self._known_good = self._slots * _BORNE_SHARE
        self._hold_for_streak(wait_s)
        self._probes = wait_s is None or self._slowdowns > 1
        if is_rate and wait_s is None:
            self._unnamed_since = self._unnamed_since or time.monotonic()
            self._refused_single |= self.in_flight == 1 < self._limits.concurrency
        return True

    def on_outage(self, round_number: int) -> bool:
        """The server is not there: one request at a time tries again. False where the round is known."""
        if not self._is_first_of(round_number):
            return False
        self._hold_for_streak(None)
        self._probes = True
        return True

    def doubt(self, *, is_strong: bool) -> None:
        """What was refused may be everybody's: until one succeeds, those far from it are let in first.

        `is_strong`: one at a time, for a while.
        """
        self._is_in_doubt = True
        if not is_strong:
            return
        self._cancel_step()
        self._probe_slots, self._ahead_s, self._ramp_limit = 1, _SUSPECT_S, None
        self._step_timer = asyncio.get_running_loop().call_later(_SUSPECT_S, self._let_follow)
        self._set_room()

    def on_exhausted(self, wait_s: float) -> None:
        """An answer said that nothing is left of a limit until then.

        Where a pace is kept to, it was a little too fast: some of the limit is there again soon.
        """
        if self._learner.pace is not None:
            wait_s = min(wait_s, _PACED_S)
        self._longest_named_s = max(self._longest_named_s, wait_s)
        self.pause_all(wait_s)

    def pause_all(self, wait_s: float) -> None:
        """Lets nothing in for `wait_s` from now, or for longer where that was said before."""
        self._not_before = max(self._not_before, time.monotonic() + wait_s)

    def settle(self, tokens: float) -> None:
        """Tokens used beyond the estimate given at `enter`, below zero for fewer."""
        if self._tokens is not None:
            self._tokens.correct(tokens)

    def backoff_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row, with jitter; a moment after the first."""
        longest_s, step_s = self._limits.backoff_max_s, self._limits.backoff_s
        if failures <= 1:
            return min(longest_s, step_s * _FIRST_SHARE) * random.uniform(0.4, 1.0)
        return min(longest_s, step_s * 2.0 ** min(failures - 2, 60)) * random.uniform(0.75, 1.0)

    async def sleep(self, wait_s: float) -> None:
        """Waits outside the gate. Raises RunStopped as soon as the gate is closed."""
        if wait_s <= 0:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(wait_s, _set_done, future)
        self._pausing.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._pausing.discard(future)

    def close(self, reason: str) -> None:
        """Lets nothing in any more; who waits gets RunStopped with the first reason given."""
        self._closed = self._closed or reason
        pausing: list[asyncio.Future[int] | asyncio.Future[None]] = [*self._pausing]
        for future in pausing + [future for future, _ in self._waiting]:
            if not future.done():
                future.set_exception(RunStopped(self._closed))
        self._waiting.clear()
        for timer in (self._timer, self._step_timer, self._faster_timer):
            if timer is not None:
                timer.cancel()

    # Concurrency

    def _set_room(self) -> None:
        room = max(1, int(self._allowed))
        if self._probe_slots is not None:
            room = min(room, self._probe_slots)
        elif self._ramp_limit is not None:
            room = min(room, int(self._ramp_limit))
        self._slots = room

    def _recover(self, round_number: int) -> None:
        if round_number == self._round:
            if self._unnamed_since:
                self._learn_unnamed()
            self._slowdowns = 0
            if self._probe_slots is not None:
                self._let_follow()
        limit = float(self._limits.concurrency)
        if self._allowed < limit and self.in_flight >= int(self._allowed):
            step = 1.0 if self._allowed < self._known_good else _GROWTH
            self._allowed = min(limit, self._allowed + step)
            self._set_room()

    def _let_follow(self) -> None:
        """All may go now, in small steps."""
        self._cancel_step()
        self._probe_slots = None
        self._ramp_limit = self.in_flight + float(_BURST)
        self._step()

    def _step(self) -> None:
        self._step_timer = None
        if self._ramp_limit is not None:
            self._ramp_limit += self._allowed / _RAMP_STEPS
            if self._ramp_limit >= self._allowed:
                self._ramp_limit = None
            elif self._closed is None:
                loop = asyncio.get_running_loop()
                self._step_timer = loop.call_later(_RAMP_S / _RAMP_STEPS, self._step)
        self._set_room()
        self._admit()

    def _cancel_step(self) -> None:
        if self._step_timer is not None:
            self._step_timer.cancel()
            self._step_timer = None

    # Time

    def _is_first_of(self, round_number: int) -> bool:
        if round_number < self._round:
            return False
        self._round += 1
        return True

    def _hold_for_streak(self, wait_s: float | None) -> None:
        """A wait that was too short when the server named it before is made longer."""
        self._slowdowns += 1
        own_s = self.backoff_s(self._slowdowns if wait_s is None else self._slowdowns - 1)
        self.pause_all(own_s if wait_s is None else max(wait_s, own_s) if self._slowdowns > 1 else wait_s)
        self._cancel_step()

    def _wait_s(self) -> float:
        """Seconds until the next one may be let in, at most 0 where it may be now."""
        if not self._not_before and not self._paces:
            return 0.0
        now = time.monotonic()
        wait_s = self._not_before - now
        if self._not_before and wait_s <= 0:
            self._open_again(now)
        return max(wait_s, *(pace.wait_s(now) for pace in self._paces), -1.0)

    def _open_again(self, now: float) -> None:
        """After a hold: what is still in flight is what the server bears, but go down by half at most."""
        self._not_before = 0.0
        if self._halving_floor is not None:
            borne = min(self._allowed, float(self.in_flight))
            self._allowed = max(1.0, self._halving_floor, borne)
            self._known_good = max(self._known_good, borne)
            self._halving_floor = None
        if self._longest_named_s:
            self._learn(now)
        elif self._probes and not self._unnamed_since:
            self._learner.forget(now, self._accepted())
        self._cancel_step()
        if self._probes:
            self._probe_slots, self._ahead_s = self.in_flight + 1, _PROBE_S
        else:
            self._probe_slots, self._ramp_limit = None, self.in_flight + float(_BURST)
            self._step_timer = asyncio.get_running_loop().call_later(0, self._step)
        self._probes, self._longest_named_s = False, 0.0
        self._set_room()

    def _learn_unnamed(self) -> None:
        """How long the wait was that nobody named, where it was one for time to pass."""
        now = time.monotonic()
        if self._refused_single:
            self._longest_named_s = now - self._unnamed_since
            self._learn(now)
            self._longest_named_s = 0.0
        elif self._slowdowns > 1:
            self._learner.forget(now, self._accepted())
        self._unnamed_since, self._refused_single = 0.0, False

    def _learn(self, now: float) -> None:
        self._learner.refused(now, self._accepted(), self._longest_named_s)
        self._take_learned_pace()
        if self._faster_timer is not None:
            self._faster_timer.cancel()
        self._faster_timer = asyncio.get_running_loop().call_later(self._learner.period_s, self._go_faster)

    def _go_faster(self) -> None:
        self._faster_timer = None
        self._learner.grow()
        self._take_learned_pace()
        if self._learner.pace is not None:
            loop = asyncio.get_running_loop()
            self._faster_timer = loop.call_later(self._learner.period_s, self._go_faster)

    def _take_learned_pace(self) -> None:
        learned = self._learner.pace
        self._paces = self._fixed if learned is None else [*self._fixed, learned]

    # The door

    def _grant(self, tokens: float) -> None:
        self.in_flight += 1
        if self._paces:
            now = time.monotonic()
            for pace in self._paces:
                pace.consume(now, tokens if pace is self._tokens else 1)
        if self._probe_slots is not None and self._step_timer is None:
            loop = asyncio.get_running_loop()
            self._step_timer = loop.call_later(self._ahead_s, self._let_follow)

    def _admit(self) -> None:
        """Lets in who waits, in order, as far as there is room and time."""
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
