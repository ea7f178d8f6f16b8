"""How long a server asks us to wait, as its headers say it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|us|µs|μs|ns|s))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|μs|ns|s)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_LIMITS = tuple(
    (f"x-ratelimit-remaining{what}", f"x-ratelimit-reset{what}") for what in ("-requests", "-tokens", "")
)
"""Per limit, the headers that say what remains of it and when it starts anew."""


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a refusing reply asks to wait; None where it asks for none, or for none above zero.

    `retry-after-ms`, then `retry-after` (seconds or an HTTP date, which is read by the reply's own
    clock), then the longest `x-ratelimit-reset-*` of what is used up (of all where none says so).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000
    wait_s = _retry_after_s(headers.get("retry-after"), headers.get("date"))
    if wait_s is not None:
        return wait_s if wait_s > 0 else None
    return exhausted_wait_s(headers) or _longest_reset_s(headers, only_used_up=False)


def exhausted_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until a limit of which nothing remains starts anew; None where something remains."""
    for remaining, _ in _LIMITS:
        if remaining in headers and _used_up(headers, remaining):
            return _longest_reset_s(headers, only_used_up=True)
    return None


def _used_up(headers: Mapping[str, str], remaining: str) -> bool:
    return _number(headers.get(remaining)) == 0


def _longest_reset_s(headers: Mapping[str, str], *, only_used_up: bool) -> float | None:
    waits = [
        duration_s(headers.get(reset))
        for remaining, reset in _LIMITS
        if not only_used_up or _used_up(headers, remaining)
    ]
    return max((wait_s for wait_s in waits if wait_s), default=None)


def duration_s(text: str | None) -> float | None:
    """Seconds of a Go duration (`6m0s`, `12ms`), a number of seconds, or a point in Unix time (s or ms).

    >>> duration_s("6m0s")
    360.0

    None for anything else, so also for -1.
    """
    text = (text or "").strip()
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))
    value = _number(text)
    if value is None or value < 1e9:
        return value
    return max(0.0, (value / 1000 if value > 1e12 else value) - time.time())


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _retry_after_s(text: str | None, date: str | None) -> float | None:
    seconds = duration_s(text)
    if seconds is not None or not text:
        return seconds
    until = _unix_time(text)
    now = _unix_time(date) if date else None
    return None if until is None else until - (time.time() if now is None else now)


def _unix_time(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
