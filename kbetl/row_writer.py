"""Takes rows into the store, whatever they were read from: counts, rejected rows, reports.

What `ingest` and `synth record` share: the same door for the same rollout.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kbetl.errors import BadRow, exit_status_for
from kbetl.json_codec import Parsed, read_json
from kbetl.readers.lines import RawRow
from kbetl.samples.fields import near_miss
from kbetl.samples.parse import parse_row_with_facts
from kbetl.store.samples import ReadCounts, SampleWriter
from kbetl.text import plain_text

_LINE_END = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
_PARTICULAR = re.compile(r'"[^"]*"|0x[0-9a-f]+|[a-z]1:[0-9a-f]+|\d+')
"""What a reason says of one row: the same reason may say it otherwise of the next."""
SHOWN_REASONS = 10
SHOWN_PLACES = 3
_REMEMBERED_REASONS = 1000


@dataclass(slots=True)
class _Group:
    """Rows that were rejected for one reason."""

    reason: str
    """As it was said of the first."""
    places: list[str] = field(default_factory=list)
    """The first few, FILE:LINE."""
    rows: int = 0


class Rejections:
    """Why rows were rejected: each reason once, with how many there are and where the first few stand."""

    def __init__(
        self, what: str = "rejected rows: the table rejected_rows has them all", shown: int = SHOWN_REASONS
    ) -> None:
        self._what, self._shown = what, shown
        self._groups: dict[str, _Group] = {}
        self._others = 0

    def add(self, location: str, reason: str) -> None:
        """One more row."""
        key = _PARTICULAR.sub("", reason)
        if key not in self._groups and len(self._groups) >= _REMEMBERED_REASONS:
            self._others += 1
            return
        group = self._groups.setdefault(key, _Group(reason))
        group.rows += 1
        if len(group.places) < SHOWN_PLACES:
            group.places.append(location)

    def lines(self) -> list[str]:
        """A line for each reason; of many reasons those of the most rows."""
        groups = sorted(self._groups.values(), key=lambda group: -group.rows)
        hidden = sum(group.rows for group in groups[self._shown :]) + self._others
        more = [f"... and {hidden} more {self._what}"] if hidden else []
        return [*(_line(group) for group in groups[: self._shown]), *more]


def _line(group: _Group) -> str:
    """`FILE:LINE: reason` of one row; of several their number and the first places."""
    if group.rows == 1:
        return f"{group.places[0]}: {group.reason}"
    hidden = group.rows - len(group.places)
    places = f"{', '.join(group.places)}{f' and {hidden} more' if hidden else ''}"
    return f"{group.rows} rows: {group.reason} ({places})"


@dataclass(slots=True)
class ReadProgress:
    """How far the reading is; another thread may look at it."""

    source: str = ""
    size_bytes: int | None = None
    """Of the source, None where that is not known."""
    read_bytes: int = 0
    rows: int = 0

    def start(self, source: str, size_bytes: int | None) -> None:
        """Another source begins."""
        self.source, self.size_bytes = source, size_bytes
        self.read_bytes = self.rows = 0

    def count(self, raw: RawRow) -> None:
        """A row was read."""
        self.read_bytes += len(raw.text)
        self.rows += 1


@dataclass(slots=True)
class IngestReport:
    """What came of one source. `error` is None where it could be read."""

    name: str
    counts: ReadCounts = field(default_factory=ReadCounts)
    rejections: Rejections = field(default_factory=Rejections)
    """Those that were not known as rejected."""
    notes: Sequence[str] = ()
    error: str | None = None
    unrewarded: int = 0
    """New rollouts without a reward."""
    near_reward: Counter[str] = field(default_factory=Counter)
    """How often they have a field that may have been meant for it."""

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
        """What was left aside and what was rejected, a line for each reason."""
        return [*self.notes, *self.rejections.lines(), *self._known_rejections(), *self._lost_rewards()]

    def _known_rejections(self) -> list[str]:
        known = self.counts.rejected_before
        if not known:
            return []
        what = "row was" if known == 1 else "rows were"
        return [f"{self.name}: {known} rejected {what} rejected before; the table rejected_rows says why"]

    def _lost_rewards(self) -> list[str]:
        if not self.unrewarded:
            return []
        what = "rollout has" if self.unrewarded == 1 else "rollouts have"
        meant = "".join(
            f"; {rows} of them {'has' if rows == 1 else 'have'} '{key}': did you mean 'reward'?"
            for key, rows in self.near_reward.most_common(SHOWN_PLACES)
        )
        return [f"{self.name}: {self.unrewarded} new {what} no reward{meant}"]


def exit_status(reports: Sequence[IngestReport]) -> int:
    """1 where a source could not be read at all, 3 where rows were rejected that were not before, else 0."""
    unread = any(report.error is not None for report in reports)
    rejected = [report.counts.rejected - report.counts.rejected_before for report in reports]
    return exit_status_for(*rejected, failed=unread)


def counts_of(reports: Sequence[IngestReport]) -> dict[str, Any]:
    """The counts of each source that could be read, for `runs`."""
    return {report.name: asdict(report.counts) for report in reports if report.error is None}


def write_row(
    intake: SampleWriter, raw: RawRow, line_hash: bytes, location: str, report: IngestReport
) -> None:
    """Stores one row, or rejects it; `line_hash` is the SHA-256 of its text. A known line is not parsed."""
    try:
        if raw.fault is not None:
            raise BadRow(raw.fault)
        known = intake.sample_of_line(line_hash)
        if known is not None:
            intake.add_known(known)
        else:
            _add(intake, _on_one_line(read_json(raw.text)), line_hash, report)
    except BadRow as bad:
        reject_row(intake, location, str(bad), report, content_of(raw))


def content_of(raw: RawRow) -> bytes | None:
    """SHA-256 of a row as it was read; None for the fault of a file, which is no row's."""
    return None if raw.is_of_file else hashlib.sha256(raw.text or (raw.fault or "").encode()).digest()


def _add(intake: SampleWriter, parsed: Parsed, line_hash: bytes, report: IngestReport) -> None:
    """Stores a row that was read. Raises BadRow where it cannot be a sample."""
    sample, facts = parse_row_with_facts(parsed)
    intake.add_sample(sample, line_hash, facts)
    if facts is not None and sample.reward is None:
        report.unrewarded += 1
        near = near_miss(parsed.value, ("reward",))
        if near is not None:
            report.near_reward[plain_text(near.key)] += 1


def reject_row(
    intake: SampleWriter, location: str, reason: str, report: IngestReport, content_hash: bytes | None
) -> None:
    """Names a row that cannot be a sample, unless the same content was rejected before."""
    reason = plain_text(reason)
    if not intake.reject(location, reason, content_hash):
        report.rejections.add(location, reason)


def finish_source(
    intake: SampleWriter, report: IngestReport, *, is_whole: bool, is_meant_whole: bool, features: Any
) -> None:
    """Gives the source its rows; what was read in part, or gave no sample, takes none from it."""
    had = intake.had_samples
    if intake.is_of_other_door:
        intake.add(features)
        note = "`ingest` and `synth record` both read it; it keeps the rows that it had"
        report.notes = (*report.notes, f"{report.name}: {note}")
        return
    if is_meant_whole and is_whole and (intake.has_samples or not had):
        dropped = intake.replace(features)
        if dropped:
            what = "sample is" if dropped == 1 else "samples are"
            report.notes = (*report.notes, f"{report.name}: {dropped} {what} no longer in this source")
        return
    intake.add(features)
    if is_meant_whole and had:
        report.notes = (*report.notes, f"{report.name}: read only in part; it keeps the rows it had")


def _on_one_line(parsed: Parsed) -> Parsed:
    """A row that was read whole has line ends between its tokens alone; an export writes a row per line."""
    if "\n" not in parsed.text and "\r" not in parsed.text:
        return parsed
    return parsed._replace(text=_LINE_END.sub(" ", parsed.text))
