"""Which samples satisfy a user's own conditions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kbetl.errors import ConfigError
from kbetl.store.opening import empty_in_memory

_TRIALS = ("(\n{}\n)", "\n{}\n")
"""Where a condition must stand. In brackets it can be no more than an expression; without them it can close
none that it did not open, as `1) or (1` would: what passes both is one whole expression."""


def select_samples(
    connection: sqlite3.Connection,
    kind: str,
    conditions: Sequence[str],
    parameters: Mapping[str, Any],
    *,
    with_prompts: bool = False,
) -> Iterator[str]:
    """The hashes of the samples of a kind that satisfy every condition, in source order.

    Modules without code, which are bare prompts, come `with_prompts` alone.
    `connection` is a guarded one; a condition is a `where` over the columns of `selectable`. Raises
    ConfigError where SQLite does not take one, or where it is not one whole expression.
    """
    parts = [
        f"and samples.hash in (select samples.sample_hash from selectable as samples where (\n{condition}\n))"
        for condition in conditions
    ]
    if kind == "module" and not with_prompts:
        parts.insert(0, "and samples.code_hash is not null")
    statement = "\n".join(
        ["select samples.hash from samples where samples.kind = :kind", *parts, "order by samples.rowid"]
    )
    for condition in conditions:
        _try_out(connection, condition, parameters)
    with _blamed(" and ".join(conditions)):
        for (sample_hash,) in connection.execute(statement, {**parameters, "kind": kind}):
            yield sample_hash


def check_conditions(conditions: Sequence[str]) -> None:
    """Raises ConfigError for a condition that no store would take; no store is needed."""
    if not conditions:
        return
    with contextlib.closing(empty_in_memory()) as connection:
        for condition in conditions:
            _try_out(connection, condition, {"min_reward": 0.0})


def _try_out(connection: sqlite3.Connection, condition: str, parameters: Mapping[str, Any]) -> None:
    """Prepares one condition alone, so that an error names it."""
    for place in _TRIALS:
        with _blamed(condition):
            connection.execute(
                "select samples.sample_hash from selectable as samples where "
                f"{place.format(condition)} limit 0",
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
            f"where {condition!r}: {reason}; it may name the columns of the view selectable"
        ) from error
