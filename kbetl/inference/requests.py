"""Prepared requests, fetched ahead of the workers in a thread of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from kbetl.inference.event_loop import retrieve_exception
from kbetl.records import Completion, Request
from kbetl.store.answers import StoredAnswer
from kbetl.store.samples import GeneratedRollout
from kbetl.store.selection import PendingSample, Selection

# Prepared requests below which the next chunk is fetched.
LOW_WATER = 128


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """One sample, ready to be asked. If `request` is None it cannot be asked, and `failure` says why."""

    sample_hash: str
    request: Request | None
    fields: Mapping[str, str]
    """What the template was filled with; the offline model reads it."""
    failure: str | None = None
    stored: StoredAnswer | None = None
    """A stored answer that decides it."""
    attempt: int = 0
    """The number of the answer that is wanted to the same request, from 0."""
    is_in_batch_file: bool = False
    """Whether a batch file has its request, so that it is not asked."""
    prompt_source: Mapping[str, Any] | None = None
    """What a new rollout records of the problem that it is an attempt at."""

    @property
    def needs_sending(self) -> bool:
        """Whether it can be asked, and no stored answer makes that needless."""
        return self.request is not None and self.stored is None

    @property
    def key(self) -> str | tuple[str, int]:
        """The key of what is paid for once: the request, with the attempt if that is not the first."""
        assert self.request is not None
        return (self.request.hash, self.attempt) if self.attempt else self.request.hash


PrepareRequests = Callable[[Sequence[PendingSample]], list[PreparedRequest]]
"""Prepares the requests of pending samples, in their order, and looks up stored answers."""


class FeedItem(NamedTuple):
    """A prepared request, and the number of its lookup in the store, from 1."""

    question: PreparedRequest
    lookup: int


class RequestFeed:
    """The requests of a selection in order, fetched by chunks: memory does not grow with the rows."""

    def __init__(self, selection: Selection, prepare: PrepareRequests) -> None:
        self._selection = selection
        self._prepare = prepare
        self._ready: deque[FeedItem] = deque()
        self._after = 0
        self._ended = False
        self._failure: BaseException | None = None
        self.lookups = 0
        """Lookups in the store so far, with one that is running."""
        self._fetch: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "kbetl-requests")

    async def next(self, *, from_end: bool = False) -> FeedItem | None:
        """The next request; None when there are no more. Raises what looking them up raised.

        `from_end`: the last of those that are ready, which has little in common with the next.
        """
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            await asyncio.shield(self._fetching())
        found = self._ready.pop() if from_end else self._ready.popleft()
        if len(self._ready) < LOW_WATER and not self._ended and self._failure is None:
            self._fetching()
        return found

    def _fetching(self) -> asyncio.Task[None]:
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._fetch_chunk())
            self._fetch.add_done_callback(retrieve_exception)
        return self._fetch

    async def _fetch_chunk(self) -> None:
        """Fetches one chunk. Its exception is kept: nobody may be waiting for a chunk fetched ahead."""
        self.lookups += 1
        try:
            loop = asyncio.get_running_loop()
            self._ready.extend(await loop.run_in_executor(self._thread, self._next_chunk, self.lookups))
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._fetch = None

    def _next_chunk(self, lookup: int) -> list[FeedItem]:
        chunk = self._selection.next(self._after)
        if chunk:
            self._after = chunk[-1].position
        else:
            self._ended = True
        return [FeedItem(question, lookup) for question in self._prepare(chunk)]

    def close(self) -> None:
        """Ends the thread; requests that are still in the feed stay unasked."""
        self._ended = True
        self._ready.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)


Generate = Callable[[PreparedRequest, Completion], GeneratedRollout]
"""Makes a rollout of a request and its answer."""
