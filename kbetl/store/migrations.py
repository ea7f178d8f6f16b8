"""Brings a store of an older schema to the latest: a backup beside it, then every step in one transaction."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from kbetl.atomic_files import atomic_copy, mode_of
from kbetl.errors import StoreError
from kbetl.resources import sql, sql_names
from kbetl.store.generated_views import is_generated, wanted_views
from kbetl.store.lock import no_active_runs
from kbetl.store.write_lock import LockWait

_log = logging.getLogger(__name__)


def latest_schema() -> int:
    """The schema number that this kbetl writes."""
    return _number(sql_names("migrations")[-1])


def schema_of(connection: sqlite3.Connection) -> int:
    """The schema number of a store, 0 for an empty file."""
    schema: int = connection.execute("pragma user_version").fetchone()[0]
    return schema


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Brings a store to the latest schema, its views with it; the old one stays beside it as a backup.

    Whatever ends it before, the store is the old or the new. Raises Busy if an older kbetl pays into
    it, StoreError if the backup cannot be written; the store is untouched then.
    """
    with contextlib.ExitStack() as held, immediate(connection):
        schema = schema_of(connection)
        if schema >= latest_schema():  # another process was quicker
            return
        held.enter_context(no_active_runs(path))
        backup = _back_up(path, schema)
        apply_migrations(connection, after=schema)
        make_views(connection)
    _log.warning("store %s: schema %d is %d now; as it was: %s", path, schema, latest_schema(), backup)


def apply_migrations(connection: sqlite3.Connection, after: int = 0) -> None:
    """Runs the migrations with a higher number, within the transaction of the caller."""
    for name in sql_names("migrations"):
        if _number(name) > after:
            for statement in statements(sql(f"migrations/{name}")):
                connection.execute(statement)
            connection.execute(f"pragma user_version = {_number(name)}")


def make_views(connection: sqlite3.Connection) -> list[str]:
    """Drops and makes anew each view that is not as its file, or the tasks in use, say; their names.

    Within the caller's transaction.
    """
    changes = _view_changes(connection)
    for name, text in changes.items():
        # of this store alone: a store that is merged may have one of that name
        connection.execute(f'drop view if exists main."{name}"')
        if text is not None:
            connection.execute(text)
    return list(changes)


def changed_views(connection: sqlite3.Connection) -> list[str]:
    """The names of views that are missing from the store, or are not what their files and its tasks say.

    Reads schema and tasks in one transaction: another process may change both meanwhile.
    """
    if connection.in_transaction:
        return list(_view_changes(connection))
    connection.execute("begin")
    with ended(connection):
        return list(_view_changes(connection))


def _view_changes(connection: sqlite3.Connection) -> dict[str, str | None]:
    """The new text of each view that is not as it should be; None for one that should not be there."""
    stored: dict[str, str] = dict(
        connection.execute("select name, sql from sqlite_schema where type = 'view'").fetchall()
    )
    wanted = wanted_views(connection)
    idle = {name: None for name, text in stored.items() if name not in wanted and is_generated(text)}
    return {name: text for name, text in wanted.items() if stored.get(name) != text} | idle


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one; `executescript` would commit an open transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextlib.contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that is the only one to write from its beginning."""
    LockWait().begin(connection)
    with ended(connection):
        yield


@contextlib.contextmanager
def ended(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits the open transaction, or rolls it back on any exception."""
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _back_up(path: Path, schema: int) -> Path:
    """Copies the store as it is, beside it, on a connection that does not write; returns the copy's path."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return back_up(connection, path, f".schema{schema}.backup", mode_of(path))
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"store {path} has schema {schema} and was left untouched: a backup cannot be written beside it "
            f"({error}); free some space or check the rights of its folder, then run this again"
        ) from error


def _number(name: str) -> int:
    return int(name.split("_", 1)[0])


# Pages copied between two looks for Ctrl-C.
STEP_PAGES = 1000


def back_up(connection: sqlite3.Connection, path: Path, suffix: str, mode: int) -> Path:
    """Copies what a connection sees to PATH + suffix, or PATH.2 + suffix if that exists; returns the path.

    `mode` is that of the store. `connection` must not be writing. Raises sqlite3.Error or OSError, and
    leaves nothing, if the copy cannot be written.
    """

    def fill(part: Path) -> None:
        with contextlib.closing(sqlite3.connect(part)) as copy:
            copy.execute("pragma journal_mode = off")  # what is cut short is thrown away
            connection.backup(copy, pages=STEP_PAGES, progress=lambda *_: None)

    return atomic_copy(_names(path, suffix), mode, fill)


def _names(path: Path, suffix: str) -> Iterator[Path]:
    yield path.with_name(f"{path.name}{suffix}")
    number = 2
    while True:
        yield path.with_name(f"{path.name}.{number}{suffix}")
        number += 1
