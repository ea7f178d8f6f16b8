"""The prompts of a file as a dry run sees them: chosen and waiting as if they were stored, and not stored."""

from __future__ import annotations

from pathlib import Path

from kbetl.enrich.planning import Asked, wait_as_told
from kbetl.enrich.running import Say
from kbetl.errors import ConfigError
from kbetl.store import Store
from kbetl.store.ledger import Selection
from kbetl.synth.options import Options
from kbetl.synth.prompts import check_prompts, lines_of
from kbetl.taking import Rejections


class Unstored(Selection):
    """The prompts of a file, in temp tables alone."""

    rows_query = "unstored_rows"

    def __init__(self, store: Store, task_hash: str, attempts: int) -> None:
        super().__init__(store, task_hash, attempts)
        with store.explained():
            store.execute("drop_unstored")
            store.execute("unstored_table")

    def take(self, path: Path, say: Say) -> None:
        """Chooses the prompts of a file. Raises SourceError where there are none."""
        rejections, read, rejected = Rejections("rejected lines"), 0, 0
        with self.store.transaction(writes=False):
            for line in lines_of(path):
                read += 1
                if line.sample is None:
                    rejected += 1
                    rejections.add(line.location, line.reason)
                else:
                    row = {"sample_hash": line.sample.hash, "row": line.sample.row}
                    self.store.execute("add_unstored", row)
            self.store.execute("choose_unstored")
        say(f"{path}: read {read}, rejected {rejected}; --dry-run stores nothing")
        for remark in rejections.lines():
            say(remark)
        check_prompts(path, rejections, has_prompts=read > rejected)


def select_unstored(store: Store, options: Options, asked: Asked, limit: int | None, say: Say) -> Selection:
    """What a run about the prompts of a file would ask.

    Raises ConfigError for a condition: it is looked at where rows are stored.
    """
    if options.where is not None:
        raise ConfigError(
            "--where is about stored rows, and --dry-run stores none of a file's: leave out one of them"
        )
    selection = Unstored(store, asked.hash, options.rollouts)
    selection.take(Path(options.prompts), say)
    wait_as_told(selection, options, limit=limit, wants_rollouts=True)
    return selection
