"""`kbetl demo`: the whole pipeline on rows that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common


@click.command(short_help="Run the whole pipeline on shipped rows: no key, no network.")
@common
@click.pass_context
def demo(context: click.Context, /, database: Path, **_: Any) -> None:
    """Run every stage but the push on shipped rows, with the offline model: no key, no network.

    \b
    Examples:
      kbetl demo
      kbetl demo -d kbetl.db    # the examples of the other commands work on it
    """
    from kbetl.demo import DEMO_DATABASE
    from kbetl.demo import demo as run

    # the store is made anew: KBETL_DATABASE and kbetl.toml name the user's own, which stays as it is
    is_given = context.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE
    run(database if is_given else DEMO_DATABASE, click.echo)
