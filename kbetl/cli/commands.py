"""The commands in the order in which `kbetl --help` names them."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
