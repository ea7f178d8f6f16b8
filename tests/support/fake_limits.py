"""What `fake_llm` allows: requests and tokens in a time, requests at once, and when it is not there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

from fake_faults import Asked, Reply, error_reply

BYTES_PER_TOKEN = 4


class Window:
    """So many units in any `window_s` seconds."""

    def __init__(self, most: int, window_s: float) -> None:
        self.most = most
        self.window_s = window_s
        self._used: deque[tuple[float, int]] = deque()
        self.used = 0

    def wait_s(self, now: float, units: int) -> float:
        """Seconds until so many units fit in, 0 where they do."""
        while self._used and self._used[0][0] <= now - self.window_s:
            self.used -= self._used.popleft()[1]
        over, when = self.used + units - self.most, now
        for at, amount in self._used:
            if over <= 0:
                break
            over -= amount
            when = at + self.window_s
        return max(0.0, when - now)

    def take(self, now: float, units: int) -> None:
        self._used.append((now, units))
        self.used += units


def _as_seconds(wait_s: float) -> Mapping[str, str]:
    return {"Retry-After": f"{wait_s:.3f}"}


def _as_milliseconds(wait_s: float) -> Mapping[str, str]:
    return {"Retry-After-Ms": str(int(wait_s * 1000) + 1)}


def _as_date(wait_s: float) -> Mapping[str, str]:
    now = int(time.time())
    return {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + wait_s + 1, usegmt=True)}


def _as_headers(wait_s: float) -> Mapping[str, str]:
    return {"X-RateLimit-Remaining-Requests": "0", "X-RateLimit-Reset-Requests": f"{wait_s * 1000:.0f}ms"}


SAYS: dict[str, Callable[[float], Mapping[str, str]]] = {
    "seconds": _as_seconds,
    "ms": _as_milliseconds,
    "date": _as_date,
    "headers": _as_headers,
    "nothing": lambda wait_s: {},
}
"""How a refusal names the wait."""


@dataclass
class Allowed:
    """What the server allows; None: no such limit. What is beyond gets 429."""

    at_once: int | None = None
    requests: int | None = None
    """In any `window_s`."""
    tokens: int | None = None
    """Prompt, by its bytes, and `max_tokens`, in any `window_s`."""
    window_s: float = 60.0
    says: str = "seconds"
    """How a refusal names the wait: see SAYS. `headers` goes with good answers as well."""
    _windows: list[tuple[Window, bool]] = field(init=False)

    def __post_init__(self) -> None:
        self._windows = [
            (Window(most, self.window_s), counts_tokens)
            for most, counts_tokens in ((self.requests, False), (self.tokens, True))
            if most is not None
        ]

    def refuse(self, asked: Asked, in_flight: int) -> Reply | None:
        """The refusal of a request that is too many; else None, and it is counted."""
        if self.at_once is not None and in_flight > self.at_once:
            return error_reply(429, "Too many requests at once", code="rate_limit_exceeded")
        units = [(window, _tokens(asked) if counts_tokens else 1) for window, counts_tokens in self._windows]
        wait_s = max((window.wait_s(asked.at, amount) for window, amount in units), default=0.0)
        if wait_s > 0:
            return error_reply(429, "Rate limit", SAYS[self.says](wait_s), code="rate_limit_exceeded")
        for window, amount in units:
            window.take(asked.at, amount)
        return None

    def headers(self, now: float) -> Mapping[str, str]:
        """What a good answer says about what is left."""
        if self.says != "headers" or not self._windows or self._windows[0][1]:
            return {}
        window, _ = self._windows[0]
        return {
            "X-RateLimit-Limit-Requests": str(window.most),
            "X-RateLimit-Remaining-Requests": str(window.most - window.used),
            "X-RateLimit-Reset-Requests": f"{window.wait_s(now, window.most) * 1000:.0f}ms",
        }


def _tokens(asked: Asked) -> int:
    body = asked.body
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    return len(asked.raw) // BYTES_PER_TOKEN + int(limit)


@dataclass(frozen=True)
class Outage:
    """A time in which the server is not there, counted from its first request."""

    begins_s: float
    lasts_s: float
    kind: str = "503"
    """A fault by its name for every request of that time, or `refuse`: nobody listens, all is reset."""
