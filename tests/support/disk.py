"""A disk that loses what was not synced: what a process did to a folder, and what a power cut leaves."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""
SHIM = Path(__file__).with_name("disk_shim.c")
_RECORD = struct.Struct("=c3xidQQII")


def compiled(folder: Path) -> Path:
    """The shim as a library; skips the test where it cannot be had."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the shim that sees what is synced")
    library = folder / "disk_shim.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"the shim that sees what is synced does not build here: {done.stderr[:200]}")
    return library


def watched(library: Path, folder: Path, log: Path, **more: object) -> dict[str, str]:
    """Variables of a process whose doings in `folder` go to `log`.

    `fail_bytes`, `fail_syncs`, `fail_errno`: writes or syncs there fail so after so many.
    """
    variables = {"LD_PRELOAD": str(library), "DISK_FOLDER": str(folder.resolve()), "DISK_LOG": str(log)}
    return variables | {f"DISK_{name.upper()}": str(value) for name, value in more.items()}


class Change(NamedTuple):
    """One record of the log. `what`: C create, W write, T truncate, U unlink, R rename, B and E of a sync."""

    what: str
    thread: int
    at: float
    """`time.monotonic()`."""
    inode: int
    offset: int
    path: Path
    data: bytes


def changes(log: Path) -> list[Change]:
    """What was done, in order. Shared memory and locks are no part of a store at rest and are left out."""
    found = []
    for change in _read(log.read_bytes()):
        if not change.path.name.endswith(("-shm", "-lock")):
            found.append(change)
    return found


def _read(raw: bytes) -> Iterator[Change]:
    at = 0
    while at < len(raw):
        what, thread, time_s, inode, offset, path_length, data_length = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        path = Path(os.fsdecode(raw[at : at + path_length]))
        at += path_length
        yield Change(what.decode(), thread, time_s, inode, offset, path, raw[at : at + data_length])
        at += data_length


@dataclass
class _Pending:
    """Changes that are not synced, numbered from the first there ever was."""

    changes: list[Change] = field(default_factory=list)
    taken: int = 0

    @property
    def end(self) -> int:
        return self.taken + len(self.changes)

    def take(self, end: int) -> list[Change]:
        """Those before a number, which count as synced from now on."""
        count = max(0, end - self.taken)
        taken, self.changes = self.changes[:count], self.changes[count:]
        self.taken += len(taken)
        return taken


@dataclass
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: _Pending = field(default_factory=_Pending)

    def after_cut(self, luck: random.Random | None) -> bytes:
        """What is there again: what was synced, and by luck sectors of what was not."""
        content = bytearray(self.synced)
        if luck is not None:
            share = luck.choice((0.3, 0.9, 1.0))
            for change in self.pending.changes:
                _apply_some(content, change, share, luck)
        return bytes(content)


class Disk:
    """A folder as a disk holds it, while the changes of a log are made to it one by one."""

    def __init__(self, folder: Path) -> None:
        """With what `folder` holds now, all of it synced."""
        self.folder = folder.resolve()
        self._files: dict[int, _File] = {}
        self._synced_names: dict[str, int] = {}
        self._names = _Pending()
        """Creations, removals and renamings since the folder was synced."""
        self._begun: dict[tuple[int, int], int] = {}
        self._newest: dict[int, int] = {}
        for path in self.folder.iterdir():
            if path.is_file() and not path.name.endswith(("-shm", "-lock")):
                key = self._new(path.stat().st_ino)
                self._files[key].synced += path.read_bytes()
                self._synced_names[path.name] = key

    def do(self, change: Change) -> None:
        """One more change."""
        if change.what == "C":
            self._new(change.inode)
        if change.what in "CUR":
            self._names.changes.append(change._replace(inode=self._newest.get(change.inode, 0)))
        elif change.what in "BE":
            self._sync(change)
        elif change.inode in self._newest:
            self._files[self._newest[change.inode]].pending.changes.append(change)

    def cut(self, target: Path, luck: random.Random | None = None) -> Path:
        """Makes `target` the folder as it is found after a power cut now; `luck` lets more survive."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        survive = luck.randint(0, len(self._names.changes)) if luck else 0
        for name, key in _named(self._synced_names, self._names.changes[:survive]).items():
            (target / name).write_bytes(self._files[key].after_cut(luck))
        return target

    def _new(self, inode: int) -> int:
        key = len(self._files) + 1
        self._files[key] = _File()
        self._newest[inode] = key
        return key

    def _sync(self, change: Change) -> None:
        """What was changed before a sync began is there for good once it has ended."""
        file = None if change.path == self.folder else self._files[self._newest[change.inode]]
        pending = self._names if file is None else file.pending
        mark = (change.thread, change.inode)
        if change.what == "B":
            self._begun[mark] = pending.end
            return
        taken = pending.take(self._begun.pop(mark))
        if file is None:
            self._synced_names = _named(self._synced_names, taken)
            return
        for each in taken:
            _apply(file.synced, each)


def _named(names: dict[str, int], changes: list[Change]) -> dict[str, int]:
    names = dict(names)
    for change in changes:
        if change.what == "C":
            names[change.path.name] = change.inode
        elif change.what == "U":
            names.pop(change.path.name, None)
        else:
            names[Path(os.fsdecode(change.data)).name] = names.pop(change.path.name)
    return names


def _apply(content: bytearray, change: Change) -> None:
    if change.what == "T":
        _resize(content, change.offset)
        return
    _resize(content, max(len(content), change.offset))
    content[change.offset : change.offset + len(change.data)] = change.data


def _apply_some(content: bytearray, change: Change, share: float, luck: random.Random) -> None:
    """A truncation or not; of a write all, nothing, or some sectors."""
    if change.what == "T":
        if luck.random() < share:
            _apply(content, change)
        return
    end = change.offset + len(change.data)
    start = change.offset
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if luck.random() < share:
            part = change.data[start - change.offset : stop - change.offset]
            _apply(content, change._replace(offset=start, data=part))
        start = stop


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
