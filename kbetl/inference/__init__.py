"""Asks a model: a plan, one run of it, every answer stored."""

from kbetl.inference.backends import Backend, LoadBalancer, OfflineBackend, ServerBackend
from kbetl.inference.begin import begin_task, resume_options
from kbetl.inference.budget import Budget
from kbetl.inference.budget_history import BudgetLimits, BudgetScope, close_reservation, open_budget
from kbetl.inference.dry_run import estimate_run
from kbetl.inference.options import EnrichOptions
from kbetl.inference.plan import Plan
from kbetl.inference.report import DryReport, RunProgress, RunReport
from kbetl.inference.requests import Generate, PreparedRequest
from kbetl.inference.run import run_plan

__all__ = [
    "Backend",
    "Budget",
    "BudgetLimits",
    "BudgetScope",
    "DryReport",
    "EnrichOptions",
    "Generate",
    "LoadBalancer",
    "OfflineBackend",
    "Plan",
    "PreparedRequest",
    "RunProgress",
    "RunReport",
    "ServerBackend",
    "begin_task",
    "close_reservation",
    "estimate_run",
    "open_budget",
    "resume_options",
    "run_plan",
]
