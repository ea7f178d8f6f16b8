"""The commands in the order in which `kbetl --help` names them."""

from __future__ import annotations

import click

from kbetl.cli import check, query, status
from kbetl.cli.batch import batch
from kbetl.cli.contamination import contamination
from kbetl.cli.dedupe import dedupe
from kbetl.cli.demo import demo
from kbetl.cli.docs import docs
from kbetl.cli.enrich import enrich, prompts
from kbetl.cli.export import export
from kbetl.cli.hacks import hacks
from kbetl.cli.ingest import ingest
from kbetl.cli.init import init
from kbetl.cli.lengths import lengths
from kbetl.cli.merge import merge
from kbetl.cli.push import push
from kbetl.cli.reparse import reparse
from kbetl.cli.report import report
from kbetl.cli.run import run
from kbetl.cli.show import show
from kbetl.cli.synth import synth
from kbetl.cli.tables import tables
from kbetl.cli.tasks import tasks
from kbetl.cli.use import use

COMMANDS: tuple[click.Command, ...] = (
    demo,
    init,
    ingest,
    synth,
    enrich,
    prompts,
    tasks,
    batch,
    merge,
    use,
    reparse,
    dedupe,
    hacks,
    contamination,
    lengths,
    export,
    push,
    run,
    query.query,
    show,
    report,
    tables,
    status.status,
    check.check,
    docs,
)
