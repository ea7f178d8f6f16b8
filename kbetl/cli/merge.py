"""`kbetl merge`: what other stores have and this one lacks."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl.cli.params import check_store, common, ignore_broken_pipe, unique_values
from kbetl.errors import LEFT_OVER
from kbetl.text import plain_text

if TYPE_CHECKING:
    from kbetl.store.merge import MergeReport


@click.command(short_help="Add what other stores have and this one lacks.")
@click.argument(
    "others",
    nargs=-1,
    required=True,
    metavar="OTHER.db...",
    type=click.Path(path_type=Path),
    callback=unique_values,
)
@click.option("--dry-run", is_flag=True, help="Show what would come and what disagrees; change nothing.")
@click.option("--label", metavar="NAME", help="Names what collides.  [default: the other store's file name]")
@common
def merge(
    others: tuple[Path, ...], *, dry_run: bool, label: str | None, database: Path, quiet: bool, **_: Any
) -> int:
    """Add what OTHER.db... have and this store lacks, by content; they are only read.

    A label never changes by that: of two that are ok, the one of this store stays. Merged again, nothing is
    added. Exit status 3 if something disagrees; each is said.

    \b
    Examples:
      kbetl merge node2.db --dry-run    # needs the other store
      kbetl merge out/*.db              # needs the other stores
    """
    from kbetl.store import Store
    from kbetl.store.merge import merge as merge_store
    from kbetl.store.merge import merge_lock

    if not dry_run:
        Store.open(database).close()
    check_store(database)
    with Store.open(database) as store, merge_lock(store), contextlib.ExitStack() as recorded:
        counts: dict[str, dict[str, int]] = {}
        names = {other: plain_text(str(other)) for other in others}
        options = {"others": list(names.values()), "label": label and plain_text(label)}
        run = None if dry_run else recorded.enter_context(store.run("merge", options, counts=lambda: counts))
        status = 0
        for other in others:
            report = merge_store(database, other, label, is_dry_run=dry_run)
            counts[names[other]] = report.added
            _show(report, is_quiet=quiet)
            status = LEFT_OVER if report.disagreements else status
        if run is not None:
            run.status = status
    return status


def _show(report: MergeReport, *, is_quiet: bool) -> None:
    with ignore_broken_pipe():
        click.echo(f"{plain_text(str(report.other))}:")
        for table in report.tables():
            counts = f"{table.read:,} read, {table.added:,} added, {table.known:,} known"
            differing = f", {table.disagreeing:,} disagree" if table.disagreeing else ""
            click.echo(f"  {table.table}: {counts}{differing}")
        for line in report.disagreements:
            click.echo(f"  disagrees: {plain_text(line)}")
    if not is_quiet:
        for line in report.notes:
            click.echo(f"kbetl: {plain_text(line)}", err=True)
