"""kbetl ingest: options in, counts out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl import config
from kbetl.cli.params import WholeNumber, common, print_lines
from kbetl.cli.progress import progress_of_reading
from kbetl.errors import ConfigError

if TYPE_CHECKING:
    from kbetl.row_writer import IngestReport


@click.command(short_help="Store the rows of files, folders and Hub datasets.")
@common
@click.argument("sources", nargs=-1, metavar="[SOURCE...]", type=click.UNPROCESSED)
@click.option("--split", help="Split of a dataset on the Hub.  [default: train]")
@click.option("--revision", help="Commit, tag or branch of a dataset on the Hub.")
@click.option("--as", "name", metavar="NAME", help="Name of the source, in place of its path.")
@click.option("-n", "--limit", type=WholeNumber(min=1), help="Rows to read of each SOURCE; adds only.")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="NAME=PATH",
    help="Where a row has what is called NAME here, such as completion=answer; repeatable. none: as it is.",
)
def ingest(sources: tuple[str, ...], database: Path, quiet: bool, **options: Any) -> int:
    """Store the rows of SOURCE: rollouts, modules, and any other rows as records.

    SOURCE is a .jsonl, .json, .csv, .parquet or .arrow file (also .gz, .zst), a folder of those, - for stdin,
    or a dataset on the Hub as OWNER/NAME. A row with an answer of a model is a rollout: prompt and completion
    or response, messages, ShareGPT, Alpaca. One with PyTorch code and a name, or with a prompt alone, is a
    module; any other object is a record. --map says where your columns are; a source keeps its map. What is
    stored already costs a look-up; a broken row is named FILE:LINE, the others are kept, exit status 3.

    \b
    Examples:
      kbetl ingest rollouts.jsonl
      kbetl ingest - --as tuesday < rollouts.jsonl
      kbetl ingest pairs.csv --map prompt=question --map completion=answer    # needs the file
      kbetl ingest GPUMODE/KernelBook --split train    # needs the Hub
    """
    from kbetl.ingest import IngestOptions, find_sources, ingest_into
    from kbetl.row_writer import exit_status

    _refuse_empty_list(sources)
    wanted = IngestOptions(
        options["split"], options["revision"], options["name"], options["limit"], _field_map(options["maps"])
    )
    found = find_sources(sources or (config.EVALS, config.KERNELBOOK), wanted)
    with progress_of_reading(is_quiet=quiet) as tally:
        reports = ingest_into(database, found, wanted, tally)
    _print(reports, is_quiet=quiet)
    return exit_status(reports)


def _field_map(maps: tuple[str, ...]) -> dict[str, str] | None:
    """The map that is given; empty for `none`, None if none is given."""
    from kbetl.samples.reading import NO_MAP, field_map

    return {} if maps == (NO_MAP,) else field_map(maps) if maps else None


def _refuse_empty_list(sources: tuple[str, ...]) -> None:
    """Raises ConfigError for an empty list: without the key, `ingest` reads the usual datasets."""
    in_toml = config.load_toml().get("ingest", {}).get("sources")
    if not sources and in_toml is not None:
        raise ConfigError(f"{config.TOML}: [ingest] sources is empty; name a source, or leave the key out")


def _print(reports: Sequence[IngestReport], *, is_quiet: bool) -> None:
    """Prints counts to stdout; notes, rejected rows and what could not be read to stderr."""
    for report in reports:
        if not is_quiet:
            for line in report.remarks():
                click.echo(line, err=True)
        if report.error is None:
            print_lines([report.as_text()])
        else:
            click.echo(f"kbetl: {report.error}", err=True)
