"""The loop that pays: waiting samples -> request -> answer -> store."""

from kbetl.asking.answerers import Answerer, ModelServer, OfflineModel
from kbetl.asking.breaker import Earlier
from kbetl.asking.budget import Budget
from kbetl.asking.loop import Generate, Job, ask
from kbetl.asking.pool import ServerPool
from kbetl.asking.question import Prepare, Question, Questions
from kbetl.asking.spending import Asking, BudgetLimits, open_budget, settle_one
from kbetl.asking.tally import Tally
from kbetl.asking.worst_case import output_limit

__all__ = [
    "Answerer",
    "Asking",
    "Budget",
    "BudgetLimits",
    "Earlier",
    "Generate",
    "Job",
    "ModelServer",
    "OfflineModel",
    "Prepare",
    "Question",
    "Questions",
    "ServerPool",
    "Tally",
    "ask",
    "open_budget",
    "output_limit",
    "settle_one",
]
