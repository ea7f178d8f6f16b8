"""`kbetl synth run`: new rollouts by a model server."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kbetl import config
from kbetl.cli.enrich import options_on_command_line, parameters_given, print_lines
from kbetl.cli.params import (
    WholeNumber,
    again_options,
    common,
    key_options,
    pace_options,
    parameter_options,
    sample_options,
)
from kbetl.errors import Interrupted, StoreError

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
    if not database.exists() and options.prompts in ("modules", "synthetic"):
        raise StoreError(f"no store at {database}; `kbetl ingest` makes one, or name another with -d")
    say = _silent if given["quiet"] else partial(click.echo, err=True)
    with _place(database, is_dry=given["dry_run"]) as place, Store.open(place) as store:
        if given["resume"]:
            options = resumed(store, options, options_on_command_line(context, _OPTION_NAMES), say) or options
        if given["dry_run"]:
            print_lines(dry_run(store, options, say).lines())
            return 0
        with progress_of_run(is_quiet=given["quiet"]) as tally:
            try:
                report = synthesize(store, options, say, tally=tally)
            except Interrupted as stop:
                raise Interrupted(
                    f"{stop}: {tally.asked} rollouts are done and kept. "
                    f"Go on with: {_how_to_go_on(context, options)}",
                    stop.exit_status,
                ) from None
    print_lines(report.lines())
    return report.exit_status


@contextlib.contextmanager
def _place(database: Path, *, is_dry: bool) -> Iterator[Path]:
    """Where the store is; a dry run makes none, and looks at an empty one elsewhere."""
    if not is_dry or database.exists():
        yield database
        return
    with tempfile.TemporaryDirectory(prefix="kbetl-") as folder:
        yield Path(folder) / database.name


def given_options(given: dict[str, Any]) -> GenerateOptions:
    """What a command line says about rollouts; an option that the command lacks has its default."""
    from kbetl.synth.prompts import GenerateOptions

    same = (
        "task",
        "rollouts",
        "model",
        "stream",
        "api_key_var",
        "where",
        "limit",
        "retry",
        "concurrency",
        "rpm",
        "tpm",
        "takes_back",
        "keep_going",
    )
    found = {name: given[name] for name in same if name in given}
    if "base_url" in given:
        found |= {"base_url": given["base_url"][0], "base_urls": given["base_url"]}
    if "max_cost" in given:
        found |= {"max_cost_usd": given["max_cost"], "max_tokens_total": given["max_tokens_total"]}
    if "give_up_after" in given:
        found |= {"give_up_after_s": given["give_up_after"] * 60, "timeout_s": given["timeout"]}
        found |= {"request_timeout_s": given["request_timeout"]}
    return GenerateOptions(
        prompts=given["from_"],
        name=given["as_"],
        headers=given.get("header", ()),
        parameters=parameters_given(given),
        sources=given["source"],
        **found,
    )


def _how_to_go_on(context: click.Context, options: GenerateOptions) -> str:
    """The command that takes up the run that was stopped, as it is typed into a shell."""
    words = ["kbetl", "synth", "run"]
    if context.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        words += ["-d", str(context.params["database"])]
    if options.task != "kernels":
        words += ["--task", options.task]
    return shlex.join([*words, "--resume"])


def _silent(_line: str) -> None:
    return None
