"""The one place that makes SQL from names: views whose name is only known when a command runs."""

from __future__ import annotations

import sqlite3

from kbetl.resources import sql_names

# Where `datasets/select_from_view` reads the rows of whichever dataset is chosen.
DATASET_VIEW = "dataset_view"


def make_dataset_view(connection: sqlite3.Connection, view: str) -> None:
    """Makes the temporary view `dataset_view` of a public view, in place of the one that there was.

    Raises ValueError if no file in sql/views is named so.
    """
    if view not in sql_names("views"):
        raise ValueError(f"there is no view {view!r} in sql/views")
    connection.execute(f"drop view if exists temp.{DATASET_VIEW}")
    connection.execute(
        f"create temp view {DATASET_VIEW} as select sample_hash, reward, difficulty from {_quoted(view)}"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
