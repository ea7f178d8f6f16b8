"""kbetl synth: rollouts that other tools made, and new ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl.cli.params import FiniteNumber, common, print_lines
from kbetl.cli.progress import progress_of_reading
from kbetl.cli.synth_run import synth_run
from kbetl.cli.synth_score import synth_score

if TYPE_CHECKING:
    from kbetl.row_writer import IngestReport


@click.group(short_help="Rollouts: recorded from other tools, generated, scored.")
def synth() -> None:
    """Rollouts: attempts at a problem by a model, with their reasoning and reward.

    \b
    Examples:
      kbetl synth run -b http://127.0.0.1:8000/v1 -m my-model --rollouts 4
      kbetl synth record outputs/evals    # needs the folder of a run
      kbetl synth score rewards.jsonl     # needs the file
    """


@synth.command(short_help="Record the rollouts of runs.")
@common
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.UNPROCESSED)
@click.option("--as", "name", metavar="NAME", help="Name of the source, in place of the run's path.")
@click.option("--model", metavar="MODEL", help="The model, where the files do not say it.")
@click.option("--env", "environment", metavar="ENV", help="The environment, where the files do not say it.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Input file of a batch; those beside the output are found.",
)
@click.option("--follow", "is_followed", is_flag=True, help="Record while the runs write, until they end.")
@click.option(
    "--idle-s",
    type=FiniteNumber(min=0),
    default=600,
    show_default=True,
    help="With --follow: seconds without anything new after which they have ended.",
)
def record(paths: tuple[str, ...], database: Path, quiet: bool, **options: Any) -> int:
    """Record the rollouts of each PATH: a file, or a folder with runs below it.

    Read are prime-rl synthesize, verifiers 0.1 to 0.4 (results and traces), vLLM run-batch and OpenAI Batch
    output; what a file is, is told by its content. Each folder with rollouts is a source. What is recorded
    already costs a look-up; a broken line is named FILE:LINE, and the exit status is 3.

    With --follow a run has ended when it has all the rollouts that its metadata.json wants, or by --idle-s;
    Ctrl-C keeps what was read, and the same command goes on from there.

    \b
    Examples:
      kbetl synth record outputs/evals             # needs the folder of a run
      kbetl synth record outputs/evals --follow    # needs a run that is going on
      kbetl synth record results.jsonl --model zai-org/GLM-4.7 --env kernelbook    # needs the file
    """
    from kbetl.row_writer import exit_status
    from kbetl.synth import RecordOptions, follow
    from kbetl.synth import record as record_runs

    wanted = RecordOptions(options["name"], options["model"], options["environment"], options["inputs"])
    with progress_of_reading(is_quiet=quiet) as tally:
        if options["is_followed"]:
            reports = follow(database, paths, wanted, options["idle_s"], tally)
        else:
            reports = record_runs(database, paths, wanted, tally)
    _print(reports, is_quiet=quiet)
    return exit_status(reports)


def _print(reports: Sequence[IngestReport], *, is_quiet: bool) -> None:
    """Prints counts to stdout; notes and rejected rows to stderr."""
    for report in reports:
        if not is_quiet:
            for line in report.remarks():
                click.echo(line, err=True)
        print_lines([report.as_text()])


synth.add_command(synth_run)
synth.add_command(synth_score)
