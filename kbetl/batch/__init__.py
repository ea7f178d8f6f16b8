"""Batches: the same requests as files that a service or an offline vLLM answers later."""

from kbetl.batch.fetch import Fetched, as_json, fetch, status, status_line
from kbetl.batch.files import FileLimits
from kbetl.batch.read import BatchReadReport, read_batches, record_answered
from kbetl.batch.submit import LISTED_WITHIN_S, ServiceAddress, submit
from kbetl.batch.write import BatchTarget, BatchWriteReport, write_batches

__all__ = [
    "LISTED_WITHIN_S",
    "BatchReadReport",
    "BatchTarget",
    "BatchWriteReport",
    "Fetched",
    "FileLimits",
    "ServiceAddress",
    "as_json",
    "fetch",
    "read_batches",
    "record_answered",
    "status",
    "status_line",
    "submit",
    "write_batches",
]
