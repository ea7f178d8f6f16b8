"""Who pays: one process per task, and one per request, by locks that the kernel frees at death.

A byte of `STORE-lock` stands for each name and for each request (POSIX record locks), so one file serves
all. These locks belong to the process and go when it closes any descriptor of the file: who holds one must
not open the file again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from kbetl.atomic_files import mode_of
from kbetl.errors import Busy, StoreError

_NAMES_END = 2**48
_COMPANY = 2**50
"""The byte that everybody shares who does not pay alone."""
_REQUESTS, _REQUESTS_END = 2**60, 2**61

_FLOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of 64-bit Linux: kind, whence, start, length, process."""
_TRIES, _PAUSE_S = 4, 0.02
"""Whoever looks whether a name is locked holds it for an instant himself."""


class Claims:
    """Which requests this process may send: all of them while it pays alone, else each by a lock of its own.

    The first to pay holds the whole range of requests in one lock, which costs nothing per request. Who
    comes later takes single bytes, and until the first has shared its range it gets none.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_shared = False
        """Whether another process may pay too, so that each request has to be claimed."""

    def begin(self) -> None:
        """To be called before answers are looked up: what comes in later is of this process, or claimed."""
        self.is_shared = not _locked(self._descriptor, _REQUESTS, _REQUESTS_END - _REQUESTS)
        if self.is_shared:
            self._show_company()

    def check_in_place(self) -> None:
        """Raises StoreError where the lock file was removed: a new one would let somebody else pay too."""
        if os.fstat(self._descriptor).st_nlink == 0:
            raise StoreError(
                "the file that ends in -lock beside the store was removed under this run, and another may "
                "begin beside it; leave that file where it is, and run this again"
            )

    def has_company(self) -> bool:
        """Whether somebody waits for this process, which pays alone, to share."""
        is_alone = _locked(self._descriptor, _COMPANY, 1)
        if is_alone:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _COMPANY)
        return not is_alone

    def share(self, under_way: Iterable[tuple[str, int]]) -> None:
        """From now on holds just these requests and attempts; every other has to be claimed."""
        self._show_company()
        self.is_shared = True
        free_from = _REQUESTS
        for offset in sorted({_request_offset(*each) for each in under_way}):
            self._release(free_from, offset)
            free_from = offset + 1
        self._release(free_from, _REQUESTS_END)

    def claim(self, request_hash: str, attempt: int) -> bool:
        """Whether this process alone may send a request now; `release` ends that."""
        return _locked(self._descriptor, _request_offset(request_hash, attempt), 1)

    def release(self, request_hash: str, attempt: int) -> None:
        """Lets others have a request: its answer is durable, or there will be none."""
        offset = _request_offset(request_hash, attempt)
        self._release(offset, offset + 1)

    def release_all(self) -> None:
        """Lets others have every request."""
        self._release(_REQUESTS, _REQUESTS_END)

    def is_held_back(self) -> bool:
        """Whether somebody who began alone has not shared yet: nothing can be claimed until then."""
        is_free = _locked(self._descriptor, _REQUESTS_END - 1, 1)
        if is_free:
            self._release(_REQUESTS_END - 1, _REQUESTS_END)
        return not is_free

    def holder(self, request_hash: str, attempt: int) -> int | None:
        """The process that has a request; None where none has, or the system does not tell which."""
        return self._holder(_request_offset(request_hash, attempt))

    def holder_of_all(self) -> int | None:
        """The process that began alone and has not shared; None as in `holder`."""
        return self._holder(_REQUESTS_END - 1)

    def _holder(self, offset: int) -> int | None:
        if sys.platform != "linux":
            return None
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
        kind, _, _, _, process = _FLOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else int(process)

    def _show_company(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_SH, 1, _COMPANY)

    def _release(self, start: int, end: int) -> None:
        if start < end:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, end - start, start)


@contextlib.contextmanager
def paying_lock(path: Path, task_name: str) -> Iterator[Claims]:
    """Holds the lock of a task's name on a store; raises Busy at once if another process has it.

    Gives the claims to single requests, which tasks of any name share.
    """
    descriptor = _open(path)
    try:
        offset = _name_offset(task_name)
        if not any(_locked(descriptor, offset, 1) or _pause() for _ in range(_TRIES)):
            raise Busy(f"another process is asking about {task_name} in {path}")
        yield Claims(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def nobody_pays(path: Path) -> Iterator[None]:
    """Keeps every task's lock free; raises Busy where one is held. Not for a process that holds one."""
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
    """Takes a lock if it can be had at once; says whether it did."""
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


def _request_offset(request_hash: str, attempt: int) -> int:
    """By 60 bits of the hash: that two different requests share a byte only makes one wait."""
    return _REQUESTS + (int(request_hash[-15:], 16) + attempt) % (_REQUESTS_END - _REQUESTS)
