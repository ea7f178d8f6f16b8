"""`kbetl run`: every stage in order, each as its own command with its own table of kbetl.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kbetl import config
from kbetl.cli import dedupe, enrich, export, lengths, push
from kbetl.cli.config_file import DATASETS
from kbetl.cli.params import common
from kbetl.dataset.registry import DATASETS as REGISTRY
from kbetl.errors import LEFT_OVER, ConfigError, EmptyDataset, KbetlError

if TYPE_CHECKING:
    from kbetl.store import Store

ASKING = ("enrich", "prompts")
"""Stages that may fail anew at what failed before, and add no row."""
EXPORTED = tuple(name for name, entry in REGISTRY.items() if entry.output is not None)
"""What is exported unless [export] datasets says otherwise."""

Check = Callable[[click.Context, "Store | None"], None]
CHECKS: Mapping[str, Check] = {
    "enrich": enrich.check_ready,
    "prompts": enrich.check_ready,
    "dedupe": dedupe.check_ready,
    "lengths": lengths.check_ready,
    "export": export.check_ready,
    "push": push.check_ready,
}
"""What would stop a stage; asked of all stages before the first, and again before the first that pays."""


class Stage(NamedTuple):
    """One command line of a run."""

    command: str
    arguments: tuple[str, ...] = ()
    dataset: str | None = None
    """The dataset that must have rows for it to make sense; None: it always does."""

    def __str__(self) -> str:
        return " ".join((self.command, *self.arguments))


@click.command(short_help="Run every stage in order, each doing only what is missing.")
@common
@click.pass_context
def run(context: click.Context, /, database: Path, **said: Any) -> int:
    """Run every stage in order, each doing only what is missing, with the options of kbetl.toml.

    The stages are ingest, enrich, prompts, dedupe, lengths, export of filtered, unique and synthetic (or of
    [export] datasets); push comes last, and only where kbetl.toml has a table [push]. All that kbetl.toml
    and the environment say of them is checked before anything is paid. A stage that leaves something over
    does not stop the next ones; one that fails does, also a source that cannot be read.

    \b
    Examples:
      kbetl run                   # needs the keys of the models that kbetl.toml names
      TEST_MODE=true kbetl run    # needs the same; asks five samples per stage
    """
    from kbetl.demo import sizes
    from kbetl.store import Store

    running = _Running(context, database, tuple(f"--{name}" for name, is_on in said.items() if is_on))
    stages = _stages(running, is_quiet=said["quiet"])
    running.check(stages, None)
    before = sizes(database)
    ended: list[tuple[Stage, int]] = []
    status = 0
    for stage in stages:
        try:
            if stage.dataset is not None and not _has_rows(database, stage.dataset):
                continue
            click.echo(f"== kbetl {stage}")
            status = running.run(stage)
            if status not in (0, LEFT_OVER):
                _summarise(ended, database, stopped=f"{stage}: it ended with status {status}, see above")
                return status
            ended.append((stage, status))
            if stage.command == "ingest":
                with Store.open(database) as store:  # counting what a stage would ask needs temporary tables
                    running.check(stages, store)
        except BaseException as error:
            failed = f"the checks after {stage}" if (stage, status) in ended else str(stage)
            _summarise(ended, database, stopped=f"{failed}: {_in_words(error)}")
            raise
    _summarise(ended, database, was_idle=sizes(database) == before)
    return LEFT_OVER if any(status == LEFT_OVER for _, status in ended) else 0


class _Running(NamedTuple):
    """What all stages have in common."""

    context: click.Context
    database: Path
    flags: tuple[str, ...]
    """`--quiet`, `--verbose`, as they were given."""

    def table(self, command: str) -> Mapping[str, Any]:
        """The options of kbetl.toml for a command."""
        found = (self._group().default_map or {}).get(command)
        return found or {}

    def check(self, stages: Sequence[Stage], store: Store | None) -> None:
        """Raises what would stop a stage later, and ConfigError if two exports have the same target."""
        targets: dict[Path, Stage] = {}
        for stage in stages:
            with self._command_line(stage) as own:
                if stage.command in CHECKS:
                    CHECKS[stage.command](own, store)
                if stage.command == "export":
                    target = Path(export.export_options(own).output).resolve()
                    if target in targets:
                        raise ConfigError(f"{targets[target]} and {stage} would both write to {target}")
                    targets[target] = stage

    def run(self, stage: Stage) -> int:
        """Runs a stage as its own command line would; returns its exit status."""
        with self._command_line(stage) as own:
            try:
                status = own.command.invoke(own)
            except EmptyDataset as empty:
                click.echo(f"kbetl: {empty}", err=True)
                return LEFT_OVER
        return status if isinstance(status, int) else 0

    def _command_line(self, stage: Stage) -> click.Context:
        group = self._group()
        assert isinstance(group.command, click.Group)
        command = group.command.commands[stage.command]
        arguments = [*stage.arguments, "-d", str(self.database), *self.flags]
        return command.make_context(stage.command, arguments, parent=group)

    def _group(self) -> click.Context:
        if self.context.parent is None or not isinstance(self.context.parent.command, click.Group):
            raise click.UsageError("run is a command of kbetl")
        return self.context.parent


def _stages(running: _Running, *, is_quiet: bool) -> list[Stage]:
    """The stages of this folder's kbetl.toml; TEST_MODE never pushes, and says so."""
    exported = running.table("export").get(DATASETS, EXPORTED)
    stages = [
        Stage("ingest"),
        Stage("enrich"),
        Stage("prompts"),
        Stage("dedupe", (), "filtered"),
        Stage("lengths", (), "rollouts"),
        *(Stage("export", (name,), REGISTRY[name].made_of) for name in exported),
    ]
    if "push" not in config.load_toml():
        return stages
    if config.is_test_mode():
        if not is_quiet:
            click.echo("TEST_MODE: nothing is pushed", err=True)
        return stages
    return [*stages, Stage("push", () if "datasets" in running.table("push") else ("all",))]


def _has_rows(database: Path, dataset: str) -> bool:
    from kbetl.store import Store

    with Store.read(database) as store:
        return store.has_rows(dataset)


def _in_words(error: BaseException) -> str:
    """What ended a stage, in its own words if it is for users."""
    if isinstance(error, KbetlError | click.ClickException):
        return str(error).splitlines()[0]
    return "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__


def _summarise(
    ended: Sequence[tuple[Stage, int]], database: Path, *, stopped: str | None = None, was_idle: bool = False
) -> None:
    """Prints what failed and was left over before what was done. `stopped` is the failed stage, and why."""
    left = [stage for stage, status in ended if status == LEFT_OVER]
    click.echo("==")
    if stopped is not None:
        click.echo(f"stopped at {stopped}; what comes after it was not done")
    if left:
        click.echo(
            f"something is left over of: {', '.join(map(str, left))}; "
            f"see: {config.command_line(database, 'status')}"
        )
    done = ", ".join(str(stage) for stage, status in ended if status == 0)
    click.echo(f"done: {done or 'nothing'}")
    if was_idle and not any(stage.command in ASKING for stage in left):
        click.echo("nothing was missing: no new row, no new answer, no new count")
