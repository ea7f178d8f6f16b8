"""`kbetl synth run`: new rollouts by a model server."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kbetl import config
from kbetl.cli.enrich import options_on_command_line, says_how_to_resume, shared_options
from kbetl.cli.params import (
    WholeNumber,
    again_options,
    check_store,
    common,
    key_options,
    pace_options,
    parameter_options,
    print_lines,
    sample_options,
    sayer,
)

if TYPE_CHECKING:
    from kbetl.synth.prompts import GenerateOptions

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_OPTION_NAMES = {"from_": "prompts", "as_": "name", "base_url": "base_urls"}


def prompt_options(function: Decorated) -> Decorated:
    """The options that say what rollouts are wanted of."""
    for option in reversed(
        (
            click.option(
                "--task", default="kernels", show_default=True, metavar="NAME|FILE", help="The question."
            ),
            click.option(
                "--from",
                "from_",
                default="modules",
                show_default=True,
                metavar="modules|synthetic|FILE",
                help="Prompts: the task's about modules, those of the view synthetic, or a JSONL file's.",
            ),
            click.option(
                "--rollouts",
                type=WholeNumber(min=1, max=10_000),
                default=1,
                show_default=True,
                help="Rollouts wanted for each prompt.",
            ),
            click.option(
                "--as", "as_", metavar="NAME", help="The source they go to; else by task and model."
            ),
            click.option("-m", "--model", default="", help="Model, as the server calls it."),
        )
    ):
        function = option(function)
    return function


@click.command("run", short_help="Ask a model server for kernels; every answer becomes a rollout.")
@prompt_options
@click.option(
    "-b",
    "--base-url",
    multiple=True,
    default=[config.BASE_URL],
    show_default=True,
    help="A chat-completions server; repeatable, the least busy one is asked.",
)
@click.option("--stream", is_flag=True, help="Have answers sent as they are made, for long ones.")
@sample_options
@again_options
@parameter_options
@click.option("--dry-run", is_flag=True, help="Say what would be asked, why, and about how many tokens.")
@click.option("--resume", is_flag=True, help="Take up the last run that did not end with 0.")
@key_options
@pace_options
@common
@click.pass_context
def synth_run(context: click.Context, /, database: Path, **given: Any) -> int:
    """Ask a model server for kernels, and keep every answer as a rollout without a reward yet.

    \b
    Examples:
      kbetl synth run -b http://127.0.0.1:8000/v1 -m my-model --rollouts 4 -T 1.0
      kbetl synth run --from synthetic -b http://127.0.0.1:8000/v1 -m my-model
      kbetl synth run --resume
      kbetl synth run --from prompts.jsonl -b http://127.0.0.1:8000/v1 -m my-model    # needs the file
      kbetl synth run -b http://a:8000/v1 -b http://b:8000/v1 -m my-model    # needs both servers
    """
    from kbetl.cli.progress import progress_of_run
    from kbetl.store import Store
    from kbetl.synth.generate import dry_run, resumed, synthesize

    options = given_options(given)
    if options.prompts in ("modules", "synthetic"):
        check_store(database)
    say = sayer(is_quiet=given["quiet"])
    with _store_path(database, is_dry=given["dry_run"]) as path, Store.open(path) as store:
        if given["resume"]:
            options = resumed(store, options, options_on_command_line(context, _OPTION_NAMES), say) or options
        if given["dry_run"]:
            print_lines(dry_run(store, options, say).lines())
            return 0
        with (
            progress_of_run(is_quiet=given["quiet"]) as tally,
            says_how_to_resume(context, tally, "synth run", options.task),
        ):
            report = synthesize(store, options, say, tally)
    print_lines(report.lines())
    return report.exit_status


@contextlib.contextmanager
def _store_path(database: Path, *, is_dry: bool) -> Iterator[Path]:
    """The path of the store; a dry run makes none, and reads an empty one in a temporary folder."""
    if not is_dry or database.exists():
        yield database
        return
    with tempfile.TemporaryDirectory(prefix="kbetl-") as folder:
        yield Path(folder) / database.name


def given_options(given: dict[str, Any]) -> GenerateOptions:
    """What a command line says about rollouts; an option that the command lacks has its default."""
    from kbetl.synth.prompts import GenerateOptions

    found = shared_options(given)
    if "base_url" in given:
        found |= {"base_url": given["base_url"][0], "base_urls": given["base_url"]}
    own = {name: given[name] for name in ("rollouts", "stream") if name in given}
    return GenerateOptions(prompts=given["from_"], name=given["as_"], **found, **own)
