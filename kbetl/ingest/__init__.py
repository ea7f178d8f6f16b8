"""Reads rows from files, folders, pipes and the Hub, and stores them as samples."""

from kbetl.ingest.sources import Options, Source, find_sources
from kbetl.ingest.storing import Report, Tally, ingest, ingest_into, status_of
from kbetl.sampling import sample_of
from kbetl.store.intake import Counts

__all__ = [
    "Counts",
    "Options",
    "Report",
    "Source",
    "Tally",
    "find_sources",
    "ingest",
    "ingest_into",
    "sample_of",
    "status_of",
]
