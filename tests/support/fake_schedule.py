"""Which request gets which fault: drawn from its content and a seed, whatever the order of arrival."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

import orjson
from fake_faults import Asked


class ByContent:
    """Gives each question the fault that its messages and the seed draw.

    `shares`: per fault its share of the questions; the rest gets good answers. `times`: so many requests
    of a question get it, then its answers are good; None: all of them, for ever. A fault that stands for
    several, `"500+cut body"`, gives one after the other.
    """

    def __init__(
        self, shares: Mapping[str, float], *, seed: int = 0, times: Mapping[str, int | None] | None = None
    ) -> None:
        if sum(shares.values()) > 1:
            raise ValueError("the shares are more than all")
        self.seed = seed
        self._shares = dict(shares)
        self._times = dict(times or {})
        self._met: Counter[bytes] = Counter()

    def __call__(self, asked: Asked) -> str | None:
        try:
            messages = orjson.dumps(asked.body["messages"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        fault = self.drawn(messages)
        if fault is None:
            return None
        key = self._digest(messages)
        turn = self._met[key]
        self._met[key] += 1
        parts = fault.split("+")
        times = self._times.get(fault, len(parts))
        return None if times is not None and turn >= times else parts[turn % len(parts)]

    def drawn(self, messages: bytes) -> str | None:
        """The fault of a question, by its messages as JSON without blanks; None for a good answer."""
        point = int.from_bytes(self._digest(messages)[:6], "big") / 2**48
        for fault, share in self._shares.items():
            if point < share:
                return fault
            point -= share
        return None

    def _digest(self, messages: bytes) -> bytes:
        return hashlib.sha256(b"schedule %d " % self.seed + messages).digest()
