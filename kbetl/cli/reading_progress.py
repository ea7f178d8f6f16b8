"""Progress of an ingest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kbetl.cli.watched import Shown, watched

if TYPE_CHECKING:
    from kbetl.taking import Tally


@contextlib.contextmanager
def watching(*, is_quiet: bool) -> Iterator[Tally]:
    """Gives the tally to fill, and shows it on stderr meanwhile."""
    from kbetl.taking import Tally

    tally = Tally()
    with watched(lambda elapsed_s: _shown(tally, elapsed_s), is_quiet=is_quiet):
        yield tally


def _shown(tally: Tally, elapsed_s: float) -> Shown:
    done = f"{tally.read_bytes / 1e6:,.0f} MB"
    if tally.size_bytes:
        done += f" of {tally.size_bytes / 1e6:,.0f} MB"
    rate_per_s = tally.rows / max(elapsed_s, 1e-3)
    text = f"{tally.source}: {tally.rows:,} rows, {done}, {rate_per_s:,.0f} rows/s"
    return Shown(text, tally.read_bytes, tally.size_bytes)
