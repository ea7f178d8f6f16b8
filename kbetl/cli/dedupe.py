"""kbetl dedupe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl.cli.params import common, ignore_broken_pipe, unique_values

if TYPE_CHECKING:
    from kbetl.store import Store


@click.command(short_help="Report what the dataset unique keeps, and what it drops.")
@common
@click.option(
    "--by",
    type=click.Choice(["name", "code"]),
    default="name",
    show_default=True,
    help="What one row is kept of.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    callback=unique_values,
    metavar="NAME",
    help="Only rows of it; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def dedupe(database: Path, *, by: Any, sources: tuple[str, ...], as_json: bool, **others: Any) -> None:
    """Report on the dataset unique: the best row of each module, and what each way to group drops.

    \b
    Examples:
      kbetl dedupe
      kbetl dedupe --by code --json
    """
    from kbetl.dedupe import dedupe as report_on

    report = report_on(database, by, sources)
    if len(report.sources) > 1 and not others["quiet"]:
        click.echo(
            f"kbetl: rows of {len(report.sources)} sources together: {', '.join(report.sources)}", err=True
        )
    with ignore_broken_pipe():
        click.echo(json.dumps(report.as_json(), indent=2) if as_json else "\n".join(report.lines()))


def check_ready(context: click.Context, store: Store | None) -> None:
    """Raises ConfigError for a source that there is not."""
    from kbetl.store.datasets import source_ids

    if store is not None:
        source_ids(store, context.params["sources"])
