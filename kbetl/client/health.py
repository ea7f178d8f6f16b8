"""Whether the server is there at all, and since when nothing has worked."""

from __future__ import annotations

import time

REFUSED_ALIKE = 20
"""Refusals in the same words, and nothing else since the run began, that are taken for everybody's."""


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
