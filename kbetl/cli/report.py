"""kbetl report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common
from kbetl.text import plain_text


@click.command(short_help="Write one HTML file with the figures of the store.")
@common
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The HTML file.",
)
def report(database: Path, *, output: Path, quiet: bool, **_: Any) -> None:
    """Write one HTML file that shows what is there, what is left over, what it cost, and rollouts to read.

    It needs no network and no script, prints well, and is the same bytes for the same store.

    \b
    Examples:
      kbetl report -o report.html
    """
    from kbetl.report.report import write_report

    size_bytes = write_report(database, output)
    if not quiet:
        click.echo(f"report: {size_bytes:,} bytes to {plain_text(str(output))}", err=True)
