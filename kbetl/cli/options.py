"""Options that several commands share."""

from __future__ import annotations

import functools
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

import kbetl
from kbetl import config
from kbetl.errors import ConfigError

if TYPE_CHECKING:
    from kbetl.store.ledger import InUse

_WITHOUT_CONFIGURATION = frozenset(("init", "config", "docs"))
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _telling(function: Decorated) -> Decorated:
    """Raises what is wrong with the configuration, but for commands that help to mend it.

    With -v: versions, configuration files and store at the beginning; what it took at the end.
    """

    @functools.wraps(function)
    def told(*arguments: Any, **options: Any) -> Any:
        context = click.get_current_context()
        if isinstance(context.obj, ConfigError) and context.info_name not in _WITHOUT_CONFIGURATION:
            raise context.obj
        if not options["verbose"]:
            return function(*arguments, **options)
        began_s = time.monotonic(), time.process_time()
        for line in _beginning(options["database"]):
            click.echo(f"kbetl: {line}", err=True)
        try:
            return function(*arguments, **options)
        finally:
            wall_s, cpu_s = time.monotonic() - began_s[0], time.process_time() - began_s[1]
            name = click.get_current_context().info_name
            click.echo(f"kbetl: {name} took {wall_s:.2f} s, {cpu_s:.2f} s of CPU", err=True)

    return cast(Decorated, told)


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
    function = _telling(function)
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


def each_once(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """What a repeatable option was given, in order, without repeats."""
    return tuple(dict.fromkeys(values))


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
            words.append(parameter.opts[-1])
        else:
            for each in values:
                parts = each if isinstance(each, tuple) else (each,)
                words += [parameter.opts[-1], *(str(part) for part in parts)]
    return words
