"""Records runs while they are written: looks again and again, by content and never by offsets alone."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import FrameType

from kbetl.errors import Busy, Interrupted, SourceError
from kbetl.readers.lines import CHUNK_BYTES, RawRow, needs_full_read, printable_path
from kbetl.rollouts import is_joined
from kbetl.row_writer import IngestReport, ReadProgress, Rejections, counts_of, exit_status
from kbetl.store import Store
from kbetl.store.samples import ReadCounts, SampleWriter
from kbetl.synth.discovery import RecordOptions, RunFiles, RunFinder
from kbetl.synth.record import Line, RolloutRecorder, described, lines_of, origin_of

POLL_S = 0.5
"""Between two looks at the files."""
RESCAN_S = 5.0
"""Between two looks for new runs, once there is one."""
SETTLED_S = 2.0
"""A run that has all its rollouts has ended when nothing changed for so long."""
_MARK_BYTES = 4096


@dataclass(slots=True)
class Tail:
    """The lines of a file that is being written, each once; all of them again where it was rewritten."""

    path: Path
    line: int = 0
    _offset: int = 0
    _mark: bytes = b""
    """What stood before the offset: where it differs, the file is another one."""
    _seen: tuple[int, ...] = ()

    def has_changed(self) -> bool:
        """Whether the file is not as it was when last looked at; False where it is gone for a moment."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        changed, self._seen = seen != self._seen, seen
        return changed

    def is_rewritten(self) -> bool:
        """Whether what was read already is no longer there."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self._offset - len(self._mark))
                return file.read(len(self._mark)) != self._mark
        except OSError:
            return True

    def start_over(self) -> None:
        """Reads from the first line again."""
        self.line, self._offset, self._mark = 0, 0, b""

    def lines(self) -> Iterator[Line]:
        """The lines that have an end and were not given yet."""
        if needs_full_read(self.path):
            return
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._offset)
            rest = b""
            while chunk := file.read(CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for text in lines:
                    self._pass(text + b"\n")
                    if text.strip():
                        yield Line(RawRow(self.line, text.rstrip(b"\r")))

    def _pass(self, text: bytes) -> None:
        self.line += 1
        self._offset += len(text)
        self._mark = (self._mark + text[-_MARK_BYTES:])[-_MARK_BYTES:]


@dataclass(slots=True)
class FollowedRun:
    """A run, and how far it was read."""

    found: RunFiles
    report: IngestReport
    tails: dict[Path, Tail] = field(default_factory=dict)
    position: int = 0

    def update(self, found: RunFiles) -> None:
        """What is known of the run by now: new files, and what it says of itself."""
        self.found, self.report.notes = found, found.notes
        for path in found.files:
            self.tails.setdefault(path, Tail(path))

    @property
    def is_complete(self) -> bool:
        """Whether it has all the rollouts that it will have; False where it does not say how many."""
        wanted = self.found.run.rollouts
        return wanted is not None and sum(tail.line for tail in self.tails.values()) >= wanted


class Stop:
    """Set by the first SIGINT or SIGTERM; a second one ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._event = threading.Event()

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Returns after so long, or as soon as it is set."""
        self._event.wait(seconds)


@contextlib.contextmanager
def _orderly() -> Iterator[Stop]:
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _not_held(store: Store, stop: Stop) -> Iterator[None]:
    """Lets a signal end the wait for another process that writes to the store."""
    store.lock_wait.gives_up = lambda: stop.signal is not None
    try:
        yield
    except Busy as busy:
        if stop.signal is None:
            raise
        raise Interrupted(f"{busy}. What was read before is kept", _STATUSES[stop.signal]) from busy


def follow(
    database: Path,
    texts: Sequence[str],
    options: RecordOptions,
    idle_s: float,
    tally: ReadProgress | None = None,
) -> list[IngestReport]:
    """Records the runs at each PATH until they end, or nothing has been written for `idle_s` seconds.

    A run has ended when it has as many rollouts as its metadata.json wants. Raises Interrupted on SIGINT
    and SIGTERM, after all that was read is kept, and what `record` raises.
    """
    with Store.open(database) as store, _orderly() as stop, _not_held(store, stop):
        given = {**described(texts, options), "follow": True, "idle_s": idle_s}
        with store.run("synth record", given, counts=lambda: counts_of(follower.reports)) as run:
            follower = _Follower(store, run.id, options, stop, tally or ReadProgress())
            follower.follow(texts, idle_s)
            if stop.signal is None:
                follower.check_any()
                follower.read_all_again()
            if stop.signal is not None:
                raise _interrupted(stop.signal, follower.reports)
            run.status = exit_status(follower.reports)
        return follower.reports


def _interrupted(number: int, reports: Sequence[IngestReport]) -> Interrupted:
    done = "; ".join(report.as_text() for report in reports) or "nothing was written yet"
    word = "interrupted" if number == signal.SIGINT else "terminated"
    return Interrupted(f"{word}: {done}. The same command goes on from there", _STATUSES[number])


_STATUSES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}


class _Follower:
    def __init__(
        self, store: Store, run_id: int, options: RecordOptions, stop: Stop, tally: ReadProgress
    ) -> None:
        self._store, self._run_id, self._options = store, run_id, options
        self._stop, self._tally = stop, tally
        self._finder = RunFinder(options)
        self._runs: dict[str, FollowedRun] = {}
        self._why_none: Sequence[str] = ()

    @property
    def reports(self) -> list[IngestReport]:
        return [each.report for each in self._runs.values()]

    def follow(self, texts: Sequence[str], idle_s: float) -> None:
        """Until the runs end, nothing is written for so long, or a signal comes."""
        self._tally.start(", ".join(map(printable_path, texts)), None)
        changed_s = time.monotonic()
        scanned_s = -RESCAN_S
        while self._stop.signal is None:
            if not self._runs or time.monotonic() - scanned_s >= RESCAN_S:
                self._scan(texts)
                scanned_s = time.monotonic()
            if self._read_news():
                changed_s = time.monotonic()
            quiet_s = time.monotonic() - changed_s
            if quiet_s > idle_s or (quiet_s >= SETTLED_S and self._are_complete(texts)):
                return
            self._stop.wait(min(POLL_S, idle_s))

    def check_any(self) -> None:
        """Raises SourceError with the reason where nothing was there to follow."""
        if not self._runs:
            raise SourceError("; ".join(self._why_none) or "nothing to follow")

    def read_all_again(self) -> None:
        """At the end each file is read whole once more: what was recorded costs a look-up, and nothing that
        a rewriting hid is missed; a last line without an end is recorded if it is whole."""
        for run in self._runs.values():
            counts, run.report.counts = run.report.counts, ReadCounts()
            rejections, run.report.rejections = run.report.rejections, Rejections()
            self._take(run, whole=True)
            again, run.report.counts = run.report.counts, counts
            counts.new, counts.read = counts.new + again.new, counts.read + again.new
            run.report.rejections = rejections

    def _scan(self, texts: Sequence[str]) -> None:
        try:
            found = self._finder.find(texts)
        except SourceError as error:  # not there yet
            self._why_none = [str(error)]
            return
        self._why_none = self._finder.notes
        for each in found:
            if each.name not in self._runs:
                self._runs[each.name] = FollowedRun(each, IngestReport(each.name))
            self._runs[each.name].update(each)

    def _are_complete(self, texts: Sequence[str]) -> bool:
        """Looks again at what the runs say: their metadata may have come last."""
        if not self._runs:
            return False
        self._scan(texts)
        return all(run.is_complete for run in self._runs.values())

    def _read_news(self) -> bool:
        """Reads what was written since; whether anything was."""
        changed = [
            run for run in self._runs.values() if any(tail.has_changed() for tail in run.tails.values())
        ]
        for run in changed:
            self._take(run)
        return bool(changed)

    def _take(self, run: FollowedRun, *, whole: bool = False) -> None:
        tails = list(run.tails.values())
        if whole or is_joined(run.found.shape) or any(tail.is_rewritten() for tail in tails):
            run.position = 0
            for tail in tails:
                tail.start_over()
        lines = self._lines(tails, whole=whole)
        first = next(lines, None)
        if first is None and not whole:  # a line that has no end yet
            return
        intake = SampleWriter(self._store, origin_of(run.found), self._run_id, first_position=run.position)
        taker = RolloutRecorder(self._store, run.found, run.report)
        last = None
        for path, line in chain([first] if first else [], lines):
            if path != last:
                taker.start_file()
                last = path
            taker.record(intake, line, printable_path(path))
            self._tally.count(line.raw)
        intake.add()
        run.position += intake.counts.read
        _count(run.report.counts, intake.counts)

    def _lines(self, tails: Sequence[Tail], *, whole: bool) -> Iterator[tuple[Path, Line]]:
        """What is new, or all; up to a signal. A packed file cannot be read from within: it is at the end."""
        for tail in tails:
            try:
                for line in lines_of(tail.path) if whole else tail.lines():
                    yield tail.path, line
                    if self._stop.signal is not None:
                        return
            except FileNotFoundError:  # gone for a moment, between two names
                continue


def _count(counts: ReadCounts, more: ReadCounts) -> None:
    for name in ReadCounts.__slots__:
        setattr(counts, name, getattr(counts, name) + getattr(more, name))
