"""Reads how long a server asks to wait, from headers and error bodies. No wait exceeds LONGEST_S."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_S = 366 * 86400.0
"""Upper bound in seconds of every duration read here, so that clocks and timers can add it."""

_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
# A longer text is no duration.
_LONGEST_TEXT = 400
_NUMBER_TEXT = r"\d+(?:\.\d+)?(?:[eE][+-]?\d{1,5})?"
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|us|µs|μs|ns|s))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|μs|ns|s)", re.ASCII)
_NUMBER = re.compile(_NUMBER_TEXT, re.ASCII)
# Per limit, the headers for what remains of it and when it resets.
_LIMITS = tuple(
    (f"x-ratelimit-remaining{what}", f"x-ratelimit-reset{what}") for what in ("-requests", "-tokens", "")
)
_SAID = re.compile(
    r"\b(?:(?:try(?: your request)? again|retry(?:ing)?|resets?|available)(?: again)? (?:in|after)"
    r"|wait(?: for)?)(?: about| at least)? (?P<number>\d{1,300}(?:\.\d{1,20})?)"
    r"(?:(?P<go>(?:h|ms|m|s)(?:\d[\dhms.]*)?)"
    r"|[ -]?(?P<unit>milliseconds?|msecs?|seconds?|secs?|minutes?|mins?|hours?|hrs?|ms|s|m|h))?(?!\w)",
    re.I | re.ASCII,
)
# Starts of unit words; the first match counts.
_UNIT_WORDS_S = (("mil", 1e-3), ("ms", 1e-3), ("h", 3600.0), ("m", 60.0), ("s", 1.0))
_FIELDS = ("retry_after", "retryAfter", "retry-after", "retry_after_seconds", "retryDelay", "retry_delay")
_MS_FIELDS = ("retry_after_ms", "retryAfterMs", "retry-after-ms")


def retry_after_s(headers: Mapping[str, str], body_s: float | None = None) -> float | None:
    """Returns the seconds that an error response asks to wait; None if it asks for no wait above zero.

    The first of: `retry-after-ms`; `retry-after` (seconds, or an HTTP date compared with the response's
    own `date`); `body_s`, the wait that the body names; the longest `x-ratelimit-reset-*` of the limits
    that are used up, or of all limits if none says that it is used up.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds:
        return _clamped(milliseconds / 1000)
    wait_s = _retry_after_s(headers.get("retry-after"), headers.get("date"))
    if wait_s is not None:
        return wait_s if wait_s > 0 else None
    return body_s or reset_after_s(headers) or _longest_reset_s(headers, only_used_up=False)


def body_wait_s(error: Mapping[str, Any], message: str) -> float | None:
    """Returns the seconds that the body of an error asks to wait; None if it asks for no wait above zero.

    It reads a field of the error, of its details (Gemini's `retryDelay`) or of the headers that a gateway
    passes on; else the words of the message.

    >>> body_wait_s({}, "Rate limit reached. Please try again in 1.2s.")
    1.2
    """
    metadata = error.get("metadata")
    details = error.get("details")
    for each in [error, metadata, *(details if isinstance(details, list) else [details])]:
        found = _field_s(each) if isinstance(each, dict) else None
        if found:
            return found
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if isinstance(headers, dict):
        found = retry_after_s({str(name).lower(): str(value) for name, value in headers.items()})
        if found:
            return found
    return _said_s(message)


def _field_s(fields: Mapping[str, Any]) -> float | None:
    for names, unit_s in ((_MS_FIELDS, 1e-3), (_FIELDS, 1.0)):
        for name in names:
            value = fields.get(name)
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                continue
            found = duration_s(str(value))
            if found:
                return found * unit_s
    return None


def _said_s(message: str) -> float | None:
    found = _SAID.search(message)
    if found is None:
        return None
    if found["go"]:
        return duration_s(f"{found['number']}{found['go']}".rstrip(".").lower()) or None
    word = (found["unit"] or "s").lower()
    unit_s = next(each for start, each in _UNIT_WORDS_S if word.startswith(start))
    return _clamped(float(found["number"]) * unit_s) or None


def reset_after_s(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds until a used-up limit resets; None if no limit is used up."""
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
    """Returns the seconds of a Go duration (`6m0s`), a number of seconds, or until a Unix time (s or ms).

    >>> duration_s("6m0s")
    360.0

    The result is between 0 and LONGEST_S; None if the text is none of these, such as -1.
    """
    text = (text or "").strip()
    if len(text) <= _LONGEST_TEXT and _DURATION.fullmatch(text):
        return _clamped(sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text)))
    value = _number(text)
    if value is None or value < 1e9:
        return None if value is None else _clamped(value)
    return _clamped((value / 1000 if value > 1e12 else value) - time.time())


def _clamped(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_S)


def _number(text: str | None) -> float | None:
    """Returns a number from 0 up, infinity if it is too large for a float; None if the text is none."""
    text = (text or "").strip()
    return float(text) if len(text) <= _LONGEST_TEXT and _NUMBER.fullmatch(text) else None


def _retry_after_s(text: str | None, date: str | None) -> float | None:
    """Returns the seconds of a `retry-after` value, negative for a past date; None if it is neither."""
    seconds = duration_s(text)
    if seconds is not None or not text:
        return seconds
    until = _unix_time(text)
    now = _unix_time(date) if date else None
    return None if until is None else min(until - (time.time() if now is None else now), LONGEST_S)


def _unix_time(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
