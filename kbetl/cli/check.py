"""`kbetl check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common, ignore_broken_pipe


@click.command(short_help="Derive hashes again and check integrity.")
@common
def check(database: Path, **_: Any) -> int:
    """Derive hashes again, check integrity and references; say what was checked.

    \b
    Examples:
      kbetl check
    """
    from kbetl.check import check_store

    report = check_store(database)
    with ignore_broken_pipe():
        click.echo("\n".join(report.lines()))
    return report.exit_status
