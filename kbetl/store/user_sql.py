"""The one connection on which a user's own SQL runs: it can read, and nothing else."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import signal
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from kbetl.config import command_line
from kbetl.errors import BadQuery, ConfigError, KbetlError, StoreError
from kbetl.resources import query
from kbetl.store.connection import empty_in_memory, explain, open_read_only, path_of
from kbetl.store.generated_views import label_columns
from kbetl.text import blanked

_ALLOWED = frozenset(
    (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
)
_PRAGMAS_ABOUT_A_NAME = frozenset(
    ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list")
)
_PRAGMAS_THAT_READ = frozenset(
    ("database_list", "compile_options", "user_version", "application_id", "journal_mode", "page_count")
)
"""These change the store, or the connection, if they are given a value."""
_FORBIDDEN_FUNCTIONS = frozenset(("load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"))
# Virtual machine steps between calls of the progress handler: under a millisecond.
_STEPS_BETWEEN_CHECKS = 20_000
_FAULTS_OF_THE_STORE = frozenset(
    ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOTADB")
)


def read_only_connection(path: Path, *, allows_pragmas: bool = False) -> sqlite3.Connection:
    """A connection for SQL that we did not write; it `allows_pragmas` that read, if asked to.

    `mode=ro` alone lets ATTACH create files and VACUUM INTO write one; `query_only` and an authorizer
    that knows four actions close that. The progress handler gives Python a chance to see Ctrl-C.
    """
    connection = open_read_only(path)
    # at its first use a table-valued function declares its columns as if it wrote to the schema, which
    # the authorizer refuses; later uses of the same connection do not
    connection.execute("select 1 from json_each('[]'), json_tree('[]')").fetchall()
    connection.set_authorizer(_authorize_with_pragmas if allows_pragmas else _authorize)
    connection.set_progress_handler(_go_on, _STEPS_BETWEEN_CHECKS)
    return connection


@contextlib.contextmanager
def read_only_query(path: Path) -> Iterator[sqlite3.Connection]:
    """A guarded connection for one statement; closes it.

    Raises BadQuery, in one line, for what is wrong with the SQL or its parameters; StoreError for what
    is wrong with the store. A signal ends the statement at once and raises what its handler raises.
    """
    with contextlib.closing(read_only_connection(path)) as connection, _signals_kept() as raised:
        try:
            yield connection
        except sqlite3.Error as error:
            if raised:
                raise raised[0] from None
            raise _translate_errors(error, path, connection) from error
        except KbetlError:  # the store that reads along has named SQLite's error already
            if raised:
                raise raised[0] from None
            raise
        except (sqlite3.Warning, UnicodeEncodeError, OverflowError) as error:
            raise BadQuery(f"SQL: {_one_line(error)}") from error


@contextlib.contextmanager
def _signals_kept() -> Iterator[list[BaseException]]:
    """Keeps what the handlers of SIGINT and SIGTERM raise.

    `sqlite3` swallows an exception that comes up in its progress handler, and says only `interrupted`, or
    in its authorizer, and says that access is prohibited.
    """
    raised: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():
        yield raised
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    callables = {int(number): handler for number, handler in handlers.items() if callable(handler)}

    def keep(number: int, frame: FrameType | None) -> Any:
        try:
            return callables[number](number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    for number in callables:
        signal.signal(number, keep)
    try:
        yield raised
    finally:
        for number, handler in callables.items():
            signal.signal(number, handler)


def _translate_errors(
    error: sqlite3.Error, path: Path, connection: sqlite3.Connection
) -> BadQuery | StoreError:
    # errors of the module itself, such as a parameter without a value, carry no code of SQLite
    name = getattr(error, "sqlite_errorname", None) or ""
    if any(name == fault or name.startswith(f"{fault}_") for fault in _FAULTS_OF_THE_STORE):
        return StoreError(f"store {path}: {explain(error)}")
    if name == "SQLITE_AUTH":
        return BadQuery(f"SQL: {_one_line(error)}; a query can only read this store")
    return BadQuery(f"SQL: {_one_line(error)}{_nearest(error, connection)}")


_NO_SUCH = re.compile(r"no such (?:table|column): (?:\w+\.)?(.+)")


def _nearest(error: sqlite3.Error, connection: sqlite3.Connection) -> str:
    """The table, view or column that was probably meant; empty for any other error."""
    unknown = _NO_SUCH.fullmatch(str(error))
    if unknown is None:
        return ""
    connection.set_authorizer(None)  # what follows is ours
    names = [name for (name,) in connection.execute(query("schema/known_names"))]
    near = difflib.get_close_matches(unknown[1].lower(), names, n=1)
    return f"; did you mean {blanked(near[0])}?" if near else ""


def _one_line(error: Exception) -> str:
    return " ".join(blanked(str(error)).split())


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, source: str | None
) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _authorize_with_pragmas(
    action: int, first: str | None, second: str | None, database: str | None, source: str | None
) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        reads = name in _PRAGMAS_ABOUT_A_NAME or (name in _PRAGMAS_THAT_READ and second is None)
        return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY
    return _authorize(action, first, second, database, source)


def _go_on() -> int:
    return 0


_TRIALS = ("(\n{}\n)", "\n{}\n")
"""Where a condition must be valid. In brackets it can be no more than an expression; without them it can
close none that it did not open, as `1) or (1` would: what passes both is one whole expression."""


def select_samples(
    connection: sqlite3.Connection,
    kinds: Sequence[str],
    conditions: Sequence[str],
    parameters: Mapping[str, Any],
    *,
    with_prompts: bool = False,
) -> Iterator[str]:
    """The hashes of the samples of some kinds that satisfy every condition, in source order.

    Modules without code, which are bare prompts, come `with_prompts` alone.
    `connection` is a guarded one; a condition is a `where` over the columns of `selectable`. Raises
    ConfigError if SQLite refuses one, or if it is not one whole expression.
    """
    parts = [
        f"and samples.hash in (select samples.sample_hash from selectable as samples where (\n{condition}\n))"
        for condition in conditions
    ]
    if "module" in kinds and not with_prompts:
        parts.insert(0, "and (samples.kind <> 'module' or samples.code_hash is not null)")
    are_of_kinds = "samples.kind in (select kinds.value from json_each(:kinds) as kinds)"
    statement = "\n".join(
        [f"select samples.hash from samples where {are_of_kinds}", *parts, "order by samples.rowid"]
    )
    for condition in conditions:
        _try_out(connection, condition, parameters)
    with _blamed(" and ".join(conditions)):
        for (sample_hash,) in connection.execute(statement, {**parameters, "kinds": json.dumps(list(kinds))}):
            yield sample_hash


def check_conditions(
    conditions: Sequence[str], database: Path | None = None, labels_to_come: Collection[str] = ()
) -> None:
    """Raises ConfigError for a condition that the store at `database` would refuse.

    If there is none yet, or one that has to be migrated first, an empty one is tried. `labels_to_come` are
    tasks that will have labels by the time when the condition is used: what is called like one passes.
    """
    if not conditions:
        return
    with contextlib.closing(_trial_connection(database)) as connection:
        for condition in conditions:
            try:
                _try_out(connection, condition, {"min_reward": 0.0})
            except UnknownColumn as unknown:
                if not any(
                    re.fullmatch(rf"{re.escape(each)}(_.*)?", unknown.name) for each in labels_to_come
                ):
                    raise


def _trial_connection(database: Path | None) -> sqlite3.Connection:
    if database is not None and database.exists():
        with contextlib.suppress(StoreError):
            return read_only_connection(database)
    return empty_in_memory()


def _try_out(connection: sqlite3.Connection, condition: str, parameters: Mapping[str, Any]) -> None:
    """Prepares one condition alone, so that an error names it."""
    # a quoted name that is no column is text to SQLite, and text is more than any number
    quoted = [name.replace('""', '"') for name in _QUOTED.findall(condition) if name]
    _refuse_unused_labels(connection, condition, quoted)
    for trial in _TRIALS:
        try:
            with _blamed(condition):
                connection.execute(
                    "select samples.sample_hash from selectable as samples where "
                    f"{trial.format(condition)} limit 0",
                    parameters,
                )
        except UnknownColumn as unknown:
            _refuse_unused_labels(connection, condition, [unknown.name])
            raise


_QUOTED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)\"""")


def _refuse_unused_labels(connection: sqlite3.Connection, condition: str, names: Sequence[str]) -> None:
    """Raises ConfigError if one of the names is that of a label of a task that is not in use."""
    wanted = {name.lower() for name in names}
    if not wanted:
        return
    for task, reader, is_labelled in connection.execute(query("selection/unused_tasks")):
        if wanted.isdisjoint(column.name.lower() for column in label_columns(task, reader)):
            continue
        use = command_line(path_of(connection), "use", task)
        why = f"is not in use; run: {use}" if is_labelled else "has no label yet; ask it with kbetl enrich"
        raise ConfigError(f"where {condition!r}: the task {task} {why}")


class UnknownColumn(ConfigError):
    """A condition names a column that `selectable` does not have."""

    def __init__(self, message: str, name: str) -> None:
        """`name` is that of the column, as the condition spells it."""
        super().__init__(message)
        self.name = name


_NO_COLUMN = re.compile(r"no such column: (?:samples\.|selectable\.)?\"?(.+?)\"?$")


@contextlib.contextmanager
def _blamed(condition: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.ProgrammingError, sqlite3.Warning, UnicodeEncodeError) as error:
        if "interrupted" in str(error):
            raise
        reason = " ".join(str(error).split())
        message = f"where {condition!r}: {reason}; it may name the columns of the view selectable"
        unknown = _NO_COLUMN.match(reason)
        if unknown is not None:
            raise UnknownColumn(message, unknown[1]) from error
        raise ConfigError(message) from error
