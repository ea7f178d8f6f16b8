"""kbetl export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kbetl import config
from kbetl.cli.options import common

DATASETS = ("filtered", "unique", "synthetic", "evals")
FORMATS = ("rows", "messages", "prompt-completion", "sharegpt", "alpaca")
DEFAULT_OUTPUTS = {
    "filtered": ("FILTERED_DATASET_PATH", "outputs/filtered_dataset.jsonl"),
    "unique": ("UNIQUE_DATASET_PATH", "outputs/filtered_dataset-filtered.jsonl"),
    "synthetic": ("SYNTHETIC_DATASET_PATH", "outputs/synthetic_prompts.jsonl"),
}


@click.command(short_help="Write a dataset for a trainer.")
@common
@click.argument("dataset", required=False, type=click.Choice(DATASETS))
@click.option("-o", "--output", metavar="FILE|DIR", help=".jsonl, .jsonl.gz, .parquet, .csv, or a folder.")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), default="rows", show_default=True, help="Columns."
)
@click.option("--no-reasoning", is_flag=True, help="The answer alone; rows without one are named.")
@click.option("--splits/--no-splits", default=None, help="A file for each side; folders have sides anyway.")
@click.option("--random-split", is_flag=True, help="Sides as train_test_split(0.1, seed=42) draws them.")
@click.option("--where", metavar="SQL", help="Rows of the dataset for which it holds.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only rows of it; repeatable.")
@click.option("--all-sources", is_flag=True, help="Mix the rows of all sources.")
@click.option("--by", type=click.Choice(["name", "code"]), default="name", help="unique: one row of each.")
@click.option("--sql", metavar="SQL", help="What this query gives, in place of a dataset.")
@click.pass_context
def export(context: click.Context, /, database: Path, dataset: str | None, **given: Any) -> int:
    """Write DATASET, filtered, unique, synthetic or evals, for a trainer.

    Rows are written beside the target, which is replaced when they are whole and on disk. The same store
    gives the same bytes. Rows that a format cannot carry are named and the exit status is 3.

    \b
    Examples:
      kbetl export filtered -o filtered.jsonl
      kbetl export unique -o sft/ --format messages
      kbetl export evals -o good.parquet --where "reward > 1"
      kbetl export --sql "select * from ratings" -o ratings.csv
    """
    from kbetl import export as exporting

    if given["sql"] is not None:
        _refuse_with_sql(context, dataset)
        report = exporting.export_query(database, given["sql"], _output(None, given["output"]))
    elif dataset is None:
        raise click.UsageError(f"name a dataset ({', '.join(DATASETS)}) or --sql")
    else:
        report = exporting.export(database, _options(dataset, given))
    if not given["quiet"]:
        for line in report.remarks():
            click.echo(line, err=True)
    click.echo(report.as_text())
    return report.exit_status


def _options(dataset: Any, given: dict[str, Any]) -> Any:
    from kbetl.dataset import SPLIT_BY_DEFAULT, Dataset
    from kbetl.export import Options
    from kbetl.export.target import target_of

    output = _output(dataset, given["output"])
    splits = given["splits"]
    if splits is None and not given["random_split"]:
        splits = dataset in SPLIT_BY_DEFAULT and target_of(output).kind is None
    return Options(
        Dataset(
            dataset,
            sources=given["sources"],
            all_sources=given["all_sources"],
            where=given["where"],
            by=given["by"],
            splits=splits,
            random_split=given["random_split"],
        ),
        output,
        format=given["format_"],
        has_reasoning=not given["no_reasoning"],
    )


def _output(dataset: str | None, output: str | None) -> str:
    if output is not None:
        return output
    if dataset not in DEFAULT_OUTPUTS:
        raise click.UsageError("say where to write it with -o")
    variable, path = DEFAULT_OUTPUTS[dataset]
    return config.variable(variable) or path


def _refuse_with_sql(context: click.Context, dataset: str | None) -> None:
    """An option that would do nothing is a mistake, not a wish."""
    idle = ("format_", "no_reasoning", "splits", "random_split", "where", "sources", "all_sources", "by")
    given = [
        name for name in idle if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if dataset is not None or given:
        what = dataset if dataset is not None else f"--{given[0].rstrip('_').replace('_', '-')}"
        raise click.UsageError(f"--sql writes what the query gives; leave out {what}")
