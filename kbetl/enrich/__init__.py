"""Which samples a task is about, why each would be asked, and asking them."""

from kbetl.enrich.foreseeing import dry_run
from kbetl.enrich.options import Options
from kbetl.enrich.order import order_of, ordered
from kbetl.enrich.readiness import check_ready
from kbetl.enrich.report import DryReport, Report
from kbetl.enrich.resuming import Typed, check_model_meant, resumed
from kbetl.enrich.running import enrich

__all__ = [
    "DryReport",
    "Options",
    "Report",
    "Typed",
    "check_model_meant",
    "check_ready",
    "dry_run",
    "enrich",
    "order_of",
    "ordered",
    "resumed",
]
