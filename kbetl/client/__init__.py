"""The async chat-completions client: one request in, one Completion or one error out."""

from kbetl.client.client import Client, Stats
from kbetl.client.endpoint import Endpoint, Limits
from kbetl.client.retry_policy import OnBilledFailure, RequestMeter

__all__ = ["Client", "Endpoint", "Limits", "OnBilledFailure", "RequestMeter", "Stats"]
