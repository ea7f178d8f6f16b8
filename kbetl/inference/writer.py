"""Writes answers and outcomes in one thread, in groups: it commits whenever it is idle."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kbetl.records import Completion, Outcome, Request
from kbetl.store import Store
from kbetl.store.answers import InUse, NewAnswer, NewOutcome, add_answers, record_outcomes
from kbetl.store.samples import GeneratedRollout, add_generated, add_generated_if_new
from kbetl.store.store import now

# Items per transaction, so that one commit stays well below 50 ms.
MAX_GROUP = 512

# Hashes fall all over the indexes: their inner pages should stay in memory.
CACHE_KIB = 32 * 1024
# Of 16 KB: a page that many groups change is copied back once.
CHECKPOINT_PAGES = 2000


@dataclass(eq=False, slots=True)
class WriteItem:
    """What is stored together: the tries of one request, and the outcomes that they decide."""

    outcomes: Sequence[Outcome]
    """Those without a `try_number` are decided by the answer stored here, or by that of `reused_from`."""
    request: Request | None = None
    completions: Sequence[Completion] = ()
    reused_from: WriteItem | None = None
    """The item whose answer decides these outcomes, if it was stored for another sample."""
    try_number: int | None = None
    """Of the stored answer that decides them."""
    attempt: int = 0
    """Of the request."""
    in_same_transaction: Callable[[Store], None] | None = None
    """Called after all that: what a budget reserves and charges."""
    rollouts: Sequence[GeneratedRollout] = ()
    """Samples that the answer is."""
    committed: asyncio.Future[None] | None = field(default=None, repr=False)

    @property
    def answer_item(self) -> WriteItem:
        """The item that holds the answer."""
        return self.reused_from or self

    def tries(self, run_id: int) -> Iterator[NewAnswer]:
        """Yields the completions for its request, as they are stored."""
        if self.request is not None:
            for completion in self.completions:
                yield NewAnswer(self.request, self.attempt, completion, run_id)

    def decisions(self) -> Iterator[NewOutcome]:
        """Yields the outcomes, each with whether an answer decides it."""
        answered, number = bool(self.answer_item.completions), self.answer_item.try_number
        for outcome in self.outcomes:
            if number is None or outcome.try_number is not None:
                yield NewOutcome(outcome, answered)
            else:
                yield NewOutcome(replace(outcome, try_number=number), answered)


class AnswerWriter:
    """Writes the items that an event loop submits; each item's future is done once it is durable.

    What arrives during a commit is the next group. When a commit fails, that and every later item fails
    with the same exception: nobody goes on paying for what cannot be stored. While another process holds
    the store, items wait, and `may_pay` is not set.
    """

    def __init__(
        self,
        store: Store,
        run_id: int,
        on_use: Callable[[InUse], None],
        try_out: Callable[[Sequence[NewOutcome]], None] | None = None,
    ) -> None:
        """`on_use` hears, in the event loop, of a task that came into use.

        `try_out` gets the outcomes, in the writer's thread, in place of the store.
        """
        store.connection.execute(f"pragma cache_size = {-CACHE_KIB}")
        store.connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._store = store
        self._run_id = run_id
        self._on_use = on_use
        self._try_out = try_out
        self._items: queue.SimpleQueue[WriteItem | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._labelled: set[str] = set()
        """Tasks of which an ok outcome is durable: they, or others of their names, are in use."""
        self._loop = asyncio.get_running_loop()
        self.may_pay = asyncio.Event()
        """Set while answers can be stored."""
        self.may_pay.set()
        self._is_given_up = threading.Event()
        store.lock_wait.only_begins = True  # two statements less for each answer
        store.lock_wait.gives_up = self._is_given_up.is_set
        store.lock_wait.on_change = self._on_held
        self._thread = threading.Thread(target=self._run, name="kbetl-writer", daemon=True)
        self._thread.start()

    def submit(self, item: WriteItem) -> asyncio.Future[None]:
        """Queues an item; the future is done when it is durable, or has the exception that prevented it."""
        item.committed = self._loop.create_future()
        self._items.put(item)
        return item.committed

    def give_up(self) -> None:
        """Waits no longer while another process holds the store: what is not stored by then is lost."""
        self._is_given_up.set()

    def close(self) -> None:
        """Waits until everything submitted is durable, or has failed."""
        self._items.put(None)
        self._thread.join()

    def _on_held(self, is_held: bool) -> None:
        change = self.may_pay.clear if is_held else self.may_pay.set
        self._loop.call_soon_threadsafe(change)

    def _run(self) -> None:
        ended = False
        while not ended:
            group: list[WriteItem] = []
            item = self._items.get()
            while item is not None:
                group.append(item)
                if len(group) == MAX_GROUP:
                    break
                try:
                    item = self._items.get_nowait()
                except queue.Empty:
                    break
            else:
                ended = True
            if group:
                self._commit(group)
        self._store.close()

    def _commit(self, group: Sequence[WriteItem]) -> None:
        if self._failure is None:
            try:
                with self._store.transaction():
                    in_use = self._write(group)
                self._labelled.update(
                    each.task_hash for item in group for each in item.outcomes if each.status == "ok"
                )
                for each in in_use:
                    self._loop.call_soon_threadsafe(self._on_use, each)
            except BaseException as error:  # noqa: BLE001 - raised in the loop, by whoever waits for the item
                self._failure = error
        self._loop.call_soon_threadsafe(_resolve, [item.committed for item in group], self._failure)

    def _write(self, group: Sequence[WriteItem]) -> list[InUse]:
        """Stores a group by one call of SQLite for all answers, one for all outcomes: each blocks the loop.

        Returns the tasks that come into use.
        """
        at = now()
        add_answers(self._store, [each for item in group for each in item.tries(self._run_id)], at)
        decisions = [each for item in group for each in item.decisions()]
        in_use: list[InUse] = []
        if self._try_out is None:
            in_use = record_outcomes(self._store, decisions, at, labelled_before=self._labelled)
        else:
            self._try_out(decisions)
        add_generated(self._store, [each for item in group if item.completions for each in item.rollouts])
        for item in group:
            if item.in_same_transaction is not None:
                item.in_same_transaction(self._store)
            for rollout in () if item.completions else item.rollouts:
                add_generated_if_new(self._store, rollout, item.answer_item.try_number)
        return in_use


def _resolve(futures: Sequence[asyncio.Future[None] | None], failure: BaseException | None) -> None:
    for future in futures:
        if future is None or future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)
