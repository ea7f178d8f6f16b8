"""The event loop of a paying run: it hears what came before it hears that the time is over."""

from __future__ import annotations

import asyncio
import selectors


class _Patient(selectors.DefaultSelector):
    """Looks once more where a wait ended with nothing.

    After SIGSTOP and SIGCONT a wait ends so, with every time-out long past: without the second look each
    request in flight would time out while its answer lies in the socket, and would be paid for again.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout)
        return found if found or timeout == 0 else super().select(0)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose time-outs do not count against what has arrived."""
    return asyncio.SelectorEventLoop(_Patient())
