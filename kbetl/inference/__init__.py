"""The loop that pays: waiting samples -> request -> answer -> store."""

from kbetl.inference.backends import Backend, LoadBalancer, OfflineBackend, ServerBackend
from kbetl.inference.breaker import Earlier
from kbetl.inference.budget import Budget, output_limit
from kbetl.inference.budget_history import BudgetLimits, BudgetScope, open_budget, settle_reservation
from kbetl.inference.dry_run import dry_run
from kbetl.inference.options import EnrichOptions
from kbetl.inference.plan import batch_plan, batch_plan_of
from kbetl.inference.report import DryReport, RunProgress, RunReport
from kbetl.inference.requests import Generate, PreparedRequest, PrepareRequests, RequestFeed
from kbetl.inference.run import Typed, check_model_meant, enrich, preflight, resume_options
from kbetl.inference.workers import InferenceJob, run_job

__all__ = [
    "Backend",
    "Budget",
    "BudgetLimits",
    "BudgetScope",
    "Earlier",
    "Generate",
    "InferenceJob",
    "LoadBalancer",
    "OfflineBackend",
    "PrepareRequests",
    "PreparedRequest",
    "RequestFeed",
    "RunProgress",
    "ServerBackend",
    "open_budget",
    "output_limit",
    "run_job",
    "settle_reservation",
]


__all__ = [
    "DryReport",
    "EnrichOptions",
    "RunReport",
    "Typed",
    "batch_plan",
    "batch_plan_of",
    "check_model_meant",
    "dry_run",
    "enrich",
    "preflight",
    "resume_options",
]
