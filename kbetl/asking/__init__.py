"""The loop that pays: waiting samples -> request -> answer -> store."""

from kbetl.asking.answerers import Answerer, ModelServer, OfflineModel
from kbetl.asking.loop import Generate, Job, ask
from kbetl.asking.pool import ServerPool
from kbetl.asking.question import Prepare, Question, Questions
from kbetl.asking.tally import Tally

__all__ = [
    "Answerer",
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
]
