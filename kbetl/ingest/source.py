"""Describes a source: where rows come from, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kbetl.readers.lines import RawRow
from kbetl.samples.reading import FieldMap
from kbetl.store.samples import SourceInfo


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How sources are read. None: the default of that source."""

    split: str | None = None
    revision: str | None = None
    name: str | None = None
    """Name of the source, instead of its path or `repo:split`."""
    limit: int | None = None
    """Rows to read of each source."""
    field_map: FieldMap | None = None
    """How rows are read; None: as the source was read before. Empty: as they are."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a source."""

    name: str
    """FILE of FILE:LINE."""
    rows: Callable[[], Iterator[RawRow]]
    """Raises SourceError if nothing of the file can be read."""
    features: Callable[[], Any] = lambda: None
    """Declared column types as JSON; None if the file declares none."""
    is_stream: bool = False
    """Whether its rows can be read only once."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be read."""

    origin: SourceInfo
    parts: Sequence[Part]
    notes: Sequence[str] = ()
    """What is not read, and why."""
    size_bytes: int | None = None
    """Bytes of all its files, as far as they are not compressed; None if that is not known."""
