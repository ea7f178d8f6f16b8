"""kbetl lengths: options in, figures out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl import config
from kbetl.cli.params import WholeNumber, common, unique_values
from kbetl.dataset.registry import MEASURED

if TYPE_CHECKING:
    from kbetl.lengths import LengthReport
    from kbetl.store import Store

BAR_CHARACTERS = 40


@click.command(short_help="Count tokens as the trainer will see them.")
@common
@click.option(
    "--tokenizer",
    default="Qwen/Qwen3-30B-A3B-Thinking-2507",
    show_default=True,
    metavar="NAME|FOLDER",
    help="On the Hub, also NAME@REVISION, or a folder.",
)
@click.option(
    "--dataset",
    type=click.Choice(list(MEASURED)),
    help="What is measured; samples are all rollouts.  [default: DATASET_PATH, else samples]",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    callback=unique_values,
    help="Only samples of this source; repeatable.",
)
@click.option("-n", "--limit", type=WholeNumber(min=0), help="Count so many samples at most.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def lengths(database: Path, quiet: bool, *, tokenizer: str, as_json: bool, **options: Any) -> int:
    """Count tokens as the trainer will see them: the chat template rendered, with the reasoning.

    Counts are kept per sample, tokenizer and template: a second run counts only what is new. Says how long
    the samples are, what each sequence length would cut off and waste, and which one to take.

    \b
    Examples:
      kbetl lengths    # needs the Hub, once: a tokenizer is fetched
      kbetl lengths --dataset filtered --tokenizer ./my-model    # needs a model's folder
      kbetl lengths --tokenizer Qwen/Qwen3-8B@main --json        # needs the Hub
    """
    from kbetl.cli.progress import progress_of_measuring
    from kbetl.lengths import choose, measure
    from kbetl.store import Store

    if not database.exists():
        Store.read(database)  # says that there is none; measuring makes no store
    with Store.open(database) as store:
        chosen = choose(store, options["dataset"], options["sources"], config.variable("DATASET_PATH"))
        with progress_of_measuring(is_quiet=quiet) as tally:
            report = measure(store, tokenizer, chosen, limit=options["limit"], tally=tally)
    if not quiet:
        for line in tally.notes:
            click.echo(f"kbetl: {line}", err=True)
    _print(report, as_json=as_json)
    return report.exit_status


def check_ready(context: click.Context, store: Store | None) -> None:
    """Raises what would stop the count: a tokenizer that cannot be loaded, a dataset that does not exist.

    Known only once there are rollouts to count; without a store nothing is looked at.
    """
    from kbetl.lengths import choose, find

    given = context.params
    if store is not None and store.has_rows("rollouts"):
        choose(store, given["dataset"], given["sources"], config.variable("DATASET_PATH"))
        find(given["tokenizer"])


def _print(report: LengthReport, *, as_json: bool) -> None:
    from kbetl.cli.params import ignore_broken_pipe

    with ignore_broken_pipe():
        if as_json:
            click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
        elif sys.stdout.isatty():
            _show(report)
        else:
            click.echo("\n".join(_lines(report)))


def _lines(report: LengthReport) -> list[str]:
    """The report as plain text."""
    lines = [*report.left_over(), report.head()]
    for title, header, rows in _tables(report):
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        lines += ["", title]
        for row in (header, *rows):
            cells = zip(row, widths, header, strict=True)
            line = "  ".join(cell.rjust(width) if name else cell for cell, width, name in cells)
            lines.append(f"  {line}".rstrip())
    return lines


def _show(report: LengthReport) -> None:
    """The report for a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for line in (*report.left_over(), report.head()):
        console.print(Text(line))
    for title, header, rows in _tables(report):
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for name in header:
            table.add_column(name, justify="left" if name == "" else "right")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print()
        console.print(table)


Row = tuple[str, ...]


def _tables(report: LengthReport) -> list[tuple[str, Row, list[Row]]]:
    """Title, header and rows of each table that has rows."""
    percentiles: list[Row] = [
        (f"{each.percentile:g}", f"{each.total_tokens:,}") for each in report.percentiles
    ]
    header: Row = ("covers", "its longest", "seq_len", "samples over", "tokens lost", "padding")
    advice: list[Row] = [
        (
            f"{each.percentile:g} %",
            f"{each.total_tokens:,}",
            str(each.seq_len),
            f"{each.samples_over:,}",
            f"{each.tokens_lost:,}",
            f"{each.share_padding:.1%}",
        )
        for each in report.advice
    ]
    tables = [
        (f"lengths ({report.total()})", ("tokens", "samples", "share", ""), _histogram(report)),
        ("percentiles, by nearest rank", ("percent", "tokens"), percentiles),
        _limits(report),
        ("advice: the sequence length to take, one sample per sequence", header, advice),
    ]
    return [table for table in tables if table[2]]


def _limits(report: LengthReport) -> tuple[str, Row, list[Row]]:
    """A row per sequence length, a column for what each difficulty has beyond it."""
    ratings = (
        list(dict.fromkeys(each.difficulty for each in report.limits)) if report.has_ratings else ["all"]
    )
    found = {(each.limit_tokens, each.difficulty): each for each in report.limits}
    rows: list[Row] = []
    for each in report.limits:
        if each.difficulty != "all":
            continue
        over = [f"{found[each.limit_tokens, rating].samples_over:,}" for rating in ratings]
        lost = (f"{each.share_over:.2%}", f"{each.tokens_lost:,}", f"{each.share_padding:.1%}")
        rows.append((str(each.limit_tokens), *over, *lost))
    names = [rating or "not rated" for rating in ratings]
    header = ("seq_len", *names, "share", "tokens lost", "padding")
    return ("limits: samples over each sequence length, what cutting loses and padding wastes", header, rows)


def _histogram(report: LengthReport) -> list[Row]:
    most = max((each.samples for each in report.buckets), default=0)
    rows: list[Row] = []
    for each in report.buckets:
        upper = "more" if each.up_to_tokens is None else f"{each.up_to_tokens:,}"
        bar = "#" * -(-each.samples * BAR_CHARACTERS // most)
        rows.append((f"{each.over_tokens:,} - {upper}", f"{each.samples:,}", f"{each.share:.1%}", bar))
    return rows
