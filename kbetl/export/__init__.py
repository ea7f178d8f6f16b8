"""Writes a dataset, or what a query gives, to a file or a folder that `load_dataset` reads."""
