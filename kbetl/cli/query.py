"""Commands that read the store and change nothing: query, status, check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kbetl.cli.params import common, ignore_broken_pipe

_TABLE_FORMATS = ("simple", "plain", "github", "grid", "fancy_grid", "html", "latex", "outline", "pipe")


@click.command(short_help="Run SQL on the store, read only.")
@common
@click.argument("statement", metavar="SQL")
@click.option(
    "-p",
    "--param",
    "parameters",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="A value for :NAME; a number if it is spelled as one.",
)
@click.option("--nl", "form", flag_value="nl", help="JSON, one row per line.")
@click.option("--csv", "form", flag_value="csv", help="CSV; cells that are formulas get a ' in front.")
@click.option("--tsv", "form", flag_value="tsv", help="As CSV, with tabs.")
@click.option("-t", "--table", "form", flag_value="table", help="A table.")
@click.option("--fmt", type=click.Choice(_TABLE_FORMATS), help="The table's format; implies -t.")
@click.option("-r", "--raw", "form", flag_value="raw", help="First column of the first row, as it is.")
@click.option("--no-headers", is_flag=True, help="CSV, TSV, table: without column names.")
@click.option("--arrays", is_flag=True, help="JSON: rows as lists.")
@click.option("--json-cols", is_flag=True, help="JSON: text that is JSON itself is nested.")
def query(statement: str, database: Path, parameters: tuple[tuple[str, str], ...], **options: Any) -> None:
    """Run SQL on the store, read only; JSON unless another form is named.

    SQL is one statement, or - to read it from stdin.

    \b
    Examples:
      kbetl query "select * from source_counts" -t
      kbetl query "select sample_hash from rollouts where reward > :min" -p min 0.9 --nl
    """
    from kbetl.query import Layout, print_query

    form: Any = options["form"] or ("table" if options["fmt"] else "json")
    layout = Layout(
        form=form,
        headers=not options["no_headers"],
        arrays=options["arrays"],
        json_columns=options["json_cols"],
        fmt=options["fmt"] or "simple",
    )
    _refuse_idle(options, form)
    if statement == "-":
        statement = sys.stdin.read()
    with ignore_broken_pipe():
        print_query(database, statement, dict(parameters), layout, sys.stdout.buffer)


def _refuse_idle(options: dict[str, Any], form: str) -> None:
    """An option that would do nothing in this form is a mistake, not a wish."""
    homes = {
        "fmt": ("table",),
        "no_headers": ("csv", "tsv", "table"),
        "arrays": ("json", "nl"),
        "json_cols": ("json", "nl"),
    }
    for name, forms in homes.items():
        if options[name] and form not in forms:
            raise click.UsageError(f"--{name.replace('_', '-')} does nothing for {form} output")
