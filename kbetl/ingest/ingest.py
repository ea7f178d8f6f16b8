"""Stores the rows of sources: each becomes a sample, is known, or is rejected by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from kbetl.errors import SourceError
from kbetl.ingest.mapping import check_paths, with_maps
from kbetl.ingest.source import IngestOptions, Source
from kbetl.readers.lines import RawRow, file_error
from kbetl.row_writer import IngestReport, ReadProgress, counts_of, exit_status, finish_source, write_row
from kbetl.samples.reading import stored_map
from kbetl.store import Store
from kbetl.store.field_maps import any_read_otherwise
from kbetl.store.samples import SampleWriter

_LEADING_FAULTS = 1000
# Rows whose lines one statement looks up, and their text: more at once take more memory and no less time.
_GROUP_ROWS = 1000
_GROUP_BYTES = 2**18


class _Row(NamedTuple):
    file: str
    raw: RawRow

    @property
    def location(self) -> str:
        return f"{self.file}:{self.raw.line}"


def ingest_into(
    database: Path,
    sources: Sequence[Source | SourceError],
    options: IngestOptions,
    tally: ReadProgress | None = None,
) -> list[IngestReport]:
    """`ingest` into the store at a path; if no source can be read, no store is made.

    Raises ConfigError and LockHeld as `check_paths` and `with_maps` do, before anything is stored.
    """
    sources = check_paths(sources, options)
    if any(isinstance(source, Source) for source in sources):
        with Store.open(database) as store:
            return ingest(store, sources, options, tally)
    return [IngestReport("", error=str(source)) for source in sources]


def ingest(
    store: Store,
    sources: Sequence[Source | SourceError],
    options: IngestOptions,
    tally: ReadProgress | None = None,
) -> list[IngestReport]:
    """Stores the samples of each source, one after the other, as one run.

    A source that cannot be read is reported and the others are read. Raises StoreError if the store
    fails; what was committed stays, and the sources that were not finished have the rows they had.
    """
    reports: list[IngestReport] = []
    with (
        with_maps(store, sources, options) as mapped,
        store.run("ingest", _described(mapped, options), counts=lambda: counts_of(reports)) as run,
    ):
        for source in mapped:
            reports.append(IngestReport(""))
            _ingest_one(store, source, run.id, reports[-1], _Bounds(options.limit, tally or ReadProgress()))
        run.status = exit_status(reports)
    return reports


class _Bounds(NamedTuple):
    limit: int | None
    tally: ReadProgress


def _described(sources: Sequence[Source | SourceError], options: IngestOptions) -> dict[str, Any]:
    given = {key: value for key, value in asdict(options).items() if value is not None}
    return {**given, "sources": [_name(source) for source in sources if isinstance(source, Source)]}


def _name(source: Source) -> str:
    return source.origin.name


def _ingest_one(
    store: Store, source: Source | SourceError, run_id: int, report: IngestReport, bounds: _Bounds
) -> None:
    try:
        if isinstance(source, SourceError):
            raise source
        report.name, report.notes = source.origin.name, source.notes
        bounds.tally.start(source.origin.name, source.size_bytes)
        rows = _rows(source)
        first = _first_rows(source, rows, bounds.limit)
        map_ = source.origin.field_map
        if map_ is not None:
            shown = ", ".join(f"{key}={path}" for key, path in (stored_map(map_) or {}).items())
            report.notes = (*report.notes, f"{report.name}: read by the map {shown}")
        compares = map_ is not None or any_read_otherwise(store, map_)
        intake = SampleWriter(store, source.origin, run_id, compares_maps=compares)
        report.counts = intake.counts
        is_whole = True
        for group in _groups(islice(chain(first, rows), bounds.limit)):
            line_hashes = [hashlib.sha256(row.raw.text).digest() for row in group]
            intake.look_up(line_hashes)
            for row, line_hash in zip(group, line_hashes, strict=True):
                write_row(intake, row.raw, line_hash, row.location, report)
                bounds.tally.count(row.raw)
            is_whole = is_whole and not any(row.raw.is_of_file for row in group)
        is_meant_whole = bounds.limit is None and source.origin.kind != "stdin"
        features = source.parts[0].features()
        finish_source(intake, report, is_whole=is_whole, is_meant_whole=is_meant_whole, features=features)
        report.notes = (
            *report.notes,
            *(
                f"{each.name}: no label of {each.model} ({each.hash[:15]}) is left; it is not in use any more"
                for each in intake.retired
            ),
        )
    except SourceError as error:
        report.error = str(error)


def _groups(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """The rows in order, as many at once as are looked up at once."""
    group: list[_Row] = []
    size_bytes = 0
    for row in rows:
        group.append(row)
        size_bytes += len(row.raw.text)
        if len(group) >= _GROUP_ROWS or size_bytes >= _GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


def _rows(source: Source) -> Iterator[_Row]:
    """All rows; a file of several that cannot be read is one fault instead of its rows."""
    for part in source.parts:
        try:
            for raw in part.rows():
                yield _Row(part.name, raw)
        except SourceError as error:
            if len(source.parts) == 1:
                raise
            yield _Row(part.name, _fault(part.name, str(error)))


def _fault(name: str, message: str) -> RawRow:
    """The fault of a file, at the line that the message names, less the name and line before it."""
    location = re.match(rf"{re.escape(name)}:(?:(\d+):)? ", message)
    if location is None:
        return file_error(1, message)
    return file_error(int(location[1] or 1), message[location.end() :])


def _first_rows(source: Source, rows: Iterator[_Row], limit: int | None) -> list[_Row]:
    """The rows up to the first that is one, good or bad. Raises SourceError if nothing could be read."""
    first: list[_Row] = []
    for row in rows:
        first.append(row)
        if not row.raw.is_of_file or len(first) >= (_LEADING_FAULTS if limit is None else limit):
            return first
    if first:
        raise SourceError(f"{first[0].location}: {first[0].raw.fault}; nothing could be read")
    raise SourceError(f"{source.origin.uri} holds no rows")
