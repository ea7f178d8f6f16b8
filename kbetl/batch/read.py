"""`batch read`: stores results of batch files as answers and outcomes, in any order, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kbetl.batch.files import Key
from kbetl.batch.result_lines import Failure, Result, read_result
from kbetl.errors import BadRow, KbetlError, SourceError, exit_status_for
from kbetl.inference import Generate, Plan, PreparedRequest
from kbetl.inference.budget_history import close_reservation
from kbetl.inference.report import RunProgress
from kbetl.readers.lines import decompressed, printable_path, read_lines
from kbetl.records import Completion, Outcome, ParsedAnswer, Request, request_from_text
from kbetl.row_writer import Rejections
from kbetl.store import Store
from kbetl.store.answers import InUse, NewAnswer, NewOutcome, add_answers, last_try, record_outcomes
from kbetl.store.batches import (
    BatchResult,
    Ending,
    add_result,
    batches,
    end_handed_out,
    is_known_result,
    latest_batch_request,
    pending_request,
    pending_requests_of,
    samples_of_request,
)
from kbetl.store.reservations import drop_reserved_of_ended
from kbetl.store.samples import add_generated_if_new
from kbetl.store.store import now
from kbetl.tasks.answer_formats import AnswerFormat, format_from_spec
from kbetl.tasks.answer_parser import parser_version, read_answer
from kbetl.text import plain_text

HOST = "batch"
"""`answers.host` of answers that came in files."""
SHOWN_REJECTIONS = 20
_CHUNK = 500
_CHUNK_BYTES = 8 * 2**20


@dataclass
class FileCounts:
    """read = new + known + rejected, in lines."""

    new: int = 0
    known: int = 0
    rejected: int = 0

    @property
    def read(self) -> int:
        """All its lines."""
        return self.new + self.known + self.rejected

    def __str__(self) -> str:
        return f"read {self.read}, new {self.new}, known {self.known}, rejected {self.rejected}"


@dataclass
class BatchReadReport:
    """What `batch read` did."""

    files: dict[str, FileCounts] = field(default_factory=dict)
    rejections: Rejections = field(default_factory=lambda: Rejections("rejected lines", SHOWN_REJECTIONS))
    tally: RunProgress = field(default_factory=RunProgress)
    in_use: list[InUse] = field(default_factory=list)
    """The tasks that came into use."""
    still_out: dict[str, int] = field(default_factory=dict)
    """Requests that are still pending, by batch file, of the files that the results are of."""
    empty: list[str] = field(default_factory=list)
    """Files that hold no results, where some were expected."""

    @property
    def rejected(self) -> int:
        """Lines that hold no result of this store."""
        return sum(counts.rejected for counts in self.files.values())

    @property
    def exit_status(self) -> int:
        return exit_status_for(self.rejected, self.tally.not_ok, *self.still_out.values(), failed=self.empty)

    def lines(self) -> list[str]:
        """For a person: what was not done before what was."""
        lines = [f"{file} holds no results" for file in self.empty] + self.rejections.lines()
        lines += self.tally.reason_lines()
        lines += [
            f"{file}: {count} requests are still out" for file, count in self.still_out.items() if count
        ]
        lines += [f"{file}: {counts}" for file, counts in self.files.items()]
        lines.append(f"outcomes {self.tally.outcomes_text()}")
        lines.append(self.tally.answers_text())
        return lines + self.tally.served_lines()


def read_batches(
    store: Store, files: Sequence[Path], *, host: str = HOST, ended: Ended | None = None
) -> BatchReadReport:
    """Stores the results in `files`, each answer with its outcomes in one transaction.

    A result that was read before adds nothing. With `ended` the files hold all that will ever come of a
    batch: what they lack has failed, unless a line of them could not be read. Raises SourceError if a file
    cannot be opened, before anything is stored.
    """
    for file in files:
        _check_file(file)
    batch_id = None if ended is None else ended.batch_id
    reading = _Reading(store, {"files": [str(file) for file in files]}, host, batch_id)
    status = 1
    try:
        for file in files:
            reading.read(file)
        if ended is not None and not reading.report.rejected:
            reading.fail_missing(ended)
        report = reading.report
        if ended is None:
            report.empty = [file for file, counts in report.files.items() if not counts.read]
        report.still_out = _still_out(store, reading.batch_ids)
        status = report.exit_status
    except KbetlError as error:
        status = error.exit_status
        raise
    except KeyboardInterrupt:
        status = 130
        raise
    finally:
        reading.end(status)
    return report


def _check_file(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"{printable_path(file)} cannot be read: {error.strerror}") from None


def _still_out(store: Store, batch_ids: set[int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for batch in batches(store):
        if batch.id in batch_ids:
            found[Path(batch.file).name] += batch.still_out
    return dict(found)


class Ended(NamedTuple):
    """A batch of which no more results will come."""

    batch_id: int
    reason: str
    """Of the requests that have none."""


class _Line(NamedTuple):
    location: str
    result: Result


class _Task(NamedTuple):
    """A stored task, as far as reading an answer needs it."""

    name: str
    reader: AnswerFormat
    run_id: int
    """The run that reads for it."""


class _Reading:
    """One `batch read`. It records a run for each task that it meets: costs are reported by task."""

    def __init__(
        self, store: Store, options: Mapping[str, Any], host: str, batch_id: int | None = None
    ) -> None:
        self.report = BatchReadReport()
        self.batch_ids: set[int] = set()
        self._store = store
        self._options = options
        self._host = host
        self._batch_id = batch_id
        """The batch whose results are read; None if that is not known."""
        self._tasks: dict[str, _Task] = {}
        self._runs: dict[str, int] = {}
        self._priced: set[tuple[int, int]] = set()

    def read(self, file: Path) -> None:
        """All results of a file."""
        counts = self.report.files.setdefault(printable_path(file), FileCounts())
        chunk: list[_Line] = []
        size_bytes = 0
        for line in self._lines(file, counts):
            chunk.append(line)
            size_bytes += len(line.result.found.response) if isinstance(line.result.found, Completion) else 0
            if len(chunk) == _CHUNK or size_bytes > _CHUNK_BYTES:
                self._store_chunk(chunk, counts)
                chunk, size_bytes = [], 0
        self._store_chunk(chunk, counts)

    def fail_missing(self, ended: Ended) -> None:
        """Fails the requests of a batch that have no result."""
        self.batch_ids.add(ended.batch_id)
        failure = Failure(ended.reason, True)
        for chunk in pending_requests_of(self._store, ended.batch_id):
            for _, request_hash, attempt in chunk:
                for sample in samples_of_request(self._store, request_hash, attempt):
                    self._task(sample.task_hash)
            with self._store.transaction():
                for handed_out_id, request_hash, attempt in chunk:
                    key = Key(request_hash, attempt)
                    handed_out = latest_batch_request(self._store, *key)
                    if handed_out is not None:
                        request = request_from_text(handed_out.request)
                        close_reservation(self._store, handed_out.run_id, request, None, attempt)
                    self._record_outcomes(key, failure, handed_out_id)
        with self._store.transaction():
            drop_reserved_of_ended(self._store, ended.batch_id)

    def end(self, status: int) -> None:
        """Records how it ended."""
        counts = {str(status): count for status, count in self.report.tally.statuses.items()}
        if not self._runs:
            self._runs[""] = self._store.begin_run("batch read", self._options)
        for run_id in self._runs.values():
            self._store.end_run(run_id, status, counts, cost_usd=self.report.tally.cost_usd)

    def _lines(self, file: Path, counts: FileCounts) -> Iterator[_Line]:
        with file.open("rb") as opened:
            for raw in read_lines(decompressed(opened)):
                location = f"{printable_path(file)}:{raw.line}"
                if raw.fault is not None:
                    self._reject(location, raw.fault, counts)
                    continue
                try:
                    yield _Line(location, read_result(raw.text, self._host))
                except BadRow as error:
                    self._reject(location, str(error), counts)

    def _reject(self, location: str, reason: str, counts: FileCounts) -> None:
        counts.rejected += 1
        self.report.rejections.add(plain_text(location), plain_text(reason))

    def _store_chunk(self, chunk: Sequence[_Line], counts: FileCounts) -> None:
        for line in chunk:  # runs and tasks that are new begin outside the transaction
            self._task_of_request(line.result)
        with self._store.transaction():
            for line in chunk:
                self._store_result(line, counts)

    def _task_of_request(self, result: Result) -> None:
        handed_out = latest_batch_request(self._store, *result.key, self._batch_id)
        if handed_out is not None:
            self._task(handed_out.task_hash)
        for sample in samples_of_request(self._store, *result.key):
            self._task(sample.task_hash)

    def _task(self, task_hash: str) -> _Task:
        if task_hash not in self._tasks:
            name, spec = self._store.rows("batches/task_reader", {"hash": task_hash})[0]
            if name not in self._runs:
                self._runs[name] = self._store.begin_run("batch read", self._options, task=name)
            self._tasks[task_hash] = _Task(name, format_from_spec(spec), self._runs[name])
        return self._tasks[task_hash]

    def _store_result(self, line: _Line, counts: FileCounts) -> None:
        result = line.result
        if is_known_result(self._store, result.hash):
            counts.known += 1
            return
        handed_out = latest_batch_request(self._store, *result.key, self._batch_id)
        if handed_out is None:
            reason = f"its request {result.key.request_hash[:15]} was not handed out by {self._store.path}"
            self._reject(line.location, reason, counts)
            return
        counts.new += 1
        self.batch_ids.add(handed_out.batch_id)
        run_id = self._task(handed_out.task_hash).run_id
        request = request_from_text(handed_out.request)
        self._copy_price(handed_out.run_id, run_id)
        try_number = None
        if isinstance(result.found, Completion):
            try_number = self._store_answer(result.found, request, run_id, result.key.attempt)
            close_reservation(
                self._store, handed_out.run_id, request, (result.found, try_number), result.key.attempt
            )
        else:
            close_reservation(self._store, handed_out.run_id, request, None, result.key.attempt)
        is_out = handed_out.ending is None
        self._record_outcomes(result.key, result.found, handed_out.id if is_out else None, try_number)
        if not is_out and _ending(result.found) == "answered":
            end_handed_out(self._store, handed_out.id, "answered")
        add_result(
            self._store,
            BatchResult(
                result_hash=result.hash,
                handed_out_id=handed_out.id,
                result_id=result.result_id,
                try_number=try_number,
                reason=result.found.reason if isinstance(result.found, Failure) else None,
                run_id=run_id,
            ),
        )

    def _copy_price(self, from_run_id: int, run_id: int) -> None:
        """Gives the run that reads the price of the run that wrote the batch file."""
        if (from_run_id, run_id) not in self._priced:
            self._priced.add((from_run_id, run_id))
            self._store.execute("batches/copy_price", {"run_id": run_id, "from_run_id": from_run_id})

    def _store_answer(self, found: Completion, request: Request, run_id: int, attempt: int) -> int:
        """Stores an answer; returns the number of its try."""
        self.report.tally.count_answers([found], request.model)
        add_answers(self._store, [NewAnswer(request, attempt, found, run_id)], now())
        number = last_try(self._store, request.hash, attempt)
        assert number is not None
        return number

    def _record_outcomes(
        self, key: Key, found: Completion | Failure, open_id: int | None, try_number: int | None = None
    ) -> None:
        """Records the outcomes of a request. `open_id` is its batch request, if that is pending.

        If it is None, recorded outcomes stay, unless they failed.
        """
        if open_id is not None:
            end_handed_out(self._store, open_id, _ending(found))
        elif isinstance(found, Failure) and pending_request(self._store, *key) is not None:
            return  # another file has the request by now, and will say
        for sample in samples_of_request(self._store, *key):
            if open_id is None and sample.status not in (None, "failed"):
                continue
            task = self._task(sample.task_hash)
            reading = _reading(task.reader, found)
            outcome = Outcome(
                sample_hash=sample.sample_hash,
                task_hash=sample.task_hash,
                attempt=key.attempt,
                status=reading.status,
                value=reading.value,
                reason=reading.reason,
                request_hash=key.request_hash,
                try_number=try_number,
                parser_version=parser_version(task.reader),
            )
            decided = NewOutcome(outcome, is_answered=False)
            self.report.in_use += record_outcomes(self._store, [decided], now())
            self.report.tally.count_outcome(reading.status, reading.reason)


def _ending(found: Completion | Failure) -> Ending:
    if isinstance(found, Failure):
        return "expired" if found.never_run else "failed"
    return "failed" if found.fault is not None else "answered"


def _reading(reader: AnswerFormat, found: Completion | Failure) -> ParsedAnswer:
    if isinstance(found, Failure):
        return ParsedAnswer("refused" if found.is_declined else "failed", None, found.reason)
    return read_answer(reader, found)


class StoredAnswers:
    """Sets the outcomes of a plan's samples that need no request, and counts them."""

    def __init__(self, plan: Plan) -> None:
        self.statuses: Counter[str] = Counter()
        self.in_use: list[InUse] = []
        """The tasks that came into use."""
        self._plan = plan
        self._generate: Generate | None = None

    def record(self, questions: Sequence[PreparedRequest]) -> None:
        """Sets the outcomes of questions that have an answer or cannot be asked, in one transaction."""
        if not questions:
            return
        with self._plan.store.transaction():
            for question in questions:
                self._record(question)

    def _record(self, question: PreparedRequest) -> None:
        plan, stored = self._plan, question.stored
        if stored is None:
            outcome = plan.outcome(question, ParsedAnswer("failed", None, question.failure))
        else:
            outcome = plan.outcome(question, plan.asked.task.read(stored.completion), stored.try_number)
        self.in_use += record_outcomes(plan.store, [NewOutcome(outcome, is_answered=False)], now())
        self.statuses[outcome.status] += 1
        if stored is not None and plan.generate is not None and outcome.status != "failed":
            self._generate = self._generate or plan.generate()
            add_generated_if_new(plan.store, self._generate(question, stored.completion), stored.try_number)


def record_answered(plan: Plan) -> int:
    """Sets the outcomes of a plan's samples that have an answer; asks nothing. Returns their number."""
    answers = StoredAnswers(plan)
    for chunk in plan.requests(plan.select()):
        answers.record([question for question in chunk if question.stored is not None])
    return answers.statuses.total()
