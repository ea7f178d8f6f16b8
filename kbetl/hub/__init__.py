"""Pushes datasets to the Hub, each as one commit, with a card that is made from the store."""

from kbetl.hub.commit import Pushed, PushOptions
from kbetl.hub.push import check_ready, exit_status, push

__all__ = ["PushOptions", "Pushed", "check_ready", "exit_status", "push"]
