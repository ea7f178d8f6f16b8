"""The event loop of a run: its signals, its time-outs, and exceptions that nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_STATUSES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextlib.contextmanager
def signals_to(handler: Callable[[signal.Signals, int], None]) -> Iterator[None]:
    """Calls `handler` with each SIGINT and SIGTERM and its exit status; restores the handlers of before."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _STATUSES}
    for number, status in _STATUSES.items():
        loop.add_signal_handler(number, handler, number, status)
    try:
        yield
    finally:
        for number in _STATUSES:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def raise_faults(results: Sequence[object]) -> None:
    """Raises the first result of a worker that is an exception; None and a cancellation are none."""
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


def retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Keeps asyncio from reporting an exception that is raised elsewhere."""
    if not future.cancelled():
        future.exception()


class RecheckingSelector(selectors.DefaultSelector):
    """Polls once more if a wait ended with nothing.

    After SIGSTOP and SIGCONT a wait ends so, with every time-out long past: without the second poll each
    request in flight would time out while its answer lies in the socket, and would be paid for again.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout)
        return found if found or timeout == 0 else super().select(0)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose time-outs do not count against what has arrived."""
    return asyncio.SelectorEventLoop(RecheckingSelector())
