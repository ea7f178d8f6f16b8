"""Waits for the write lock of a store as long as another writer has it, and reports who that may be.

SQLite lets one connection write at a time. Its own busy handler waits without a word and then fails;
whoever has paid for an answer has nowhere else to put it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kbetl.errors import Busy

# How long SQLite waits for anything else than the write lock, such as a store that is being recovered.
BUSY_TIMEOUT_MS = 60_000
# Of one try at the lock: between two of them Ctrl-C is heard.
TICK_MS = 200
# How long nothing moves before that is reported; a commit of another kbetl lasts some milliseconds.
SAY_AFTER_S = 2.0

# The byte of STORE-shm that a writer locks (https://www.sqlite.org/walformat.html, section 2.3.1).
_WAL_WRITE_LOCK = 120


class LockWait:
    """How one connection waits for the write lock, and what others see of that.

    `gives_up` is asked while another writer has it for longer than SAY_AFTER_S. `on_change` hears True
    when that begins and False when it is over, on the thread that waits.
    """

    def __init__(self) -> None:
        self.gives_up: Callable[[], bool] = lambda: False
        self.on_change: Callable[[bool], None] = lambda _is_held: None
        self.only_begins = False
        """Whether nothing else of the connection ever waits: its time-out then stays at a tick."""
        self._is_tick = False

    def begin(self, connection: sqlite3.Connection, statement: str = "begin immediate") -> None:
        """Begins a transaction that writes. Raises Busy if `gives_up` says so while it waits."""
        if not self._is_tick:
            connection.execute(f"pragma busy_timeout = {TICK_MS}")
            self._is_tick = True
        try:
            if not _begins(connection, statement):
                self._wait(connection, statement)
        finally:
            if not self.only_begins:
                connection.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_MS}")
                self._is_tick = False

    def _wait(self, connection: sqlite3.Connection, statement: str) -> None:
        began_s, is_said = time.monotonic(), False
        try:
            while not _begins(connection, statement):
                waited_s = time.monotonic() - began_s
                if waited_s < SAY_AFTER_S:
                    continue
                path = _file_of(connection)
                if not is_said:
                    is_said = True
                    self.on_change(True)
                    _say(waiting_line(path))
                if self.gives_up():
                    raise Busy(
                        f"store {path}: {_holder(path)} has held its write lock for {waited_s:.0f} s; "
                        "end that, then run this again"
                    )
            if is_said:
                waited_s = time.monotonic() - began_s
                _say(f"store {_file_of(connection)}: free again after {waited_s:.0f} s, going on")
        finally:
            if is_said:
                self.on_change(False)


def waiting_line(path: Path) -> str:
    """The line that is shown once nothing moves for a while."""
    return (
        f"store {path}: nothing can be written: {_holder(path)} holds its write lock; waiting until it is "
        "free. If it is stopped or has an open transaction, let it commit, or end it"
    )


def _say(line: str) -> None:
    """Not by `logging`, which would swallow the exception by which SIGTERM ends a command."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _begins(connection: sqlite3.Connection, statement: str) -> bool:
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _file_of(connection: sqlite3.Connection) -> Path:
    return Path(connection.execute("pragma database_list").fetchone()[2])


def _holder(path: Path) -> str:
    """The process that has the write lock, as far as the system knows it: `process 4711 (sqlite3)`.

    Read from /proc/locks: to open the file for asking would drop the locks of this process at closing.
    """
    try:
        shared = os.stat(f"{path}-shm")
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return _UNKNOWN
    file = f"{os.major(shared.st_dev):02x}:{os.minor(shared.st_dev):02x}:{shared.st_ino}"
    for line in lines:
        words = line.split()
        if len(words) == 8 and words[3] == "WRITE" and words[5] == file and _covers(words[6], words[7]):
            return _process_name(int(words[4]))
    return _UNKNOWN


_UNKNOWN = "another program (a database browser, sqlite3, a backup, another kbetl)"


def _covers(start: str, end: str) -> bool:
    return int(start) <= _WAL_WRITE_LOCK and (end == "EOF" or int(end) >= _WAL_WRITE_LOCK)


def _process_name(process: int) -> str:
    """The process with its short name; its command line may hold what is secret."""
    try:
        name = Path(f"/proc/{process}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return _UNKNOWN if process <= 0 else f"process {process}"
    return f"process {process} ({''.join(char for char in name if char.isprintable())})"
