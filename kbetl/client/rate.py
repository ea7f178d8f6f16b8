"""So many units a minute at most: as the user said, or as the server was seen to bear."""

from __future__ import annotations

_SLACK_S = 0.1
"""How much unused time a pace may make up for, so that late timers do not slow it down."""
_LEARNED_SHARE = 0.98
"""Share of what a server bore that is asked of it."""
_SLOWER = 0.95
_FASTER = 0.1
"""Share by which a learned pace grows at first; it doubles with each period without a refusal."""
_LEARNABLE = 20
_LEARNABLE_S = 1.0
"""Fewer requests, or a shorter time, say nothing about a pace."""
_PERIOD_MAX_S = 60.0
_BEYOND_MEASURE = 60_000.0
"""Per minute: a learned pace that has grown so far holds nobody back."""


class RateLimiter:
    """So many units a minute at most, spread evenly."""

    def __init__(self, per_minute: float) -> None:
        self.change(per_minute)
        self._next_at = 0.0

    def change(self, per_minute: float) -> None:
        """Another pace from the next unit on."""
        self.per_minute = per_minute
        # A window of 60 s then never holds more than `per_minute` units, the slack included.
        self._unit_s = (60 + _SLACK_S) / per_minute * (1 + 1e-6)

    def wait_s(self, now: float) -> float:
        """Seconds until the next one may go, at most 0 where it may go now."""
        return self._next_at - now

    def consume(self, now: float, units: float) -> None:
        self._next_at = max(self._next_at, now - _SLACK_S) + units * self._unit_s

    def reset(self, now: float) -> None:
        """After a hold: nothing is made up for."""
        self._next_at = max(self._next_at, now)

    def correct(self, units: float) -> None:
        """Corrects an estimate: the units that were used beyond it, below zero for fewer."""
        self._next_at += units * self._unit_s


class RateEstimator:
    """What pace a server bears that refuses for a named time: what it accepted over how long it took.

    That is exact for a window, sliding or fixed, and soon right for a bucket that is refilled.
    """

    def __init__(self, now: float) -> None:
        self.pace: RateLimiter | None = None
        """What was learned; None where nothing was, or where it holds nobody back."""
        self.period_s = _LEARNABLE_S
        """How long to go on without a refusal before trying a faster pace."""
        self._since, self._accepted = now, 0
        self._growth = _FASTER
        self._before_s, self._before = 0.0, 0
        """How long the last observation took, and how many were accepted in it."""

    def forget(self, now: float, accepted: int) -> None:
        """What was seen up to now says nothing: the server was not there."""
        self._since, self._accepted = now, accepted
        self._before_s, self._before = 0.0, 0

    def refused(self, now: float, accepted: int, wait_s: float) -> None:
        """The wait that a refusal named is over; `accepted` requests were not refused so far."""
        self._growth = _FASTER
        seen_s, bore = now - self._since, accepted - self._accepted
        slower = self.pace.per_minute * _SLOWER if self.pace is not None else _BEYOND_MEASURE
        if seen_s >= _LEARNABLE_S and (self.pace is not None or bore >= _LEARNABLE):
            # with the one before: a few seconds, most of them spent waiting, would say too little
            per_s = (bore + self._before) / (seen_s + self._before_s)
            slower = min(slower, _LEARNED_SHARE * 60 * max(per_s, 1 / wait_s))
            self.period_s = min(seen_s + self._before_s, _PERIOD_MAX_S)
            self._since, self._accepted = now, accepted
            self._before_s, self._before = seen_s, bore
        self._change(slower)
        if self.pace is not None:
            self.pace.reset(now)

    def grow(self) -> None:
        """A period passed without a refusal."""
        if self.pace is not None:
            self._change(self.pace.per_minute * (1 + self._growth))
            self._growth *= 2

    def _change(self, per_minute: float) -> None:
        if per_minute >= _BEYOND_MEASURE:
            self.pace = None
        elif self.pace is None:
            self.pace = RateLimiter(per_minute)
        else:
            self.pace.change(per_minute)
