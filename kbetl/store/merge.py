"""Merges another store into this one: what it has and this one lacks, by content, table by table.

The other store is attached read-only as `other`. Samples come in batches, each in a transaction of its own;
then all that refers to them, and the samples that came since, in one transaction, which reads one snapshot.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kbetl.errors import ConfigError, LockHeld, StoreError
from kbetl.store import connection
from kbetl.store.answers import use_first_tasks
from kbetl.store.lock import all_tasks_lock
from kbetl.store.store import ReportRow, Store, now
from kbetl.text import plain_text

# Samples of one transaction: some 50 MB of the widest rows known.
BATCH_ROWS = 1000
# Above every number of a try, so that answers which are renumbered meet none on the way.
_LIFT = 1_000_000_000

# Tables whose rows belong to a sample's row: they come with the samples that are added, in this order.
_BY_SAMPLE = (
    ("rollout_facts", "merge/add_their_facts"),
    ("other_reasoning", "merge/add_their_reasoning"),
    ("original_lines", "merge/add_their_original_lines"),
    ("originals", "merge/add_their_originals"),
    ("field_maps", "merge/add_their_maps"),
    ("mapped_samples", "merge/add_their_mapped_samples"),
)
# Tables whose key is content: the union. Another one is a line here, a block, and a line in `their_rows`.
_BY_CONTENT = (
    ("known_lines", "merge/add_their_lines"),
    ("findings", "merge/add_their_findings"),
    ("solutions", "merge/add_their_solutions"),
    ("fingerprints", "merge/add_their_fingerprints"),
    ("benchmarks", "merge/add_their_benchmarks"),
    ("problems", "merge/add_their_problems"),
    ("contamination_pairs", "merge/add_their_contamination_pairs"),
    ("verdicts", "merge/add_their_verdicts"),
)

_TEMPORARY = (
    "merge/added_samples_table",
    "merge/merged_runs_table",
    "merge/merged_rollouts_table",
    "merge/merged_attempts_table",
    "merge/merged_tries_table",
    "merge/merged_ok_table",
    "merge/shifted_attempts_table",
    "merge/merged_sources_table",
    "merge/merged_places_table",
    "merge/merged_scores_table",
    "merge/merged_tokenizers_table",
    "merge/merged_batches_table",
    "merge/merged_handed_out_table",
)


class TableCounts(NamedTuple):
    """Rows of one table of the other store; read = added + known."""

    table: str
    read: int
    added: int
    disagreeing: int

    @property
    def known(self) -> int:
        """Rows that this store has."""
        return self.read - self.added


@dataclass(slots=True)
class MergeReport:
    """What a merge added, and what disagrees."""

    other: Path
    label: str
    read: dict[str, int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    disagreeing: dict[str, int] = field(default_factory=dict)
    disagreements: list[str] = field(default_factory=list)
    """Each says what differs, and which of both stays."""
    notes: list[str] = field(default_factory=list)

    def tables(self) -> list[TableCounts]:
        """A line per table that has rows in the other store."""
        return [
            TableCounts(table, read, self.added.get(table, 0), self.disagreeing.get(table, 0))
            for table, read in self.read.items()
            if read
        ]

    def add(self, table: str, rows: int) -> None:
        """Counts rows that were added to a table."""
        self.added[table] = self.added.get(table, 0) + max(rows, 0)

    def disagree(self, table: str, rows: int, text: str) -> None:
        """Notes what differs."""
        self.disagreeing[table] = self.disagreeing.get(table, 0) + rows
        self.disagreements.append(text)


class _Source(NamedTuple):
    id: int
    name: str
    kind: str
    model: str | None
    environment: str | None

    def may_hold(self, other: _Source) -> bool:
        """Whether rows of another source may be among its own: of one kind, and of no other model."""
        return self.kind == other.kind and all(
            ours is None or theirs is None or ours == theirs
            for ours, theirs in ((self.model, other.model), (self.environment, other.environment))
        )


class _Mapped(NamedTuple):
    """What a source of the other store is here."""

    name: str
    id: int
    is_appended: bool
    """Whether its rows go behind the end of ours; else they have the same places."""


@contextlib.contextmanager
def merge_lock(store: Store) -> Iterator[None]:
    """Nobody pays into the store meanwhile. Raises LockHeld, naming the run, where somebody does."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(all_tasks_lock(store.path))
        except LockHeld as error:
            runs = store.rows("inference/run_of_process", {"pid": error.process})
            run = f"run {runs[0][0]} about {runs[0][1]}, " if runs else ""
            who = f"{run}process {error.process}" if error.process else "this system does not say which"
            raise LockHeld(f"{error} ({who}); wait for it, or end it", error.process) from None
        yield


def merge(path: Path, other: Path, label: str | None = None, *, is_dry_run: bool = False) -> MergeReport:
    """Adds what another store has and the one at `path` lacks; call it under `merge_lock`.

    `label` names what collides; None: the other's file name, less its suffix. A dry run changes nothing, and
    needs the disk that the merge would. Raises StoreError for a file that cannot be merged. Killed or
    interrupted, the store is whole, and the same merge goes on.
    """
    if label is not None and not label.strip():
        raise ConfigError("--label is empty; name the other store")
    if path.exists() and other.exists() and os.path.samefile(path, other):
        raise StoreError(f"store {other} is the one that it would be merged into; name another")
    report = MergeReport(other, label or plain_text(other.stem))
    with Store.open(path) as store:
        connection.attach_other(store.connection, other)
        with _names_other(other):
            _Merge(store, report).run(is_dry_run=is_dry_run)
    return report


@contextlib.contextmanager
def _names_other(other: Path) -> Iterator[None]:
    """Says which file was merged if SQLite cannot read it, or its rows break a rule of the schema."""
    check = f"`kbetl check -d {other}` says more"
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise StoreError(
            f"store {other} cannot be merged: its rows break a rule ({error}); {check}"
        ) from error
    except StoreError as error:
        if isinstance(error.__cause__, sqlite3.DatabaseError):
            raise StoreError(f"merging {other}: {error}; {check}") from error
        raise


class _Merge:
    """One merge, on a connection that has the other store attached."""

    def __init__(self, store: Store, report: MergeReport) -> None:
        self._store = store
        self._report = report
        # rowid of the last sample that was read there
        self._after = 0

    def run(self, *, is_dry_run: bool) -> None:
        """Merges; a dry run is the last transaction alone, rolled back."""
        self._store.connection.execute("pragma temp_store = file")
        with self._store.transaction(writes=False):
            for table in _TEMPORARY:
                self._store.execute(table)
        if is_dry_run:
            with contextlib.suppress(_DryRunEnded), self._store.transaction():
                self._merge_all()
                raise _DryRunEnded
            return
        while self._has_batch():
            pass
        with self._store.transaction():
            self._merge_all()

    def _has_batch(self) -> bool:
        with self._store.transaction():
            return self._add_batch()

    def _merge_all(self) -> None:
        self._store.connection.execute("pragma defer_foreign_keys = on")
        self._report.read = dict(self._store.execute("merge/their_rows"))
        while self._add_batch():
            pass
        self._compare_maps()
        for table, add in _BY_CONTENT:
            self._add(table, add)
        self._compare_benchmarks()
        self._merge_runs()
        self._merge_answers()
        for source in self._sources("merge/their_sources"):
            self._merge_source(source)
        self._merge_scores()
        self._merge_outcomes()
        self._merge_lengths()
        self._merge_batches()
        for table, add in (
            ("generations", "merge/add_their_generations"),
            ("prices", "merge/add_their_prices"),
        ):
            self._add(table, add)
        self._store.execute("merge/drop_old_reservations")
        self._add("reservations", "merge/add_their_reservations")
        self._compare_settings()
        self._note_budgets()

    def _add(self, table: str, statement: str, **values: object) -> int:
        rows = self._store.execute(statement, values).rowcount
        self._report.add(table, rows)
        return rows

    def _named_rows(self, query: str) -> list[ReportRow]:
        return self._store.named_rows(query)

    # samples

    def _add_batch(self) -> bool:
        """Adds the next samples with what belongs to their rows; False at the end."""
        page = {"after": self._after, "limit": BATCH_ROWS}
        last: int | None = self._store.execute("merge/last_of_batch", page).fetchone()[0]
        if last is None:
            return False
        values = {"after": self._after, "upto": last}
        self._store.execute("merge/clear_added_samples")
        if self._store.execute("merge/note_added_samples", values).rowcount:
            self._add("samples", "merge/add_their_samples", **values)
            for table, add in _BY_SAMPLE:
                self._add(table, add)
        self._after = last
        return True

    def _compare_maps(self) -> None:
        differing: int = self._store.execute("merge/samples_read_otherwise").fetchone()[0]
        if differing:
            self._report.disagree(
                "samples",
                differing,
                f"{differing:,} samples are read by another --map there; ours stays",
            )

    def _compare_benchmarks(self) -> None:
        for row in self._named_rows("merge/benchmarks_that_differ"):
            self._report.disagree(
                "benchmarks",
                1,
                "benchmark {name}: it was read at another revision there; ours stays".format(**row),
            )
        differing: int = self._store.execute("merge/verdicts_that_differ").fetchone()[0]
        if differing:
            self._report.disagree(
                "verdicts", differing, f"{differing:,} verdicts are others there; ours stay"
            )

    # runs and tasks

    def _merge_runs(self) -> None:
        self._add("runs", "merge/add_their_runs", label=self._report.label)
        self._store.execute("merge/map_runs")
        self._store.execute("merge/end_their_runs")
        self._add("tasks", "merge/add_their_tasks")
        for row in self._named_rows("merge/tasks_that_differ"):
            self._report.disagree(
                "tasks",
                1,
                f"task {row['name']} ({row['hash'][:11]}): it is read, closed or restricted in another way "
                "there; ours stays",
            )

    # answers

    def _merge_answers(self) -> None:
        for statement in (
            "merge/map_rollouts",
            "merge/map_known_attempts",
            "merge/map_further_attempts",
            "merge/map_tries",
            "merge/note_our_ok",
            "merge/note_their_ok",
            "merge/note_shifted",
            "merge/number_new_tries",
            "merge/shift_known_tries",
        ):
            self._store.execute(statement)
        for statement in ("merge/lift_answers", "merge/lift_generations"):
            self._store.execute(statement, {"lift": _LIFT})
        for statement in ("merge/lower_answers", "merge/lower_generations"):
            self._store.execute(statement, {"lift": _LIFT})
        for statement in ("merge/shift_outcomes", "merge/shift_batch_results", "merge/shift_reservations"):
            self._store.execute(statement)
        self._add("answers", "merge/add_their_answers")

    # sources

    def _sources(self, query: str, **values: object) -> list[_Source]:
        return [_Source(*row) for row in self._store.rows(query, values)]

    def _merge_source(self, theirs: _Source) -> None:
        name, ours, is_appended = self._same_source(theirs) or self._new_source(theirs)
        if name != theirs.name:
            self._report.disagree(
                "sources", 1, f"source {theirs.name}: other rows are of that name here; theirs is {name}"
            )
        ids = {"theirs": theirs.id, "ours": ours}
        self._store.execute("merge/map_source", {**ids, "is_appended": is_appended})
        if is_appended:
            for statement in (
                "merge/map_generated_places",
                "merge/map_equal_places",
                "merge/map_new_places",
            ):
                self._store.execute(statement, ids)
        added = self._add("source_samples", "merge/add_their_memberships", **ids, is_appended=is_appended)
        added += self._add("rejected_rows", "merge/add_their_rejected_rows", **ids, is_appended=is_appended)
        if added and not is_appended:
            self._store.execute("merge/follow_longer_source", ids)

    def _same_source(self, theirs: _Source) -> _Mapped | None:
        """The source here that holds the same rows, or that grows; None if there is none."""
        names = {"name": theirs.name, "labelled": self._labelled(theirs)}
        for ours in self._sources("merge/same_named_sources", **names):
            if not ours.may_hold(theirs):
                continue
            ids = {"theirs": theirs.id, "ours": ours.id}
            if self._store.execute("merge/is_same_source", ids).fetchone()[0]:
                return _Mapped(ours.name, ours.id, is_appended=False)
            if theirs.kind in ("run", "stdin"):
                return _Mapped(ours.name, ours.id, is_appended=True)
        return None

    def _new_source(self, theirs: _Source) -> _Mapped:
        """Adds a source; under another name if there is one of its name, which holds other rows."""
        known = {
            source.name
            for source in self._sources(
                "merge/same_named_sources", name=theirs.name, labelled=self._labelled(theirs)
            )
        }
        labelled = self._labelled(theirs)
        further = (f"{labelled}.{number}" for number in range(2, len(known) + 3))
        name = next(each for each in (theirs.name, labelled, *further) if each not in known)
        cursor = self._store.execute("merge/add_their_source", {"theirs": theirs.id, "name": name})
        self._report.add("sources", 1)
        return _Mapped(name, int(cursor.lastrowid or 0), is_appended=False)

    def _labelled(self, source: _Source) -> str:
        return f"{source.name}@{self._report.label}"

    # scores, outcomes, lengths

    def _merge_scores(self) -> None:
        added: int = self._store.execute("merge/count_new_scores").fetchone()[0]
        self._report.add("scores", added)
        if added:
            for statement in ("merge/merge_scores", "merge/clear_scores", "merge/number_scores"):
                self._store.execute(statement)

    def _merge_outcomes(self) -> None:
        differing: int = self._store.execute("merge/labels_that_differ").fetchone()[0]
        if differing:
            self._report.disagree(
                "outcomes",
                differing,
                f"{differing:,} labels are others there; ours stay, theirs are kept as paid: "
                f'kbetl query "{_OTHER_LABELS}"',
            )
        improved = self._store.execute("merge/improve_outcomes").rowcount
        if improved:
            self._report.notes.append(f"{improved:,} outcomes that were not ok here are ok by theirs")
        self._add("outcomes", "merge/add_their_outcomes")
        hashes = [task_hash for (task_hash,) in self._store.rows("merge/tasks_to_use")]
        for task in use_first_tasks(self._store, hashes):
            self._report.notes.append(task.as_text())
        for row in self._named_rows("merge/other_tasks_in_use"):
            self._report.disagree(
                "tasks",
                1,
                f"task {row['name']}: {row['their_hash'][:11]} is in use there; ours stays, "
                f"{row['hash'][:11]}; kbetl use {row['name']} chooses",
            )

    def _merge_lengths(self) -> None:
        self._store.execute("merge/map_our_tokenizers")
        self._store.execute("merge/map_their_tokenizers")
        self._add("lengths", "merge/add_their_lengths")
        for row in self._named_rows("merge/lengths_that_differ"):
            self._report.disagree(
                "lengths",
                row["samples"],
                "{samples:,} lengths by {tokenizer} are others there, such as that of {example}; ours stay. "
                "One of both is wrong: delete them and measure again".format(**row),
            )

    # batch files

    def _merge_batches(self) -> None:
        self._add("batches", "merge/add_their_batches")
        self._store.execute("merge/map_batches")
        self._store.execute("merge/follow_batches")
        self._add("handed_out", "merge/add_their_handed_out", at=now())
        self._store.execute("merge/map_handed_out")
        self._store.execute("merge/end_their_handed_out")
        for row in self._named_rows("merge/files_not_to_send"):
            self._report.disagree(
                "handed_out",
                row["requests"],
                "do not send {file}: {requests:,} of its requests are in a batch file of this store too; "
                "there they are released".format(**row),
            )
        self._add("handed_out_samples", "merge/add_their_handed_out_samples")
        self._add("batch_results", "merge/add_their_batch_results")

    # settings and budgets

    def _compare_settings(self) -> None:
        for row in self._named_rows("merge/settings_that_differ"):
            self._report.disagree(
                "settings", 1, "setting {key}: {their_value} there; ours stays, {value}".format(**row)
            )

    def _note_budgets(self) -> None:
        for row in self._named_rows("merge/budgets_used_up"):
            self._report.notes.append(
                "the budget of {task} is used up: ${cost_usd:.4f} in both stores, --max-cost was "
                "{max_cost_usd}".format(**row)
            )


class _DryRunEnded(Exception):
    """Rolls back what a dry run did."""


_OTHER_LABELS = (
    "select sample_hash, value, host, content from outcomes join answers using (request_hash, attempt) "
    "where answers.try <> outcomes.try and fault is null and status = 'ok'"
)
