"""Decides by which map a source is read, and checks it: one reading per sample, and each path in some row."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from kbetl.errors import BadRow, ConfigError, LockHeld, SourceError
from kbetl.ingest.source import IngestOptions, Part, Source
from kbetl.json_codec import read_json
from kbetl.readers.lines import RawRow
from kbetl.records import sample_hash
from kbetl.samples.reading import at_path, map_text
from kbetl.store import Store, task_lock
from kbetl.store.field_maps import any_read_otherwise, kept_map, stored_reading

Found = Source | SourceError


def check_paths(sources: Sequence[Found], options: IngestOptions) -> list[Found]:
    """The sources; a pipe is read into a temporary file if its rows have to be looked at first.

    Raises ConfigError for a path of the map that no row has.
    """
    if not options.field_map:
        return list(sources)
    found = [_readable_again(each) if isinstance(each, Source) else each for each in sources]
    missing = dict(options.field_map)
    keys: dict[str, None] = {}
    for raw in (raw for source in found for raw in _rows(source, options.limit)):
        try:
            value = None if raw.fault is not None else read_json(raw.text).value
        except BadRow:
            continue
        if isinstance(value, dict):
            missing = {name: path for name, path in missing.items() if at_path(value, path) is None}
            keys.update(dict.fromkeys(list(value)[:20]))
        if not missing:
            return found
    if keys:
        name, path = next(iter(missing.items()))
        raise ConfigError(f"--map {name}={path}: no row has {path!r}; they have {', '.join(list(keys)[:20])}")
    return found


@contextlib.contextmanager
def with_maps(store: Store, sources: Sequence[Found], options: IngestOptions) -> Iterator[list[Found]]:
    """The sources with the map that each is read by: the one that is given, else the one it was read by.

    If stored samples are read otherwise by it, no task is asked meanwhile: an answer about the old reading
    would become a label of the new one. Raises LockHeld while one is, and ConfigError if samples of another
    source are stored by another map.
    """
    found = [
        _with_map(store, each, options) if isinstance(each, Source) else (each, False) for each in sources
    ]
    with contextlib.ExitStack() as locks:
        if any(reads_anew for _, reads_anew in found):
            for (name,) in store.rows("field_maps/names_of_tasks"):
                try:
                    locks.enter_context(task_lock(store.path, name))
                except LockHeld as error:
                    why = f"{error}, and stored samples would be read anew; wait for it, or end it"
                    raise LockHeld(why, error.process) from None
        yield [each for each, _ in found]


def _with_map(store: Store, source: Source, options: IngestOptions) -> tuple[Source, bool]:
    """The source with its map, and whether stored samples are read otherwise by it."""
    is_given = options.field_map is not None
    map_ = map_text(options.field_map) if is_given else kept_map(store, source.origin.name)
    mapped = replace(source, origin=replace(source.origin, field_map=map_))
    if any_read_otherwise(store, map_):
        mapped = _readable_again(mapped)
        return mapped, _reads_anew(store, mapped, options.limit)
    return mapped, False


def _reads_anew(store: Store, source: Source, limit: int | None) -> bool:
    reads_anew = False
    name, map_ = source.origin.name, source.origin.field_map
    others: Counter[tuple[str, str | None]] = Counter()
    for raw in _rows(source, limit):
        identity = None if raw.fault is not None else _sample_of(raw)
        stored = None if identity is None else stored_reading(store, identity, name)
        if stored is None or stored.map == map_:
            continue
        reads_anew = True
        if stored.other_source is not None:
            others[(stored.other_source, stored.map)] += 1
    if others:
        (other, theirs), rows = others.most_common(1)[0]
        raise ConfigError(
            f"{name}: {rows} of its samples are stored as source {other} reads them ({theirs or 'no map'}), "
            f"not by {map_ or 'no map'}; a sample has one reading: give both the same --map, or name another "
            "store with -d"
        )
    return reads_anew


def _sample_of(raw: RawRow) -> str | None:
    """Returns the sample hash of a row; None if it is no JSON object."""
    try:
        value = read_json(raw.text).value
    except BadRow:
        return None
    return sample_hash(value) if isinstance(value, dict) else None


def _rows(source: Found, limit: int | None) -> Iterator[RawRow]:
    """The rows of a source as far as they can be read; what cannot is reported when the source is stored."""
    if isinstance(source, Source):
        yield from islice((raw for part in source.parts for raw in _readable(part)), limit)


def _readable(part: Part) -> Iterator[RawRow]:
    try:
        yield from part.rows()
    except SourceError:
        return


def _readable_again(source: Source) -> Source:
    if not any(part.is_stream for part in source.parts):
        return source
    return replace(source, parts=[_spooled(part) if part.is_stream else part for part in source.parts])


def _spooled(part: Part) -> Part:
    """The rows of a pipe, kept in a file that has no name."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as its rows may be read
    failure: list[SourceError] = []
    try:
        for raw in part.rows():
            pickle.dump(raw, spool)
    except SourceError as error:
        failure.append(error)

    def rows() -> Iterator[RawRow]:
        spool.seek(0)
        while True:
            try:
                yield pickle.load(spool)
            except EOFError:
                break
        if failure:
            raise failure[0]

    return replace(part, rows=rows, is_stream=False)
