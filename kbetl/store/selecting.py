"""Which samples satisfy a user's own conditions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kbetl.errors import ConfigError


def select_samples(
    connection: sqlite3.Connection, kind: str, conditions: Sequence[str], parameters: Mapping[str, Any]
) -> Iterator[str]:
    """The hashes of the samples of a kind that satisfy every condition, in source order.

    `connection` is a guarded one; a condition is a `where` over the columns of `selectable`. Each stands
    in a sub-select of its own, so that its brackets cannot undo another. Raises ConfigError where SQLite
    does not take one.
    """
    parts = [
        f"and samples.hash in (select samples.sample_hash from selectable as samples where (\n{condition}\n))"
        for condition in conditions
    ]
    statement = "\n".join(
        ["select samples.hash from samples where samples.kind = :kind", *parts, "order by samples.rowid"]
    )
    for condition in conditions:
        _try_out(connection, condition, parameters)
    with _blamed(" and ".join(conditions)):
        for (sample_hash,) in connection.execute(statement, {**parameters, "kind": kind}):
            yield sample_hash


def _try_out(connection: sqlite3.Connection, condition: str, parameters: Mapping[str, Any]) -> None:
    """Prepares one condition alone, so that an error names it."""
    with _blamed(condition):
        connection.execute(
            f"select samples.sample_hash from selectable as samples where (\n{condition}\n) limit 0",
            parameters,
        )


@contextlib.contextmanager
def _blamed(condition: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.ProgrammingError, sqlite3.Warning, UnicodeEncodeError) as error:
        if "interrupted" in str(error):
            raise
        reason = " ".join(str(error).split())
        raise ConfigError(
            f'where {condition!r}: {reason}; for its columns: kbetl query "select * from selectable limit 1"'
        ) from error
