"""Progress of a run that asks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from kbetl.asking.tally import Tally
from kbetl.cli.watched import Shown, watched


@contextlib.contextmanager
def watching(*, is_quiet: bool) -> Iterator[Tally]:
    """Gives the tally to fill, and shows it on stderr meanwhile."""
    tally = Tally()
    with watched(lambda _: _shown(tally), is_quiet=is_quiet):
        yield tally


def _shown(tally: Tally) -> Shown | None:
    return Shown(summary(tally), tally.asked, tally.waiting) if tally.waiting else None


def summary(tally: Tally) -> str:
    """Done, rate, hold if any, tokens, cost if known, not ok by kind, and the time left, in one line."""
    elapsed_s = max(time.monotonic() - tally.started_s, 1e-3)
    rate_per_s = tally.asked / elapsed_s
    parts = [
        f"{tally.asked}/{tally.waiting} done",
        f"{rate_per_s:.1f}/s",
        f"{tally.count_in_flight()} in flight",
        f"{tally.prompt_tokens + tally.completion_tokens:,} tokens",
    ]
    hold_s = tally.hold_s()
    if hold_s >= 1:
        parts.append(f"nothing sent for {hold_s:.0f} s")
    cost = tally.cost_text()
    if cost is not None:
        parts.append(cost)
    parts += [f"{status} {count}" for status, count in sorted(tally.statuses.items()) if status != "ok"]
    if tally.is_ending:
        parts.append("stopping")
    elif 0 < tally.asked < tally.waiting:
        parts.append(f"{_duration((tally.waiting - tally.asked) / rate_per_s)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
