"""The commands in the order in which `kbetl --help` names them."""

from __future__ import annotations

import click

from kbetl.cli import reading
from kbetl.cli.dedupe import dedupe
from kbetl.cli.demo import demo
from kbetl.cli.enrich import enrich, prompts
from kbetl.cli.export import export
from kbetl.cli.ingest import ingest
from kbetl.cli.push import push
from kbetl.cli.reparse import reparse
from kbetl.cli.use import use

COMMANDS: tuple[click.Command, ...] = (
    demo,
    ingest,
    enrich,
    prompts,
    use,
    reparse,
    dedupe,
    export,
    push,
    reading.query,
    reading.status,
    reading.check,
)
