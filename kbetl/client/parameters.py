"""What this run learned about the parameters that the model refuses, and bodies made accordingly."""

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
"""Parameters that bound the length, and so the price, of an answer, each with its other name."""

_NEVER_DROPPED = frozenset(
    {"response_format", "structured_outputs", "tools", "tool_choice", "functions", "stop", "n", "stream"}
)
"""Without these the answer would be another one; refused, they stop the run."""

Learned = Literal["adapted", "fatal"]


class Body(NamedTuple):
    """A request as it goes out."""

    data: bytes
    sent: str | None
    """The same as text where it differs from the request as asked, else None."""
    names: frozenset[str] | None
    """Names of its parameters where it differs, None where they are the request's own."""


class ParameterFallbacks:
    """Refused parameters of one run: each with the name that it goes by instead, None if left out."""

    def __init__(self, *, is_streamed: bool = False) -> None:
        self.refused: dict[str, str | None] = {}
        self._is_streamed = is_streamed

    def body(self, request: Request) -> Body:
        """The request, less what is refused. A key order that a schema may depend on is kept.

        That the answer is to be streamed is added: it changes nothing that is asked.
        """
        body = self._body(request)
        if not self._is_streamed:
            return body
        names = frozenset(request.parameters) if body.names is None else body.names
        if STREAM_OPTIONS in self.refused:
            return Body(body.data[:-1] + ASKED_WITHOUT_USAGE, body.sent, names)
        return Body(body.data[:-1] + ASKED, body.sent, names | {STREAM_OPTIONS})

    def _body(self, request: Request) -> Body:
        if not self.refused or self.refused.keys().isdisjoint(request.parameters):
            return Body(request.wire, None, None)
        parameters = self._adapted(request.parameters)
        adapted = Request(request.model, request.messages, parameters)
        data = adapted.wire
        return Body(data, data.decode(), frozenset(parameters))

    def on_unsupported(self, name: str, *, value_only: bool) -> Learned:
        """Notes that a parameter which was sent is refused, or its value alone is.

        "fatal" where the request cannot be asked without it: an output limit under both its names, a
        value of an output limit, or what makes the answer what it is.
        """
        if name in self.refused:
            return "adapted"
        other = OUTPUT_LIMITS.get(name)
        if name in _NEVER_DROPPED or (other is not None and (value_only or other in self.refused)):
            return "fatal"
        self.refused[name] = other
        return "adapted"

    def _adapted(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in parameters.items() if name not in self.refused}
        for name in parameters:
            other = self.refused.get(name)
            if other is not None:
                kept.setdefault(other, parameters[name])
        return kept
