"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kbetl import config

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def common(function: Decorated) -> Decorated:
    """`-d/--database`, `-q`, `-v`: every command has them."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Say more on stderr."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors."),
        click.option(
            "-d",
            "--database",
            type=click.Path(path_type=Path),
            default=config.DATABASE,
            show_default=True,
            envvar="KBETL_DATABASE",
            help="The store.",
        ),
    ):
        function = option(function)
    return function
