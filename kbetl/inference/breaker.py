"""The circuit breaker for answers that are all cut by the output limit: paid for, and worth nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from kbetl.errors import RunStopped
from kbetl.inference.budget import output_limit
from kbetl.records import Request, Status

# So many first answers that are all cut stop the run; so many in a row later are worth a line.
ALIKE = 40


class Earlier(NamedTuple):
    """Outcomes of the same question before this run."""

    cut: int = 0
    """Outcomes that are `truncated`."""
    has_others: bool = False
    """Whether any answer came whole."""


NOTHING = Earlier()


class Breaker:
    """Counts answers as they come; for one event loop.

    As long as every answer was cut, no more requests are let through than could still be among the first
    ALIKE. It waits for nothing before the first answer: a run begins as fast as ever.
    """

    def __init__(self, earlier: Earlier, say: Callable[[str], None], *, keep_going: bool) -> None:
        self._cut = earlier.cut
        self._is_closed = keep_going or earlier.has_others
        """Whether all requests go through from now on."""
        self._say = say
        self._in_a_row = 0
        self._note_at = ALIKE
        self._in_flight = 0
        self._changed = asyncio.Event()

    async def admit(self, request: Request) -> None:
        """Returns once one more request may be sent; each needs its `leave`. RunStopped: none may."""
        while not self._is_closed and self._cut and self._cut + self._in_flight >= ALIKE:
            if self._cut >= ALIKE:
                raise RunStopped(_stopped(self._cut, request))
            self._changed.clear()
            await self._changed.wait()
        self._in_flight += 1

    def leave(self) -> None:
        """Ends a request, whatever came of it."""
        self._in_flight -= 1
        self._changed.set()

    def close(self) -> None:
        """Lets all waiting requests go on; they find out elsewhere whether the run does."""
        self._is_closed = True
        self._changed.set()

    def came(self, status: Status, request: Request) -> RunStopped | None:
        """Counts an answer; returns what ends the run, None if this one does not."""
        if status != "truncated":
            self._in_a_row = 0
            self.close()
            return None
        self._cut += 1
        self._in_a_row += 1
        if not self._is_closed:
            return RunStopped(_stopped(self._cut, request)) if self._cut >= ALIKE else None
        if self._in_a_row == self._note_at:
            self._note_at *= 2
            self._say(
                f"{self._in_a_row} answers in a row were cut by {_limit(request)}: "
                "--retry truncated -t N asks them again with a higher one"
            )
        return None


def _stopped(cut: int, request: Request) -> str:
    return (
        f"all of the first {cut} answers were cut by {_limit(request)}, and what is sent after them would be "
        "paid for in vain too. Ask with a higher limit (-t N, another question to all samples) or with less "
        "reasoning (-o reasoning_effort low); --keep-going asks the rest as it is"
    )


def _limit(request: Request) -> str:
    limit = output_limit(request.parameters)
    return "the server's own output limit" if limit is None else f"the output limit of {limit:,} tokens"
