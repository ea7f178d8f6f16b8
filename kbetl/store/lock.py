"""Who pays: one process per task and per question, by locks that the kernel frees at death.

Each task's name and each question has a byte of `STORE-lock` (POSIX record locks), so one file
serves all. These locks belong to the process and go when it closes any descriptor of the file: who holds
one must not open the file again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kbetl.atomic_files import mode_of
from kbetl.errors import Busy, LockHeld, StoreError

_NAMES_END = 2**48
# Where the bytes of questions begin; those of names lie below `_NAMES_END`.
_QUESTIONS = 2**60

_FLOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of 64-bit Linux: kind, whence, start, length, process."""
# Whoever looks whether a name is locked holds it for an instant himself.
_TRIES, _PAUSE_S = 4, 0.02


class TaskLock:
    """The locks that a paying process holds on one store."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def check_in_place(self) -> None:
        """Raises StoreError if the lock file was removed: a new one would let somebody else pay too."""
        if os.fstat(self._descriptor).st_nlink == 0:
            raise StoreError(
                "the file that ends in -lock beside the store was removed under this run, and another may "
                "begin beside it; leave that file where it is, and run this again"
            )


@contextlib.contextmanager
def task_lock(path: Path, task_name: str, question: str | None = None) -> Iterator[TaskLock]:
    """Holds the lock of a task's name on a store, and that of what is asked, if that is given.

    `question` is the hash of what a run asks apart from the samples (`Task.question_hash`): two tasks of
    different names that ask the same never pay at the same time. Raises LockHeld at once if another
    process has either.
    """
    descriptor = _open(path)
    try:
        _acquire(descriptor, _name_offset(task_name), f"is asking about {task_name} in {path}")
        if question is not None:
            _acquire(descriptor, _question_offset(question), f"is asking the same question in {path}")
        yield TaskLock(descriptor)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, offset: int, what: str) -> None:
    if not any(_locked(descriptor, offset, 1) or _pause() for _ in range(_TRIES)):
        raise LockHeld(f"another process {what}", _holder(descriptor, offset))


def _holder(descriptor: int, offset: int, length: int = 1) -> int | None:
    """The process that holds one of these bytes; None if none does, or the system does not say which."""
    if sys.platform != "linux":
        return None
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, length, 0)
    kind, _, _, _, process = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(process)


@contextlib.contextmanager
def all_tasks_lock(path: Path) -> Iterator[None]:
    """Holds the lock of every task's name. Raises LockHeld at once if another process has one.

    Not for a process that holds one: closing the file would free it.
    """
    descriptor = _open(path)
    try:
        if not any(_locked(descriptor, 0, _NAMES_END) or _pause() for _ in range(_TRIES)):
            raise LockHeld(f"another process is asking in {path}", _holder(descriptor, 0, _NAMES_END))
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def no_active_runs(path: Path) -> Iterator[None]:
    """Keeps every task's lock free; raises Busy if one is held. Not for a process that holds one."""
    descriptor = _open(path)
    try:
        if not _locked(descriptor, 0, _NAMES_END, fcntl.LOCK_SH):
            raise Busy(
                f"store {path} has an older schema, and an older kbetl is paying into it; "
                "let that run end, then run this again"
            )
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path, task_name: str) -> bool:
    """Whether another process holds the lock of a task's name on a store; makes no file.

    Not for a process that holds one itself: closing the file would free it.
    """
    try:
        descriptor = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(descriptor, _name_offset(task_name), 1, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock_path(path: Path) -> Path:
    return Path(f"{path.resolve()}-lock")


def _open(path: Path) -> int:
    lock_path = _lock_path(path)
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # of another user, who made it as open as the store
            os.fchmod(descriptor, mode_of(path) | 0o600)
        return descriptor
    except OSError as error:
        raise StoreError(f"the lock file {lock_path} cannot be opened: {error.strerror}") from None


def _locked(descriptor: int, start: int, length: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Acquires a lock if it is free; returns whether it did."""
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, length, start)
    except OSError:
        return False
    return True


def _pause() -> bool:
    time.sleep(_PAUSE_S)
    return False


def _name_offset(task_name: str) -> int:
    return int.from_bytes(hashlib.sha256(task_name.encode()).digest()[:6], "big")


def _question_offset(question: str) -> int:
    """By 60 bits of the hash."""
    return _QUESTIONS + int(hashlib.sha256(question.encode()).hexdigest()[:15], 16)
