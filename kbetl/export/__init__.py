"""Writes a dataset, or what a query gives, to a file or a folder that `load_dataset` reads."""

from kbetl.export.exporting import Options, Report, check, export, export_query
from kbetl.export.formats import FORMATS, Format

__all__ = ["FORMATS", "Format", "Options", "Report", "check", "export", "export_query"]
