"""The async chat-completions client: one request in, one Completion or one error out."""

from kbetl.client.client import Client, Meter, OnWasted, Stats
from kbetl.client.endpoint import Endpoint, Limits

__all__ = ["Client", "Endpoint", "Limits", "Meter", "OnWasted", "Stats"]
