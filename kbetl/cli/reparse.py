"""`kbetl reparse`: read stored answers again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl.cli.params import check_store, common, print_lines, say_in_use

if TYPE_CHECKING:
    from kbetl.reparse import Reread


@click.command(short_help="Read stored answers again; no request.")
@click.argument("task", required=False, metavar="[TASK]")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before changing, on a terminal.")
@common
def reparse(task: str | None, dry_run: bool, yes: bool, database: Path, quiet: bool, **_: Any) -> int:
    """Read the stored answers of TASK (a name or a file) again with today's parser; no request is sent.

    What would change is shown first; on a terminal you are asked before it is changed.

    \b
    Examples:
      kbetl reparse --dry-run
      kbetl reparse difficulty
      kbetl reparse ./style.md    # needs the task file
    """
    from kbetl.reparse import exit_status_of
    from kbetl.reparse import reparse as read_again
    from kbetl.store import Store

    check_store(database)
    shown: list[str] = []

    def confirm(read: list[Reread]) -> bool:
        shown.extend(_show(read))
        if dry_run:
            return False
        is_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        return yes or not is_terminal or click.confirm("change them?", err=True)

    with Store.open(database) as store:
        read = read_again(store, task, confirm)
    if not shown:
        _show(read)
    say_in_use([each.in_use for each in read if each.in_use is not None], is_quiet=quiet)
    return exit_status_of(read)


def _show(read: list[Reread]) -> list[str]:
    lines = [line for each in read for line in each.lines()]
    print_lines(lines)
    return lines
