"""Rollouts: records those that other tools made."""

from kbetl.synth.finding import Options
from kbetl.synth.following import follow
from kbetl.synth.recording import record

__all__ = ["Options", "follow", "record"]
