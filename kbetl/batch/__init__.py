"""Batches: the same questions as files that a service or an offline vLLM answers later."""

from kbetl.batch.files import FileLimits
from kbetl.batch.reading import Read, read_batches
from kbetl.batch.writing import Written, write_batches

__all__ = ["FileLimits", "Read", "Written", "read_batches", "write_batches"]
