"""The commands in the order in which `kbetl --help` names them."""

from __future__ import annotations

import click

from kbetl.cli import reading
from kbetl.cli.enrich import enrich, prompts

COMMANDS: tuple[click.Command, ...] = (enrich, prompts, reading.query)
