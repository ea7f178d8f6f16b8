"""Reads the rows of a dataset, in order, as JSON text or Arrow batches, for `export` and `hub`.

    with open_dataset(store, Dataset("filtered", sources=("evals",))) as dataset:
        dataset.counts                        # {"train": 6463, "validation": 718}
        for row in dataset.rows("train"):     # row.text is one line of JSONL, less its line end
            ...

The same store gives the same rows and, with one version of pyarrow, the same bytes. Callers import from the
modules, so that a command that only lists the datasets does not load pyarrow.
"""
