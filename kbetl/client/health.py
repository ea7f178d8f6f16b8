"""Whether the server is there at all, and since when nothing has worked."""

from __future__ import annotations

import time
from collections import defaultdict

SUSPECT_FIRST = 3
"""So many requests that got one status before any success: it may be everybody's, a probe tells."""
SUSPECT_LATER = 20
"""The same since the last success, where there was one: it was not everybody's then."""
REFUSED_ALIKE = 20
"""Refusals in the same words, and nothing else since the run began, that are taken for everybody's."""

_MANY = 4.0
_OUTWEIGHED = 0.25
"""So many failures are trouble for all; each success between them outweighs this share of one."""


class Health:
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
