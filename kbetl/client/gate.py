"""The gate: every request of a run passes here, and all waiting for the server happens here."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

from kbetl.client.endpoint import Limits
from kbetl.errors import RunStopped

_SLACK_S = 0.1
"""How much unused time a pace may make up for, so that late timers do not slow it down."""


class Pace:
    """So many units a minute at most, spread evenly."""

    def __init__(self, per_minute: float) -> None:
        # A window of 60 s then never holds more than `per_minute` units, the slack included.
        self._unit_s = (60 + _SLACK_S) / per_minute * (1 + 1e-6)
        self._next_at = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until the next one may go, at most 0 where it may go now."""
        return self._next_at - now

    def take(self, now: float, units: float) -> None:
        self._next_at = max(self._next_at, now - _SLACK_S) + units * self._unit_s

    def settle(self, units: float) -> None:
        """Corrects an estimate: the units that were used beyond it, below zero for fewer."""
        self._next_at += units * self._unit_s


class Gate:
    """Lets requests in, as many at once as the server bears, and none before their time.

    Concurrency halves at most with each throttled round and grows with successes: by one for each up to
    what was borne before, then by one a round. A round is what was sent between two slow-downs, so a
    hundred refusals at once count as one.
    """

    def __init__(self, limits: Limits) -> None:
        self.in_flight = 0
        self._limits = limits
        self._paces = [Pace(each) for each in (limits.rpm, limits.tpm) if each is not None]
        self._tokens = self._paces[-1] if limits.tpm is not None else None
        self._allowed = float(limits.concurrency)
        self._borne = float(limits.concurrency)
        self._floor: float | None = None
        self._alone = limits.concurrency > 1 and limits.alone_s > 0
        self._alone_timer: asyncio.TimerHandle | None = None
        self._round = 0
        self._streak = 0
        self._not_before = 0.0
        self._waiting: deque[tuple[asyncio.Future[int], float]] = deque()
        self._pausing: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed: str | None = None

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return 1 if self._alone else max(1, int(self._allowed))

    @property
    def waiting(self) -> int:
        """Requests that wait to be let in."""
        return sum(not future.done() for future, _ in self._waiting)

    def hold_s(self) -> float:
        """Seconds for which nothing is let in, 0 where the gate is open."""
        return max(0.0, self._not_before - time.monotonic()) if self._not_before else 0.0

    async def enter(self, tokens: float = 0) -> int:
        """Waits for a place and takes it; the number of the round. Each needs its `leave`.

        Raises RunStopped where the gate is closed, also while waiting.
        """
        if self._closed is not None:
            raise RunStopped(self._closed)
        if not self._waiting and self.in_flight < self.allowed and self._wait_s() <= 0:
            self._let_in(tokens)
            return self._round
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self._pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave()
            raise

    def leave(self) -> None:
        """Gives the place back. Say first how it went, or the next one is let in unwarned."""
        self.in_flight -= 1
        if self._alone_timer is not None:
            self._alone_timer.cancel()
            self._alone_timer = None
        if self._waiting:
            self._pump()

    def succeeded(self) -> None:
        """An answer came: more may go at once, up to the limit."""
        self._streak = 0
        if self._alone:
            self._end_alone()
        if self._allowed < self._limits.concurrency and self.in_flight >= int(self._allowed):
            step = 1.0 if self._allowed < self._borne else 1.0 / self._allowed
            self._allowed = min(float(self._limits.concurrency), self._allowed + step)

    def throttled(self, round_number: int, wait_s: float | None) -> None:
        """The server wants less: nothing is let in for `wait_s`, or for our own backoff if None."""
        if self._is_first_of(round_number):
            self._floor = self._allowed / 2
            if self._streak == 0:
                self._borne = self._floor
            self._hold_for_streak(wait_s)
        elif wait_s is not None:
            self.hold(wait_s)

    def outage(self, round_number: int) -> bool:
        """The server is not there: one request at a time tries again. False where the round is known."""
        if not self._is_first_of(round_number):
            return False
        if self._streak == 0:
            self._borne = self._allowed
        self._allowed = 1.0
        self._hold_for_streak(None)
        return True

    def hold(self, wait_s: float) -> None:
        """Lets nothing in for `wait_s` from now, or for longer where that was said before."""
        self._not_before = max(self._not_before, time.monotonic() + wait_s)

    def settle(self, tokens: float) -> None:
        """Tokens used beyond the estimate given at `enter`, below zero for fewer."""
        if self._tokens is not None:
            self._tokens.settle(tokens)

    def backoff_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row, with jitter."""
        longest = min(self._limits.backoff_max_s, self._limits.backoff_s * 2.0 ** min(failures - 1, 60))
        return longest * random.uniform(0.5, 1.0)

    async def pause(self, wait_s: float) -> None:
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
        for timer in (self._timer, self._alone_timer):
            if timer is not None:
                timer.cancel()

    def _is_first_of(self, round_number: int) -> bool:
        if round_number < self._round:
            return False
        self._round += 1
        return True

    def _hold_for_streak(self, wait_s: float | None) -> None:
        self._streak += 1
        self.hold(self.backoff_s(self._streak) if wait_s is None else wait_s)

    def _wait_s(self) -> float:
        """Seconds until the next one may be let in, at most 0 where it may be now."""
        if not self._not_before and not self._paces:
            return 0.0
        now = time.monotonic()
        wait_s = self._not_before - now
        if self._not_before and wait_s <= 0:
            self._open_again()
        return max(wait_s, *(pace.wait_s(now) for pace in self._paces), -1.0)

    def _open_again(self) -> None:
        """After a hold: what is still in flight is what the server bears, but go down by half at most."""
        self._not_before = 0.0
        if self._floor is not None:
            self._allowed = max(1.0, self._floor, min(self._allowed, float(self.in_flight)))
            self._borne = max(self._borne, min(self._allowed, float(self.in_flight)))
            self._floor = None

    def _let_in(self, tokens: float) -> None:
        self.in_flight += 1
        if self._paces:
            now = time.monotonic()
            for pace in self._paces:
                pace.take(now, tokens if pace is self._tokens else 1)
        if self._alone:
            loop = asyncio.get_running_loop()
            self._alone_timer = loop.call_later(self._limits.alone_s, self._end_alone)

    def _end_alone(self) -> None:
        self._alone = False
        self._pump()

    def _pump(self) -> None:
        """Lets in who waits, in order, as far as there is room and time."""
        while self._waiting and self.in_flight < self.allowed:
            future, tokens = self._waiting[0]
            if not future.done():
                wait_s = self._wait_s()
                if wait_s > 0:
                    self._wake_in(wait_s)
                    return
                if self.in_flight >= self.allowed:
                    return
                self._let_in(tokens)
                future.set_result(self._round)
            self._waiting.popleft()

    def _wake_in(self, wait_s: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._pump()


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
