"""Writes a dataset, or what a query gives, to a file or a folder that `load_dataset` reads."""

from kbetl.export.export import ExportOptions, ExportReport, check, export, export_query
from kbetl.export.formats import FORMATS, Format
from kbetl.export.source import DatasetSource, LeftOut

__all__ = [
    "FORMATS",
    "DatasetSource",
    "ExportOptions",
    "ExportReport",
    "Format",
    "LeftOut",
    "check",
    "export",
    "export_query",
]
