"""Sends one request to a chat-completions server; returns one Completion or raises one error."""

from kbetl.client.client import Client, Stats
from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.retry_policy import OnBilledFailure, RequestMeter

__all__ = ["Client", "Endpoint", "Limits", "OnBilledFailure", "RequestMeter", "Stats"]
