"""kbetl tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common, ignore_broken_pipe


@click.command(short_help="List tables and views, or show the columns of one.")
@common
@click.argument("name", required=False)
def tables(name: str | None, database: Path, **_: Any) -> None:
    """List the tables and views of the store, or show one with its rows and what its columns are.

    \b
    Examples:
      kbetl tables
      kbetl tables labels
    """
    from kbetl.tables import lines_of_all, relation, relations

    lines = lines_of_all(relations(database)) if name is None else relation(database, name).lines()
    with ignore_broken_pipe():
        for line in lines:
            click.echo(line)
