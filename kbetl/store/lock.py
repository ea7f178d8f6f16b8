"""One paying command per store and task: a lock that the kernel frees when its process dies."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from kbetl.errors import Busy, StoreError


@contextlib.contextmanager
def paying_lock(path: Path, task_name: str) -> Iterator[None]:
    """Holds the lock of a task's name on a store; raises Busy at once if another process has it.

    A byte of `STORE-lock` stands for each name (POSIX record lock), so one file serves every task, and
    nothing is left locked by a process that was killed.
    """
    lock_path = Path(f"{path.resolve()}-lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreError(f"the lock file {lock_path} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(task_name))
        except OSError:
            raise Busy(f"another process is asking about {task_name} in {path}") from None
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path, task_name: str) -> bool:
    """Whether another process holds the lock of a task's name on a store; makes no file.

    Not for a process that holds one itself: closing the file would free it.
    """
    try:
        descriptor = os.open(f"{path.resolve()}-lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _offset(task_name))
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _offset(task_name: str) -> int:
    return int.from_bytes(hashlib.sha256(task_name.encode()).digest()[:6], "big")
