"""Derives again what a store keeps, and says where it does not agree with itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from kbetl import atomic_files, records, tasks
from kbetl.errors import BadRow, ConfigError
from kbetl.json_codec import read_json
from kbetl.records import Sample
from kbetl.resources import sql_names
from kbetl.samples.parse import parse_prompt, parse_row
from kbetl.samples.reading import FieldMap, read_row, stored_map
from kbetl.samples.rollout_facts import RolloutFacts, rollout_facts
from kbetl.store import Store
from kbetl.store.field_maps import map_columns
from kbetl.text import blanked, hidden_line, plain_text

SHOWN_PROBLEMS = 20
_SHOWN_CHARACTERS = 100

_FACTS = tuple(RolloutFacts.__slots__)
# Columns that the hash of the whole row does not cover.
_BESIDE_HASH = ("kind", "module_name", "code_hash", "reward")
# What an older reading of messages says otherwise; it stays as it is until the row comes in anew.
_OF_READING = ("is_empty", "other_reasoning", "other_completion", "reasoning_tokens", "reading")
_DERIVED = ("hash", "kind", "module_name", "code_hash", "code_point", "name_point", "reward")


@dataclass(slots=True)
class CheckReport:
    """What was looked at, and what was wrong with it."""

    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """The first SHOWN_PROBLEMS."""
    problem_count: int = 0
    left_behind: list[Path] = field(default_factory=list)
    """Parts of exports, batch files and copies whose writers were killed; no fault of the store."""

    @property
    def exit_status(self) -> int:
        """0 if all is well, else 1."""
        return 1 if self.problem_count else 0

    def add(self, problem: str) -> None:
        """One more problem."""
        self.problem_count += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(blanked(problem))

    def lines(self) -> list[str]:
        """Problems first, then what was checked."""
        hidden = self.problem_count - len(self.problems)
        verdict = f"{self.problem_count:,} problems" if self.problem_count else "all is well"
        left = [
            f"left behind by a killed command: {plain_text(str(path))}; the next one that writes to the "
            "same place takes it away or puts it back, or remove it"
            for path in self.left_behind
        ]
        return [
            *(f"problem: {problem}" for problem in self.problems),
            *hidden_line(hidden, "problems"),
            *left,
            *self.checked,
            verdict,
        ]


def check_store(database: Path) -> CheckReport:
    """Checks a store from its pages to its hashes, in constant memory; writes nothing.

    Raises StoreError if there is no store to read.
    """
    report = CheckReport()
    with Store.read(database, checks_views=False) as store, store.translate_errors():
        _check_pages(store, report)
        if report.problem_count:
            report.checked.append("nothing else: the file itself is damaged; restore a copy")
            return report
        for check in _CHECKS:
            check(store, report)
        report.left_behind = _left_behind(store)
    return report


def _left_behind(store: Store) -> list[Path]:
    """In the store's folder, in the current one, in the folders of both, and where batch files were written.

    A part that a batch command recorded as whole is none: the next one gives it its name.
    """
    batch_files = {Path(file).absolute(): is_beside for file, is_beside in store.rows("check/batch_places")}
    folders: dict[Path, None] = {}
    for top in (store.path.absolute().parent, Path.cwd()):
        folders[top] = None
        with contextlib.suppress(OSError):
            folders.update(
                (each, None) for each in sorted(top.iterdir()) if each.is_dir() and not each.is_symlink()
            )
    folders |= dict.fromkeys(file.parent for file in batch_files)
    known = {
        atomic_files.partial_path(file, is_resumable=True)
        for file, is_beside in batch_files.items()
        if is_beside
    }
    return [path for folder in folders for path in atomic_files.left_behind(folder) if path not in known]


def _check_pages(store: Store, report: CheckReport) -> None:
    found = [row[0] for row in store.connection.execute("pragma integrity_check(100)")]
    for problem in found:
        if problem != "ok":
            report.add(f"integrity: {problem}")
    pages = store.connection.execute("pragma page_count").fetchone()[0]
    report.checked.append(f"pages and indexes: {pages:,} pages")


_REFERRING = (
    "memberships",
    "outcomes",
    "scores",
    "lengths",
    "generations",
    "batch files",
    "batch results",
    "reservations",
    "solutions",
    "contamination pairs",
)
"""Tables that refer to samples, code and answers."""


def _check_references(store: Store, report: CheckReport) -> None:
    for table, row, parent, _ in store.connection.execute("pragma foreign_key_check"):
        report.add(f"{table} row {row} refers to a row of {parent} that is not there")
    for sample, task, attempt, request in store.execute("check/outcomes_without_answer"):
        what = f"answer {request}" if request else "answer, though it is ok,"
        report.add(
            f"the outcome of sample {sample} by task {task}, attempt {attempt}: its {what} is not there"
        )
    for (problem,) in store.execute("check/broken_references"):
        report.add(problem)
    for name, rows in store.execute("status/row_counts"):
        if name not in _REFERRING:
            continue
        report.checked.append(f"references of {name}: {rows:,} rows")


def _check_samples(store: Store, report: CheckReport) -> None:
    count = 0
    for count, (*derived, row, map_) in enumerate(store.execute("check/whole_samples"), 1):  # noqa: B007
        try:
            sample = _sample_again(derived[1], row, stored_map(map_))
        except BadRow as error:
            report.add(f"sample {derived[0]}: its row is no sample: {error}")
            continue
        names = _DERIVED if sample.hash == derived[0] or not _counts_index(derived[0], row) else _BESIDE_HASH
        for name, stored in zip(_DERIVED, derived, strict=True):
            again = getattr(sample, name) if name in names else stored
            if stored != again:
                report.add(f"sample {derived[0]}: {name} is {stored}, its row says {again}")
    report.checked.append(f"hashes, names, rewards and points of samples: {count:,} rows")


def _counts_index(stored: str, row: str) -> bool:
    """Whether a sample is of the time when the index of pandas was content, and is what it was then."""
    return records.sample_hash(read_json(row.encode()).value, counts_index=True) == stored


def _sample_again(kind: str, row: str, field_map: FieldMap | None) -> Sample:
    """The sample of a stored row; a module that `parse_row` rejects was stored as a prompt."""
    parsed = read_json(row.encode())
    is_prompt = kind == "module" and parsed.value.get("prompt") is not None and not field_map
    try:
        sample = parse_row(parsed, field_map)
    except BadRow as error:
        if not is_prompt:
            raise error from None
        return parse_prompt(parsed)
    return parse_prompt(parsed) if is_prompt and sample.kind != kind else sample


def _check_maps(store: Store, report: CheckReport) -> None:
    found = store.rows("field_maps/all_maps")
    for map_, *stored in found:
        try:
            again = list(map_columns(map_).values())
        except ConfigError as error:
            report.add(f"field map: {error}")
            continue
        if stored != again:
            report.add(f"field map {map_}: its paths are {_short(stored)}, it says {_short(again)}")
    for source, map_ in store.rows("check/maps_of_sources"):
        try:
            map_columns(map_)
        except ConfigError as error:
            report.add(f"source {source}: {error}")
    report.checked.append(f"maps of fields: {len(found):,} rows")


def _check_problems(store: Store, report: CheckReport) -> None:
    count = 0
    for count, (benchmark, problem, stored, code) in enumerate(store.execute("check/whole_problems"), 1):  # noqa: B007
        again = records.code_hash(code)
        if stored != again:
            report.add(
                f"problem {problem} of benchmark {benchmark}: its code has the hash {again}, not {stored}"
            )
    report.checked.append(f"code hashes of problems of benchmarks: {count:,} rows")


def _check_answers(store: Store, report: CheckReport) -> None:
    count = 0
    for count, (stored, attempt, number, request) in enumerate(store.execute("check/asked_requests"), 1):  # noqa: B007
        again = "r1:" + hashlib.sha256(request.encode()).hexdigest()
        if stored != again:
            report.add(f"answer {stored}, attempt {attempt}, try {number}: its request has the hash {again}")
    report.checked.append(f"request hashes of answers: {count:,} rows")


def _check_facts(store: Store, report: CheckReport) -> None:
    count = 0
    for count, (sample, *stored, row, map_) in enumerate(store.execute("check/whole_rollout_facts"), 1):  # noqa: B007
        try:
            value = read_json(row.encode()).value
            facts = rollout_facts(value, read_row(value, stored_map(map_)))
        except BadRow as error:
            report.add(f"rollout {sample}: its row cannot be read: {error}")
            continue
        stored_facts = dict(zip(_FACTS, stored, strict=True))
        for name, kept in stored_facts.items():
            again = getattr(facts, name)
            if kept != again and not (name in _OF_READING and stored_facts["reading"] != facts.reading):
                report.add(f"rollout {sample}: {name} is {_short(kept)}, its row says {_short(again)}")
    report.checked.append(f"facts of rollouts: {count:,} rows")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _check_lines(store: Store, report: CheckReport) -> None:
    count = 0
    for count, (stored, line) in enumerate(store.execute("check/whole_original_lines"), 1):  # noqa: B007
        again = hashlib.sha256(line.encode()).digest()
        if stored != again:
            report.add(f"original line {stored.hex()}: its text has the hash {again.hex()}")
    report.checked.append(f"hashes of original lines: {count:,} rows")


def _check_handed_out(store: Store, report: CheckReport) -> None:
    count = 0
    for count, row in enumerate(store.execute("check/handed_out_requests"), 1):  # noqa: B007
        stored, attempt, batch_id, request = row
        again = "r1:" + hashlib.sha256(request.encode()).hexdigest()
        if stored != again:
            report.add(
                f"request {stored}, attempt {attempt}, of batch {batch_id}: its body has the hash {again}"
            )
    report.checked.append(f"request hashes of batch files: {count:,} rows")


def _check_tasks(store: Store, report: CheckReport) -> None:
    found = store.rows("check/task_identities")
    for stored, name, model, parameters, system, template, reader in found:
        content = {
            "name": name,
            "template": template,
            "system": system,
            "model": model,
            "parameters": json.loads(parameters),
        }
        again = records.content_hash("t1", content)
        if stored != again:
            report.add(f"task {name} {stored}: its columns have the hash {again}")
        try:
            tasks.format_from_spec(reader)
        except ConfigError as error:
            report.add(f"task {name} {stored}: {error}")
    for name, in_use in store.execute("check/tasks_not_in_use"):
        report.add(f"task {name}: {in_use} are in use, not one; kbetl use {name} chooses")
    report.checked.append(f"hashes and readers of tasks: {len(found):,} rows")


def _check_views(store: Store, report: CheckReport) -> None:
    for name in store.changed_views():
        report.add(f"view {name} is not what its file says; the next writing command remakes it")
    report.checked.append(f"views: {len(sql_names('views')):,}")


_CHECKS = (
    _check_references,
    _check_maps,
    _check_samples,
    _check_facts,
    _check_lines,
    _check_answers,
    _check_handed_out,
    _check_tasks,
    _check_problems,
    _check_views,
)
