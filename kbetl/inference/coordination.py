"""What every command that pays sees to before it asks: its locks, and the limit of TEST_MODE."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kbetl import config
from kbetl.errors import LockHeld
from kbetl.store import Store, TaskLock, task_lock


@contextlib.contextmanager
def hold_task(store: Store, task_name: str, question: str) -> Iterator[TaskLock]:
    """The locks of a task's name and of what it asks; LockHeld names the run and the process that has one."""
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(task_lock(store.path, task_name, question))
        except LockHeld as error:
            who = _holder(store, error.process, but=task_name)
            raise LockHeld(f"{error} ({who}); wait for it, or end it", error.process) from None
        yield lock


def _holder(store: Store, process: int | None, but: str) -> str:
    """The run and the process that hold a lock, in words; the task of the run, if it has another name."""
    if process is None:
        return "which one, this system does not say"
    found = store.rows("inference/run_of_process", {"pid": process})
    if not found:
        return f"process {process}"
    run_id, task = found[0]
    return f"run {run_id}{'' if task == but else f' about {task}'}, process {process}"


def effective_limit(limit: int | None) -> int | None:
    """How many samples a stage may ask: the limit given, and at most five under TEST_MODE; None for all."""
    if not config.is_test_mode():
        return limit
    return config.TEST_MODE_LIMIT if limit is None else min(limit, config.TEST_MODE_LIMIT)
