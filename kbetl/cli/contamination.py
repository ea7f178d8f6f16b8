"""kbetl contamination."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl.cli.params import WholeNumber, check_store, common, ignore_broken_pipe, refuse_options_before

if TYPE_CHECKING:
    from kbetl.store import Store


@click.group(invoke_without_command=True, short_help="Find samples that are problems of a benchmark.")
@common
@click.option("--against", type=click.Path(path_type=Path), metavar="FILE", help="The benchmark's problems.")
@click.option("--as", "name", metavar="NAME", help="What it is called; the file's name if not given.")
@click.option(
    "--code-column", metavar="NAME", help="Where its code stands.  [default: code, else python_code]"
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.pass_context
def contamination(
    context: click.Context,
    /,
    database: Path,
    *,
    against: Path | None,
    name: str | None,
    code_column: str | None,
    as_json: bool,
    **_: Any,
) -> int:
    """Find samples that are problems of a benchmark, under whatever names; `kbetl docs trust` says how.

    Without --against the samples are compared again with the benchmarks that were read before.

    \b
    Examples:
      kbetl contamination --against kernelbench.jsonl    # needs the file
      kbetl contamination review    # needs a benchmark
      kbetl contamination verdict 3fa85f64@kernelbench:2/17 different    # needs a pair
    """
    from kbetl.contamination import find_contamination

    if context.invoked_subcommand is not None:
        refuse_options_before(context)
        return 0
    with _store(database) as store:
        report = find_contamination(store, against, name, code_column)
    with ignore_broken_pipe():
        click.echo(json.dumps(report.as_json(), indent=2) if as_json else "\n".join(report.lines()))
    return report.exit_status


@contamination.command(short_help="Show pairs side by side.")
@common
@click.option("-n", "--limit", type=WholeNumber(min=1), default=10, show_default=True, help="Pairs shown.")
@click.option("--all", "shows_all", is_flag=True, help="Also those that have a verdict.")
@click.option("--json", "as_json", is_flag=True, help="One object per pair, with both codes.")
def review(database: Path, *, limit: int, shows_all: bool, as_json: bool, **_: Any) -> None:
    """Show problem and module side by side, the strongest likeness first, one of each group of equal modules.

    \b
    Examples:
      kbetl contamination review -n 3
      kbetl contamination review --json
    """
    from kbetl.contamination import pairs_to_review, side_by_side
    from kbetl.text import plain_text

    with _store(database) as store:
        found = pairs_to_review(store, limit, is_open=not shows_all)
    with ignore_broken_pipe():
        if as_json:
            click.echo(json.dumps([{"pair": one.name, **one._asdict()} for one in found], indent=2))
            return
        for one in found:
            differ = ", settings differ" if one.settings_differ else ""
            said = f", said to be {one.verdict}" if one.verdict else ""
            click.echo(f"{plain_text(one.name)}  {one.how}, {one.parts} operators{differ}{said}")
            click.echo("\n".join(side_by_side(one, shutil.get_terminal_size().columns)) + "\n")
        click.echo(f"{len(found)} pairs; say `kbetl contamination verdict PAIR same|similar|different`")


@contamination.command("verdict", short_help="Say whether a pair is the same.")
@click.argument("pair")
@click.argument("verdict", type=click.Choice(["same", "similar", "different"]), required=False)
@click.option("--note", help="Why.")
@common
def verdict_on(database: Path, *, pair: str, verdict: str | None, note: str | None, **_: Any) -> None:
    """Store what you say of a PAIR; it stays when samples or benchmarks are read again.

    PAIR `-` reads lines of JSON from standard input, each with pair, verdict and perhaps note.

    \b
    Examples:
      kbetl contamination verdict 3fa85f64@kernelbench:2/17 different    # needs a pair
    """
    from kbetl.contamination import Verdict, give_verdicts, read_verdicts

    given = read_verdicts(sys.stdin) if pair == "-" else [Verdict(pair, verdict, note)]
    with _store(database) as store:
        for name, said in give_verdicts(store, given):
            click.echo(f"{name}: {said}")


def _store(database: Path) -> Store:
    from kbetl.store import Store

    check_store(database)
    return Store.open(database)
