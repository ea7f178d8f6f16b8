"""Records runs: every rollout of their files becomes a sample, is known, or is rejected by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kbetl.errors import SourceError
from kbetl.lines import file_fault, printable_path
from kbetl.store import Store
from kbetl.store.intake import Intake, Origin
from kbetl.synth.finding import Finder, Found, Options
from kbetl.synth.lines import Line, Taker, lines_of
from kbetl.taking import Report, Tally, counts_of, keep_all, status_of


def record(
    database: Path, texts: Sequence[str], options: Options, tally: Tally | None = None
) -> list[Report]:
    """Records the runs at each PATH, one after the other, as one run of ours; makes the store if need be.

    A complete recording of a run replaces the rows that its source had. Raises SourceError where there is
    nothing to record, ConfigError where options and files do not agree, StoreError where the store fails.
    """
    finder = Finder(options)
    found = finder.find(texts)
    if not found:
        raise SourceError("; ".join(finder.notes) or f"{', '.join(texts)}: nothing to record")
    with Store.open(database) as store:
        reports: list[Report] = []
        with store.run("synth record", described(texts, options), counts=lambda: counts_of(reports)) as run:
            for each in found:
                reports.append(Report(each.name, notes=each.notes))
                _record_one(store, each, run.id, reports[-1], tally or Tally())
            run.status = status_of(reports)
        reports[0].notes = (*finder.notes, *reports[0].notes)
    return reports


def described(texts: Sequence[str], options: Options) -> dict[str, Any]:
    """What `runs.options` keeps."""
    given = {
        "as": options.name,
        "model": options.model,
        "env": options.environment,
        "input": [printable_path(path) for path in options.inputs] or None,
    }
    return {
        "paths": [printable_path(text) for text in texts],
        **{key: value for key, value in given.items() if value is not None},
    }


def origin_of(found: Found) -> Origin:
    """The source that a run is."""
    return Origin(
        found.name,
        printable_path(found.uri),
        "run",
        model=found.run.model,
        environment=found.run.environment,
        run=found.run_text,
    )


def _record_one(store: Store, found: Found, run_id: int, report: Report, tally: Tally) -> None:
    tally.start(found.name, found.size_bytes)
    intake = Intake(store, origin_of(found), run_id)
    taker = Taker(store, found, report)
    report.counts = intake.counts
    is_whole = True
    for path in found.files:
        taker.start_file()
        name = printable_path(path)
        for line in _lines(path):
            taker.take(intake, line, name)
            tally.count(line.raw)
            is_whole = is_whole and not line.raw.is_of_file
    keep_all(intake, report, is_whole=is_whole, is_meant_whole=True, features=None)


def _lines(path: Path) -> Iterator[Line]:
    """The lines of a file; one that was renamed or removed since it was found is a fault."""
    try:
        yield from lines_of(path)
    except OSError as error:
        yield Line(file_fault(1, f"it cannot be opened: {error.strerror or error}"))
