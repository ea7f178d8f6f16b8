"""Options that several commands share."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

import kbetl
from kbetl import config
from kbetl.dataset.registry import NAMES
from kbetl.errors import ConfigError, StoreError
from kbetl.json_codec import LARGEST_INTEGER
from kbetl.text import is_unicode, plain_text

if TYPE_CHECKING:
    from kbetl.store.answers import InUse

_WITHOUT_CONFIGURATION = frozenset(("init", "config", "docs"))
_OF_ONE_RUN = frozenset(("database", "quiet", "verbose", "dry_run"))
_CHOICE_OF_SAMPLES = frozenset(("limit", "retry", "source", "where", "min_reward", "takes_back"))
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _as_command(function: Decorated) -> Decorated:
    """Wraps what every command does around its own work.

    Raises what is wrong with the configuration, but for commands that help to mend it. Sets the command line
    that its runs are recorded with. With -v prints versions, files and store first, and the time used last.
    """

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        from kbetl.store import COMMAND_LINE

        context = click.get_current_context()
        if isinstance(context.obj, ConfigError) and context.info_name not in _WITHOUT_CONFIGURATION:
            raise context.obj
        _refuse_other_than_text(context)
        began_s = time.monotonic(), time.process_time()
        for line in _beginning(options["database"]) if options["verbose"] else ():
            click.echo(f"kbetl: {line}", err=True)
        before = COMMAND_LINE.set(tuple(_words_to_go_on(context)))
        try:
            return function(*arguments, **options)
        finally:
            COMMAND_LINE.reset(before)
            if options["verbose"]:
                wall_s, cpu_s = time.monotonic() - began_s[0], time.process_time() - began_s[1]
                click.echo(f"kbetl: {context.info_name} took {wall_s:.2f} s, {cpu_s:.2f} s of CPU", err=True)

    return cast(Decorated, command)


def _refuse_other_than_text(context: click.Context) -> None:
    """Raises ConfigError for text that is no Unicode; what names a file may have any bytes."""
    for parameter in context.command.params:
        if parameter.type is click.UNPROCESSED:
            continue
        name = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.human_readable_name
        for text in _texts_in(context.params[parameter.name or ""]):
            if not is_unicode(text):
                raise ConfigError(f"{name} is not Unicode text: '{plain_text(text)}'")


def _texts_in(value: Any) -> Iterator[str]:
    """The texts of an option's or argument's value, which may be repeated or a pair."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts_in(each)


def refuse_options_before(context: click.Context) -> None:
    """Raises UsageError for options of a group before its subcommand, which would do nothing there."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is click.core.ParameterSource.COMMANDLINE:
            own = f"{context.command_path} {context.invoked_subcommand}"
            raise click.UsageError(
                f"{parameter.opts[0]} stands before {context.invoked_subcommand}; write {own} ..."
            )


def _words_to_go_on(context: click.Context) -> list[str]:
    """The command line less what belongs to one run alone; --resume knows which samples that run chose."""
    asks = "retry" in context.params
    return typed_again(context, _OF_ONE_RUN | (_CHOICE_OF_SAMPLES if asks else frozenset()))


def _beginning(database: Path) -> Iterator[str]:
    yield f"kbetl {kbetl.__version__}, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}"
    read = [str(file) for file in (config.DOTENV, config.TOML) if file.is_file()]
    yield f"configuration: {' and '.join(read) or 'no .env and no kbetl.toml here'}; TEST_MODE {_test_mode()}"
    if not database.exists():
        yield f"store {database.resolve()}: not there yet"
        return
    yield f"store {database.resolve()}: {database.stat().st_size / 1e6:,.1f} MB"


def _test_mode() -> str:
    return "on" if config.is_test_mode() else "off"


def _real_path(_context: click.Context, _option: click.Parameter, database: Path) -> Path:
    """Every command works on the file itself, whatever link it was named by."""
    from kbetl.store import real_path

    return real_path(database)


def common(function: Decorated) -> Decorated:
    """`-d/--database`, `-q`, `-v`: every command has them."""
    function = _as_command(function)
    for option in (
        click.option(
            "-v", "--verbose", is_flag=True, help="Say which files and store are used, and what it took."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors."),
        click.option(
            "-d",
            "--database",
            type=click.Path(path_type=Path),
            default=config.DATABASE,
            show_default=True,
            envvar="KBETL_DATABASE",
            callback=_real_path,
            help="The store.",
        ),
    ):
        function = option(function)
    return function


def say_in_use(tasks: Iterable[InUse], *, is_quiet: bool) -> None:
    """Says on stderr which tasks came into use."""
    for task in () if is_quiet else tasks:
        click.echo(task.as_text(), err=True)


def sayer(*, is_quiet: bool) -> Callable[[str], None]:
    """Shows a line on stderr; nothing with --quiet."""
    return (lambda _line: None) if is_quiet else functools.partial(click.echo, err=True)


def check_store(database: Path) -> None:
    """Raises StoreError if there is no store."""
    if not database.exists():
        raise StoreError(f"no store at {database}; `kbetl ingest` makes one, or name another with -d")


def names_datasets(function: Decorated) -> Decorated:
    """Puts the names of the datasets into the help text of a command, where it says {datasets}."""
    *others, last = NAMES
    function.__doc__ = (function.__doc__ or "").replace("{datasets}", f"{', '.join(others)} or {last}")
    return function


def unique_values(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """What a repeatable option was given, in order, without repeats."""
    return tuple(dict.fromkeys(values))


def with_option(function: Decorated) -> Decorated:
    """The option that adds labels to the rows of a dataset."""
    return click.option(
        "--with",
        "with_labels",
        multiple=True,
        callback=unique_values,
        metavar="TASK",
        help="A column with the labels of this task in use; repeatable.",
    )(function)


def task_names(named: Iterable[str]) -> tuple[str, ...]:
    """The names of tasks that are named so, or by their files."""
    from kbetl.tasks import task_name

    return tuple(dict.fromkeys(map(task_name, named)))


def typed_again(context: click.Context, without: frozenset[str] = frozenset()) -> list[str]:
    """The words of a command line that ask the same again: its command, and what was typed after it."""
    words = context.command_path.split()[1:]
    for parameter in context.command.get_params(context):
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is not click.core.ParameterSource.COMMANDLINE or name in without:
            continue
        value: Any = context.params[name]
        values = value if parameter.multiple or parameter.nargs != 1 else (value,)
        if isinstance(parameter, click.Argument):
            words += [str(each) for each in values]
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(parameter.opts[0])
        else:
            for each in values:
                parts = each if isinstance(each, tuple) else (each,)
                words += [parameter.opts[0], *(str(part) for part in parts)]
    return words


@contextlib.contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Ends the output quietly if its reader is gone, as with `| head`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still in the buffer would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_lines(lines: Iterable[str]) -> None:
    """Prints data to stdout; what was done stands, also if nobody reads it."""
    with ignore_broken_pipe():
        for line in lines:
            click.echo(line)


def sample_options(function: Decorated) -> Decorated:
    """The options that choose samples."""
    for option in reversed(
        (
            click.option("--source", multiple=True, help="Only samples of this source; repeatable."),
            click.option(
                "--where", help="Only samples for which this SQL holds, over the columns of selectable."
            ),
        )
    ):
        function = option(function)
    return function


def again_options(function: Decorated) -> Decorated:
    """The options that bound a run, and say what it asks again."""
    for option in reversed(
        (
            click.option("-n", "--limit", type=WholeNumber(min=0), help="Ask so many samples at most."),
            click.option(
                "--retry",
                multiple=True,
                metavar="STATUS",
                help="Ask these outcomes again: unparsed, truncated, refused, failed.",
            ),
        )
    ):
        function = option(function)
    return function


def parameter_options(function: Decorated) -> Decorated:
    """The options that set request parameters."""
    for option in reversed(
        (
            click.option(
                "-o",
                "--option",
                nargs=2,
                multiple=True,
                metavar="KEY VALUE",
                help="A request parameter; null takes one away.",
            ),
            click.option("-t", "--max-tokens", type=WholeNumber(min=1), help="The same as -o max_tokens."),
            click.option("-T", "--temperature", type=float, help="The same as -o temperature."),
        )
    ):
        function = option(function)
    return function


def choosing_options(function: Decorated) -> Decorated:
    """The options that choose what is asked, and how it is asked."""
    for option in reversed(
        (
            sample_options,
            click.option("--min-reward", type=float, help="Only rewards above this, in this run."),
            again_options,
            click.option("-m", "--model", default=config.MODEL, show_default=True, help="Model, or offline."),
            parameter_options,
        )
    ):
        function = option(function)
    return function


def server_options(function: Decorated) -> Decorated:
    """The options that say which server is meant, and with which key."""
    for option in reversed(
        (
            click.option(
                "-b",
                "--base-url",
                default=config.BASE_URL,
                show_default=True,
                help="A chat-completions server.",
            ),
            key_options,
        )
    ):
        function = option(function)
    return function


def key_options(function: Decorated) -> Decorated:
    """The options that say with which key a server is asked."""
    for option in reversed(
        (
            click.option(
                "-k", "--api-key-var", metavar="VARIABLE", help="The environment variable that holds the key."
            ),
            click.option(
                "--header", multiple=True, metavar="'NAME: $VARIABLE'", help="One more header; repeatable."
            ),
        )
    ):
        function = option(function)
    return function


def asking_options(function: Decorated) -> Decorated:
    """The options of every command that asks a model."""
    for option in reversed(
        (
            choosing_options,
            click.option(
                "--dry-run", is_flag=True, help="Say what would be asked, why, and about how many tokens."
            ),
            click.option("--resume", is_flag=True, help="Take up the last run that did not end with 0."),
            server_options,
            pace_options,
        )
    ):
        function = option(function)
    return common(function)


def budget_options(function: Decorated) -> Decorated:
    """The options that limit what a task may cost."""
    for option in reversed(
        (
            click.option(
                "--max-cost",
                type=click.FloatRange(min=0),
                metavar="USD",
                help="What the task may cost in this store in all.",
            ),
            click.option(
                "--max-tokens-total",
                type=WholeNumber(min=0),
                help="The same in prompt and completion tokens.",
            ),
        )
    ):
        function = option(function)
    return function


def pace_options(function: Decorated) -> Decorated:
    """The options that say how fast a server is asked, and for how long."""
    for option in reversed(
        (
            click.option(
                "-c",
                "--concurrency",
                type=WholeNumber(min=1),
                default=config.CONCURRENCY,
                show_default=True,
                help="Requests in flight at most.",
            ),
            click.option("--rpm", type=WholeNumber(min=1), help="Requests per minute at most."),
            click.option("--tpm", type=WholeNumber(min=1), help="Tokens per minute at most."),
            budget_options,
            click.option(
                "--timeout",
                type=FiniteNumber(min=0, min_open=True, max=LONGEST_S),
                default=600.0,
                show_default=True,
                metavar="SECONDS",
                help="Longest silence of the server before a request counts as lost.",
            ),
            click.option(
                "--request-timeout",
                type=FiniteNumber(min=0, max=LONGEST_S),
                default=3600.0,
                show_default=True,
                metavar="SECONDS",
                help="Longest time for a whole request; it is not sent again in that run. 0: no limit.",
            ),
            click.option(
                "--give-up-after",
                type=FiniteNumber(min=0, min_open=True, max=LONGEST_S // 60),
                default=30.0,
                show_default=True,
                metavar="MINUTES",
                help="Stop after so long without a success or text of an answer; no longer wait is obeyed.",
            ),
            click.option(
                "--keep-going",
                is_flag=True,
                help="Go on where the first 40 answers are all cut by the output limit.",
            ),
            click.option(
                "--also-handed-out",
                "takes_back",
                is_flag=True,
                help="Also what waits for a batch file: taken back there.",
            ),
        )
    ):
        function = option(function)
    return function


# The longest time that an option may name: a year, and what clocks can count with.
LONGEST_S = 366 * 86400


class FormatName(click.Choice[str]):
    """One of the export formats, whose table is loaded when an option asks for it and not at every start."""

    case_sensitive = True

    def __init__(self) -> None:
        """Without that of `Choice`, which wants the names at once."""

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]  # there it is an attribute, here it is read alone
        """The names of the formats."""
        from kbetl.export.formats import FORMATS

        return tuple(FORMATS)


class WholeNumber(click.IntRange):
    """A whole number within bounds; what SQLite cannot hold is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; fails if it is out of bounds."""
        number = super().convert(value, param, ctx)
        if abs(number) > LARGEST_INTEGER:
            self.fail(f"{number} is larger than {LARGEST_INTEGER}.", param, ctx)
        return number


class FiniteNumber(click.FloatRange):
    """A number within bounds; nan and inf are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; fails if it is out of bounds or not finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number.", param, ctx)
        return number
