"""A dataset's rows, in order, as JSON text or as Arrow batches: what `export` writes and `hub` pushes.

    with opened(store, Dataset("filtered", sources=("evals",))) as dataset:
        dataset.counts                        # {"train": 6463, "validation": 718}
        for row in dataset.rows("train"):     # row.text is one line of JSONL, less its line end
            ...

The same store gives the same rows and, with one version of pyarrow, the same bytes.
"""

from kbetl.dataset.arrow import Columns, batches_of, columns_of, write_parquet
from kbetl.dataset.dataset import (
    SPLIT_BY_DEFAULT,
    Dataset,
    DatasetRows,
    Row,
    check_sources,
    open_dataset,
    why_empty,
)
from kbetl.store.datasets import NAMES, SPLITS, By, Name, Split

__all__ = [
    "NAMES",
    "SPLITS",
    "SPLIT_BY_DEFAULT",
    "By",
    "Columns",
    "Dataset",
    "DatasetRows",
    "Name",
    "Row",
    "Split",
    "batches_of",
    "check_sources",
    "columns_of",
    "open_dataset",
    "why_empty",
    "write_parquet",
]
