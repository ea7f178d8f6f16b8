"""Progress of `kbetl lengths`: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kbetl.lengths import Tally

LINE_EVERY_S = 10.0
REFRESH_EVERY_S = 0.25


@contextlib.contextmanager
def watching(*, is_quiet: bool) -> Iterator[Tally]:
    """Gives the tally to fill, and shows it on stderr meanwhile."""
    from kbetl.lengths import Tally

    tally = Tally()
    if is_quiet:
        yield tally
        return
    ended = threading.Event()
    show = _show_live if sys.stderr.isatty() else _show_lines
    thread = threading.Thread(target=show, args=(tally, ended), name="kbetl-progress", daemon=True)
    thread.start()
    try:
        yield tally
    finally:
        ended.set()
        thread.join()


def _summary(tally: Tally, elapsed_s: float) -> str:
    rate_per_s = tally.tokens / max(elapsed_s, 1e-3)
    return f"{tally.done:,}/{tally.waiting:,} samples, {tally.tokens:,} tokens, {rate_per_s:,.0f} tokens/s"


def _show_lines(tally: Tally, ended: threading.Event) -> None:
    began_s = time.monotonic()
    while not ended.wait(LINE_EVERY_S):
        if tally.waiting:
            click.echo(_summary(tally, time.monotonic() - began_s), err=True)


def _show_live(tally: Tally, ended: threading.Event) -> None:
    """Rich takes 50 ms to import: only for what takes longer than a moment."""
    began_s = time.monotonic()
    while not tally.waiting:
        if ended.wait(REFRESH_EVERY_S):
            return
    if ended.wait(2 * REFRESH_EVERY_S):
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=30), TextColumn("{task.fields[text]}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=tally.waiting, text="")
        while not ended.wait(REFRESH_EVERY_S):
            text = _summary(tally, time.monotonic() - began_s)
            progress.update(bar, completed=tally.done, total=tally.waiting, text=text)
