"""Counts what a trainer will see: rollouts, rendered by the real chat template, in tokens."""

from kbetl.lengths.choosing import DATASETS, Chosen, choose
from kbetl.lengths.files import find
from kbetl.lengths.measuring import Tally, measure
from kbetl.lengths.report import Report

__all__ = ["DATASETS", "Chosen", "Report", "Tally", "choose", "find", "measure"]
