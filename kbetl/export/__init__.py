"""Writes a dataset, or what a query gives, to a file or a folder that `load_dataset` reads."""

from kbetl.export.export import ExportOptions, ExportReport, check, export, export_query
from kbetl.export.formats import FORMATS, Format

__all__ = ["FORMATS", "ExportOptions", "ExportReport", "Format", "check", "export", "export_query"]
