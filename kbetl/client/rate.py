"""Limits the rate of requests or tokens: per-minute limits that the user gives or that are learned."""

from __future__ import annotations

# Unused time that a limiter may make up for, so that late timers do not lower the rate.
_BURST_S = 0.1
# Share of the rate that a server accepted which is used from then on.
_SAFE_SHARE = 0.98
# Factor on a learned rate that was refused again too soon to measure it anew.
_DECREASE = 0.95
# Share by which a learned rate grows at first; it doubles with each period without a refusal.
_INCREASE = 0.1
# Fewer requests, or a shorter time, are too few to estimate a rate from.
_MIN_REQUESTS = 20
_MIN_OBSERVED_S = 1.0
_PERIOD_MAX_S = 60.0
# Units per minute from which on a learned rate no longer delays any request.
_UNLIMITED = 60_000.0


class RateLimiter:
    """Allows at most `per_minute` units (requests or tokens) per minute, spread evenly."""

    def __init__(self, per_minute: float) -> None:
        self.change(per_minute)
        self._next_at = 0.0

    def change(self, per_minute: float) -> None:
        """Sets another rate, from the next unit on."""
        self.per_minute = per_minute
        # With the burst counted in, no window of 60 s has more than `per_minute` units.
        self._unit_s = (60 + _BURST_S) / per_minute * (1 + 1e-6)

    def wait_s(self, now: float) -> float:
        """Returns the seconds until the next unit may be sent; 0 or less if it may be sent now.

        `now` is `time.monotonic()`, here and below.
        """
        return self._next_at - now

    def consume(self, now: float, units: float) -> None:
        """Counts units that are sent now."""
        self._next_at = max(self._next_at, now - _BURST_S) + units * self._unit_s

    def reset(self, now: float) -> None:
        """Forgets unused time, so that no burst follows a pause."""
        self._next_at = max(self._next_at, now)

    def correct(self, units: float) -> None:
        """Counts the units used beyond the number given to `consume`; negative if fewer were used."""
        self._next_at += units * self._unit_s


class RateEstimator:
    """Estimates the rate limit of a server from what it accepted between two refusals.

    The estimate is exact for a fixed or sliding window and converges for a token bucket.
    """

    def __init__(self, now: float) -> None:
        self.limiter: RateLimiter | None = None
        """The limiter with the learned rate; None if nothing is learned or the rate delays no request."""
        self.period_s = _MIN_OBSERVED_S
        """Seconds without a refusal after which a higher rate is tried."""
        self._since, self._accepted = now, 0
        self._growth = _INCREASE
        # Length of the last observation, and the requests accepted in it.
        self._last_s, self._last_accepted = 0.0, 0

    def forget(self, now: float, accepted: int) -> None:
        """Starts a new observation: the one so far includes an outage."""
        self._since, self._accepted = now, accepted
        self._last_s, self._last_accepted = 0.0, 0

    def on_refusal(self, now: float, accepted: int, wait_s: float) -> None:
        """Learns a rate from a refusal, when its wait of `wait_s` seconds is over.

        `accepted` is the number of requests since the start that the server did not refuse.
        """
        self._growth = _INCREASE
        seen_s, accepted_now = now - self._since, accepted - self._accepted
        slower = self.limiter.per_minute * _DECREASE if self.limiter is not None else _UNLIMITED
        if seen_s >= _MIN_OBSERVED_S and (self.limiter is not None or accepted_now >= _MIN_REQUESTS):
            # together with the last observation: one alone may be a few seconds, mostly spent waiting
            per_s = (accepted_now + self._last_accepted) / (seen_s + self._last_s)
            slower = min(slower, _SAFE_SHARE * 60 * max(per_s, 1 / wait_s))
            self.period_s = min(seen_s + self._last_s, _PERIOD_MAX_S)
            self._since, self._accepted = now, accepted
            self._last_s, self._last_accepted = seen_s, accepted_now
        self._change(slower)
        if self.limiter is not None:
            self.limiter.reset(now)

    def grow(self) -> None:
        """Raises the learned rate after a period without a refusal."""
        if self.limiter is not None:
            self._change(self.limiter.per_minute * (1 + self._growth))
            self._growth *= 2

    def _change(self, per_minute: float) -> None:
        if per_minute >= _UNLIMITED:
            self.limiter = None
        elif self.limiter is None:
            self.limiter = RateLimiter(per_minute)
        else:
            self.limiter.change(per_minute)
