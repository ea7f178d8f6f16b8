"""Selects which samples are measured: a dataset of the store, from all or some sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from kbetl import config
from kbetl.dataset.registry import MEASURED, ROLLOUTS
from kbetl.errors import ConfigError
from kbetl.store import Store
from kbetl.store.datasets import source_ids
from kbetl.text import plain_text


class Chosen(NamedTuple):
    """A dataset, and the sources of its samples; `source_ids` is None for all sources."""

    dataset: str
    """A key of MEASURED."""
    sources: tuple[str, ...] = ()
    source_ids: tuple[int, ...] | None = None


def choose(store: Store, dataset: str | None, sources: Sequence[str], dataset_path: str | None) -> Chosen:
    """Returns the dataset and sources of the options, or of `DATASET_PATH` if there is no option.

    Raises ConfigError for a source that the store does not have.
    """
    if dataset is None and not sources and dataset_path is not None:
        return _by_path(store, dataset_path)
    if not sources:
        return Chosen(dataset or ROLLOUTS)
    return Chosen(dataset or ROLLOUTS, tuple(sources), tuple(source_ids(store, sources)))


def _by_path(store: Store, path: str) -> Chosen:
    for dataset in MEASURED:
        if path == dataset or _is_written_as(path, dataset):
            return Chosen(dataset)
    found = store.rows("lengths/sources_by_uri", {"name": path})
    if not found:
        raise ConfigError(
            f"DATASET_PATH={plain_text(path)} is neither a dataset of this store ({', '.join(MEASURED)}) "
            f"nor one of its sources; ingest it first: kbetl ingest {plain_text(path)}"
        )
    return Chosen(ROLLOUTS, tuple(name for _, name in found), tuple(source_id for source_id, _ in found))


def _is_written_as(path: str, dataset: str) -> bool:
    """Whether a path is the output of the dataset, or its name on the Hub."""
    output = MEASURED[dataset].output
    if output is None:
        return False
    names = (config.variable(output.variable), output.path, f"{config.EVALS}-{dataset}")
    return os.path.normpath(path) in {os.path.normpath(name) for name in names if name}
