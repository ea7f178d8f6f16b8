"""Writes a dataset, or the rows of a query, to a file or a folder that `load_dataset` reads."""
