"""A copy of a store beside it: whole, on the disk before it has its name, never in place of another file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from kbetl.atomic_files import whole_copy

STEP_PAGES = 1000
"""Pages copied between two looks for Ctrl-C."""


def copy_beside(connection: sqlite3.Connection, path: Path, suffix: str, mode: int) -> Path:
    """Copies what a connection sees to PATH + suffix, or PATH.2 + suffix where that is taken; its path.

    `mode` is that of the store. `connection` must not be writing. Raises sqlite3.Error or OSError, and
    leaves nothing, where the copy cannot be written.
    """

    def fill(part: Path) -> None:
        with contextlib.closing(sqlite3.connect(part)) as copy:
            copy.execute("pragma journal_mode = off")  # what is cut short is thrown away
            connection.backup(copy, pages=STEP_PAGES, progress=lambda *_: None)

    return whole_copy(_names(path, suffix), mode, fill)


def _names(path: Path, suffix: str) -> Iterator[Path]:
    yield path.with_name(f"{path.name}{suffix}")
    number = 2
    while True:
        yield path.with_name(f"{path.name}.{number}{suffix}")
        number += 1
