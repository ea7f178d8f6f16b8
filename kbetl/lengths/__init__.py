"""Counts what a trainer will see: rollouts, rendered by the real chat template, in tokens."""

from kbetl.lengths.measure import MeasureProgress, measure
from kbetl.lengths.report import LengthReport
from kbetl.lengths.scope import Chosen, choose
from kbetl.lengths.tokenizer_files import find

__all__ = ["Chosen", "LengthReport", "MeasureProgress", "choose", "find", "measure"]
