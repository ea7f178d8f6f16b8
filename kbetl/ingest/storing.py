"""Stores the rows of sources: each becomes a sample, is known, or is rejected by name."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from kbetl.errors import BadRow, KbetlError, SourceError
from kbetl.ingest.sources import Options, Source
from kbetl.json_text import Parsed, read_json
from kbetl.lines import Raw, file_fault, plain_text
from kbetl.sampling import sample_of
from kbetl.store import Store
from kbetl.store.intake import Counts, Intake

_LINE_END = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
SHOWN_REJECTIONS = 10
_LEADING_FAULTS = 1000


@dataclass(slots=True)
class Tally:
    """How far the ingest is; another thread may read it."""

    source: str = ""
    size_bytes: int | None = None
    """Of the source, None where that is not known."""
    read_bytes: int = 0
    rows: int = 0

    def start(self, source: Source) -> None:
        """Another source begins."""
        self.source, self.size_bytes = source.origin.name, source.size_bytes
        self.read_bytes = self.rows = 0

    def count(self, raw: Raw) -> None:
        """A row was read."""
        self.read_bytes += len(raw.text)
        self.rows += 1


@dataclass(slots=True)
class Report:
    """What came of one source. `error` is None where it could be read."""

    name: str
    counts: Counts = field(default_factory=Counts)
    rejections: list[str] = field(default_factory=list)
    """The first few, as `FILE:LINE: reason`."""
    notes: Sequence[str] = ()
    error: str | None = None

    def as_text(self) -> str:
        """One line with counts that add up: read = new + known + rejected."""
        counts = self.counts
        line = (
            f"{self.name}: read {counts.read}, new {counts.new}, known {counts.known}, "
            f"rejected {counts.rejected}"
        )
        kinds = (("modules", counts.modules), ("rollouts", counts.rollouts))
        shown = ", ".join(f"{kind} {number}" for kind, number in kinds if number)
        return f"{line} ({shown})" if shown else line

    def remarks(self) -> list[str]:
        """What was left aside and what was rejected, a line each; of many rejected rows the first few."""
        hidden = self.counts.rejected - len(self.rejections)
        more = f'... and {hidden} more rejected rows: kbetl query "select * from rejected_rows"'
        return [*self.notes, *self.rejections, *([more] if hidden else [])]


class _Row(NamedTuple):
    file: str
    raw: Raw

    @property
    def location(self) -> str:
        return f"{self.file}:{self.raw.line}"


def status_of(reports: Sequence[Report]) -> int:
    """1 where a source could not be read at all, 3 where rows were rejected, else 0."""
    if any(report.error is not None for report in reports):
        return 1
    return 3 if any(report.counts.rejected for report in reports) else 0


def ingest_into(
    database: Path, sources: Sequence[Source | SourceError], options: Options, tally: Tally | None = None
) -> list[Report]:
    """`ingest` into the store at a path; where no source can be read, no store is made."""
    if any(isinstance(source, Source) for source in sources):
        with Store.open(database) as store:
            return ingest(store, sources, options, tally)
    return [Report("", error=str(source)) for source in sources]


def ingest(
    store: Store, sources: Sequence[Source | SourceError], options: Options, tally: Tally | None = None
) -> list[Report]:
    """Stores the samples of each source, one after the other, as one run.

    A source that cannot be read is reported and the others are done. Raises StoreError where the store
    fails; what was committed stays, and the sources that were not finished have the rows they had.
    """
    run_id = store.begin_run("ingest", _described(sources, options))
    reports: list[Report] = []
    try:
        for source in sources:
            reports.append(Report(""))
            _ingest_one(store, source, run_id, reports[-1], _Bounds(options.limit, tally or Tally()))
    except BaseException as error:
        with contextlib.suppress(KbetlError):
            store.end_run(run_id, _status_after(error), _counts(reports))
        raise
    store.end_run(run_id, status_of(reports), _counts(reports))
    return reports


class _Bounds(NamedTuple):
    limit: int | None
    tally: Tally


def _described(sources: Sequence[Source | SourceError], options: Options) -> dict[str, Any]:
    given = {key: value for key, value in asdict(options).items() if value is not None}
    return {**given, "sources": [_name(source) for source in sources if isinstance(source, Source)]}


def _name(source: Source) -> str:
    return source.origin.name


def _counts(reports: Sequence[Report]) -> dict[str, Any]:
    return {report.name: asdict(report.counts) for report in reports if report.error is None}


def _status_after(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_status if isinstance(error, KbetlError) else 1


def _ingest_one(
    store: Store, source: Source | SourceError, run_id: int, report: Report, bounds: _Bounds
) -> None:
    try:
        if isinstance(source, SourceError):
            raise source
        report.name, report.notes = source.origin.name, source.notes
        bounds.tally.start(source)
        rows = _rows(source)
        first = _first_rows(source, rows, bounds.limit)
        intake = Intake(store, source.origin, run_id)
        report.counts = intake.counts
        is_whole = True
        for row in islice(chain(first, rows), bounds.limit):
            _take(intake, row, report)
            bounds.tally.count(row.raw)
            is_whole = is_whole and not row.raw.is_of_file
        is_meant_whole = bounds.limit is None and source.origin.kind != "stdin"
        _finish(intake, source, report, is_whole=is_whole, is_meant_whole=is_meant_whole)
    except SourceError as error:
        report.error = str(error)


def _finish(intake: Intake, source: Source, report: Report, *, is_whole: bool, is_meant_whole: bool) -> None:
    """Gives the source its rows; what was read in part, or gave no sample, takes none from it."""
    features = source.parts[0].features()
    had = intake.had_samples
    if is_meant_whole and is_whole and (intake.has_samples or not had):
        dropped = intake.replace(features)
        if dropped:
            what = "sample is" if dropped == 1 else "samples are"
            report.notes = (*report.notes, f"{report.name}: {dropped} {what} no longer in this source")
        return
    intake.add(features)
    if is_meant_whole and had:
        report.notes = (*report.notes, f"{report.name}: read only in part; it keeps the rows it had")


def _rows(source: Source) -> Iterator[_Row]:
    """All rows; a file of several that cannot be read is one fault, in the place of its rows."""
    for part in source.parts:
        try:
            for raw in part.rows():
                yield _Row(part.name, raw)
        except SourceError as error:
            if len(source.parts) == 1:
                raise
            yield _Row(part.name, _fault(part.name, str(error)))


def _fault(name: str, message: str) -> Raw:
    """The fault of a file, at the line that the message names, less the name and line before it."""
    place = re.match(rf"{re.escape(name)}:(?:(\d+):)? ", message)
    if place is None:
        return file_fault(1, message)
    return file_fault(int(place[1] or 1), message[place.end() :])


def _first_rows(source: Source, rows: Iterator[_Row], limit: int | None) -> list[_Row]:
    """The rows up to the first that is one, good or bad. Raises SourceError where nothing could be read."""
    first: list[_Row] = []
    for row in rows:
        first.append(row)
        if not row.raw.is_of_file or len(first) >= (_LEADING_FAULTS if limit is None else limit):
            return first
    if first:
        raise SourceError(f"{first[0].location}: {first[0].raw.fault}; nothing could be read")
    raise SourceError(f"{source.origin.uri} holds no rows")


def _take(intake: Intake, row: _Row, report: Report) -> None:
    """Stores one row, or rejects it; a line seen before costs a hash and a look-up."""
    raw = row.raw
    try:
        if raw.fault is not None:
            raise BadRow(raw.fault)
        line_hash = hashlib.sha256(raw.text).digest()
        known = intake.sample_of_line(line_hash)
        if known is not None:
            intake.add_known(known)
        else:
            intake.add_sample(sample_of(_on_one_line(read_json(raw.text))), line_hash)
    except BadRow as bad:
        reason = plain_text(str(bad))
        intake.reject(row.location, reason)
        if len(report.rejections) < SHOWN_REJECTIONS:
            report.rejections.append(f"{row.location}: {reason}")


def _on_one_line(parsed: Parsed) -> Parsed:
    """A row that was read whole has line ends between its tokens alone; an export writes a row per line."""
    if "\n" not in parsed.text and "\r" not in parsed.text:
        return parsed
    return parsed._replace(text=_LINE_END.sub(" ", parsed.text))
