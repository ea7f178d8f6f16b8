"""What every command that pays sees to before it asks: the lock of its task, and TEST_MODE's limit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kbetl import config
from kbetl.errors import Busy
from kbetl.store import Claims, Store, paying_lock


@contextlib.contextmanager
def task_lock(store: Store, task_name: str) -> Iterator[Claims]:
    """The task's lock on the store; Busy names the run and the process that has it."""
    with contextlib.ExitStack() as stack:
        try:
            claims = stack.enter_context(paying_lock(store.path, task_name))
        except Busy as error:
            last = store.last_run(task_name)
            who = f" (run {last.id}, process {last.pid})" if last is not None and last.status is None else ""
            raise Busy(f"{error}{who}; wait for it, or end it") from None
        yield claims


def who_asks(store: Store, process: int | None) -> str:
    """A process that has a request and its run, in words; None: a process that is not known."""
    if process is None:
        return "another process"
    found = store.rows("run_of_process", {"pid": process})
    run = f"run {found[0][0]} about {found[0][1]}, " if found else ""
    return f"{run}process {process}"


def limit_of_stage(limit: int | None) -> int | None:
    """How many samples a stage may ask: the limit given, and at most five under TEST_MODE; None for all."""
    if not config.is_test_mode():
        return limit
    return config.TEST_MODE_LIMIT if limit is None else min(limit, config.TEST_MODE_LIMIT)
