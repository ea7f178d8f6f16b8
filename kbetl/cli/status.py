"""`kbetl status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common, ignore_broken_pipe


@click.command(short_help="Say what is there, missing, failed, and what it cost.")
@common
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def status(database: Path, *, as_json: bool, **_: Any) -> None:
    """Say what is there, what is missing, what failed and why, what it cost, and what to run next.

    \b
    Examples:
      kbetl status
      kbetl status --json
    """
    from kbetl.status import read_status, status_lines

    found = read_status(database)
    text = json.dumps(found.as_json(), indent=2) if as_json else "\n".join(status_lines(found))
    with ignore_broken_pipe():
        click.echo(text)
