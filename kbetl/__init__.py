"""kbetl: an incremental, resumable ETL for training data of models that write GPU kernels."""

__version__ = "0.1.0"
