"""A store from Python, read only: `kbetl.open_store("kbetl.db")`.

    with kbetl.open_store("kbetl.db") as store:
        for row in store.rows("filtered", with_=["helpfulness"]):
            ...                                    # a dict, as `kbetl export` writes it
        helpfulness = dict(store.labels("helpfulness"))
        frame = store.dataframe("filtered")        # needs pandas
        store.db["answers"].count                  # sqlite-utils, for everything else

What a user can cause raises `kbetl.errors.KbetlError` with a message of one line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from kbetl.dataset.dataset import Dataset, DatasetRows, open_dataset
from kbetl.dataset.registry import DATASETS
from kbetl.errors import ConfigError, EmptyDataset
from kbetl.json_codec import stored_value
from kbetl.store import Store, read_only_connection, real_path
from kbetl.store.task_labels import TaskLabels, all_labels, labels_in_use

if TYPE_CHECKING:
    from pandas import DataFrame
    from sqlite_utils import Database

_PANDAS_TYPES = {"int64": "Int64", "float64": "Float64", "string": "string"}
"""Types of pandas that have a value for what is missing."""


class Label(NamedTuple):
    """What a task says of one sample."""

    sample_hash: str
    value: Any
    """int, float or str as the task's answers are read; of JSON the value itself."""


class OpenStore:
    """A store that is read. Each call sees what was committed when it began."""

    def __init__(self, path: Path) -> None:
        """`path` is that of the file. Raises StoreError if this kbetl cannot read it."""
        self.path = path
        Store.read(path).close()

    @cached_property
    def db(self) -> Database:
        """A `sqlite_utils.Database` on one connection that can read the store and nothing else."""
        from sqlite_utils import Database

        connection = read_only_connection(self.path, allows_pragmas=True)
        return Database(connection, recursive_triggers=False)

    def rows(
        self,
        dataset: str,
        *,
        with_: Sequence[str] = (),
        where: str | None = None,
        sources: Sequence[str] = (),
        all_sources: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """The rows of a dataset in order, one at a time: `filtered`, `unique`, `synthetic` or `evals`.

        `with_` names tasks in use whose labels are columns too, None where a row has none; `where` is SQL
        over the columns of `selectable`. Raises ConfigError for what cannot be meant, as `kbetl export` does.
        """
        chosen = self._dataset(dataset, with_, where, sources, all_sources)
        with Store.read(self.path) as store, open_dataset(store, chosen) as opened:
            yield from _values(opened)

    def labels(self, task: str) -> Iterator[Label]:
        """The labels of a task in use by sample, in the order of hashes; `dict` makes a table of them.

        Raises ConfigError if no task of that name is in use.
        """
        with Store.read(self.path) as store:
            for sample_hash, value in all_labels(store, labels_in_use(store, [task])[0]):
                yield Label(sample_hash, value)

    def dataframe(
        self,
        dataset: str,
        *,
        with_: Sequence[str] = (),
        where: str | None = None,
        sources: Sequence[str] = (),
        all_sources: bool = False,
    ) -> DataFrame:
        """The same rows as a `pandas.DataFrame`; labels have its types Int64, Float64 and string.

        Raises ConfigError if pandas is not installed, and EmptyDataset, with the reason, if there is no row.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError("dataframe needs pandas; run: pip install pandas") from None
        chosen = self._dataset(dataset, with_, where, sources, all_sources)
        with Store.read(self.path) as store, open_dataset(store, chosen) as opened:
            if opened.why_empty is not None:
                raise EmptyDataset(opened.why_empty)
            rows = list(_values(opened))
            frame = pandas.DataFrame(rows)
            for label in opened.labels:
                # from the rows: pandas has made floats of integers beside None already
                frame[label.name] = pandas.Series(
                    [row[label.name] for row in rows], dtype=_pandas_type(label)
                )
        return frame

    def close(self) -> None:
        """Closes `db`, if it was used."""
        if "db" in self.__dict__:
            self.__dict__.pop("db").close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _dataset(
        name: str, with_: Sequence[str], where: str | None, sources: Sequence[str], all_sources: bool
    ) -> Dataset:
        if name not in DATASETS:
            raise ConfigError(f"no dataset {name!r}; there are {', '.join(DATASETS)}")
        for option, value in (("with_", with_), ("sources", sources)):
            if isinstance(value, str):
                raise ConfigError(f"{option}={value!r} is text; it is a list of names, as [{value!r}]")
        return Dataset(name, tuple(sources), all_sources, where, splits=False, with_labels=tuple(with_))


def open_store(path: str | os.PathLike[str] = "kbetl.db") -> OpenStore:
    """The store at `path`, for reading.

    Raises StoreError if there is none, or if it must be migrated first, with the command that does it.
    """
    return OpenStore(real_path(Path(path)))


def _values(opened: DatasetRows) -> Iterator[dict[str, Any]]:
    for row in opened.rows():
        yield stored_value(row.text)


def _pandas_type(label: TaskLabels) -> str:
    return "object" if label.column_type is None else _PANDAS_TYPES[label.column_type]
