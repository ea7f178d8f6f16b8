"""Writes files and folders atomically and durably, and cleans up what killed commands left of them.

A file is written in the same folder as `.NAME.PID.part`, then renamed. The writer holds a lock (flock) on the
part, which the kernel releases when the process ends; so a part without a lock is a leftover.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_LEFTOVER = re.compile(r"\.(?P<name>.+?)(?P<pid>\.\d+)?\.(?P<kind>part|old)", re.DOTALL)
# AT_FDCWD, RENAME_NOREPLACE and RENAME_EXCHANGE of Linux.
_AT_CWD, _NO_REPLACE, _EXCHANGE = -100, 1, 2


@contextlib.contextmanager
def atomic_file(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Opens a file that replaces `path` when the block ends; if the block raises, `path` is unchanged.

    `mode` is its permission bits, None for those by the umask. What killed commands left of the same path
    is removed first. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_left_behind(path)
    part = partial_path(path)
    try:
        with open_partial(part, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Makes a folder that replaces `path` when the block ends, as `atomic_file` does.

    On Linux the two folders are exchanged in one step. Elsewhere, and on file systems that cannot do that,
    the old folder is `.NAME.PID.old` for a moment; if the process is killed then, the next
    `clear_left_behind` restores it. `mode` is that of all files in it; who may read may enter folders.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_left_behind(path)
    part = partial_path(path)
    part.mkdir(mode=0o777 if mode is None else 0o700)
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        yield part
        if mode is not None:
            _set_modes(part, mode)
        sync_folder(part)
        _replace_folder(part, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # after the exchange it is the old folder
        os.close(descriptor)


def atomic_copy(names: Iterator[Path], mode: int, fill: Callable[[Path], None]) -> Path:
    """Has `fill` write a file, and returns its path: the first of `names` that is free then.

    All names are in one folder. Raises OSError and what `fill` raises; then no file is left.
    """
    path = next(names)
    clear_left_behind(path)
    part = partial_path(path)
    try:
        with open_partial(part, mode) as file:
            fill(part)
            os.fsync(file.fileno())
            while not _rename_if_free(part, path):
                path = next(names)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
    return path


def partial_path(path: Path, *, is_resumable: bool = False) -> Path:
    """Returns where this process writes `path`; `is_resumable`: one name that any process may go on with."""
    return path.with_name(f".{path.name}.part" if is_resumable else f".{path.name}.{os.getpid()}.part")


def left_behind(folder: Path) -> list[Path]:
    """Returns the files that killed commands left in a folder; empty if the folder cannot be read."""
    try:
        found = sorted(each for each in folder.iterdir() if _LEFTOVER.fullmatch(each.name))
    except OSError:
        return []
    return [each for each in found if not is_being_written(each)]


def clear_left_behind(path: Path) -> None:
    """Removes what killed commands left of a path; restores an old folder if the path does not exist."""
    for left in left_behind(path.parent):
        found = _LEFTOVER.fullmatch(left.name)
        if found is None or found["name"] != path.name or found["pid"] is None:
            continue
        with contextlib.suppress(OSError):  # a leftover does no harm
            if found["kind"] == "old" and not path.exists():
                left.rename(path)
            elif left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)


def is_being_written(path: Path) -> bool:
    """Whether a living process holds the lock of a part."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this file system: a living process may be writing it
        return True
    finally:
        os.close(descriptor)
    return False


def mode_of(path: Path) -> int:
    """Returns the permission bits of a file."""
    return path.stat().st_mode & 0o666


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_partial(part: Path, mode: int | None) -> IO[bytes]:
    """Creates an empty file, locked while it is open; its permissions never exceed `mode`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(part, flags, 0o666 if mode is None else 0o600)
    _lock(descriptor)
    if mode is not None:
        os.fchmod(descriptor, mode)
    return os.fdopen(descriptor, "w+b", buffering=2**20)


def _lock(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks: see `is_being_written`
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _set_modes(folder: Path, mode: int) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(path, name), mode)
        os.chmod(path, mode | (mode & 0o444) >> 2 | 0o700)


def _replace_folder(part: Path, path: Path) -> None:
    """Moves the part to `path`; a folder that was there is exchanged with it or removed."""
    if not path.exists():
        part.rename(path)
    elif not _rename_atomically(part, path, _EXCHANGE):
        old = part.with_suffix(".old")
        path.rename(old)
        try:
            part.rename(path)
        except OSError:
            old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _rename_if_free(part: Path, path: Path) -> bool:
    """Renames the part to `path`; returns False if `path` exists."""
    try:
        if not _rename_atomically(part, path, _NO_REPLACE):
            if path.exists():
                return False
            part.rename(path)
    except FileExistsError:
        return False
    return True


def _rename_atomically(one: Path, other: Path, flags: int) -> bool:
    """Renames in one step with flags of Linux; returns False if this system or file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), os.fspath(other))
