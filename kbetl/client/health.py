"""Whether the server is there at all, and since when nothing has worked."""

from __future__ import annotations

import time

REFUSED_ALIKE = 20
"""Refusals in the same words, and nothing else since the run began, that are taken for everybody's."""

_MANY = 4.0
_OUTWEIGHED = 0.25
"""So many failures are trouble for all; each success between them outweighs this share of one."""


class Health:
    """What the replies of a run, taken together, say about the server."""

    def __init__(self, give_up_after_s: float) -> None:
        self.successes = 0
        self.silences = 0
        """Exchanges that ended in silence."""
        self.replied = False
        """Whether any reply came, of whatever status."""
        self.silent_rounds = 0
        """Rounds of tries without a reply, while there was none at all."""
        self._give_up_after_s = give_up_after_s
        self._failing_since: float | None = None
        self._broken: set[str] = set()
        self._broken_at = 0
        self._trouble = 0.0
        self._trouble_at = 0
        self._refusals = 0
        self._refusal: str | None = None

    def succeeded(self) -> None:
        self.successes += 1
        self._failing_since = None

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
        return now - self._failing_since >= self._give_up_after_s
