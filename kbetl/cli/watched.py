"""Progress on stderr: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click

LINE_EVERY_S = 10.0
REFRESH_EVERY_S = 0.25


class Shown(NamedTuple):
    """How far a command is: a line, and how much of how much (None: not known)."""

    text: str
    done: int
    total: int | None


Show = Callable[[float], Shown | None]
"""From the seconds since the beginning; None while there is nothing to show yet."""


@contextlib.contextmanager
def watched(show: Show, *, is_quiet: bool) -> Iterator[None]:
    """Shows how far the command is while the block runs; nothing where the user wants none."""
    if is_quiet:
        yield
        return
    ended = threading.Event()
    target = _show_live if sys.stderr.isatty() else _show_lines
    thread = threading.Thread(target=target, args=(show, ended), name="kbetl-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show_lines(show: Show, ended: threading.Event) -> None:
    began_s = time.monotonic()
    while not ended.wait(LINE_EVERY_S):
        shown = show(time.monotonic() - began_s)
        if shown is not None:
            click.echo(shown.text, err=True)


def _show_live(show: Show, ended: threading.Event) -> None:
    """Rich takes 50 ms to import: only for what takes longer than a moment."""
    began_s = time.monotonic()
    while not ended.wait(2 * REFRESH_EVERY_S):
        if show(time.monotonic() - began_s) is not None:
            break
    else:
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=30), TextColumn("{task.fields[text]}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None, text="")
        while not ended.wait(REFRESH_EVERY_S):
            shown = show(time.monotonic() - began_s)
            if shown is not None:
                progress.update(bar, completed=shown.done, total=shown.total, text=shown.text)
