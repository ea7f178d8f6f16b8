"""Records runs: every rollout of their files becomes a sample, is known, or is rejected by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kbetl import rollouts
from kbetl.errors import BadRow, SourceError
from kbetl.json_codec import Parsed, read_json, stored_value
from kbetl.readers.lines import RawRow, decompressed, file_error, printable_path, read_lines
from kbetl.records import Sample
from kbetl.row_writer import (
    IngestReport,
    ReadProgress,
    content_of,
    counts_of,
    exit_status,
    finish_source,
    reject_row,
)
from kbetl.samples.parse import parse_row
from kbetl.samples.rollout_facts import RolloutFacts, rollout_facts
from kbetl.store import Store
from kbetl.store.samples import KnownSample, SampleWriter, SourceInfo, SourceLine
from kbetl.synth.discovery import RecordOptions, RunFiles, RunFinder
from kbetl.text import plain_text


def record(
    database: Path, texts: Sequence[str], options: RecordOptions, tally: ReadProgress | None = None
) -> list[IngestReport]:
    """Records the runs at each PATH, one after the other, as one run of ours; makes the store if need be.

    A complete recording of a run replaces the rows that its source had. Raises SourceError where there is
    nothing to record, ConfigError where options and files do not agree, StoreError where the store fails.
    """
    finder = RunFinder(options)
    found = finder.find(texts)
    if not found:
        raise SourceError("; ".join(finder.notes) or f"{', '.join(texts)}: nothing to record")
    with Store.open(database) as store:
        reports: list[IngestReport] = []
        with store.run("synth record", described(texts, options), counts=lambda: counts_of(reports)) as run:
            for each in found:
                reports.append(IngestReport(each.name, notes=each.notes))
                _record_one(store, each, run.id, reports[-1], tally or ReadProgress())
            run.status = exit_status(reports)
        reports[0].notes = (*finder.notes, *reports[0].notes)
    return reports


def described(texts: Sequence[str], options: RecordOptions) -> dict[str, Any]:
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


def origin_of(found: RunFiles) -> SourceInfo:
    """The source that a run is."""
    return SourceInfo(
        found.name,
        printable_path(found.uri),
        "run",
        model=found.run.model,
        environment=found.run.environment,
        run=found.run_text,
    )


def _record_one(
    store: Store, found: RunFiles, run_id: int, report: IngestReport, tally: ReadProgress
) -> None:
    tally.start(found.name, found.size_bytes)
    writer = SampleWriter(store, origin_of(found), run_id)
    taker = RolloutRecorder(store, found, report)
    report.counts = writer.counts
    is_whole = True
    for path in found.files:
        taker.start_file()
        name = printable_path(path)
        for line in _lines(path):
            taker.record(writer, line, name)
            tally.count(line.raw)
            is_whole = is_whole and not line.raw.is_of_file
    finish_source(writer, report, is_whole=is_whole, is_meant_whole=True, features=None)


def _lines(path: Path) -> Iterator[Line]:
    """The lines of a file; one that was renamed or removed since it was found is a fault."""
    try:
        yield from lines_of(path)
    except OSError as error:
        yield Line(file_error(1, f"it cannot be opened: {error.strerror or error}"))


class Line(NamedTuple):
    """A line of a file; `is_cut`: it is the last one and has no end, so that more of it may come."""

    raw: RawRow
    is_cut: bool = False


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file that are not blank, whatever it is packed in."""
    with path.open("rb", buffering=0) as file:
        end = _End(decompressed(file))
        for raw in read_lines(iter(end)):
            yield Line(raw, end.is_cut)


class _End:
    """Passes chunks on; after the last one `is_cut` says whether they ended within a line."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.is_cut = False
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        last = b"\n"
        for chunk in self._chunks:
            last = chunk[-1:] or last
            yield chunk
        self.is_cut = last != b"\n"


class Requests:
    """The requests of a batch by `custom_id`, in a temporary table; several may share an id.

    The k-th answer to an id is the one to its k-th request: vLLM answers in order, and where the order is
    free (OpenAI) an id stands once.
    """

    def __init__(self, store: Store, inputs: Sequence[Path]) -> None:
        self._store = store
        self._answered: dict[str, int] = {}
        store.execute("synth/batch_requests_table")
        with store.transaction(writes=False):
            store.execute("synth/clear_batch_requests")
            store.execute_many("synth/add_batch_request", self._rows(inputs))
        self.are_repeated = bool(store.rows("synth/has_repeated_requests")[0][0])
        """Whether an id has several requests, so that answers must be counted."""

    def start_file(self) -> None:
        """Another output file: it answers from the first request on."""
        self._answered.clear()

    def next_request(self, custom_id: str) -> Mapping[str, Any] | None:
        """The request body that the next answer to this id answers; None if there is none.

        Raises BadRow if there are fewer requests than answers.
        """
        found = self._store.rows("synth/batch_request_bodies", {"custom_id": custom_id})
        number = self._answered.get(custom_id, 0)
        if len(found) > 1:
            self._answered[custom_id] = number + 1
            if number >= len(found):
                raise BadRow(f"{custom_id!r} is answered more often than it was asked")
        if not found:
            return None
        body: Mapping[str, Any] = stored_value(found[number if len(found) > 1 else 0][0])
        return body

    @staticmethod
    def _rows(inputs: Sequence[Path]) -> Iterator[dict[str, Any]]:
        for path in inputs:
            for line in lines_of(path):
                try:
                    value = read_json(line.raw.text).value
                except BadRow:
                    continue  # answers to it, if there are any, are rejected by name
                if rollouts.shape_of(value) == rollouts.REQUESTS:
                    yield {"custom_id": value["custom_id"], "body": orjson.dumps(value["body"]).decode()}


class RolloutRecorder:
    """Stores the lines of one run; made after the run's SampleWriter, which sets up temp tables."""

    def __init__(self, store: Store, found: RunFiles, report: IngestReport) -> None:
        self.report = report
        self._store = store
        self._model, self._environment = found.model_given, found.environment_given
        self._requests = Requests(store, found.inputs) if rollouts.is_joined(found.shape) else None

    def start_file(self) -> None:
        """Another file of the run begins."""
        if self._requests is not None:
            self._requests.start_file()

    def record(self, writer: SampleWriter, line: Line, file: str) -> None:
        """Stores the rollouts of a line, or rejects it; one seen before costs a hash and a look-up or two."""
        raw = line.raw
        try:
            if raw.fault is not None:
                raise BadRow(raw.fault)
            line_hash = hashlib.sha256(raw.text).digest()
            known = self._known(writer, line_hash)
            if known:
                for each in known:
                    writer.add_known(each)
            else:
                self._add(writer, raw.text, line_hash)
        except BadRow as bad:
            location = f"{file}:{raw.line}"
            if line.is_cut:
                note = f"{location}: cut; the line has no end yet ({plain_text(str(bad))})"
                self.report.notes = (*self.report.notes, note)
            else:
                reject_row(writer, location, str(bad), self.report, content_of(raw))

    def _known(self, writer: SampleWriter, line_hash: bytes) -> list[KnownSample]:
        """The samples of a line that was recorded; none where requests are counted, which needs the line."""
        if self._requests is not None and self._requests.are_repeated:
            return []
        known: list[KnownSample] = []
        while (found := writer.sample_of_line(part_hash(line_hash, len(known)))) is not None:
            known.append(found)
        if self._model or self._environment:
            for each in known:
                for model, environment in self._store.rows("synth/said_by_rollout", {"hash": each.hash}):
                    self._check(model, environment)
        return known

    def _add(self, writer: SampleWriter, text: bytes, line_hash: bytes) -> None:
        parsed = read_json(text)
        rows = rollouts.rows_of(parsed, self._request(parsed))
        checked = [self._checked(row) for row in rows]
        for position, (sample, facts) in enumerate(checked):
            original = None
            if sample.row.encode() != text:
                original = SourceLine(line_hash, text.decode(), position)
            writer.add_sample(sample, part_hash(line_hash, position), facts, original)

    def _request(self, parsed: Parsed) -> Mapping[str, Any] | None:
        value = parsed.value
        if self._requests is None or not rollouts.is_joined(rollouts.shape_of(value)):
            return None
        return self._requests.next_request(value["custom_id"])

    def _checked(self, row: Parsed) -> tuple[Sample, RolloutFacts]:
        """The sample and its facts. Raises BadRow where it is of another model than the options say."""
        sample = parse_row(row)
        if sample.kind == "record":
            raise BadRow("neither a rollout nor a problem; `kbetl ingest` stores other rows, as records")
        facts = rollout_facts(row.value)
        self._check(facts.model, facts.environment)
        return sample, facts

    def _check(self, model: str | None, environment: str | None) -> None:
        """Raises BadRow where what a rollout says of itself is not what the options say."""
        for option, given, said in (
            ("--model", self._model, model),
            ("--env", self._environment, environment),
        ):
            if given and said and given != said:
                raise BadRow(f"{option} {given}: this rollout says {said}")


def part_hash(line_hash: bytes, position: int) -> bytes:
    """What `known_lines` knows a rollout of a line by; the hash of the line itself is `ingest`'s."""
    return hashlib.sha256(line_hash + position.to_bytes(4, "big")).digest()
