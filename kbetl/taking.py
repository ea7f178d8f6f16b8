"""Takes rows into the store, whatever they were read from: counts, rejected rows, reports.

What `ingest` and `synth record` share: the same door for the same rollout.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kbetl.errors import BadRow, exit_status_for
from kbetl.facts import facts_of
from kbetl.json_text import Parsed, read_json
from kbetl.lines import Raw, plain_text
from kbetl.sampling import sample_of
from kbetl.store.intake import Counts, Intake, Original

_LINE_END = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
SHOWN_REJECTIONS = 10


@dataclass(slots=True)
class Tally:
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
        more = f"... and {hidden} more rejected rows: the table rejected_rows has them all"
        return [*self.notes, *self.rejections, *([more] if hidden else [])]


def status_of(reports: Sequence[Report]) -> int:
    """1 where a source could not be read at all, 3 where rows were rejected, else 0."""
    unread = any(report.error is not None for report in reports)
    return exit_status_for(*(report.counts.rejected for report in reports), failed=unread)


def counts_of(reports: Sequence[Report]) -> dict[str, Any]:
    """The counts of each source that could be read, for `runs`."""
    return {report.name: asdict(report.counts) for report in reports if report.error is None}


def take_row(intake: Intake, raw: Raw, location: str, report: Report) -> None:
    """Stores one row, or rejects it; a line seen before costs a hash and a look-up."""
    try:
        if raw.fault is not None:
            raise BadRow(raw.fault)
        line_hash = hashlib.sha256(raw.text).digest()
        known = intake.sample_of_line(line_hash)
        if known is not None:
            intake.add_known(known)
        else:
            add(intake, _on_one_line(read_json(raw.text)), line_hash)
    except BadRow as bad:
        reject(intake, location, str(bad), report)


def add(intake: Intake, parsed: Parsed, line_hash: bytes, original: Original | None = None) -> None:
    """Stores a row that was read. Raises BadRow where it cannot be a sample."""
    sample = sample_of(parsed)
    facts = facts_of(parsed.value) if sample.kind == "rollout" else None
    intake.add_sample(sample, line_hash, facts, original)


def reject(intake: Intake, location: str, reason: str, report: Report) -> None:
    """Names a row that cannot be a sample."""
    reason = plain_text(reason)
    intake.reject(location, reason)
    if len(report.rejections) < SHOWN_REJECTIONS:
        report.rejections.append(f"{location}: {reason}")


def keep_all(intake: Intake, report: Report, *, is_whole: bool, is_meant_whole: bool, features: Any) -> None:
    """Gives the source its rows; what was read in part, or gave no sample, takes none from it."""
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


def _on_one_line(parsed: Parsed) -> Parsed:
    """A row that was read whole has line ends between its tokens alone; an export writes a row per line."""
    if "\n" not in parsed.text and "\r" not in parsed.text:
        return parsed
    return parsed._replace(text=_LINE_END.sub(" ", parsed.text))
