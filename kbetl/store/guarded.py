"""The one connection on which a user's own SQL runs: it can read, and nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from kbetl.store.opening import open_read_only

_ALLOWED = frozenset(
    (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
)
_FORBIDDEN_FUNCTIONS = frozenset(("load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"))
_STEPS_BETWEEN_CHECKS = 20_000
"""Virtual machine steps between calls of the progress handler: under a millisecond."""


def guarded_connection(path: Path) -> sqlite3.Connection:
    """A connection for SQL that we did not write.

    `mode=ro` alone lets ATTACH create files and VACUUM INTO write one; `query_only` and an authorizer
    that knows four actions close that. The progress handler gives Python a chance to see Ctrl-C.
    """
    connection = open_read_only(path)
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(_go_on, _STEPS_BETWEEN_CHECKS)
    return connection


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, source: str | None
) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _go_on() -> int:
    return 0
