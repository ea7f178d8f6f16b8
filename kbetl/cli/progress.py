"""Progress of a run that asks: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import click

from kbetl.asking.tally import Tally

LINE_EVERY_S = 10.0
REFRESH_EVERY_S = 0.25


@contextlib.contextmanager
def watching(*, is_quiet: bool) -> Iterator[Tally]:
    """Gives the tally to fill, and shows it on stderr meanwhile."""
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


def summary(tally: Tally) -> str:
    """Done, rate, tokens, cost if known, not ok by kind, time left; in one line."""
    elapsed_s = max(time.monotonic() - tally.started_s, 1e-3)
    rate_per_s = tally.asked / elapsed_s
    parts = [
        f"{tally.asked}/{tally.waiting} done",
        f"{rate_per_s:.1f}/s",
        f"{tally.in_flight} in flight",
        f"{tally.prompt_tokens + tally.completion_tokens:,} tokens",
    ]
    if tally.cost_usd is not None:
        parts.append(f"${tally.cost_usd:.4f}")
    parts += [f"{status} {count}" for status, count in sorted(tally.statuses.items()) if status != "ok"]
    if 0 < tally.asked < tally.waiting:
        parts.append(f"{_duration((tally.waiting - tally.asked) / rate_per_s)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _show_lines(tally: Tally, ended: threading.Event) -> None:
    while not ended.wait(LINE_EVERY_S):
        if tally.waiting:
            click.echo(summary(tally), err=True)


def _show_live(tally: Tally, ended: threading.Event) -> None:
    while not tally.waiting:
        if ended.wait(REFRESH_EVERY_S):
            return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=30), TextColumn("{task.fields[text]}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=tally.waiting, text="")
        while not ended.wait(REFRESH_EVERY_S):
            progress.update(bar, completed=tally.asked, total=tally.waiting, text=summary(tally))
