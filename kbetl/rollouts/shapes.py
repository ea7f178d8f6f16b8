"""Which shape a line has, by what it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from kbetl import fields
from kbetl.errors import BadRow

Shape = Literal["row", "episode", "trace", "batch", "batch input"]

WORDS: Mapping[Shape, str] = {
    "row": "prime-rl synthesize or verifiers 0.1 to 0.3 results",
    "episode": "verifiers episodes",
    "trace": "verifiers traces",
    "batch": "batch output",
    "batch input": "batch input",
}


def shape_of(value: Any) -> Shape | None:
    """The shape of a parsed line; None for one that is no rollout."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("traces"), list):
        return "episode"
    if isinstance(value.get("nodes"), list) and isinstance(value.get("task"), Mapping):
        return "trace"
    if isinstance(value.get("custom_id"), str):
        return _shape_of_batch(value)
    if value.get("example_id") is not None and value.get("completion") is not None:
        return "row"
    return None


def _shape_of_batch(value: Mapping[str, Any]) -> Shape | None:
    if value.get("response") is not None or value.get("error") is not None:
        return "batch"
    return "batch input" if isinstance(value.get("body"), Mapping) else None


def why_no_rollout(value: Any) -> str:
    """Why a line of no shape cannot be recorded, and what reads it."""
    if not isinstance(value, Mapping):
        return f"the line is {fields.type_name(value)}, not an object with fields"
    if value.get("completion") is not None or any(key in value for key in fields.PYTHON_CODE):
        return "no rollout of a run (no field 'example_id'); `kbetl ingest` reads modules and evals rows"
    if value.get("example_id") is not None and "completion" in value:
        return "field 'completion' is null: no rollout of a known shape"
    names = ", ".join(list(value)[:12]) or "no fields"
    return f"no rollout of a known shape; it has {names}"


def check_shape(value: Any) -> Shape:
    """The shape of a line that must have one. Raises BadRow with the reason where it has none."""
    shape = shape_of(value)
    if shape is None:
        raise BadRow(why_no_rollout(value))
    if shape == "batch input":
        raise BadRow("a request of a batch, not an answer; the output file has the answers")
    return shape


class Tool(NamedTuple):
    """Who wrote a line, as far as it says."""

    name: str | None = None
    version: str | None = None


def tool_of(value: Mapping[str, Any]) -> Tool:
    """The tool of a line with a shape: traces name theirs, batch ids and fingerprints begin with it."""
    traces = value.get("traces") or [value]
    told = traces[0].get("verifiers") if isinstance(traces[0], Mapping) else None
    if isinstance(told, Mapping):
        return Tool("verifiers", told.get("version"))
    if shape_of(value) != "batch":
        return Tool()
    is_vllm = str(value.get("id")).startswith("vllm-")
    response = value.get("response")
    body = response.get("body") if isinstance(response, Mapping) else None
    printed = re.match(
        r"vllm-([\w.]+)", str(body.get("system_fingerprint")) if isinstance(body, Mapping) else ""
    )
    return Tool("vllm run-batch" if is_vllm else "OpenAI Batch", printed[1] if printed else None)
