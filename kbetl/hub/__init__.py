"""Pushes datasets to the Hub, each as one commit, with a card made from the store."""

from kbetl.hub.pushing import Options, Pushed, push

__all__ = ["Options", "Pushed", "push"]
