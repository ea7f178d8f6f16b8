"""Progress of `kbetl lengths`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kbetl.cli.watched import Shown, watched

if TYPE_CHECKING:
    from kbetl.lengths import Tally


@contextlib.contextmanager
def watching(*, is_quiet: bool) -> Iterator[Tally]:
    """Gives the tally to fill, and shows it on stderr meanwhile."""
    from kbetl.lengths import Tally

    tally = Tally()
    with watched(lambda elapsed_s: _shown(tally, elapsed_s), is_quiet=is_quiet):
        yield tally


def _shown(tally: Tally, elapsed_s: float) -> Shown | None:
    if not tally.waiting:
        return None
    rate_per_s = tally.tokens / max(elapsed_s, 1e-3)
    text = f"{tally.done:,}/{tally.waiting:,} samples, {tally.tokens:,} tokens, {rate_per_s:,.0f} tokens/s"
    return Shown(text, tally.done, tally.waiting)
