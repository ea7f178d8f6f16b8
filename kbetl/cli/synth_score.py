"""`kbetl synth score`: rewards for rollouts that are there."""

from __future__ import annotations

from pathlib import Path

import click

from kbetl.cli.params import check_store, common, print_lines


@click.command("score", short_help="Add rewards to rollouts that are there.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--source", metavar="NAME", help="Of rows that name an example and no source.")
@common
def synth_score(file: Path, database: Path, source: str | None, quiet: bool, verbose: bool) -> int:
    """Add the rewards in FILE (.jsonl, .json, .csv, .parquet, or - for standard input) to their rollouts.

    A row has `reward`, and names a rollout by `sample_hash`; or by `example_id`, with `attempt` and `source`
    where that alone means several. A row that does not name just one rollout is refused by its line. The
    newest reward of a rollout counts everywhere; the sample itself stays as it is.

    \b
    Examples:
      kbetl query --nl "select sample_hash, 0.9 as reward from rollouts limit 4" | kbetl synth score -
      kbetl synth score rewards.jsonl    # needs the file
      kbetl synth score rewards.csv --source kernels:my-model    # needs file and source
    """
    from kbetl.store import Store
    from kbetl.synth.score import score

    check_store(database)
    with Store.open(database) as store:
        report = score(store, file, source)
    if not quiet:
        for line in report.remarks():
            click.echo(line, err=True)
    print_lines(report.lines())
    return report.exit_status
