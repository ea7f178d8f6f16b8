"""`batch write`: writes the missing requests as batch files, recorded before the files are visible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kbetl.atomic_files import mode_of
from kbetl.batch.files import (
    BatchFile,
    FileLimits,
    WholeFile,
    custom_id,
    finish_files,
    line_of,
    publish_file,
    shown,
)
from kbetl.batch.read import StoredAnswers
from kbetl.errors import ConfigError, exit_status_for
from kbetl.inference.begin import BegunTask, begin_task
from kbetl.inference.plan import Plan, Say
from kbetl.inference.report import billed_there_too
from kbetl.inference.requests import PreparedRequest
from kbetl.readers.lines import printable_path
from kbetl.store.answers import InUse
from kbetl.store.batches import (
    BatchDraft,
    NewBatch,
    add_request_sample,
    pending_request,
    publish,
    reserved_for_file,
)
from kbetl.store.reservations import MaxUsage
from kbetl.text import is_unicode


@dataclass
class BatchWriteReport:
    """What `batch write` did. Samples: in new files, in older files, decided at once, left."""

    task: str
    model: str
    task_hash: str
    chosen: int = 0
    files: list[WholeFile] = field(default_factory=list)
    samples: int = 0
    """Samples whose requests are in the new files."""
    in_older_files: int = 0
    """Samples whose request is pending in another file."""
    decided: Counter[str] = field(default_factory=Counter)
    """Samples that needed no request, by status: an answer was there, or a field is lacking."""
    too_large: int = 0
    """Requests that are larger than a file may be."""
    beyond_budget: int = 0
    """Samples whose request would not fit into the budget."""
    budget_used: str = ""
    """What is used of the budget, in words; empty without one."""
    in_use: Sequence[InUse] = ()
    released: int = 0
    """Requests that were released from older files."""
    released_at_service: int = 0
    """Of those, in files that a service was asked to begin."""

    @property
    def requests(self) -> int:
        """Requests in the new files."""
        return sum(each.requests for each in self.files)

    @property
    def exit_status(self) -> int:
        not_ok = self.decided.total() - self.decided["ok"]
        return exit_status_for(self.too_large, self.beyond_budget, not_ok)

    def lines(self) -> list[str]:
        """For a person: what was not done before what was."""
        lines = []
        if self.too_large:
            lines.append(f"{self.too_large} requests are larger than a file may be: ask them online")
        if self.beyond_budget:
            lines.append(f"budget reached: {self.beyond_budget} samples were not handed out")
        lines += [
            f"{shown(each.path)}: {each.requests:,} requests, {each.size_bytes:,} bytes"
            for each in self.files
        ]
        lines.append(
            f"{self.task} by {self.model} ({self.task_hash[:15]}): handed out {self.requests} requests "
            f"in {len(self.files)} files, for {self.samples} samples; samples chosen {self.chosen}"
        )
        if self.released:
            lines.append(
                f"taken back from older files: {self.released} requests"
                f"{billed_there_too(self.released_at_service)}"
            )
        if self.in_older_files:
            lines.append(f"{self.in_older_files} samples wait for other files; see: kbetl batch status")
        if self.decided:
            parts = ", ".join(f"{status} {count}" for status, count in sorted(self.decided.items()))
            lines.append(f"settled without a request: {parts}")
        if self.budget_used:
            lines.append(f"budget: {self.budget_used} used, what is handed out counted in full")
        return lines


@dataclass(frozen=True)
class BatchTarget:
    """The folder of the files, and what they may hold."""

    folder: Path
    limits: FileLimits = field(default_factory=FileLimits)
    again: bool = False
    """Whether to write again what other files have, and release it there."""


def write_batches(plan: Plan, target: BatchTarget, say: Say) -> BatchWriteReport:
    """Writes what a plan would ask into files, and records it as handed out.

    Nothing is written twice: neither what another file has (unless `again` releases it there) nor
    what is answered. A file gets its name after its requests are recorded; `finish_files` gives it if a
    crash came between. Raises LockHeld while another process pays for the task or asks the same question.
    """
    if plan.is_free:
        raise ConfigError(
            "the offline model answers at once and reads no batch files: kbetl enrich -m offline"
        )
    finish_files(plan.store)
    with begin_task(plan, say) as started:
        report = _BatchWriter(started, target).write()
        started.run.status = report.exit_status
    return report


class _BatchWriter:
    """Writes the files of one `batch write`."""

    def __init__(self, started: BegunTask, target: BatchTarget) -> None:
        self._started, self._target = started, target
        self._plan, self._store = started.plan, started.plan.store
        self._draft = BatchDraft(self._store)
        self._answers = StoredAnswers(self._plan)
        self._file: BatchFile | None = None
        asked = self._plan.asked
        self._report = BatchWriteReport(asked.task.name, asked.model, asked.hash)
        self._own: set[int] = set()
        """The batches of this run: what they hold is never released by it."""

    def write(self) -> BatchWriteReport:
        """Writes all that is pending."""
        report, selection, budget = self._report, self._started.selection, self._started.budget
        report.chosen = selection.chosen
        report.in_older_files = selection.handed_out
        try:
            for chunk in self._plan.requests(selection):
                self._started.lock.check_in_place()
                self._answers.record([each for each in chunk if not each.needs_sending])
                for question in chunk:
                    if question.needs_sending:
                        self._hand_out(question)
            self._end_file()
        finally:
            if self._file is not None:
                self._file.discard()
        report.decided = self._answers.statuses
        report.budget_used = "" if budget is None else budget.balance.as_text()
        report.in_use = self._answers.in_use
        return report

    def _hand_out(self, question: PreparedRequest) -> None:
        request, attempt = question.request, question.attempt
        assert request is not None
        out = pending_request(self._store, request.hash, attempt)
        if out is not None and (not self._target.again or out.batch_id in self._own):
            with self._store.transaction():
                add_request_sample(self._store, out.id, self._plan.asked.hash, question.sample_hash)
            self._count(is_own=out.batch_id in self._own)
            return
        name = custom_id(request.hash, attempt)
        line = line_of(name, request)
        if len(line) > self._target.limits.size_bytes:
            self._report.too_large += 1
            return
        if self._file is not None and not self._file.fits(line, self._target.limits):
            self._end_file()
            self._hand_out(question)  # anew: the file that just ended may hold the same request
            return
        if not self._draft.has(request.hash, attempt):
            worst = None if self._started.budget is None else self._started.budget.max_usage(request)
            is_released = out is not None and not out.is_at_service
            if not self._reserve(worst, question, is_released=is_released):
                self._report.beyond_budget += 1
                return
            self._draft.add(request, attempt, name, worst)
            self._report.released += out is not None
            self._report.released_at_service += out is not None and out.is_at_service
            self._open_file().add(line)
        self._draft.add_sample(request.hash, attempt, question.sample_hash)
        self._count(is_own=True)

    def _reserve(self, worst: MaxUsage | None, question: PreparedRequest, *, is_released: bool) -> bool:
        """Reserves one more request, if the budget lets it; no other fits once one did not."""
        if self._started.budget is None or worst is None:
            return True
        if self._report.beyond_budget:
            return False
        balance, before = self._started.budget.balance, None
        if is_released and question.request is not None:
            # without a reservation it was counted all the same, at the most that it may use
            before = reserved_for_file(self._store, question.request.hash, question.attempt) or worst
        if before is not None:
            balance.unreserve(before)
        fits = balance.fits(worst)
        if fits:
            balance.reserve(worst)
        elif before is not None:
            balance.reserve(before)
        return fits

    def _count(self, *, is_own: bool) -> None:
        if is_own:
            self._report.samples += 1
        else:
            self._report.in_older_files += 1

    def _open_file(self) -> BatchFile:
        if self._file is None:
            number = len(self._report.files) + 1
            kind = self._plan.command.split()[-1]
            name = f"{kind}-{self._started.run.id}-{number}.jsonl"
            path = (self._target.folder / name).absolute()
            if not is_unicode(str(path)):
                raise ConfigError(
                    f"{printable_path(path)} is not Unicode text, and the store keeps it; name another DIR"
                )
            self._file = BatchFile(path, mode_of(self._store.path))
        return self._file

    def _end_file(self) -> None:
        """Makes the file whole, records what it hands out, and only then gives it its name."""
        if self._file is None:
            return
        whole = self._file.finish()
        batch_id = self._draft.keep(
            NewBatch(
                run_id=self._started.run.id,
                task_hash=self._plan.asked.hash,
                model=self._plan.asked.model,
                file=str(whole.path),
                file_hash=whole.file_hash,
                size_bytes=whole.size_bytes,
                requests=whole.requests,
            )
        )
        self._file = None
        self._own.add(batch_id)
        publish_file(whole.path)
        publish(self._store, batch_id)
        self._draft.clear()
        self._report.files.append(whole)
