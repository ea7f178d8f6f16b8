"""Store: a connection with a lifetime, transactions, settings, runs and tasks."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import kbetl
from kbetl import resources
from kbetl.atomic_files import mode_of
from kbetl.errors import ConfigError, KbetlError, StoreError, exit_status_after
from kbetl.store import connection
from kbetl.store.migrations import back_up, changed_views, make_views
from kbetl.store.user_sql import read_only_query
from kbetl.store.write_lock import LockWait

Parameters = Mapping[str, Any]

# A row of a report by the names of its columns, which are those of its query and of --json.
ReportRow = dict[str, Any]

# What goes on with the command that is running, as words after `kbetl`; the command line sets it.
COMMAND_LINE: ContextVar[tuple[str, ...]] = ContextVar("COMMAND_LINE", default=())

SETTINGS = ("min_reward", "split_by", "split_seed", "split_share")


def _as_typed(words: Iterable[str]) -> str:
    """The words as a command line; bytes of an argument that are no UTF-8 are spelled out."""
    return _storable(shlex.join(("kbetl", *words)))


def _storable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds: how every table keeps times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class OpenRun:
    """A run that is being recorded. `status` is what it ends with if nothing is raised."""

    id: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation of a command. `status` is None while it runs, and for ever if it was killed."""

    id: int
    command: str
    options: Mapping[str, Any]
    task: str | None
    task_hash: str | None
    started_at: str
    ended_at: str | None
    status: int | None
    pid: int


class Store:
    """One store file, open. Writing goes through `transaction`; statements are files of `sql/queries`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self._mode = mode_of(path)
        self.lock_wait = LockWait()
        """How it waits while another process writes."""
        self._lost: list[StoreError] = []
        """That the file is gone, once that was seen; shared with the connections made by `another`."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens for writing, makes a missing file. Raises StoreError for what must not be touched."""
        path = connection.real_path(path)
        return cls(path, connection.open_for_writing(path))

    @classmethod
    def read(cls, path: Path, *, checks_schema: bool = True, checks_views: bool = True) -> Self:
        """Opens for reading alone. Raises StoreError if there is no store, and makes none."""
        path = connection.real_path(path)
        opened = connection.open_read_only(path, checks_schema=checks_schema, checks_views=checks_views)
        return cls(path, opened)

    def another(self) -> Self:
        """A second writing connection to the same store, for another thread."""
        other = type(self).open(self.path)
        other._lost = self._lost
        return other

    def guarded(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """A connection for SQL that came from the user."""
        return read_only_query(self.path)

    def close(self) -> None:
        """Closes the connection; what was committed stays."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_not_replaced(self) -> None:
        """Raises StoreError if the file was moved, removed or replaced under the open connection.

        The open file still has everything, and goes with this process: a copy of it is left beside, one.
        """
        if self._lost:
            raise self._lost[0]
        if connection.is_in_place(self.connection, self.path):
            return
        try:
            copy = back_up(self.connection, self.path, ".rescued", self._mode)
            what = f"all that was written is in {copy}: use that"
        except (sqlite3.Error, OSError) as error:
            what = f"what came since is lost, a copy cannot be written ({error}): put the file back"
        self._lost.append(
            StoreError(
                f"store {self.path}: it was moved, removed or replaced while it was written; {what}, "
                "then run this again"
            )
        )
        raise self._lost[0]

    @contextlib.contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[None]:
        """From `begin` to commit; rolls back on any exception, and names the store in SQLite's errors.

        It waits for another writer without a limit, and says so. Raises StoreError if its path does not
        lead to the file any more after the commit. Without `writes` it is for temp tables alone.
        """
        with self.translate_errors():
            if writes:
                self.lock_wait.begin(self.connection)
            else:
                self.connection.execute("begin")
            try:
                yield
                self.connection.execute("commit")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("rollback")
                raise
        if writes:
            self.check_not_replaced()

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turns an SQLite error that a user can cause (disk, rights, damage, lock) into a StoreError."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            raise StoreError(f"store {self.path}: {connection.explain(error)}") from error

    def execute(self, query: str, parameters: Parameters | None = None) -> sqlite3.Cursor:
        """Runs a statement of `sql/queries/`, such as "answers/add_answer", with named parameters."""
        return self.connection.execute(resources.query(query), parameters or {})

    def execute_many(self, query: str, parameters: Iterable[Parameters]) -> int:
        """Runs a statement of `sql/queries/` for each; returns the number of rows that changed."""
        return self.connection.executemany(resources.query(query), parameters).rowcount

    def rows(self, query: str, parameters: Parameters | None = None) -> list[Any]:
        """All rows of a statement of `sql/queries/`, as tuples; for results that are small."""
        with self.translate_errors():
            return self.execute(query, parameters).fetchall()

    def named_rows(self, query: str, parameters: Parameters | None = None) -> list[ReportRow]:
        """All rows of a statement of `sql/queries/` by the names of their columns; for reports."""
        with self.translate_errors():
            cursor = self.execute(query, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def has_rows(self, dataset: str) -> bool:
        """Whether there is anything to make a dataset of; `rollouts` are what `lengths` measures."""
        found: dict[str, int] = dict(self.rows("store/datasets_with_rows"))
        return found[dataset] == 1

    def changed_views(self) -> list[str]:
        """The names of views that are not what their files say; the next writing command remakes them."""
        return changed_views(self.connection)

    def remake_views(self) -> None:
        """Makes the views of labels follow `tasks`; call within the transaction that changed them."""
        make_views(self.connection)

    # settings

    def setting(self, key: str) -> Any:
        """The value of one of SETTINGS."""
        found = self.rows("store/setting", {"key": key})
        if not found:
            raise ConfigError(f"no setting {key!r}; there are {', '.join(SETTINGS)}")
        return found[0][0]

    def change_setting(self, key: str, value: float | str) -> None:
        """Changes one of SETTINGS; every view follows at once."""
        with self.transaction():
            self.execute("store/change_setting", {"key": key, "value": value})

    # runs

    @contextlib.contextmanager
    def run(
        self,
        command: str,
        options: Parameters,
        *,
        task: str | None = None,
        counts: Callable[[], Parameters] = dict,
        cost_usd: Callable[[], float | None] = lambda: None,
    ) -> Iterator[OpenRun]:
        """Records a command from its beginning to its end, whatever ends it; see `begin_run`, `end_run`.

        `counts` and `cost_usd` are asked at the end. If an exception ends it, that one is raised and
        says the status, also if the end cannot be recorded any more or another writer blocks it.
        """
        run = OpenRun(self.begin_run(command, options, task=task))
        try:
            yield run
        except BaseException as error:
            self.lock_wait.gives_up = lambda: True
            with contextlib.suppress(KbetlError):
                self.end_run(run.id, exit_status_after(error), counts(), cost_usd=cost_usd())
            raise
        self.end_run(run.id, run.status, counts(), cost_usd=cost_usd())

    def begin_run(
        self, command: str, options: Parameters, *, task: str | None = None, task_hash: str | None = None
    ) -> int:
        """Records that a command began; returns the run's id. `options` must hold no secrets."""
        words, name = COMMAND_LINE.get(), tuple(command.split())
        is_own = words[: len(name)] == name  # the stages of `demo` and `batch fetch` are runs of another name
        with self.transaction():
            cursor = self.execute(
                "store/begin_run",
                {
                    "command": command,
                    # bytes of a path that are no UTF-8 are escapes in JSON, which reads them back
                    "options": _storable(json.dumps(options, ensure_ascii=False, sort_keys=True)),
                    "task": task,
                    "task_hash": task_hash,
                    "started_at": now(),
                    "pid": os.getpid(),
                    "kbetl_version": kbetl.__version__,
                    "command_line": _as_typed(words) if is_own else None,
                },
            )
        return int(cursor.lastrowid or 0)

    def end_run(self, run_id: int, status: int, counts: Parameters, *, cost_usd: float | None = None) -> None:
        """Records how a command ended: its exit status and what it counted."""
        with self.transaction():
            self.execute(
                "store/end_run",
                {
                    "run_id": run_id,
                    "status": status,
                    "ended_at": now(),
                    "counts": _storable(json.dumps(counts, ensure_ascii=False)),
                    "cost_usd": cost_usd,
                },
            )

    def last_run(self, task: str) -> Run | None:
        """The newest run that asked about a task; None if there was none."""
        found = self.rows("store/last_run", {"task": task, "is_left_over": 0})
        return _run(found[0]) if found else None

    def last_run_left_over(self, task: str) -> Run | None:
        """The newest run about a task that did not end with 0 and that no later one dealt with, or None."""
        found = self.rows("store/last_run", {"task": task, "is_left_over": 1})
        return _run(found[0]) if found else None

    def last_finished_run(self, task: str, task_hash: str | None = None) -> Run | None:
        """The newest run that asked what was missing and ended with 0; of one question: however it ended."""
        found = self.rows("store/last_finished_run", {"task": task, "task_hash": task_hash})
        return _run(found[0]) if found else None


def _run(row: tuple[Any, ...]) -> Run:
    run_id, command, options, task, task_hash, started_at, ended_at, status, pid = row
    return Run(run_id, command, json.loads(options), task, task_hash, started_at, ended_at, status, pid)
