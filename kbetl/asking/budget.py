"""A budget under way: reserves before each try is sent, settles with its answer, and says when to end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kbetl.asking.room import Room, Taken, exceeds, taken_by
from kbetl.asking.worst_case import worst_case
from kbetl.asking.writer import Entry
from kbetl.errors import BudgetReached, ConfigError, RunStopped
from kbetl.prices import Price, usd
from kbetl.records import Completion, Request
from kbetl.store import Store
from kbetl.store.ledger import newest_try
from kbetl.store.spending import ToReserve, Worst, keep_reserved, release, reserve


class Budget:
    """What a task may take in a store in all, at any concurrency; for one event loop.

    Who wants to send waits for room as long as what is in flight may give some back. When nothing is in
    flight and the next request does not fit, it and all later ones get BudgetReached.
    """

    def __init__(self, room: Room, price: Price | None, task_name: str, run_id: int = 0) -> None:
        self.room = room
        self.price = price
        self._task_name = task_name
        self.run_id = run_id
        """The run that reserves; set before the first request."""
        self.left_behind = ""
        """What killed runs have reserved, in words; empty for nothing."""
        self._waiting: deque[tuple[Worst, asyncio.Future[None]]] = deque()
        self._in_flight = 0
        self._closed: RunStopped | None = None

    def worst_case(self, request: Request) -> Worst:
        """The most that one try of a request takes. Raises ConfigError where that is not known."""
        return worst_case(request, self.price)

    async def take(self, worst: Worst) -> None:
        """Returns once there is room for one more try, and it is taken; each needs its `resolve`."""
        if self._closed is not None:
            raise self._closed
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((worst, future))
        self._wake()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.room.give_back(worst)
                self.resolve()
            raise

    def resolve(self) -> None:
        """A try is no longer in flight: what it gave back, if anything, is in the room."""
        self._in_flight -= 1
        self._wake()

    def close(self, error: RunStopped) -> None:
        """Nothing is reserved any more: who waits, or asks later, gets this error."""
        self._closed = self._closed or error
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(self._closed)
        self._waiting.clear()

    def check_open(self) -> None:
        """Raises what closed it."""
        if self._closed is not None:
            raise self._closed

    def taken(self, completion: Completion) -> Taken:
        """What an answer took: the larger of its own word and of its tokens by the price."""
        return taken_by(completion, self.price)

    def check(self, worst: Worst, taken: Taken) -> None:
        """Ends the run where an answer took more than it could: price or output limit are not kept."""
        if exceeds(worst, taken):
            self.close(RunStopped(_overrun(worst, taken)))

    def _wake(self) -> None:
        while self._waiting:
            worst, future = self._waiting[0]
            if not future.done():
                if not self.room.fits(worst):
                    break
                self.room.take(worst)
                self._in_flight += 1
                future.set_result(None)
            self._waiting.popleft()
        if self._waiting and not self._in_flight:
            self.close(BudgetReached(self._reached(self._waiting[0][0])))

    def _reached(self, worst: Worst) -> str:
        ceiling = self.room.ceiling
        most = f"{worst.tokens:,} tokens" if ceiling.pusd is None else f"${usd(worst.pusd or 0):.4f}"
        return (
            f"budget reached: {self._task_name} has taken {self.room.as_text()} in this store, "
            f"and the next request may take {most}" + (f"; {self.left_behind}" if self.left_behind else "")
        )


def _overrun(worst: Worst, taken: Taken) -> str:
    if worst.pusd is not None and (taken.pusd or 0) > worst.pusd:
        return (
            f"an answer cost ${usd(taken.pusd or 0):.6f} where at most ${usd(worst.pusd):.6f} was reserved: "
            "the price is too low, so no budget can be kept; correct it in kbetl.toml"
        )
    return (
        f"an answer took {taken.tokens:,} tokens where at most {worst.tokens:,} were reserved: the server "
        "does not keep the output limit, so no budget can be kept; ask without --max-cost and "
        "--max-tokens-total"
    )


@dataclass(eq=False)
class Meter:
    """Reserves for each try of one request, and settles it; the client tells it of the tries."""

    budget: Budget
    request: Request
    keep: Callable[[Entry], asyncio.Future[None]]
    attempt: int = 0
    _worst: Worst | None = None
    """Of the try that is in flight; None where none is."""
    _reservation: int = 0
    """Its id; set by the writer's thread, which does one thing after the other."""

    async def before_send(self) -> None:
        """Returns once the try's worst case is reserved and durable; RunStopped where it must not go."""
        self.end()
        try:
            worst = self.budget.worst_case(self.request)
        except ConfigError as error:
            raise RunStopped(str(error)) from error
        await self.budget.take(worst)
        self._worst = worst
        try:
            await self.keep(Entry([], also=partial(self._reserve, worst)))
            self.budget.check_open()
        except BaseException:
            self.unpaid()
            raise

    def unpaid(self) -> None:
        """The try was not billed, or not sent: what was reserved for it is given back."""
        if self._worst is None:
            return
        self.budget.room.give_back(self._worst)
        # nobody waits for this: if it fails, so does everything that is kept after it
        self.keep(Entry([], also=self._release)).add_done_callback(_seen)
        self._resolve()

    def settle(self, completion: Completion) -> Callable[[Store], None] | None:
        """What the writer does with the reservation in the transaction that stores the answer."""
        worst = self._worst
        if worst is None:
            return None
        taken = self.budget.taken(completion)
        is_told = self.budget.room.settle(worst, taken)
        self.budget.check(worst, taken)
        self._resolve()
        return self._release if is_told else self._keep_reserved

    def end(self) -> None:
        """A try that is in flight no more and told nothing counts in full, for ever."""
        if self._worst is not None:
            self._resolve()

    def _resolve(self) -> None:
        self._worst = None
        self.budget.resolve()

    def _reserve(self, worst: Worst, store: Store) -> None:
        request = self.request
        self._reservation = reserve(
            store, ToReserve(self.budget.run_id, request.hash, self.attempt, request.model, worst)
        )

    def _release(self, store: Store) -> None:
        release(store, self._reservation)

    def _keep_reserved(self, store: Store) -> None:
        try_number = newest_try(store, self.request.hash, self.attempt)
        if try_number is not None:
            keep_reserved(store, self._reservation, try_number)


def _seen(future: asyncio.Future[None]) -> None:
    """Keeps asyncio from reporting an exception that others raise."""
    if not future.cancelled():
        future.exception()
