"""Reads rows from files, folders, pipes and the Hub, and stores them as samples."""

from kbetl.ingest.ingest import ingest, ingest_into
from kbetl.ingest.source import IngestOptions, Source
from kbetl.ingest.sources import find_sources
from kbetl.row_writer import IngestReport, ReadProgress, exit_status
from kbetl.samples.parse import parse_row
from kbetl.store.samples import ReadCounts

__all__ = [
    "IngestOptions",
    "IngestReport",
    "ReadCounts",
    "ReadProgress",
    "Source",
    "exit_status",
    "find_sources",
    "ingest",
    "ingest_into",
    "parse_row",
]
