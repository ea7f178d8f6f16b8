"""kbetl hacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common, ignore_broken_pipe
from kbetl.errors import StoreError


@click.command(short_help="Find rollouts whose code cheats.")
@common
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def hacks(database: Path, *, as_json: bool, **_: Any) -> None:
    """Read the code of every rollout that was not read yet, and report which solutions cheat.

    Code is read, never run. The flags are columns of --where; `kbetl docs trust` says what they mean.

    \b
    Examples:
      kbetl hacks
      kbetl query "select module_name, flags, worst from hacks"
    """
    from kbetl.hacks import find_hacks
    from kbetl.store import Store

    if not database.exists():
        raise StoreError(f"no store at {database}; `kbetl ingest` makes one, or name another with -d")
    with Store.open(database) as store:
        report = find_hacks(store)
    with ignore_broken_pipe():
        click.echo(json.dumps(report.as_json(), indent=2) if as_json else "\n".join(report.lines()))
