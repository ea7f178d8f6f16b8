"""kbetl push: options in, a line per dataset out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl.cli.params import (
    FiniteNumber,
    FormatName,
    check_store,
    common,
    names_datasets,
    sayer,
    task_names,
    unique_values,
    with_option,
)

if TYPE_CHECKING:
    from kbetl.hub import Pushed, PushOptions
    from kbetl.store import Store


@click.command(short_help="Push datasets to the Hub, each as one commit.")
@common
@names_datasets
@click.argument("datasets", nargs=-1, metavar="[DATASET...|all]")
@click.option("--repo", metavar="OWNER/NAME", help="Where to, in place of the usual name; for one DATASET.")
@click.option("--format", "format_", type=FormatName(), default="rows", show_default=True, help="Columns.")
@click.option("--owner", help="Owner of the usual names.  [default: siro1]")
@click.option("--model-name", help="Model part of the usual names.  [default: glm4_7]")
@click.option("--private", is_flag=True, help="Make what is new private; refuse what is public.")
@click.option("--dry-run", is_flag=True, help="Say what would change; send nothing.")
@click.option(
    "--force",
    "--allow-schema-change",
    "allow_schema_change",
    is_flag=True,
    help="Replace what is there though it has other columns, splits or files.",
)
@click.option(
    "--source", multiple=True, callback=unique_values, help="Only samples of this source; repeatable."
)
@with_option
@click.option("--all-sources", is_flag=True, help="Mix the rollouts of all sources.")
@click.option("--first-wait-s", type=FiniteNumber(min=0), default=1.0, hidden=True)
def push(datasets: tuple[str, ...], database: Path, **given: Any) -> int:
    """Push datasets to the Hub, each as one commit, with splits and a card made from the store.

    DATASET is {datasets}; all: those that have rows. What the Hub has already is
    not sent again. Of a card only the part between its kbetl marks is written. The token is HF_TOKEN. Rows
    that a format cannot carry are named, and the exit status is 3.

    \b
    Examples:
      kbetl push filtered unique --dry-run          # needs the Hub
      kbetl push all --owner my-name --private      # needs HF_TOKEN
      kbetl push unique --repo my-name/best-kernels --format messages  # needs HF_TOKEN
    """
    from kbetl.hub import exit_status
    from kbetl.hub import push as run
    from kbetl.store import Store

    check_store(database)
    say = sayer(is_quiet=given["quiet"])
    options = _options(datasets, given)
    reads_only = given["dry_run"] or not datasets
    with Store.read(database) if reads_only else Store.open(database) as store:
        return exit_status(run(store, options, say, _print))


def check_ready(context: click.Context, store: Store | None) -> None:
    """Raises what would stop this push, as far as it can be known before there are rows."""
    from kbetl.hub import check_ready as check

    check(_options(context.params["datasets"], context.params), store)


def _options(datasets: tuple[str, ...], given: Mapping[str, Any]) -> PushOptions:
    from kbetl.hub import PushOptions

    names = {key: given[key] for key in ("owner", "model_name") if given[key] is not None}
    return PushOptions(
        datasets=datasets,
        repo=given["repo"],
        is_private=given["private"],
        is_dry_run=given["dry_run"],
        allow_schema_change=given["allow_schema_change"],
        format=given["format_"],
        sources=given["source"],
        all_sources=given["all_sources"],
        with_labels=task_names(given["with_labels"]),
        is_quiet=given["quiet"],
        first_wait_s=given["first_wait_s"],
        **names,
    )


def _print(pushed: Pushed) -> None:
    for line in pushed.lines():
        click.echo(line)
