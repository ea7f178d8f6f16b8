"""Whether the server is there at all, and since when nothing has worked."""

from __future__ import annotations

import time


class Health:
    """What the replies of a run, taken together, say about the server."""

    def __init__(self, give_up_after_s: float) -> None:
        self.successes = 0
        self.replied = False
        """Whether any reply came, of whatever status."""
        self.silent_rounds = 0
        """Rounds of tries without a reply, while there was none at all."""
        self._give_up_after_s = give_up_after_s
        self._failing_since: float | None = None

    def succeeded(self) -> None:
        self.successes += 1
        self._failing_since = None

    def failed(self) -> bool:
        """Notes a failure; whether there has been nothing else for too long."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since >= self._give_up_after_s
