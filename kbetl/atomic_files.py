"""A file or folder that appears whole and durable, or not at all; and what killed commands left of such.

It is written beside its place as `.NAME.PID.part`. The writer holds a lock (flock) on that, which the
kernel frees at death, so whoever comes later knows what is left behind from what is being written.
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

_BESIDE = re.compile(r"\.(?P<name>.+?)(?P<pid>\.\d+)?\.(?P<kind>part|old)", re.DOTALL)
_AT_CWD, _NO_REPLACE, _EXCHANGE = -100, 1, 2
"""AT_FDCWD, RENAME_NOREPLACE and RENAME_EXCHANGE of Linux."""


@contextlib.contextmanager
def whole_file(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """A file that replaces `path` when the block ends; if that fails, what stood there stays.

    `mode` is its permission bits, None for those that the umask leaves. What killed commands left of the
    same path is taken away first. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_left_behind(path)
    part = part_of(path)
    try:
        with new_part(part, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A folder that replaces `path` when the block ends; as `whole_file`.

    On Linux the two are exchanged in one step. Elsewhere, and on file systems that cannot, there is
    a moment at which the old one stands as `.NAME.PID.old` alone; who is killed then leaves it there, and the
    next `clear_left_behind` puts it back. `mode` is that of all files in it; who may read may enter too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_left_behind(path)
    part = part_of(path)
    part.mkdir(mode=0o777 if mode is None else 0o700)
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        yield part
        if mode is not None:
            _set_modes(part, mode)
        sync_folder(part)
        _put_in_place(part, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # the old one by now, if all went well
        os.close(descriptor)


def whole_copy(names: Iterator[Path], mode: int, fill: Callable[[Path], None]) -> Path:
    """The path of a file that `fill` wrote: the first of some names in one folder that is free by then.

    Raises OSError, and what `fill` raises; nothing is there then.
    """
    path = next(names)
    clear_left_behind(path)
    part = part_of(path)
    try:
        with new_part(part, mode) as file:
            fill(part)
            os.fsync(file.fileno())
            while not _renamed_to_free(part, path):
                path = next(names)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
    return path


def part_of(path: Path, *, is_found_again: bool = False) -> Path:
    """Where this process writes what is to become `path`; or one name for all processes."""
    return path.with_name(f".{path.name}.part" if is_found_again else f".{path.name}.{os.getpid()}.part")


def left_behind(folder: Path) -> list[Path]:
    """What killed commands left in a folder, of whatever; empty if it cannot be read."""
    try:
        found = sorted(each for each in folder.iterdir() if _BESIDE.fullmatch(each.name))
    except OSError:
        return []
    return [each for each in found if not is_being_written(each)]


def clear_left_behind(path: Path) -> None:
    """Takes away what killed commands left of a path; puts an old folder back if nothing stands there."""
    for left in left_behind(path.parent):
        found = _BESIDE.fullmatch(left.name)
        if found is None or found["name"] != path.name or found["pid"] is None:
            continue
        with contextlib.suppress(OSError):  # what cannot be taken away is in nobody's way
            if found["kind"] == "old" and not path.exists():
                left.rename(path)
            elif left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)


def is_being_written(path: Path) -> bool:
    """Whether a process that lives holds the lock of a part."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this file system: better left than taken from a living process
        return True
    finally:
        os.close(descriptor)
    return False


def mode_of(path: Path) -> int:
    """The permission bits of a file."""
    return path.stat().st_mode & 0o666


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_part(part: Path, mode: int | None) -> IO[bytes]:
    """A new, empty file, locked while it is open, that never was more open than `mode`."""
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


def _put_in_place(part: Path, path: Path) -> None:
    """The part has the place of the folder, and the folder that of the part or none."""
    if not path.exists():
        part.rename(path)
    elif not _rename_at_once(part, path, _EXCHANGE):
        old = part.with_suffix(".old")
        path.rename(old)
        try:
            part.rename(path)
        except OSError:
            old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _renamed_to_free(part: Path, path: Path) -> bool:
    """Gives the part a name; False if something has it."""
    try:
        if not _rename_at_once(part, path, _NO_REPLACE):
            if path.exists():
                return False
            part.rename(path)
    except FileExistsError:
        return False
    return True


def _rename_at_once(one: Path, other: Path, flags: int) -> bool:
    """Renames as Linux does with flags, in one step; False if this system or file system cannot."""
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
