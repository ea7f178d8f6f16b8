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
    offset = int.from_bytes(hashlib.sha256(task_name.encode()).digest()[:6], "big")
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError:
            raise Busy(f"another process is asking about {task_name} in {path}") from None
        yield
    finally:
        os.close(descriptor)
