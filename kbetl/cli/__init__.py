"""The command line: reads options, calls one function, prints what comes back."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

import click

import kbetl
from kbetl import config
from kbetl.cli.commands import COMMANDS
from kbetl.cli.config_file import defaults_from_toml
from kbetl.errors import ConfigError, Interrupted, KbetlError

EPILOG = "Exit status: 0 all done; 1 an error; 2 wrong usage; 3 something left over; 130, 143 interrupted."


class _InOrder(click.Group):
    """A group that names its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "KBETL"},
    epilog=EPILOG,
)
@click.version_option(kbetl.__version__, "--version", prog_name="kbetl")
def cli() -> None:
    """Make training data: an incremental, resumable ETL on one SQLite file.

    \b
    kbetl demo                          the whole pipeline, no key, no network
    kbetl ingest rollouts.jsonl         store rows by their content
    kbetl enrich                        rate what has no rating yet
    kbetl query "select * from filtered limit 3"
    """


for command in COMMANDS:
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """The entry point of the script `kbetl`."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Runs one command line; returns its exit status. What a user can cause becomes one line on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    _open_streams()
    try:
        configured = _configured()
        status = cli.main(
            arguments,
            prog_name="kbetl",
            standalone_mode=False,
            default_map=configured.defaults,
            obj=configured.fault,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted; what was committed is kept, run the same command again to go on", 130)
    except KbetlError as error:
        return _say(str(error), error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of stdout went away, as `| head` does: nobody reads a message
        return 0
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as error:
        return _say(f"the store failed: {error}; kbetl check says more", 1)
    except OSError as error:
        return _say(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    return status if isinstance(status, int) else 0


class _Configured(NamedTuple):
    defaults: Mapping[str, Any]
    fault: ConfigError | None
    """Of `.env` or `kbetl.toml`: `common` raises it when a command begins, so that help needs neither."""


def _configured() -> _Configured:
    try:
        config.load_dotenv()
        return _Configured(defaults_from_toml(config.load_toml(), COMMANDS), None)
    except ConfigError as error:
        return _Configured({}, error)


def _open_streams() -> None:
    """Gives a stream that was closed, as by `>&-`, the null device: no file of ours may get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _say(message: str, status: int) -> int:
    click.echo(f"kbetl: {message}", err=True)
    return status


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Interrupted("terminated; what was committed is kept, run the same command again to go on", 143)
