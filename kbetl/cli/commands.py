"""The commands in the order in which `kbetl --help` names them."""

from __future__ import annotations

import click

from kbetl.cli import reading

COMMANDS: tuple[click.Command, ...] = (reading.query,)
