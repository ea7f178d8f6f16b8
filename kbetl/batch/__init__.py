"""Batches: the same questions as files that a service or an offline vLLM answers later."""

from kbetl.batch.fetching import Fetched, as_json, fetch, status, status_line
from kbetl.batch.files import FileLimits
from kbetl.batch.reading import Read, read_batches
from kbetl.batch.service import LISTED_WITHIN_S, Address, submit
from kbetl.batch.settling import settle_answered
from kbetl.batch.writing import Target, Written, write_batches

__all__ = [
    "LISTED_WITHIN_S",
    "Address",
    "Fetched",
    "FileLimits",
    "Read",
    "Target",
    "Written",
    "as_json",
    "fetch",
    "read_batches",
    "settle_answered",
    "status",
    "status_line",
    "submit",
    "write_batches",
]
