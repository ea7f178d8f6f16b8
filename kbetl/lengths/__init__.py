"""Counts the tokens of rollouts, rendered by the chat template as a trainer would."""

from kbetl.lengths.measure import MeasureProgress, measure
from kbetl.lengths.report import LengthReport
from kbetl.lengths.scope import Chosen, choose
from kbetl.lengths.tokenizer_files import find

__all__ = ["Chosen", "LengthReport", "MeasureProgress", "choose", "find", "measure"]
