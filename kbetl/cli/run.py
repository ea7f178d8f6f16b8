"""`kbetl run`: every stage in order, each as its own command with its own table of kbetl.toml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from kbetl import config
from kbetl.cli.options import common

LEFT_OVER = 3


class Stage(NamedTuple):
    """One command line of a run."""

    command: str
    arguments: tuple[str, ...] = ()
    dataset: str | None = None
    """The dataset that must have rows for it to make sense; None: it always does."""

    def __str__(self) -> str:
        return " ".join((self.command, *self.arguments))


STAGES = (
    Stage("ingest"),
    Stage("enrich"),
    Stage("prompts"),
    Stage("dedupe", (), "filtered"),
    Stage("lengths", (), "rollouts"),
    Stage("export", ("filtered",), "filtered"),
    Stage("export", ("unique",), "filtered"),
    Stage("export", ("synthetic",), "synthetic"),
)
PUSH = Stage("push", ("all",))


@click.command(short_help="Run every stage in order, each doing only what is missing.")
@common
@click.pass_context
def run(context: click.Context, /, database: Path, quiet: bool, **_: Any) -> int:
    """Run every stage in order, each doing only what is missing, with the options of kbetl.toml.

    The stages are ingest, enrich, prompts, dedupe, lengths, export; push comes last, and only where
    kbetl.toml has a table [push]. A stage that leaves something over does not stop the next ones.

    \b
    Examples:
      kbetl run
      TEST_MODE=true kbetl run
    """
    from kbetl.pipeline import has_rows, sizes

    before = sizes(database)
    ended: list[tuple[Stage, int]] = []
    try:
        for stage in _stages(quiet):
            if stage.dataset is not None and not has_rows(database, stage.dataset):
                continue
            click.echo(f"== kbetl {stage}")
            ended.append((stage, _run(context, stage, database, quiet)))
    finally:
        _summarise(ended, was_idle=sizes(database) == before)
    return LEFT_OVER if any(status == LEFT_OVER for _, status in ended) else 0


def _stages(quiet: bool) -> list[Stage]:
    """The stages of this folder's kbetl.toml; TEST_MODE never pushes, and says so."""
    if "push" not in config.load_toml():
        return [*STAGES]
    if config.is_test_mode():
        if not quiet:
            click.echo("TEST_MODE: nothing is pushed", err=True)
        return [*STAGES]
    return [*STAGES, PUSH]


def _run(context: click.Context, stage: Stage, database: Path, quiet: bool) -> int:
    """One stage as its own command line would run it."""
    group = context.parent
    if group is None or not isinstance(group.command, click.Group):
        raise click.UsageError("run is a command of kbetl")
    command = group.command.commands[stage.command]
    arguments = [*stage.arguments, "-d", str(database), *(["-q"] if quiet else [])]
    with command.make_context(stage.command, arguments, parent=group) as own:
        status = command.invoke(own)
    return status if isinstance(status, int) else 0


def _summarise(ended: Sequence[tuple[Stage, int]], *, was_idle: bool) -> None:
    """What was left over before what was done."""
    if not ended:
        return
    left = [str(stage) for stage, status in ended if status == LEFT_OVER]
    click.echo("==")
    if left:
        click.echo(f"something is left over of: {', '.join(left)}; see: kbetl status")
    done = ", ".join(str(stage) for stage, status in ended if status == 0)
    click.echo(f"done: {done or 'nothing'}")
    if was_idle:
        click.echo("nothing was missing: no new row, no new answer, no new count")
