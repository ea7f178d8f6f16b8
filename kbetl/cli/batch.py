"""`kbetl batch`: the same questions as batch files, and as batches of a service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kbetl.cli.enrich import check_model_meant, given_options
from kbetl.cli.params import (
    FiniteNumber,
    WholeNumber,
    again_options,
    budget_options,
    check_store,
    choosing_options,
    common,
    parameter_options,
    print_lines,
    sample_options,
    say_in_use,
    sayer,
    server_options,
)
from kbetl.cli.synth_run import prompt_options
from kbetl.json_codec import LARGEST_INTEGER

if TYPE_CHECKING:
    from kbetl.batch import BatchTarget
    from kbetl.inference import Plan
    from kbetl.store import Store

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_MB = 1_000_000


@click.group(short_help="The same questions as batch files, or as batches of a service.")
def batch() -> None:
    """Ask by batch: files for `vllm run-batch`, or half-price batches of an OpenAI-compatible service.

    \b
    Examples:
      kbetl batch write enrich batches/ -m my-model   # the missing requests as files
      kbetl batch status                              # what is handed out, and where
      kbetl batch fetch                               # read what services answered
      kbetl batch submit -k OPENAI_API_KEY -b https://api.openai.com/v1    # needs that key
      kbetl batch read results.jsonl                  # needs the output of vLLM's run-batch
    """


@batch.group(short_help="Write the missing requests as batch files.")
def write() -> None:
    """Write the requests that a command would send as batch files, and remember them as handed out.

    What is handed out is asked by nobody else until it is read, has expired, or is taken back.

    \b
    Examples:
      kbetl batch write enrich batches/ -m my-model
      kbetl batch write synth batches/ -m my-model --rollouts 4
    """


def writing_options(function: Decorated) -> Decorated:
    """The options of every `batch write`."""
    for option in reversed(
        (
            click.option("--again", is_flag=True, help="Also what is out in other files: taken back there."),
            click.option(
                "--max-requests",
                type=WholeNumber(min=1),
                default=50_000,
                show_default=True,
                help="Requests per file at most.",
            ),
            click.option(
                "--max-mb",
                type=FiniteNumber(min=0, min_open=True),
                default=200.0,
                show_default=True,
                help="Megabytes (10^6 bytes) per file at most.",
            ),
            budget_options,
        )
    ):
        function = option(function)
    return common(function)


@write.command(short_help="The requests of `kbetl enrich`.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--task", default="difficulty", show_default=True, metavar="NAME|FILE", help="The question.")
@choosing_options
@writing_options
def enrich(database: Path, folder: Path, **given: Any) -> int:
    """Write what `kbetl enrich` would ask into DIR.

    \b
    Examples:
      kbetl batch write enrich batches/ -m my-model
      kbetl batch write enrich batches/ -m my-model --max-requests 1000
      kbetl batch write enrich batches/ -m my-model --retry truncated -t 1024
    """
    return _write_labels(database, folder, given, "enrich")


@write.command(short_help="The requests of `kbetl prompts`.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@choosing_options
@writing_options
def prompts(database: Path, folder: Path, **given: Any) -> int:
    """Write what `kbetl prompts` would ask into DIR.

    \b
    Examples:
      kbetl batch write prompts batches/ -m my-model -n 100
    """
    return _write_labels(database, folder, {**given, "task": "prompts"}, "prompts")


@write.command(short_help="The requests of `kbetl synth run`.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@prompt_options
@sample_options
@again_options
@parameter_options
@writing_options
def synth(database: Path, folder: Path, **given: Any) -> int:
    """Write what `kbetl synth run` would ask into DIR; answers become rollouts when they are read.

    \b
    Examples:
      kbetl batch write synth batches/ -m my-model --rollouts 4 -T 1.0
    """
    from kbetl.cli.synth_run import given_options as synth_options
    from kbetl.synth.generate import batch_plan

    options = synth_options({**given, "takes_back": given["again"]})
    return _write(database, folder, given, lambda store, say: batch_plan(store, options, say))


def _write_labels(database: Path, folder: Path, given: dict[str, Any], command: str) -> int:
    from kbetl.enrich import plan_of

    options = given_options({**given, "takes_back": given["again"]})

    def make_plan(store: Store, _say: Callable[[str], None]) -> Plan:
        check_model_meant(click.get_current_context(), store, options)
        return plan_of(store, options, f"batch write {command}")

    return _write(database, folder, given, make_plan)


def _write(
    database: Path,
    folder: Path,
    given: dict[str, Any],
    make_plan: Callable[[Store, Callable[[str], None]], Plan],
) -> int:
    from kbetl.batch import write_batches
    from kbetl.store import Store

    check_store(database)
    say = sayer(is_quiet=given["quiet"])
    with Store.open(database) as store:
        report = write_batches(make_plan(store, say), _target(folder, given), say)
    print_lines(report.lines())
    say_in_use(report.in_use, is_quiet=given["quiet"])
    return report.exit_status


@batch.command(short_help="Take the results of batch files.")
@common
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def read(database: Path, files: tuple[Path, ...], quiet: bool, **_: Any) -> int:
    """Take the results in FILE...: what vLLM's run-batch wrote, output and error files of a service.

    In any order, partial, also compressed. What was read before adds nothing; what is no result of a
    request of this store is named and left.

    \b
    Examples:
      kbetl batch read results.jsonl    # needs the output of vLLM's run-batch
      kbetl batch read batch_abc_output.jsonl batch_abc_error.jsonl    # needs files of a service
    """
    from kbetl.batch import read_batches
    from kbetl.store import Store

    check_store(database)
    with Store.open(database) as store:
        report = read_batches(store, files)
        made = _make_rollouts(store)
    print_lines([*report.lines(), *made])
    say_in_use(report.in_use, is_quiet=quiet)
    return report.exit_status


@batch.command(short_help="Hand batch files to a service.")
@common
@click.argument("files", metavar="[FILE...]", nargs=-1, type=click.Path(path_type=Path))
@server_options
@click.option(
    "--settle",
    "settle_s",
    type=FiniteNumber(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to look for a batch that a stopped command may have begun.",
)
def submit(database: Path, files: tuple[Path, ...], quiet: bool, settle_s: float, **given: Any) -> int:
    """Upload FILE... (all that wait, where none is named) and begin their batches at the service of -b.

    A command that was stopped is repeated: what it began is looked for first, and begun once.

    \b
    Examples:
      kbetl batch submit -b https://api.openai.com/v1 -k OPENAI_API_KEY    # needs that key
      kbetl batch submit FILE -b https://api.openai.com/v1 -k OPENAI_API_KEY    # needs a file of batch write
    """
    from kbetl.batch import ServiceAddress
    from kbetl.batch import submit as hand_over
    from kbetl.store import Store

    check_store(database)
    address = ServiceAddress(given["base_url"], given["api_key_var"], given["header"])
    with Store.open(database) as store:
        print_lines(hand_over(store, address, files, sayer(is_quiet=quiet), listed_within_s=settle_s))
    return 0


@batch.command(short_help="What is handed out, and what became of it.")
@common
@click.option("--offline", is_flag=True, help="Do not ask the services.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(database: Path, quiet: bool, offline: bool, as_json: bool, **_: Any) -> int:
    """List the batch files: what is still out, and what their services say.

    \b
    Examples:
      kbetl batch status
      kbetl batch status --offline --json
    """
    from kbetl import batch as batches
    from kbetl.store import Store

    check_store(database)
    with Store.open(database) as store:
        found = batches.status(store, sayer(is_quiet=quiet), is_offline=offline)
    if as_json:
        click.echo(json.dumps([batches.as_json(each) for each in found], indent=2, ensure_ascii=False))
    else:
        print_lines([batches.status_line(each) for each in found] or ["no batch file was written"])
    return 0


@batch.command(short_help="Take what services answered.")
@common
@click.argument("batches", metavar="[FILE|ID...]", nargs=-1)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where result files go; by default beside their input file.",
)
def fetch(database: Path, batches: tuple[str, ...], folder: Path | None, quiet: bool, **_: Any) -> int:
    """Take the answers of batches that ended, as `batch read` would; the key is named as in `submit`.

    \b
    Examples:
      kbetl batch fetch
      kbetl batch fetch batch_68a1f --to results/    # needs a batch of this id
    """
    from kbetl.batch import fetch as fetch_results
    from kbetl.store import Store

    check_store(database)
    with Store.open(database) as store:
        report = fetch_results(store, batches, folder=folder)
        made = _make_rollouts(store)
    print_lines([*report.lines(), *made])
    say_in_use(report.in_use, is_quiet=quiet)
    return report.exit_status


def _target(folder: Path, given: dict[str, Any]) -> BatchTarget:
    from kbetl.batch import BatchTarget, FileLimits

    limits = FileLimits(given["max_requests"], int(min(given["max_mb"] * _MB, LARGEST_INTEGER)))
    return BatchTarget(folder, limits, given["again"])


def _make_rollouts(store: Store) -> list[str]:
    """Makes rollouts of what batches of `synth` answered; returns a line if there were any."""
    from kbetl.batch import record_answered
    from kbetl.store.batches import batches_without_rollouts
    from kbetl.synth.generate import unrecorded_plan
    from kbetl.synth.prompts import GenerateOptions

    made = sum(
        record_answered(unrecorded_plan(store, GenerateOptions.from_json(stored), batch_id))
        for batch_id, stored in batches_without_rollouts(store)
    )
    return [f"answers that became rollouts: {made}"] if made else []
