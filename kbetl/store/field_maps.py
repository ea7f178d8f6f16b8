"""The maps by which samples are read, and samples that are read anew by another map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from kbetl.records import Sample
from kbetl.samples.reading import NAMES, sql_path, stored_map
from kbetl.store.store import Store


class StoredReading(NamedTuple):
    """How a stored sample is read."""

    map: str | None
    """As `map_text` spells it; None if its row is read as it is."""
    other_source: str | None
    """Another source that holds the sample; None if there is none."""


class Reread(NamedTuple):
    """A stored sample, read anew, and the tasks whose outcomes are dropped because of that."""

    sample: Sample
    task_hashes: Sequence[str]
    """Tasks whose outcomes about it depend on a field that changed."""
    drops_lengths: bool


class Dropped(NamedTuple):
    """How much was dropped."""

    outcomes: int
    lengths: int


def kept_map(store: Store, source: str) -> str | None:
    """The map by which a source is read; None for none, and for an unknown source."""
    found = store.rows("field_maps/kept_map", {"name": source})
    return found[0][0] if found else None


def any_read_otherwise(store: Store, map_: str | None) -> bool:
    """Whether any stored sample is read by another map than this."""
    return bool(store.rows("field_maps/any_read_otherwise", {"map": map_})[0][0])


def stored_reading(store: Store, sample_hash: str, source: str) -> StoredReading | None:
    """How a sample is read that this source, or another, holds; None if it is not stored."""
    found = store.rows("field_maps/stored_reading", {"sample_hash": sample_hash, "source": source})
    return StoredReading(*found[0]) if found else None


def map_id(store: Store, map_: str | None) -> int | None:
    """The id of a map, which is kept if it is new; None for no map. Call within a transaction."""
    paths = stored_map(map_)
    if paths is None:
        return None
    columns = {name: sql_path(paths[name]) if name in paths else None for name in NAMES}
    store.execute("field_maps/add_map", {"map": map_, **columns})
    found: int = store.execute("field_maps/map_id", {"map": map_}).fetchone()[0]
    return found


def read_anew(store: Store, reread: Reread) -> Dropped:
    """Changes what is derived from a sample's row, and drops what depended on it; facts and map come next.

    Call within a transaction.
    """
    sample, key = reread.sample, {"sample_hash": reread.sample.hash}
    columns = ("hash", "kind", "module_name", "code_hash", "code_point", "name_point", "reward")
    store.execute("field_maps/update_sample", {name: getattr(sample, name) for name in columns})
    for query in (
        "field_maps/drop_facts",
        "field_maps/drop_other_reasoning",
        "field_maps/drop_mapped_sample",
        "field_maps/drop_solution",
    ):
        store.execute(query, key)
    hashes = {**key, "task_hashes": json.dumps(list(reread.task_hashes))}
    outcomes = store.execute("field_maps/drop_outcomes", hashes).rowcount
    lengths = store.execute("field_maps/drop_lengths", key).rowcount if reread.drops_lengths else 0
    return Dropped(outcomes, lengths)
