"""Rollouts: records those that other tools made."""

from kbetl.synth.discovery import RecordOptions
from kbetl.synth.follow import follow
from kbetl.synth.record import record

__all__ = ["RecordOptions", "follow", "record"]
