"""Pushes datasets to the Hub, each as one commit, with a card made from the store."""

from kbetl.hub.options import Options
from kbetl.hub.pushing import check_ready, push
from kbetl.hub.sending import Pushed

__all__ = ["Options", "Pushed", "check_ready", "push"]
