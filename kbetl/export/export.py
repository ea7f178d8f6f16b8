"""Exports a dataset or a query: converts rows to a format, writes them, and reports what was written."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbetl.dataset.column_types import DeclaredType
from kbetl.dataset.dataset import Dataset, check_sources, open_dataset
from kbetl.dataset.registry import DATASETS
from kbetl.errors import BadQuery, ConfigError, EmptyDataset, NothingCarried, exit_status_for
from kbetl.export.formats import FORMATS, ExportedFolder, check_format, check_labels
from kbetl.export.source import DatasetSource, LeftOut
from kbetl.export.target import (
    ExportTarget,
    as_open_as,
    atomic_file,
    atomic_folder,
    data_path,
    readme,
    refuse_store,
    target_of,
)
from kbetl.export.writers import FileWriter
from kbetl.json_codec import json_bytes
from kbetl.readers.lines import printable_path
from kbetl.store import Store, read_only_query
from kbetl.store.datasets import Split, longest_rows


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export, to which file or folder, in which format."""

    dataset: Dataset
    output: str
    format: str = "rows"
    """A key of FORMATS."""
    has_reasoning: bool = True


@dataclass(slots=True)
class ExportReport:
    """What was written, and what was left out and why."""

    name: str
    files: list[Path] = field(default_factory=list)
    rows: dict[Split | None, int] = field(default_factory=dict)
    size_bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of rows left out, by reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """The reasons of the first few rows left out, by sample hash."""
    notes: list[str] = field(default_factory=list)

    def count(self, rows: Mapping[Split, int]) -> None:
        """Records the number of rows written per split."""
        for split, number in rows.items():
            self.rows[split] = number

    @property
    def exit_status(self) -> int:
        """0, or 3 if rows were left out."""
        return exit_status_for(self.left_out)

    def remarks(self) -> list[str]:
        """Returns the lines on what was left out and what is unusual."""
        return [*LeftOut(self.left_out, self.examples).lines(), *self.notes]

    def as_text(self) -> str:
        """Returns one line: rows in all and per split, files, bytes."""
        sides = ", ".join(f"{split} {number:,}" for split, number in self.rows.items() if split is not None)
        out = sum(self.left_out.values())
        return (
            f"{self.name}: wrote {sum(self.rows.values()):,} rows{f' ({sides})' if sides else ''}, "
            f"left out {out:,}, to {', '.join(map(printable_path, self.files))} ({self.size_bytes:,} bytes)"
        )


def export(database: Path, options: ExportOptions) -> ExportReport:
    """Writes a dataset, read from one snapshot of the store.

    Raises EmptyDataset if there is no row to write, ConfigError for options that contradict each other,
    ExportFailed if the file system fails. The target is unchanged then.
    """
    check(options)
    target = target_of(options.output)
    refuse_store(target, database)
    target = as_open_as(database, target)
    with Store.read(database) as store, open_dataset(store, options.dataset) as dataset:
        if dataset.why_empty is not None:
            raise EmptyDataset(dataset.why_empty)
        rows = DatasetSource(dataset, options.format, has_reasoning=options.has_reasoning)
        report = ExportReport(options.dataset.name, notes=dataset.notes)
        if target.kind is None:
            _write_folder(store, target, rows, options, report)
        else:
            _write_files(target, rows, report)
        report.notes += [
            f"rows had a column {name} of their own; ours stands in its place"
            for name in sorted(dataset.overwritten_columns)
        ]
        report.notes += rows.notes
    return report


def check(options: ExportOptions, store: Store | None = None) -> None:
    """Raises ConfigError for options that cannot be exported, and with a store for those its sources forbid.

    It does not need any rows yet.
    """
    dataset = options.dataset
    target = target_of(options.output)
    if store is not None:
        refuse_store(target, store.path)
    check_format(dataset.name, options.format, has_reasoning=options.has_reasoning)
    check_labels(dataset.name, options.format, dataset.with_labels)
    if dataset.by != "name" and not dataset.entry.is_grouped:
        grouped = ", ".join(name for name, entry in DATASETS.items() if entry.is_grouped)
        raise ConfigError(f"--by {dataset.by} is for {grouped} alone")
    if dataset.random_split and dataset.splits is False:
        raise ConfigError("--random-split makes splits; leave --no-splits out")
    if store is not None:
        check_sources(store, dataset)


def _write_files(target: ExportTarget, rows: DatasetSource, report: ExportReport) -> None:
    """Writes one file, or one per split; all are renamed when all are complete."""
    assert target.kind is not None
    writer = FileWriter(rows)
    paths = {split: target.path if split is None else target.beside(split) for split in rows.splits}
    with contextlib.ExitStack() as stack:
        files = {split: stack.enter_context(atomic_file(path, target.mode)) for split, path in paths.items()}
        report.rows = writer.write(files, target.kind)
        _count_left_out(report, rows)
    for split, path in paths.items():
        if not report.rows[split]:
            report.notes.append(f"there is no row in {split}, so {path} is empty")
    report.files += paths.values()
    report.size_bytes = sum(path.stat().st_size for path in paths.values())
    report.notes += writer.notes


def _write_folder(
    store: Store, target: ExportTarget, rows: DatasetSource, options: ExportOptions, report: ExportReport
) -> None:
    """Writes each split as Parquet, a README that names the splits, and settings of trainers."""
    writer = FileWriter(rows)
    with atomic_folder(target.path, target.mode) as folder:
        written = _write_sides(folder, writer)
        report.count(written)
        _count_left_out(report, rows)
        for split in [split for split, number in written.items() if not number]:
            (folder / data_path(split)).unlink()  # `load_dataset` fails on an empty split
            report.notes.append(f"there is no row in {split}, so the folder has no such side")
            del written[split]
        texts = {"README.md": readme(report.name, written)}
        texts |= _settings(store, target, options, list(written), writer)
        for file_name, text in texts.items():
            with atomic_file(folder / file_name) as file:
                file.write(text.encode())
    report.files.append(target.path)
    report.size_bytes = _size_bytes(target.path)
    report.notes += writer.notes


def _write_sides(folder: Path, writer: FileWriter) -> dict[Split, int]:
    """Writes each split as a Parquet file; rows without a split are `train`."""
    names: dict[Split | None, Split] = {split: split or "train" for split in writer.rows.splits}
    with contextlib.ExitStack() as stack:
        files = {
            split: stack.enter_context(atomic_file(folder / data_path(name))) for split, name in names.items()
        }
        rows = writer.write(files, "parquet")
    return {name: rows[split] for split, name in names.items()}


def _settings(
    store: Store, target: ExportTarget, options: ExportOptions, splits: Sequence[Split], writer: FileWriter
) -> dict[str, str]:
    def longest_tokens() -> dict[str, int]:
        longest: dict[str, int] = {}
        for row in longest_rows(store):
            longest[row.tokenizer] = max(row.total_tokens, longest.get(row.tokenizer, 0))
        return longest

    folder = ExportedFolder(
        options.dataset.name, str(target.path), splits, writer.column_names, longest_tokens
    )
    return FORMATS[options.format].settings(folder)


def _count_left_out(report: ExportReport, rows: DatasetSource) -> None:
    """Records the rows left out. Raises NothingCarried, naming the first, if no row was written."""
    left_out = rows.all_left_out()
    report.left_out, report.examples = left_out.reasons, left_out.examples
    if not sum(report.rows.values()):
        rows_left_out = "\n".join(left_out.lines())
        raise NothingCarried(
            f"nothing is left of the dataset {report.name} to write: {left_out.why()}\n{rows_left_out}"
        )


class QueryRows:
    """The rows of a user's query; the query runs again each time they are read."""

    splits: Sequence[Split | None] = (None,)
    last: Sequence[str] = ()

    def __init__(self, connection: sqlite3.Connection, statement: str) -> None:
        self.declared: dict[str, DeclaredType] = {}
        self._connection = connection
        self._statement = statement

    def texts(self, _split: Split | None) -> Iterator[bytes]:
        """Yields the rows. Raises BadQuery for a value that JSON cannot express, and for a repeated name."""
        cursor = self._connection.execute(self._statement)
        names = [column[0] for column in cursor.description or ()]
        if not names:
            raise ConfigError('--sql holds no statement; for example --sql "select * from filtered"')
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadQuery(f"SQL: two columns are called {twice!r}; name one with `as`")
        for row in cursor:
            yield _query_text(dict(zip(names, row, strict=True)))


def _query_text(row: Mapping[str, Any]) -> bytes:
    for name, value in row.items():
        if isinstance(value, bytes):
            raise BadQuery(f"SQL: column {name!r} holds a BLOB, which JSON cannot carry; use hex()")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadQuery(f"SQL: column {name!r} holds an infinite number, which JSON cannot carry")
    return json_bytes(row)


def export_query(database: Path, statement: str, output: str) -> ExportReport:
    """Writes the rows of a query, run on a read-only connection; in a folder they are `train`.

    Raises ConfigError for SQL that fails, EmptyDataset if there is no row.
    """
    target = target_of(output)
    refuse_store(target, database)
    target = as_open_as(database, target)
    report = ExportReport("query")
    try:
        with read_only_query(database) as connection:
            _write_query(FileWriter(QueryRows(connection, statement)), target, report)
    except BadQuery as bad:
        raise ConfigError(f"--sql: {bad}") from bad
    report.files.append(target.path)
    report.size_bytes = _size_bytes(target.path)
    return report


def _write_query(writer: FileWriter, target: ExportTarget, report: ExportReport) -> None:
    open_target = atomic_folder if target.kind is None else atomic_file
    with open_target(target.path, target.mode) as output:
        if isinstance(output, Path):
            written = _write_sides(output, writer)
            report.count(written)
            with atomic_file(output / "README.md") as file:
                file.write(readme(report.name, written).encode())
        else:
            report.rows = writer.write({None: output}, target.kind or "parquet")
        if not sum(report.rows.values()):
            raise EmptyDataset("the query gives no rows, so nothing was written")
    report.notes += writer.notes


def _size_bytes(path: Path) -> int:
    """Returns the bytes of a file, or of the data files of a folder."""
    return path.stat().st_size if path.is_file() else sum(each.stat().st_size for each in path.glob("data/*"))
