"""Shows progress on stderr: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from kbetl.prices import usd

if TYPE_CHECKING:
    from rich.console import Console

    from kbetl.inference import RunProgress
    from kbetl.lengths import MeasureProgress
    from kbetl.row_writer import ReadProgress

LINE_EVERY_S = 10.0
REFRESH_EVERY_S = 0.25
BAR_WIDTH = 30

# Rates are of the last minute: after an outage the time left is true again a minute later.
RATE_OVER_S = 60.0
# With fewer than that in the last minute the rate is over the time that so many needed.
RATE_OVER_COUNT = 10


class Part(NamedTuple):
    """A piece of the progress line, from its longest spelling to its shortest; "" leaves it out."""

    rank: int
    """If the line is short, the part of the highest rank gets its longer spelling first."""
    forms: Sequence[str]


# Of counts, money and time left: their shortest spelling is there in any case.
_ALWAYS = 0


class Shown(NamedTuple):
    """How far a command is: the parts of a line, and how much of how much (None: not known)."""

    parts: Sequence[Part]
    done: int
    total: int | None

    def text(self, width: int | None = None) -> str:
        """The line in so many columns, as far as its shortest spelling allows; whole without a width."""
        forms = [part.forms[-1] for part in self.parts]
        for index, part in sorted(enumerate(self.parts), key=lambda each: -each[1].rank):
            for form in part.forms:
                longer = [*forms[:index], form, *forms[index + 1 :]]
                if width is None or len(_line(longer)) <= width:
                    forms = longer
                    break
        return _line(forms)


def _line(forms: Sequence[str]) -> str:
    return ", ".join(filter(None, forms))


Show = Callable[[float], Shown | None]
"""From the time (of the monotonic clock, in seconds); None while there is nothing to show yet."""


class _Seen(NamedTuple):
    number: int
    first_s: float
    last_s: float
    """When the count was seen first and last."""


class Rate:
    """How fast a count grows now, per second: over the last minute, longer if little was done in it."""

    def __init__(self, started_s: float | None = None) -> None:
        """The count is 0 at `started_s`, by the clock of the looks; None: the first look says what it is."""
        self._seen: deque[_Seen] = deque()
        if started_s is not None:
            self._seen.append(_Seen(0, started_s, started_s))

    def per_s(self, now_s: float, count: int) -> float:
        """The rate after one more look at the count; one that has fallen begins anew."""
        seen = self._seen
        if seen and count < seen[-1].number:
            seen.clear()
        if seen and count == seen[-1].number:
            seen[-1] = seen[-1]._replace(last_s=now_s)
        else:
            seen.append(_Seen(count, now_s, now_s))
        ago_s = now_s - RATE_OVER_S
        while len(seen) > 1 and seen[1].first_s <= ago_s and count - seen[1].number >= RATE_OVER_COUNT:
            seen.popleft()
        base = seen[0]
        since_s = max(base.first_s, min(base.last_s, ago_s))
        return (count - base.number) / max(now_s - since_s, 1e-3)


@contextlib.contextmanager
def progress_of_run(*, is_quiet: bool) -> Iterator[RunProgress]:
    """Yields the counts of a run that asks, to be filled; shows them meanwhile."""

    from kbetl.inference import RunProgress

    tally = RunProgress()
    rate = Rate(time.monotonic())

    def show(now_s: float) -> Shown | None:
        return shown_run(tally, rate.per_s(now_s, tally.asked)) if tally.waiting else None

    with show_progress(show, is_quiet=is_quiet):
        yield tally


def shown_run(tally: RunProgress, rate_per_s: float) -> Shown:
    """Done, rate, hold if any, tokens, cost if known, not ok by kind, time left."""
    asked, waiting = tally.asked, tally.waiting
    parts = [
        Part(_ALWAYS, (f"{asked}/{waiting} done", f"{asked}/{waiting}")),
        Part(3, (f"{rate_per_s:.1f}/s", "")),
        Part(2, (f"{tally.count_in_flight()} in flight", "")),
        Part(1, (f"{tally.prompt_tokens + tally.completion_tokens:,} tokens", "")),
    ]
    hold_s = tally.hold_s()
    if hold_s >= 1:
        parts.append(Part(5, (f"nothing sent for {hold_s:.0f} s", f"held {hold_s:.0f} s", "")))
    cost = tally.cost_text()
    if cost is not None:
        parts.append(Part(_ALWAYS, (cost, _short_cost(tally))))
    not_ok = {status: count for status, count in sorted(tally.statuses.items()) if status != "ok" and count}
    if not_ok:
        by_status = ", ".join(f"{status} {count}" for status, count in not_ok.items())
        parts.append(Part(4, (by_status, f"{sum(not_ok.values())} not ok", "")))
    left = [Part(_ALWAYS, ("stopping",))] if tally.is_ending else [*_left(asked, waiting, rate_per_s)]
    return Shown([*parts, *left], asked, waiting)


def _short_cost(tally: RunProgress) -> str:
    """Reported and computed cost as one sum."""
    cost_usd = (tally.cost_usd or 0.0) + usd(tally.computed_pusd)
    return f"${cost_usd:.2f}" if cost_usd >= 1 else f"${cost_usd:.4f}"


@contextlib.contextmanager
def progress_of_reading(*, is_quiet: bool) -> Iterator[ReadProgress]:
    """Yields the counts of an ingest, to be filled; shows them meanwhile."""

    from kbetl.row_writer import ReadProgress

    tally = ReadProgress()
    of_rows, of_bytes = Rate(time.monotonic()), Rate(time.monotonic())

    def show(now_s: float) -> Shown:
        return shown_reading(tally, of_rows.per_s(now_s, tally.rows), of_bytes.per_s(now_s, tally.read_bytes))

    with show_progress(show, is_quiet=is_quiet):
        yield tally


def shown_reading(tally: ReadProgress, rate_per_s: float, bytes_per_s: float) -> Shown:
    """Source, rows, megabytes, rate, time left if the size is known."""
    rows = f"{tally.rows:,} rows"
    forms = [f"{tally.read_bytes / 1e6:,.0f} MB"]
    if tally.size_bytes:
        share = tally.read_bytes / tally.size_bytes
        forms = [f"{forms[0]} of {tally.size_bytes / 1e6:,.0f} MB", f"{share:.0%}"]
    parts = (
        Part(2, (f"{tally.source}: {rows}", rows)),
        Part(_ALWAYS, forms),
        Part(1, (f"{rate_per_s:,.0f} rows/s", "")),
        *_left(tally.read_bytes, tally.size_bytes or 0, bytes_per_s),
    )
    return Shown(parts, tally.read_bytes, tally.size_bytes)


@contextlib.contextmanager
def progress_of_measuring(*, is_quiet: bool) -> Iterator[MeasureProgress]:
    """Yields the counts of `kbetl lengths`, to be filled; shows them meanwhile."""
    from kbetl.lengths import MeasureProgress

    tally = MeasureProgress()
    of_samples, of_tokens = Rate(time.monotonic()), Rate(time.monotonic())

    def show(now_s: float) -> Shown | None:
        rates_per_s = of_samples.per_s(now_s, tally.done), of_tokens.per_s(now_s, tally.tokens)
        return shown_measuring(tally, *rates_per_s) if tally.waiting else None

    with show_progress(show, is_quiet=is_quiet):
        yield tally


def shown_measuring(tally: MeasureProgress, samples_per_s: float, tokens_per_s: float) -> Shown:
    """Samples, tokens, rate, time left."""
    counts = f"{tally.done:,}/{tally.waiting:,}"
    parts = (
        Part(_ALWAYS, (f"{counts} samples", counts)),
        Part(2, (f"{tally.tokens:,} tokens", "")),
        Part(1, (f"{tokens_per_s:,.0f} tokens/s", "")),
        *_left(tally.done, tally.waiting, samples_per_s),
    )
    return Shown(parts, tally.done, tally.waiting)


def _left(done: int, total: int, rate_per_s: float) -> Iterator[Part]:
    if 0 < done < total and rate_per_s > 0:
        yield Part(_ALWAYS, (f"{_duration((total - done) / rate_per_s)} left",))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def show_progress(show: Show, *, is_quiet: bool) -> Iterator[None]:
    """Shows how far the command is while the block runs; nothing with --quiet."""
    if is_quiet:
        yield
        return
    ended = threading.Event()
    target = _show_on_terminal if sys.stderr.isatty() else _show_lines
    thread = threading.Thread(target=target, args=(show, ended), name="kbetl-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show_lines(show: Show, ended: threading.Event) -> None:
    while not ended.wait(LINE_EVERY_S):
        shown = show(time.monotonic())
        if shown is not None:
            click.echo(shown.text(), err=True)


def _show_on_terminal(show: Show, ended: threading.Event) -> None:
    """Shows a live line by rich, whose import lasts 50 ms: only once a command lasts longer than a moment."""
    while not ended.wait(2 * REFRESH_EVERY_S):
        shown = show(time.monotonic())
        if shown is not None:
            break
    else:
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_interactive:
        _show_live(console, show, ended)
    else:  # as in an editor's shell or a serial line: the cursor cannot go back
        click.echo(shown.text(), err=True)
        _show_lines(show, ended)


def _show_live(console: Console, show: Show, ended: threading.Event) -> None:
    from rich.file_proxy import FileProxy
    from rich.progress import BarColumn, Progress, TextColumn

    class Above(FileProxy):
        """Puts lines above the live one; click writes past a stream that has no encoding."""

        encoding = "utf-8"
        errors = "backslashreplace"

    text = TextColumn("{task.fields[text]}", markup=False)
    columns = (BarColumn(bar_width=BAR_WIDTH), text)
    progress = Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    with contextlib.redirect_stderr(Above(console, sys.stderr)), progress:
        bar = progress.add_task("", total=None, text="")
        while not ended.wait(REFRESH_EVERY_S):
            shown = show(time.monotonic())
            if shown is None:
                continue
            width = console.width - BAR_WIDTH - 1
            has_bar = len(shown.text()) <= width
            progress.columns = columns if has_bar else (text,)
            line = shown.text(None if has_bar else console.width)
            progress.update(bar, completed=shown.done, total=shown.total, text=line)
