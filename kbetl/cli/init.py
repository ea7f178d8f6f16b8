"""`kbetl init`: a commented configuration to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common


@click.command(short_help="Write a commented kbetl.toml and .env.example.")
@common
def init(**_: Any) -> None:
    """Write a commented kbetl.toml and .env.example into this folder; files that are there stay as they are.

    \b
    Examples:
      kbetl init
    """
    from kbetl.demo import write_configuration

    for line in write_configuration(Path()):
        click.echo(line)
