"""A copy of a store beside it: whole, on the disk before it has its name, never in place of another file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

STEP_PAGES = 1000
"""Pages copied between two looks for Ctrl-C."""


def copy_beside(connection: sqlite3.Connection, path: Path, suffix: str) -> Path:
    """Copies what a connection sees to PATH + suffix, or PATH.2 + suffix where that is taken; its path.

    `connection` must not be writing. Raises sqlite3.Error or OSError, and leaves nothing, where the copy
    cannot be written.
    """
    partial = path.with_name(f"{path.name}{suffix}.partial")
    try:
        partial.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            connection.backup(copy, pages=STEP_PAGES, progress=lambda *_: None)
        _sync(partial)
        free = next(found for found in _names(path, suffix) if not found.exists())
        partial.rename(free)
        _sync(path.absolute().parent)
    except (sqlite3.Error, OSError):
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return free


def _names(path: Path, suffix: str) -> Iterator[Path]:
    yield path.with_name(f"{path.name}{suffix}")
    number = 2
    while True:
        yield path.with_name(f"{path.name}.{number}{suffix}")
        number += 1


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
