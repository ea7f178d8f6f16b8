"""`kbetl enrich` and `kbetl prompts`: ask a model about what has no answer yet."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl import config
from kbetl.cli.params import asking_options, check_store, print_lines, sayer, typed_again
from kbetl.errors import ConfigError, Interrupted

if TYPE_CHECKING:
    from kbetl.inference import EnrichOptions, RunProgress
    from kbetl.store import Store

_OPTION_NAMES = {
    "source": "sources",
    "option": "parameters",
    "max_tokens": "parameters",
    "temperature": "parameters",
    "header": "headers",
    "max_cost": "max_cost_usd",
    "give_up_after": "give_up_after_s",
    "timeout": "timeout_s",
    "request_timeout": "request_timeout_s",
}
_USUAL_TASKS = {"enrich": "difficulty", "prompts": "prompts", "synth run": "kernels"}
_NOT_OF_THE_RUN = frozenset({"database", "quiet", "verbose", "resume", "dry_run"})


@click.command(short_help="Ask a model about what has no outcome yet; keep every answer.")
@click.option("--task", default="difficulty", show_default=True, metavar="NAME|FILE", help="The question.")
@asking_options
@click.pass_context
def enrich(context: click.Context, /, database: Path, **given: Any) -> int:
    """Ask a model about every sample that has no outcome yet, and keep every answer.

    \b
    Examples:
      kbetl enrich -m offline --dry-run    # what would be asked, and why
      kbetl enrich -m offline              # the built-in model: no key, no network
      kbetl enrich -m offline --resume     # go on with the run that was stopped
      kbetl enrich -m offline --retry truncated -t 1024
      kbetl enrich -b http://127.0.0.1:8000/v1 -m my-model    # your own server
      kbetl enrich --max-cost 5            # needs PRIME_API_KEY, and a price
      kbetl enrich --task ./style.md -b http://127.0.0.1:8000/v1 -m my-model    # needs the file
    """
    return _ask(context, database, given, "enrich")


@click.command(short_help="Buy a task specification for every module.")
@asking_options
@click.pass_context
def prompts(context: click.Context, /, database: Path, **given: Any) -> int:
    """Buy a task specification for every module: `kbetl enrich --task prompts`.

    \b
    Examples:
      kbetl prompts -m offline -n 5
      kbetl prompts -n 20    # needs PRIME_API_KEY
    """
    return _ask(context, database, {**given, "task": "prompts"}, "prompts")


def _ask(context: click.Context, database: Path, given: dict[str, Any], command: str) -> int:
    from kbetl.cli.progress import progress_of_run
    from kbetl.enrich import plan_of
    from kbetl.inference import estimate_run, resume_options, run_plan
    from kbetl.inference.plan import resolve_task
    from kbetl.store import Store

    options = given_options(given)
    check_store(database)
    say = sayer(is_quiet=given["quiet"])
    with Store.open(database) as store:
        resumed = None
        if given["resume"]:
            on_line = options_on_command_line(context)
            resumed = resume_options(store, options, on_line, say, resolve_task)
        if resumed is None:
            check_model_meant(context, store, options)
        options = resumed or options
        plan = plan_of(store, options, command)
        if given["dry_run"]:
            print_lines(estimate_run(plan, say).lines())
            return 0
        with (
            progress_of_run(is_quiet=given["quiet"]) as tally,
            says_how_to_resume(context, tally, command, options.task),
        ):
            report = run_plan(plan, say, tally)
    print_lines(report.lines())
    return report.exit_status


def check_ready(context: click.Context, store: Store | None) -> None:
    """Raises what would stop this command before it asks."""
    from kbetl.enrich import preflight

    options = given_options({"task": context.command.name, **context.params})
    preflight(options, store, context.params["database"], labels_to_come(context))
    if store is not None:
        check_model_meant(context, store, options)


def labels_to_come(context: click.Context) -> list[str]:
    """The names of the tasks that `kbetl run` asks with this kbetl.toml."""
    from kbetl.tasks import task_name

    tables = (context.parent.default_map if context.parent is not None else None) or {}
    return [task_name(tables.get("enrich", {}).get("task", "difficulty")), "prompts"]


def check_model_meant(context: click.Context, store: Store, options: EnrichOptions) -> None:
    """Raises ConfigError if nobody named the model, and the labels in use are another's."""
    from kbetl.enrich import CommandLine
    from kbetl.enrich import check_model_meant as check

    if context.get_parameter_source("model") is not click.core.ParameterSource.DEFAULT:
        return
    words = typed_again(context, frozenset({"database", "resume", "quiet", "verbose"}))
    database = context.params["database"]
    check(
        store,
        options,
        CommandLine(
            lambda *more: config.command_line(database, *words, *more),
            options_on_command_line(context),
            "base_url" in context.params,
        ),
    )


def given_options(given: dict[str, Any]) -> EnrichOptions:
    """What a command line says about asking; an option that the command lacks has its default."""
    from kbetl.inference import EnrichOptions

    return EnrichOptions(**shared_options(given))


def shared_options(given: dict[str, Any]) -> dict[str, Any]:
    """What `enrich` and `synth run` have in common, by the names in EnrichOptions."""
    same = (
        "task",
        "model",
        "base_url",
        "api_key_var",
        "where",
        "min_reward",
        "limit",
        "retry",
        "concurrency",
        "rpm",
        "tpm",
        "takes_back",
        "keep_going",
    )
    found = {name: given[name] for name in same if name in given}
    if "max_cost" in given:
        found |= {"max_cost_usd": given["max_cost"], "max_tokens_total": given["max_tokens_total"]}
    if "give_up_after" in given:
        found["give_up_after_s"] = given["give_up_after"] * 60
    if "timeout" in given:
        found |= {"timeout_s": given["timeout"], "request_timeout_s": given["request_timeout"]}
    parameters, headers = _parameters(given), given.get("header", ())
    return {**found, "headers": headers, "parameters": parameters, "sources": given["source"]}


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    """The request parameters of `-o`, `-t` and `-T`; raises ConfigError for one that is given twice."""
    parameters: dict[str, Any] = {}
    named = [(key, _value(text)) for key, text in given["option"]]
    named += [(key, given[key]) for key in ("max_tokens", "temperature") if given[key] is not None]
    for key, value in named:
        if key in parameters:
            raise ConfigError(f"parameter {key!r} is given twice")
        parameters[key] = value
    return parameters


def _value(text: str) -> Any:
    """The value of `-o KEY VALUE`: JSON if it is JSON, else text."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith(("{", "[")):
            raise ConfigError(
                f"-o: {text[:40]!r} begins like JSON and is none: {error}; "
                "text that is meant so goes in double quotes: '\"...\"'"
            ) from None
        return text
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"-o: {text[:40]}... is JSON that cannot be read: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ConfigError(f"-o: {name} is no JSON number")


def options_on_command_line(
    context: click.Context, spelled: Mapping[str, str] | None = None
) -> frozenset[str]:
    """The options of this command line itself, by their name in Options; `spelled` has more such names."""
    known = {**_OPTION_NAMES, **(spelled or {})}
    names = set()
    for name in context.params:
        if name in _NOT_OF_THE_RUN:
            continue
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            names.add(known.get(name, name))
    return frozenset(names)


@contextlib.contextmanager
def says_how_to_resume(context: click.Context, tally: RunProgress, command: str, task: str) -> Iterator[None]:
    """Adds to an Interrupted what is stored, and the command that goes on, as it is typed into a shell."""
    try:
        yield
    except Interrupted as stop:
        words = ["kbetl", *command.split()]
        if context.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
            words += ["-d", str(context.params["database"])]
        if task != _USUAL_TASKS[command]:
            words += ["--task", task]
        what = "rollouts" if command == "synth run" else "samples"
        raise Interrupted(
            f"{stop}: {tally.asked} {what} are done and kept. Go on with: {shlex.join([*words, '--resume'])}",
            stop.exit_status,
        ) from None
