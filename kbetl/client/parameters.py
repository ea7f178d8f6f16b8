"""Makes request bodies, without the parameters that the model refused earlier in the run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from kbetl.client.sse import ASKED, ASKED_WITHOUT_USAGE
from kbetl.records import Request

STREAM_OPTIONS = "stream_options"
OUTPUT_LIMITS: Mapping[str, str] = MappingProxyType(
    {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
)
"""Parameters that limit the length, and so the cost, of an answer, each with its other name."""

# Without one of these the answer would be a different one, so a model that refuses it stops the run.
_NEVER_DROPPED = frozenset(
    {"response_format", "structured_outputs", "tools", "tool_choice", "functions", "stop", "n", "stream"}
)

Learned = Literal["adapted", "fatal"]


class Body(NamedTuple):
    """A request body as it is sent."""

    data: bytes
    sent: str | None
    """The body as text if it differs from the request as asked; None if it does not."""
    names: frozenset[str] | None
    """Names of the parameters that are sent; None if they are those of the request."""


class ParameterFallbacks:
    """Collects the parameters that the model refused in one run, and leaves them out of later bodies.

    `replaced` has the name that is sent instead of each, None if it is left out.
    """

    def __init__(self, *, is_streamed: bool = False) -> None:
        self.replaced: dict[str, str | None] = {}
        self._is_streamed = is_streamed

    def body(self, request: Request) -> Body:
        """Returns the body of a request without refused parameters, its keys in their order.

        If the endpoint streams, the parameters for that are added; they change no answer.
        """
        body = self._body(request)
        if not self._is_streamed:
            return body
        names = frozenset(request.parameters) if body.names is None else body.names
        if STREAM_OPTIONS in self.replaced:
            return Body(body.data[:-1] + ASKED_WITHOUT_USAGE, body.sent, names)
        return Body(body.data[:-1] + ASKED, body.sent, names | {STREAM_OPTIONS})

    def _body(self, request: Request) -> Body:
        if not self.replaced or self.replaced.keys().isdisjoint(request.parameters):
            return Body(request.sent_body, None, None)
        parameters = self._adapted(request.parameters)
        adapted = Request(request.model, request.messages, parameters)
        data = adapted.sent_body
        return Body(data, data.decode(), frozenset(parameters))

    def on_unsupported(self, name: str, *, value_only: bool) -> Learned:
        """Records that the model refused a parameter that was sent, or only its value (`value_only`).

        Returns "adapted" if requests can be sent without it. Returns "fatal" if they cannot: an output
        limit refused under both names, the value of an output limit, or a parameter that shapes the answer.
        """
        if name in self.replaced:
            return "adapted"
        other = OUTPUT_LIMITS.get(name)
        if name in _NEVER_DROPPED or (other is not None and (value_only or other in self.replaced)):
            return "fatal"
        self.replaced[name] = other
        return "adapted"

    def _adapted(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        adapted = {name: value for name, value in parameters.items() if name not in self.replaced}
        for name in parameters:
            other = self.replaced.get(name)
            if other is not None:
                adapted.setdefault(other, parameters[name])
        return adapted
