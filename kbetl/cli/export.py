"""kbetl export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl import config
from kbetl.cli.params import (
    FormatName,
    common,
    names_datasets,
    print_lines,
    task_names,
    unique_values,
    with_option,
)
from kbetl.dataset.registry import DATASETS, NAMES
from kbetl.errors import ConfigError

if TYPE_CHECKING:
    from kbetl.export.export import ExportOptions
    from kbetl.store import Store

OF_COMPLETIONS = {"format_": "rows", "no_reasoning": False}
"""Options that are about completions, and what they are without."""


@click.command(short_help="Write a dataset for a trainer.")
@common
@names_datasets
@click.argument("dataset", required=False, type=click.Choice(NAMES))
@click.option(
    "-o",
    "--output",
    type=click.UNPROCESSED,
    metavar="FILE|DIR",
    help=".jsonl, .jsonl.gz, .parquet, .csv, or a folder.",
)
@click.option(
    "--format",
    "format_",
    type=FormatName(),
    default="rows",
    show_default=True,
    help="Columns.",
)
@click.option("--no-reasoning", is_flag=True, help="The answers alone; rows without one are named.")
@click.option(
    "--splits/--no-splits",
    default=None,
    help="A file for each side; folders of filtered and unique have sides without it.",
)
@click.option("--random-split", is_flag=True, help="Sides as train_test_split(0.1, seed=42) draws them.")
@click.option("--where", metavar="SQL", help="Rows of the dataset for which it holds.")
@click.option("--decontaminated", is_flag=True, help="Without what is like a problem of a benchmark.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    callback=unique_values,
    metavar="NAME",
    help="Only rows of it; repeatable.",
)
@with_option
@click.option("--all-sources", is_flag=True, help="Mix the rows of all sources.")
@click.option("--by", type=click.Choice(["name", "code"]), default="name", help="unique: one row of each.")
@click.option("--sql", metavar="SQL", help="What this query gives, in place of a dataset.")
@click.pass_context
def export(context: click.Context, /, database: Path, dataset: str | None, **given: Any) -> int:
    """Write DATASET, {datasets}, for a trainer.

    Rows are written beside the target, which is replaced when they are whole and on disk. The same store
    gives the same bytes. Rows that a format cannot carry are named and the exit status is 3.

    \b
    Examples:
      kbetl export filtered -o filtered.jsonl
      kbetl export unique -o sft/ --format messages
      kbetl export evals -o good.parquet --where "reward > 1"
      kbetl export filtered -o rated.parquet --with difficulty
      kbetl export --sql "select * from ratings" -o ratings.csv
    """
    from kbetl.export import export as exporting

    if given["sql"] is not None:
        _refuse_with_sql(context, dataset)
        report = exporting.export_query(database, given["sql"], _output(None, given["output"]))
    elif dataset is None:
        raise click.UsageError(f"name a dataset ({', '.join(NAMES)}) or --sql")
    else:
        report = exporting.export(database, export_options(context))
    if not given["quiet"]:
        for line in report.remarks():
            click.echo(line, err=True)
    print_lines([report.as_text()])
    return report.exit_status


def check_ready(context: click.Context, store: Store | None) -> None:
    """Raises what would stop this export, as far as it can be known before there are rows."""
    from kbetl.cli.enrich import labels_to_come
    from kbetl.export.export import check
    from kbetl.store import check_conditions

    options = export_options(context)
    check(options, store)
    if options.dataset.where is not None:
        check_conditions([options.dataset.where], context.params["database"], labels_to_come(context))


def export_options(context: click.Context) -> ExportOptions:
    """What the command line, the environment and kbetl.toml say together of one dataset."""
    from kbetl.dataset.dataset import Dataset
    from kbetl.export.export import ExportOptions
    from kbetl.export.target import target_of

    given = _with_table_of_dataset(context)
    dataset = given["dataset"]
    output = _output(dataset, given["output"])
    splits = given["splits"]
    if splits is None and not given["random_split"]:
        splits = DATASETS[dataset].is_split and target_of(output).kind is None
    return ExportOptions(
        Dataset(
            dataset,
            sources=tuple(given["sources"]),
            all_sources=given["all_sources"],
            where=given["where"],
            is_decontaminated=given["decontaminated"],
            by=given["by"],
            with_labels=task_names(given["with_labels"]),
            splits=splits,
            random_split=given["random_split"],
        ),
        output,
        format=given["format_"],
        has_reasoning=not given["no_reasoning"],
    )


def _with_table_of_dataset(context: click.Context) -> dict[str, Any]:
    """The options; [export.DATASET] of kbetl.toml wins over [export].

    What [export] says for all datasets is not about one that cannot have it: `by` is for unique alone, and
    synthetic has no completions. Said on the command line or in the dataset's own table, it is a mistake.
    """
    given = dict(context.params)
    dataset = given["dataset"]
    entry = DATASETS[dataset]
    own = (context.default_map or {}).get(dataset, {})
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source in (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT):
            continue
        if name in own:
            given[name] = own[name]
        elif name == "by" and not entry.is_grouped:
            given[name] = "name"
        elif name in OF_COMPLETIONS and not entry.has_completions:
            given[name] = OF_COMPLETIONS[name]
    return given


def _output(dataset: str | None, output: str | None) -> str:
    if output is not None:
        return output
    usual = DATASETS[dataset].output if dataset is not None else None
    if usual is not None:
        return config.variable(usual.variable) or usual.path
    inside = f", or with output in [export.{dataset}] of {config.TOML}" if dataset is not None else ""
    raise ConfigError(f"say where to write {dataset or 'it'} with -o{inside}")


def _refuse_with_sql(context: click.Context, dataset: str | None) -> None:
    """An option that would do nothing is a mistake, not a wish."""
    idle = (
        "format_",
        "no_reasoning",
        "splits",
        "random_split",
        "where",
        "decontaminated",
        "sources",
        "all_sources",
        "by",
        "with_labels",
    )
    given = [
        name for name in idle if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if dataset is not None or given:
        given = ["with" if name == "with_labels" else name for name in given]
        what = dataset if dataset is not None else f"--{given[0].rstrip('_').replace('_', '-')}"
        raise click.UsageError(f"--sql writes what the query gives; leave out {what}")
