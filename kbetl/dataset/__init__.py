"""A dataset's rows, in order, as JSON text or as Arrow batches: what `export` writes and `hub` pushes.

    with open_dataset(store, Dataset("filtered", sources=("evals",))) as dataset:
        dataset.counts                        # {"train": 6463, "validation": 718}
        for row in dataset.rows("train"):     # row.text is one line of JSONL, less its line end
            ...

The same store gives the same rows and, with one version of pyarrow, the same bytes. Names are imported from
the files of this folder, so that a command that only lists the datasets does not wait for the rest.
"""
