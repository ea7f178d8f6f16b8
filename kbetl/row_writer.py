"""Writes rows into the store, for `ingest` and `synth record` alike: counts, rejected rows, reports."""

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
from kbetl.records import Sample
from kbetl.samples.fields import near_miss
from kbetl.samples.parse import field_names, parse_row_with_facts, reading_of
from kbetl.samples.reading import NAMES, Reading, changed_names, stored_map
from kbetl.store.field_maps import Reread
from kbetl.store.samples import ReadCounts, SampleWriter
from kbetl.tasks.task import template_names
from kbetl.text import hidden_line, listed, plain_text

_LINE_END = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
_PARTICULAR = re.compile(r'"[^"]*"|0x[0-9a-f]+|[a-z]1:[0-9a-f]+|\d+')
"""The part of a reason that differs from row to row: names, numbers and addresses."""
_ANSWERS = ("answer", "response", "output", "generation", "reply", "solution", "target")
_QUESTIONS = ("question", "instruction", "query", "input", "problem")
"""What others call a completion and a prompt."""
_MEANT = ("completion", "python_code", "module_name")
SHOWN_REASONS = 10
SHOWN_EXAMPLES = 3
_REMEMBERED_REASONS = 1000


@dataclass(slots=True)
class _Group:
    """Rows that were rejected for one reason."""

    reason: str
    """As it was given for the first."""
    locations: list[str] = field(default_factory=list)
    """The first few, FILE:LINE."""
    rows: int = 0


class Rejections:
    """Why rows were rejected: each reason once, with its number of rows and the location of the first few."""

    def __init__(
        self, what: str = "rejected rows: the table rejected_rows has them all", shown: int = SHOWN_REASONS
    ) -> None:
        self._what, self._shown = what, shown
        self._groups: dict[str, _Group] = {}
        self._others = 0

    def add(self, location: str, reason: str) -> None:
        """Adds a rejected row."""
        key = _PARTICULAR.sub("", reason)
        if key not in self._groups and len(self._groups) >= _REMEMBERED_REASONS:
            self._others += 1
            return
        group = self._groups.setdefault(key, _Group(reason))
        group.rows += 1
        if len(group.locations) < SHOWN_EXAMPLES:
            group.locations.append(location)

    def lines(self) -> list[str]:
        """A line for each reason; of many reasons those of the most rows."""
        groups = sorted(self._groups.values(), key=lambda group: -group.rows)
        hidden = sum(group.rows for group in groups[self._shown :]) + self._others
        return [*(_line(group) for group in groups[: self._shown]), *hidden_line(hidden, self._what)]


def _line(group: _Group) -> str:
    """`FILE:LINE: reason` of one row; of several their number and the first locations."""
    if group.rows == 1:
        return f"{group.locations[0]}: {group.reason}"
    return f"{group.rows} rows: {group.reason} ({listed(group.locations, group.rows - len(group.locations))})"


@dataclass(slots=True)
class ReadProgress:
    """How far the reading is; another thread may look at it."""

    source: str = ""
    size_bytes: int | None = None
    """Bytes of the source; None if that is not known."""
    read_bytes: int = 0
    rows: int = 0

    def start(self, source: str, size_bytes: int | None) -> None:
        """Notes that reading of another source begins."""
        self.source, self.size_bytes = source, size_bytes
        self.read_bytes = self.rows = 0

    def count(self, raw: RawRow) -> None:
        """Notes that a row was read."""
        self.read_bytes += len(raw.text)
        self.rows += 1


@dataclass(slots=True)
class IngestReport:
    """What came of one source. `error` is None if it could be read."""

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
    shapes: Counter[str] = field(default_factory=Counter)
    """New samples by the field that their conversation was read from, if that is not the usual one."""
    missing: Counter[str] = field(default_factory=Counter)
    """How often a row lacks the field of a mapped name."""
    new_records: int = 0
    record_hint: str = ""
    """What the first new record has, and how to use it otherwise."""

    def as_text(self) -> str:
        """One line with counts that add up: read = new + known + rejected."""
        counts = self.counts
        line = (
            f"{self.name}: read {counts.read}, new {counts.new}, known {counts.known}, "
            f"rejected {counts.rejected}"
        )
        kinds = (("modules", counts.modules), ("rollouts", counts.rollouts), ("records", counts.records))
        shown = ", ".join(f"{kind} {number}" for kind, number in kinds if number)
        return f"{line} ({shown})" if shown else line

    def remarks(self) -> list[str]:
        """What was not read and what was rejected, a line for each reason."""
        return [
            *self.notes,
            *self.rejections.lines(),
            *self._known_rejections(),
            *self._shapes(),
            *self._lost_rewards(),
            *self._records(),
        ]

    def _known_rejections(self) -> list[str]:
        known = self.counts.rejected_before
        if not known:
            return []
        what = "row was" if known == 1 else "rows were"
        return [f"{self.name}: {known} rejected {what} rejected before; the table rejected_rows says why"]

    def _shapes(self) -> list[str]:
        lines = [
            f"{self.name}: {rows} new {'row is' if rows == 1 else 'rows are'} read from {shape}"
            for shape, rows in sorted(self.shapes.items())
        ]
        lines += [
            f"{self.name}: {rows} {'row lacks' if rows == 1 else 'rows lack'} the field mapped to {name}"
            for name, rows in self.missing.items()
        ]
        counts = self.counts
        if counts.read_anew:
            what = "sample is" if counts.read_anew == 1 else "samples are"
            lines.append(
                f"{self.name}: {counts.read_anew} stored {what} read anew; taken back as a field changed: "
                f"{counts.dropped_outcomes} outcomes, {counts.dropped_lengths} lengths (answers stay)"
            )
        return lines

    def _records(self) -> list[str]:
        if not self.new_records:
            return []
        what = "record has" if self.new_records == 1 else "records have"
        return [f"{self.name}: {self.new_records} {what} {self.record_hint}"]

    def _lost_rewards(self) -> list[str]:
        if not self.unrewarded:
            return []
        what = "rollout has" if self.unrewarded == 1 else "rollouts have"
        meant = "".join(
            f"; {rows} of them {'has' if rows == 1 else 'have'} '{key}': did you mean 'reward'?"
            for key, rows in self.near_reward.most_common(SHOWN_EXAMPLES)
        )
        return [f"{self.name}: {self.unrewarded} new {what} no reward{meant}"]


def exit_status(reports: Sequence[IngestReport]) -> int:
    """1 if a source could not be read at all, 3 if rows were rejected that were not before, else 0."""
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
    sample, facts, reading = parse_row_with_facts(parsed, intake.field_map)
    if intake.compares_maps:
        _read_anew(intake, parsed, reading, sample)
    intake.add_sample(sample, line_hash, facts)
    if reading.shape:
        report.shapes[reading.shape] += 1
    if reading.missing:
        report.missing.update(reading.missing)
    if facts is not None and sample.reward is None:
        report.unrewarded += 1
        near = near_miss(parsed.value, ("reward",))
        if near is not None:
            report.near_reward[plain_text(near.key)] += 1
    if sample.kind == "record":
        report.new_records += 1
        report.record_hint = report.record_hint or _record_hint(parsed.value)


def _record_hint(row: dict[str, Any]) -> str:
    """The fields of a record, and what to type to have a rollout of it."""
    said = f"the fields {field_names(row)}"
    near = near_miss(row, _MEANT)
    if near is not None and near.key not in _ANSWERS:
        return plain_text(f"{said}; '{near.key[:40]}': did you mean '{near.meant}'?")
    found = {
        name: next((key for key in keys if row.get(key) is not None), None) for name, keys in _MAPPED.items()
    }
    if found["completion"] is None:
        return plain_text(said)
    options = " ".join(f"--map {name}={key}" for name, key in found.items() if key is not None)
    return plain_text(f"{said}; to use them as rollouts: {options}")


_MAPPED = {"completion": _ANSWERS, "prompt": _QUESTIONS}


def _read_anew(intake: SampleWriter, parsed: Parsed, reading: Reading, sample: Sample) -> None:
    """Lets another map read a stored sample from now on; outcomes that depend on the change are dropped."""
    stored = intake.other_reading(sample.hash)
    if stored is None:
        return
    try:
        changed = changed_names(reading_of(parsed, stored_map(stored.map)), reading)
    except BadRow:
        changed = frozenset(NAMES)
    hashes = [
        task_hash
        for task_hash, about, template in intake.task_templates()
        if sample.kind not in about.split(",") or changed & set(template_names(template, 1))
    ]
    intake.reread(Reread(sample, hashes, bool(changed & {"prompt", "completion", "reasoning"})))


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
    """Stores which rows the source has; if it was read in part, or has no sample, none is removed from it."""
    had = intake.had_samples
    if intake.is_of_other_command:
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
