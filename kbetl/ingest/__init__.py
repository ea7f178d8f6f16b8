"""Reads rows from files, folders, pipes and the Hub, and stores them as samples."""

from kbetl.ingest.sources import Options, Source, find_sources
from kbetl.ingest.storing import ingest, ingest_into
from kbetl.sampling import sample_of
from kbetl.store.intake import Counts
from kbetl.taking import Report, Tally, status_of

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
