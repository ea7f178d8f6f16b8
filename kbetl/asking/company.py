"""Two paying processes on one store: a request that both would send is sent by one, and settles both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from kbetl.asking.question import Found, Question, Questions
from kbetl.errors import KbetlError
from kbetl.store import Claims

LOOK_EVERY_S = 0.1
"""How often a process looks whether another waits for it, to share or with an answer."""
SAY_AFTER_S = 1.0
"""How long it waits for another before it says so."""


def waiting_line(who: str) -> str:
    """What is said of a wait for another process."""
    return (
        f"waiting for {who}, which has requests that this run needs; if it is stopped, let it go on or end it"
    )


class Company:
    """The other processes that may be paying, seen from one event loop.

    `under_way` gives hash and attempt of the requests whose answers are not durable yet; `stop` ends the
    run; `say` takes a line for the user.
    """

    def __init__(
        self,
        claims: Claims,
        under_way: Callable[[], Iterable[tuple[str, int]]],
        questions: Questions,
        stop: Callable[[KbetlError], None],
        say: Callable[[str], None],
    ) -> None:
        self._claims = claims
        self._under_way = under_way
        self._questions = questions
        self._stop = stop
        self._say = say
        self._said_of: set[int | None] = set()
        """The processes that the user was told of."""

    def begin(self) -> None:
        """To be called before the first lookup of answers."""
        self._claims.begin()
        self._watch()

    def _watch(self) -> None:
        try:
            self._claims.check_in_place()
        except KbetlError as error:
            self._stop(error)
            return
        if not self._claims.is_shared and self._claims.has_company():
            self._claims.share(self._under_way())
        asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._watch)

    async def found(self, question: Question, has_ended: Callable[[], bool]) -> Found | None:
        """What another process did about a question since it was looked up; None: it may be sent now.

        It got an answer, or handed the request out, which is then not to be asked. Waits while another
        process has the request, until `has_ended`. Whoever gets None calls `release` once what comes of it
        is durable.
        """
        if not self._claims.is_shared or question.request is None:
            return None
        key, began_s = (question.request.hash, question.attempt), time.monotonic()
        while True:
            is_ours = self._claims.claim(*key)
            found = await self._questions.look_up(question)
            newer = is_newer(found, question)
            if newer or found.is_handed_out:
                if is_ours:
                    self._claims.release(*key)
                return found._replace(is_handed_out=not newer)
            if is_ours or has_ended():
                return None
            if time.monotonic() - began_s > SAY_AFTER_S:
                await self._say_whom(*key)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _say_whom(self, request_hash: str, attempt: int) -> None:
        process = self._claims.holder(request_hash, attempt)
        if process not in self._said_of:
            self._said_of.add(process)
            self._say(waiting_line(await self._questions.who_asks(process)))

    def release(self, request_hash: str, attempt: int) -> None:
        """A request is settled: its answer is durable, or there will be none."""
        if self._claims.is_shared:
            self._claims.release(request_hash, attempt)


def is_newer(found: Found, question: Question) -> bool:
    """Whether an answer came since a question was looked up."""
    return found.stored is not None and found.stored.try_number > question.newest_try
