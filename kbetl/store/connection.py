"""Opens a store, or refuses it untouched: damaged, foreign, newer, missing.

SQLite file header: https://www.sqlite.org/fileformat2.html#the_database_header
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from kbetl import config
from kbetl.errors import StoreError
from kbetl.resources import query
from kbetl.store.migrations import (
    apply_migrations,
    changed_views,
    ended,
    immediate,
    latest_schema,
    make_views,
    migrate,
    schema_of,
)
from kbetl.store.write_lock import BUSY_TIMEOUT_MS, LockWait

APPLICATION_ID = 0x6B62746C  # "kbtl", in the header of every store
PAGE_SIZE_BYTES = 16384
# Stores up to this size are checked page by page before a command writes to them (some 20 ms).
QUICK_CHECK_BYTES = 32 * 2**20

_MAGIC = b"SQLite format 3\x00"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def real_path(path: Path) -> Path:
    """The path as it was given, or where it leads if a part of it is a symbolic link.

    SQLite keeps the WAL in the folder of the real file, so all that looks for it must know that name.
    Raises StoreError for a link that leads nowhere.
    """
    found = os.path.realpath(path)
    if os.path.islink(path) and not os.path.exists(path):
        raise StoreError(
            f"store {path} is a symbolic link to {os.readlink(path)}, and no file is there: "
            "mend or remove the link, or name the file itself with -d"
        )
    return path if found == os.path.normpath(os.path.abspath(path)) else Path(found)


def open_read_only(
    path: Path, *, checks_schema: bool = True, checks_views: bool = True
) -> sqlite3.Connection:
    """A connection that cannot write; raises StoreError if there is no store that this kbetl can read.

    Views of another version would give other rows without a word, so they are refused as an older schema is,
    unless the caller reads nothing that differs between versions.
    """
    _inspect(path)
    connection = _connect(path, "ro")
    with _named(path), _closed_on_error(connection):
        connection.execute("pragma query_only = on")
        schema = _schema_of(connection, path)
        if checks_schema and schema < latest_schema():
            raise StoreError(
                f"store {path} has schema {schema}; this kbetl reads {latest_schema()}. "
                "Any writing command migrates it after a backup; this one asks nothing: "
                f"{shlex.join(['kbetl', 'batch', 'status', '--offline', '-d', str(path)])}"
            )
        if checks_views and (changed := changed_views(connection)):
            raise StoreError(
                f"store {path}: {len(changed)} of its views, {changed[0]} first, are of another kbetl. "
                "Any writing command remakes them; this one asks nothing: "
                f"{shlex.join(['kbetl', 'batch', 'status', '--offline', '-d', str(path)])}"
            )
    return connection


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection that writes; makes a missing store, migrates an old one, remakes changed views."""
    if not path.exists() or path.stat().st_size == 0 or _is_incomplete(path):
        _create(path)
    else:
        _inspect(path)
        _check_pages(path)
    connection = _connect(path, "rw")
    with _named(path), _closed_on_error(connection):
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma synchronous = full")
        schema = _schema_of(connection, path)
        if schema < latest_schema():
            migrate(connection, path)
        remake_views(connection)
        # a copy by VACUUM INTO, or a store whose making was cut short, is not in WAL yet
        if connection.execute("pragma journal_mode").fetchone()[0] != "wal":
            connection.execute("pragma journal_mode = wal")
    return connection


def attach_other(connection: sqlite3.Connection, path: Path) -> None:
    """Attaches another store as `other`, read-only; none of the SQL that it brings is ever run.

    Raises StoreError for what is no store of this schema, or has a table that is not as kbetl makes it.
    """
    path = real_path(path)
    _inspect(path)
    _check_pages(path)
    open_read_only(path, checks_views=False).close()
    with _named(path):
        connection.execute("attach database ? as other", (f"file:{quote(os.fsencode(path))}?mode=ro",))
        found = dict(connection.execute(query("merge/their_tables")))
        with contextlib.closing(empty_in_memory()) as own:
            tables = own.execute(query("merge/our_tables")).fetchall()
    for name, text in tables:
        if found.get(name) != text:
            raise StoreError(
                f"store {path}: its table {name} is not as this kbetl makes it; it was left untouched"
            )


def empty_in_memory() -> sqlite3.Connection:
    """A store without rows that is no file, to try statements on."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply_migrations(connection)
    make_views(connection)
    return connection


def remake_views(connection: sqlite3.Connection) -> list[str]:
    """Drops and makes anew each view whose file changed; returns their names."""
    if not changed_views(connection):
        return []
    with immediate(connection):
        return make_views(connection)


def _inspect(path: Path) -> None:
    """Reads the header alone, so that a file that is no store is not touched even by SQLite.

    Not if this process has the store open already: it was inspected then, and to close a file is to
    lose all POSIX locks that the process has on it. Another process would find the store unused,
    and delete its WAL (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    if _is_open_here(path):
        return
    if path.is_dir():
        raise StoreError(f"store {path} is a folder; name a file with -d")
    try:
        with path.open("rb") as file:
            header = file.read(100)
            links = os.fstat(file.fileno()).st_nlink
    except FileNotFoundError:
        raise StoreError(f"no store at {path}; `kbetl ingest` makes one, or name another with -d") from None
    except OSError as error:
        raise StoreError(f"store {path} cannot be read: {error.strerror}") from None
    if _is_incomplete(path):
        raise StoreError(f"no store at {path} yet: its making was cut short; `kbetl ingest` makes it whole")
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise StoreError(f"{path} is not a kbetl store (no SQLite file); name another with -d")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program, not a kbetl store; name another with -d")
    _refuse_newer(int.from_bytes(header[60:64], "big"), path)
    if links > 1:
        raise StoreError(
            f"store {path} has {links} names (hard links), and what is written by one is lost by the other; "
            "keep one of them and copy the file for the rest"
        )
    wal = _beside(path, "-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        _refuse_cut(path, header)


def _is_incomplete(path: Path) -> bool:
    """Whether the transaction that makes the store was cut short: its journal says that nothing was before.

    SQLite rolls back what the file holds as soon as it is opened for writing.
    """
    try:
        with _beside(path, "-journal").open("rb") as file:
            header = file.read(20)
    except OSError:
        return False
    return header.startswith(_JOURNAL_MAGIC) and int.from_bytes(header[16:20], "big") == 0


def _refuse_cut(path: Path, header: bytes) -> None:
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    pages = int.from_bytes(header[28:32], "big")
    size = path.stat().st_size
    if size < pages * page_size:
        raise StoreError(
            f"store {path} is damaged: {size} bytes where its header says {pages * page_size}. "
            "It was left untouched; restore a copy"
        )


def _refuse_newer(schema: int, path: Path) -> None:
    if schema > latest_schema():
        raise StoreError(
            f"store {path} has schema {schema}; this kbetl knows up to {latest_schema()}. "
            "Upgrade kbetl, or open an older copy"
        )


def _schema_of(connection: sqlite3.Connection, path: Path) -> int:
    schema = schema_of(connection)
    _refuse_newer(schema, path)
    connection.execute("select count(*) from sqlite_schema").fetchone()
    return schema


def _check_pages(path: Path) -> None:
    """Refuses a small store with a broken page; a large one shows it when the page is read."""
    if path.stat().st_size > QUICK_CHECK_BYTES or _is_open_here(path):
        return
    if _beside(path, "-journal").exists():  # what was cut short is rolled back first
        return
    # if nobody has it open, SQLite would leave a WAL beside what is about to be refused
    is_alone = not _beside(path, "-wal").exists()
    before = path.stat()
    found = _quick_check(path, "ro&immutable=1" if is_alone else "ro")
    after = path.stat()
    if found != "ok" and is_alone:
        is_alone = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if not is_alone or _beside(path, "-wal").exists():  # somebody opened it meanwhile
            found = _quick_check(path, "ro")
    if found != "ok":
        raise StoreError(f"store {path} is damaged ({found}). It was left untouched; restore a copy")


def _quick_check(path: Path, mode: str) -> str:
    """`ok`, or the first thing that is wrong."""
    try:
        with contextlib.closing(_connect(path, mode)) as connection:
            return " ".join(connection.execute("pragma quick_check(1)").fetchone()[0].split())
    except sqlite3.DatabaseError as error:
        return explain(error)


class _Connection(sqlite3.Connection):
    """Can be found among those that this process has open, and knows its file as it was named."""

    path: Path | None = None

    def close(self) -> None:
        super().close()
        with _OPEN_LOCK:
            _OPEN.pop(self, None)


_OPEN: weakref.WeakKeyDictionary[_Connection, tuple[int, int]] = weakref.WeakKeyDictionary()
"""The connections that this process has open, with device and inode of their file."""
_OPEN_LOCK = threading.Lock()


def path_of(connection: sqlite3.Connection) -> Path:
    """The path of a connection's store; the default one if it was opened without a name."""
    path = connection.path if isinstance(connection, _Connection) else None
    return path or config.DATABASE


def is_in_place(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether a path still leads to the file that a connection has open, and its WAL is there.

    SQLite writes on to a file that was removed, and nobody will find what it wrote.
    """
    try:
        stat = os.stat(path)
        os.stat(f"{path}-wal")
    except OSError:
        return False
    with _OPEN_LOCK:
        return isinstance(connection, _Connection) and _OPEN.get(connection) == (stat.st_dev, stat.st_ino)


def _is_open_here(path: Path) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    with _OPEN_LOCK:
        return (stat.st_dev, stat.st_ino) in _OPEN.values()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_MS / 1000,
            check_same_thread=False,
            cached_statements=256,
            factory=_Connection,
        )
        connection.path = path
        stat = path.stat()
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"store {path} cannot be opened: {error}") from error
    with _OPEN_LOCK:
        _OPEN[connection] = (stat.st_dev, stat.st_ino)
    return connection


def _create(path: Path) -> None:
    """Makes the file in one transaction with a rollback journal: it is a whole store, or empty."""
    if not path.parent.is_dir():
        raise StoreError(f"store {path}: the folder {path.parent} does not exist; make it first")
    connection = _connect(path, "rwc")
    with _named(path), contextlib.closing(connection):
        connection.execute(f"pragma page_size = {PAGE_SIZE_BYTES}")
        connection.execute("pragma synchronous = full")
        LockWait().begin(connection, "begin exclusive")
        with ended(connection):
            if connection.execute("pragma user_version").fetchone()[0] == 0:
                connection.execute(f"pragma application_id = {APPLICATION_ID}")
                apply_migrations(connection)
                make_views(connection)
        connection.execute("pragma journal_mode = wal")


def _beside(path: Path, suffix: str) -> Path:
    return Path(os.fspath(path) + suffix)


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the path of the file to an SQLite error, which does not name it."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreError(f"store {path}: {explain(error)}") from error


def explain(error: sqlite3.Error) -> str:
    """What an SQLite error means and what to do about it, in one line."""
    text = str(error)
    if "malformed" in text or "not a database" in text:
        return f"it is damaged ({text}); restore a copy"
    if "locked" in text or "busy" in text:
        seconds = BUSY_TIMEOUT_MS // 1000
        return f"another process has held it for {seconds} s ({text}); end it, then run this again"
    if "disk I/O" in text:
        return (
            f"it cannot be written ({text}); the disk is over its quota, was taken away or made read-only, "
            "or fails: see to that, then run this again"
        )
    if "full" in text:
        return f"the disk is full ({text}); free some space, then run this again"
    if "readonly" in text:
        return f"it cannot be written ({text}); check the rights of file and folder"
    return text
