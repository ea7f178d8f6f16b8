"""Two paying processes on one store: a request that both would send is sent by one, and settles both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from kbetl.asking.question import Question
from kbetl.errors import KbetlError
from kbetl.store import Claims
from kbetl.store.ledger import StoredAnswer

LOOK_EVERY_S = 0.1
"""How often a process looks whether another waits for it, to share or with an answer."""


class Company:
    """The other processes that may be paying, seen from one event loop.

    `under_way` gives hash and attempt of the requests whose answers are not durable yet, `look_up` the
    newest stored answer to a question; `stop` ends the run.
    """

    def __init__(
        self,
        claims: Claims,
        under_way: Callable[[], Iterable[tuple[str, int]]],
        look_up: Callable[[Question], Awaitable[StoredAnswer | None]],
        stop: Callable[[KbetlError], None],
    ) -> None:
        self._claims = claims
        self._under_way = under_way
        self._look_up = look_up
        self._stop = stop

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

    async def answer(self, question: Question, has_ended: Callable[[], bool]) -> StoredAnswer | None:
        """What another process got for a question since it was looked up; None: it may be sent now.

        Waits while another process has the request, until `has_ended`. Whoever gets None calls `release`
        once what comes of it is durable.
        """
        if not self._claims.is_shared or question.request is None:
            return None
        while True:
            is_ours = self._claims.claim(question.request.hash, question.attempt)
            stored = await self._look_up(question)
            if stored is not None and stored.try_number > question.newest_try:
                if is_ours:
                    self._claims.release(question.request.hash, question.attempt)
                return stored
            if is_ours or has_ended():
                return None
            await asyncio.sleep(LOOK_EVERY_S)

    def release(self, request_hash: str, attempt: int) -> None:
        """A request is settled: its answer is durable, or there will be none."""
        if self._claims.is_shared:
            self._claims.release(request_hash, attempt)
