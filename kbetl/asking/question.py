"""What is to be asked, prepared ahead of the loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kbetl.records import Request
from kbetl.store.ledger import Selection, StoredAnswer, Waiting

LOW_WATER = 128
"""Prepared questions below which the next chunk is fetched."""


@dataclass(frozen=True, slots=True)
class Question:
    """One sample, ready to be asked. Without a request it cannot be asked, and `failure` says why."""

    position: int
    sample_hash: str
    request: Request | None
    fields: Mapping[str, str]
    """What the template was filled with; the offline model reads it."""
    failure: str | None = None
    stored: StoredAnswer | None = None
    """An answer that is there already and settles it."""


class Questions:
    """The questions of a selection in order, fetched by chunks so that memory does not grow with rows."""

    def __init__(self, selection: Selection, prepare: Callable[[Waiting], Question]) -> None:
        self._selection = selection
        self._prepare = prepare
        self._ready: deque[Question] = deque()
        self._after = 0
        self._ended = False
        self._fetch: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "kbetl-questions")

    @property
    def fetched_position(self) -> int:
        """The position of the last question that was looked up in the store."""
        return self._after

    async def next(self) -> Question | None:
        """The next question; None when there are no more."""
        while not self._ready:
            if self._ended:
                return None
            await asyncio.shield(self._fetching())
        question = self._ready.popleft()
        if len(self._ready) < LOW_WATER and not self._ended:
            self._fetching()
        return question

    def _fetching(self) -> asyncio.Task[None]:
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._fetch_chunk())
        return self._fetch

    async def _fetch_chunk(self) -> None:
        """Takes in one chunk; whoever waits for it gets its exception."""
        try:
            loop = asyncio.get_running_loop()
            chunk = await loop.run_in_executor(self._thread, self._next_chunk, self._after)
        except BaseException:
            self._ended = True
            raise
        finally:
            self._fetch = None
        if not chunk:
            self._ended = True
            return
        self._after = chunk[-1].position
        self._ready.extend(chunk)

    def _next_chunk(self, after: int) -> list[Question]:
        return [self._prepare(waiting) for waiting in self._selection.next(after)]

    def close(self) -> None:
        """Ends the thread; questions that were not taken stay unasked."""
        self._ended = True
        self._ready.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)
