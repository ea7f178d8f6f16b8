"""Writes all samples that come into the store: batches, memberships of a source, rejected rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kbetl.records import Kind, Sample
from kbetl.samples.reading import stored_map
from kbetl.samples.rollout_facts import RolloutFacts
from kbetl.store.answers import InUse, retire_unlabelled
from kbetl.store.field_maps import Reread, StoredReading, map_id, read_anew, stored_reading
from kbetl.store.store import Store, now

# Text of rows per transaction. Between two the store is free for others; the fewer rows in each, the more
# often the same pages of indexes are written: at 180,000 rows of 5 KB, 16 MB cost a tenth more than 40 MB.
BATCH_BYTES = 24 * 2**20
BATCH_ROWS = 20_000
_MEMBERSHIP = ("position", "sample_hash", "line_hash")
_REJECTION = ("position", "location", "reason", "content_hash")
_FACTS = tuple(name for name in RolloutFacts.__slots__ if name != "other_reasoning")
CACHE_KIB = 32 * 1024
# While all lines are sorted: SQLite sorts in as much memory as its cache may have, beside the cache.
SORTING_KIB = 4 * 1024
# 128 MB of WAL between checkpoints: pages of indexes that many batches change are copied once.
CHECKPOINT_PAGES = 8000


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source as `sources` describes it; None if that table allows null."""

    name: str
    uri: str
    kind: str
    revision: str | None = None
    split: str | None = None
    model: str | None = None
    environment: str | None = None
    run: str | None = None
    """JSON object."""
    field_map: str | None = None
    """How its rows are read, as `samples.reading.map_text` spells it."""


class SourceLine(NamedTuple):
    """The line of a sample whose row is not that line."""

    line_hash: bytes
    """SHA-256."""
    line: str
    position: int
    """Which rollout of the line it is, from 0."""


@dataclass(slots=True)
class ReadCounts:
    """What came of the rows read; read = new + known + rejected."""

    read: int = 0
    new: int = 0
    known: int = 0
    rejected: int = 0
    rejected_before: int = 0
    """Those of the rejected whose content was rejected by an earlier run."""
    modules: int = 0
    rollouts: int = 0
    records: int = 0
    read_anew: int = 0
    """Of the known those that another map reads now."""
    dropped_outcomes: int = 0
    """Outcomes that depended on a field of theirs that changed."""
    dropped_lengths: int = 0


class KnownSample(NamedTuple):
    """A sample that is stored, or will be with the batch."""

    hash: str
    kind: Kind


class _Batch:
    """What the next transaction writes."""

    def __init__(self) -> None:
        self.samples: list[dict[str, Any]] = []
        """By column; `row` in UTF-8, which has the size that it seems to have."""
        self.facts: list[dict[str, Any]] = []
        self.other_reasoning: list[tuple[str, str]] = []
        self.originals: list[tuple[str, SourceLine]] = []
        self.lines: dict[bytes, KnownSample] = {}
        """Samples by the SHA-256 of their line, of the lines not seen before."""
        self.memberships: list[tuple[int, str, bytes | None]] = []
        self.rejections: list[tuple[int, str, str, bytes | None]] = []
        self.mapped: list[str] = []
        """Samples that are read by the source's map."""
        self.rereads: dict[str, Reread] = {}
        """Stored samples that are read otherwise now, by hash."""
        self.size_bytes = 0


class SampleWriter:
    """Samples of one source on their way into the store.

    Samples are committed batch by batch. Which of them belong to the source, which lines they are, and
    which rows were rejected, is kept in temp tables and becomes the source's in one transaction by
    `replace` or `add`; until then the source has what it had. Positions count all rows from
    `first_position`: if rows come in as they are written, the next ones go on after the last.
    """

    def __init__(
        self,
        store: Store,
        origin: SourceInfo,
        run_id: int,
        *,
        first_position: int = 0,
        compares_maps: bool = False,
    ) -> None:
        """`compares_maps`: whether samples of the store or of this source are read by maps."""
        self.field_map = stored_map(origin.field_map)
        self.compares_maps = compares_maps
        self.counts = ReadCounts()
        self.retired: list[InUse] = []
        """Tasks that are not in use any more: their last label was taken back."""
        self._position = first_position
        self._store = store
        self._origin = origin
        self._run_id = run_id
        self._batch = _Batch()
        _prepare(store)
        with store.transaction():
            store.execute("samples/add_source", source_columns(origin))
            self._source_id: int = store.execute("samples/source_id", {"name": origin.name}).fetchone()[0]
            asked = {"source_id": self._source_id, "kind": origin.kind}
            had, is_of_other_command = store.execute("samples/source_doors", asked).fetchone()
            self._map_id = map_id(store, origin.field_map)
        self.had_samples = bool(had)
        """Whether the source had samples before."""
        self.is_of_other_command = bool(had and is_of_other_command)
        """Whether another command wrote some of them: `synth record` if this is `ingest`, and vice versa."""
        self._has_known_lines = bool(store.execute("samples/has_known_lines").fetchone()[0])
        self._looked_up: dict[bytes, KnownSample | None] = {}
        with store.transaction(writes=False):
            store.execute("samples/clear_incoming_samples")
            store.execute("samples/clear_incoming_rejections")

    def look_up(self, line_hashes: Iterable[bytes]) -> None:
        """Finds out which samples the next lines are, by their SHA-256, before each is asked for.

        In the order of the indexes, which in a large store are far larger than any cache.
        """
        if not self._has_known_lines or self.compares_maps:
            return
        asked = sorted(set(line_hashes))
        lines = {"line_hashes": b"".join(asked), "count": len(asked)}
        found = self._store.rows("samples/samples_of_lines", lines)
        known = {asked[number]: KnownSample(name, kind) for number, name, kind in found}
        self._looked_up = {line_hash: known.get(line_hash) for line_hash in asked}

    def sample_of_line(self, line_hash: bytes) -> KnownSample | None:
        """The sample that a line with this SHA-256 is; None for a line not seen before."""
        known = self._batch.lines.get(line_hash)
        if known is not None or not self._has_known_lines:
            return known
        if self.compares_maps:
            key = {"line_hash": line_hash, "field_map_id": self._map_id}
            found = self._store.execute("field_maps/mapped_sample_of_line", key).fetchone()
            return None if found is None else KnownSample(*found)
        if line_hash not in self._looked_up:
            self.look_up([line_hash])
        return self._looked_up[line_hash]

    def other_reading(self, sample_hash: str) -> StoredReading | None:
        """How a stored sample is read by another map than the source's; None if it is not."""
        if not self.compares_maps:
            return None
        found = stored_reading(self._store, sample_hash, self._origin.name)
        return None if found is None or found.map == self._origin.field_map else found

    def task_templates(self) -> list[tuple[str, str, str]]:
        """Hash, kinds and template of each stored task."""
        return self._store.rows("field_maps/task_templates")

    def reread(self, reread: Reread) -> None:
        """Notes that the sample that is added next is stored, and is read otherwise now."""
        self._batch.rereads[reread.sample.hash] = reread

    def add_known(self, known: KnownSample) -> None:
        """Adds the next row, a sample that is stored already or was added before."""
        self._place(known, None)

    def add_sample(
        self,
        sample: Sample,
        line_hash: bytes,
        facts: RolloutFacts | None = None,
        original: SourceLine | None = None,
    ) -> None:
        """Adds the next row, which is this sample, from a line with this SHA-256.

        `facts` are those of a rollout; `original` is given where its row is not the line.
        """
        batch = self._batch
        columns = sample_columns(sample)
        batch.samples.append(columns)
        if facts is not None:
            batch.facts.append(facts_columns(sample.hash, facts))
            if facts.other_reasoning is not None:
                batch.other_reasoning.append((sample.hash, facts.other_reasoning))
                batch.size_bytes += len(facts.other_reasoning)
        if original is not None:
            batch.originals.append((sample.hash, original))
            batch.size_bytes += len(original.line)
        if self.field_map is not None:
            batch.mapped.append(sample.hash)
        batch.lines[line_hash] = known = KnownSample(sample.hash, sample.kind)
        batch.size_bytes += len(columns["row"])
        self._place(known, line_hash)

    def reject(self, location: str, reason: str, content_hash: bytes | None) -> bool:
        """Rejects the next row; returns whether an earlier run rejected the same content.

        `content_hash` is the SHA-256 of the row as it was read; None if there is no row.
        """
        is_known = bool(
            self._store.execute("samples/is_rejected", {"content_hash": content_hash}).fetchone()[0]
        )
        self.counts.rejected_before += is_known
        self._batch.rejections.append((self._next_position(), location, reason, content_hash))
        self._commit_if_full()
        return is_known

    @property
    def has_samples(self) -> bool:
        """Whether any row that came in is a sample."""
        return self.counts.modules + self.counts.rollouts + self.counts.records > 0

    def replace(self, features: Any = None) -> int:
        """Replaces the source's rows by those that came in; writes only what differs.

        Returns how many samples are no longer in the source.
        """
        return self._finish("replace", features)

    def add(self, features: Any = None) -> None:
        """Adds the rows that came in to the source's.

        Each to its own position; if the source has something else in one of those, those that it
        lacks go after its last position.
        """
        self._finish("add", features)

    def _place(self, known: KnownSample, line_hash: bytes | None) -> None:
        if known.kind == "module":
            self.counts.modules += 1
        elif known.kind == "rollout":
            self.counts.rollouts += 1
        else:
            self.counts.records += 1
        self._batch.memberships.append((self._next_position(), known.hash, line_hash))
        self._commit_if_full()

    def _next_position(self) -> int:
        position = self._position
        self._position += 1
        self.counts.read += 1
        return position

    def _commit_if_full(self) -> None:
        batch = self._batch
        if batch.size_bytes >= BATCH_BYTES or len(batch.memberships) + len(batch.rejections) >= BATCH_ROWS:
            self._commit()

    def _commit(self) -> None:
        batch, store = self._batch, self._store
        with store.transaction(writes=bool(batch.samples)):
            dropped = [read_anew(store, reread) for reread in batch.rereads.values()]
            new = store.execute_many("samples/add_sample", batch.samples) if batch.samples else 0
            _write_facts(store, batch)
            if batch.mapped:
                mapped = ({"sample_hash": each, "field_map_id": self._map_id} for each in batch.mapped)
                store.execute_many("field_maps/add_mapped_sample", mapped)
            store.execute_many("samples/add_incoming_sample", _named(_MEMBERSHIP, batch.memberships))
            store.execute_many("samples/add_incoming_rejection", _named(_REJECTION, batch.rejections))
            if any(each.outcomes for each in dropped):
                self.retired += retire_unlabelled(store)
        self.counts.new += new
        self.counts.known += len(batch.memberships) - new
        self.counts.rejected += len(batch.rejections)
        self.counts.read_anew += len(dropped)
        self.counts.dropped_outcomes += sum(each.outcomes for each in dropped)
        self.counts.dropped_lengths += sum(each.lengths for each in dropped)
        self._batch = _Batch()

    def _finish(self, how: str, features: Any) -> int:
        self._commit()
        dropped = 0
        source = {"source_id": self._source_id}
        with self._store.transaction():
            first = 0 if how == "replace" else self._first_free(source)
            if how == "replace":
                dropped = self._store.execute("samples/count_other_samples", source).fetchone()[0]
                self._store.execute("samples/drop_other_memberships", source)
                self._store.execute("samples/drop_other_rejections", source)
            placed = {**source, "first": first, "run_id": self._run_id}
            _set_cache(self._store, SORTING_KIB)
            self._store.execute("samples/keep_incoming_lines")
            _set_cache(self._store, CACHE_KIB)
            self._store.execute("samples/keep_incoming_samples", placed)
            self._store.execute("samples/keep_incoming_rejections", placed)
            if self.is_of_other_command and not self.has_samples:
                return dropped
            if self.is_of_other_command:
                self._store.execute("samples/mix_source", source)
            self._store.execute("samples/describe_source", source_columns(self._origin, features))
        return dropped

    def _first_free(self, source: Mapping[str, Any]) -> int:
        found: int = self._store.execute("samples/first_position_for_incoming", source).fetchone()[0]
        return found


def source_columns(origin: SourceInfo, features: Any = None) -> dict[str, Any]:
    """The columns of `sources`."""
    return {
        "name": origin.name,
        "uri": origin.uri,
        "kind": origin.kind,
        "revision": origin.revision,
        "split": origin.split,
        "model": origin.model,
        "environment": origin.environment,
        "run": origin.run,
        "field_map": origin.field_map,
        "features": None if features is None else json.dumps(features, ensure_ascii=False),
        "ingested_at": now(),
    }


def _prepare(store: Store) -> None:
    """Sets up the connection: a cache for hot pages, few checkpoints, temp tables on disk."""
    _set_cache(store, CACHE_KIB)
    store.connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
    store.connection.execute("pragma temp_store = file")
    store.execute("samples/incoming_samples_table")
    store.execute("samples/incoming_rejections_table")


def _set_cache(store: Store, size_kib: int) -> None:
    store.connection.execute(f"pragma cache_size = -{size_kib}")


def _write_facts(store: Store, batch: _Batch) -> None:
    """Writes what belongs to the samples, in the order of the keys, so that pages are written once."""
    store.execute_many(
        "samples/add_rollout_facts", sorted(batch.facts, key=lambda facts: facts["sample_hash"])
    )
    store.execute_many(
        "samples/add_other_reasoning", _named(("sample_hash", "reasoning"), batch.other_reasoning)
    )
    lines = {original.line_hash: original.line for _, original in batch.originals}
    store.execute_many("samples/add_original_line", _named(("hash", "line"), lines.items()))
    store.execute_many(
        "samples/add_original",
        (
            {"sample_hash": sample_hash, "position": original.position, "line_hash": original.line_hash}
            for sample_hash, original in batch.originals
        ),
    )


def facts_columns(sample_hash: str, facts: RolloutFacts) -> dict[str, Any]:
    """The columns of `rollout_facts`."""
    return {"sample_hash": sample_hash, **{name: getattr(facts, name) for name in _FACTS}}


def sample_columns(sample: Sample) -> dict[str, Any]:
    """The columns of `samples`; `row` in UTF-8."""
    columns = {name: getattr(sample, name) for name in Sample.__slots__}
    columns["row"] = sample.row.encode()
    return columns


def _named(names: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(names, row, strict=True)) for row in rows)


@dataclass(frozen=True, slots=True)
class GeneratedRollout:
    """A rollout, and the attempt at a problem whose answer it is."""

    sample: Sample
    facts: RolloutFacts
    source_id: int
    task_hash: str
    problem_hash: str
    attempt: int
    request_hash: str


def add_generated(store: Store, rollouts: Sequence[GeneratedRollout]) -> None:
    """Stores the rollouts of answers that came just now, at the next positions of their source.

    All of one task; each is made of the newest answer to its request that is no fault, and none of these
    became a rollout before. Call within a transaction, with the answers stored.
    """
    if rollouts:
        first = _free_position(store, rollouts[0].source_id)
        _add_generations(store, rollouts, first, None)
        _add_samples(store, rollouts, first)


def add_generated_if_new(store: Store, rollout: GeneratedRollout, try_number: int | None) -> None:
    """Stores the rollout of an answer, unless it is stored already.

    Without a `try_number` it is the newest answer that is no fault. Call within a transaction.
    """
    position = _free_position(store, rollout.source_id)
    if _add_generations(store, [rollout], position, try_number):
        _add_samples(store, [rollout], position)


def _free_position(store: Store, source_id: int) -> int:
    found: int = store.execute("samples/free_position", {"source_id": source_id}).fetchone()[0]
    return found


def _add_generations(
    store: Store, rollouts: Sequence[GeneratedRollout], first: int, try_number: int | None
) -> int:
    """Returns how many were not stored yet. One statement: each step holds up other threads."""
    generations = [
        (position, each.problem_hash, each.attempt, each.request_hash, try_number)
        for position, each in enumerate(rollouts, first)
    ]
    values = {"source_id": rollouts[0].source_id, "task_hash": rollouts[0].task_hash}
    return store.execute("samples/add_generations", {**values, "rollouts": json.dumps(generations)}).rowcount


def _add_samples(store: Store, rollouts: Sequence[GeneratedRollout], first: int) -> None:
    store.execute_many("samples/add_sample", (sample_columns(each.sample) for each in rollouts))
    store.execute_many(
        "samples/add_rollout_facts", (facts_columns(each.sample.hash, each.facts) for each in rollouts)
    )
    memberships = [(position, each.sample.hash) for position, each in enumerate(rollouts, first)]
    source_id = rollouts[0].source_id
    store.execute("samples/add_memberships", {"source_id": source_id, "places": json.dumps(memberships)})
    store.execute("samples/touch_source", {"source_id": source_id, "ingested_at": now()})


def run_source(store: Store, origin: SourceInfo) -> int:
    """The id of the source that generated rollouts go to; makes the source if it is missing.

    Call within a transaction.
    """
    store.execute("samples/add_source", source_columns(origin))
    found: int = store.execute("samples/source_id", {"name": origin.name}).fetchone()[0]
    return found
