"""The async chat-completions client: one request in, one Completion or one error out."""

from kbetl.client.client import Client, Stats
from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.judging import Meter, OnWasted

__all__ = ["Client", "Endpoint", "Limits", "Meter", "OnWasted", "Stats"]
