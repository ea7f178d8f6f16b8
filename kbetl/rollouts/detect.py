"""Detects the shape of a rollout line by its fields, and reads what its run says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kbetl.errors import BadRow
from kbetl.json_codec import Parsed
from kbetl.rollouts.batch_output import rollouts_of_batch
from kbetl.rollouts.traces import BuiltRow, rollouts_of_episode, rollouts_of_trace
from kbetl.samples import fields
from kbetl.samples.fields import Row

REQUESTS = "batch input"
"""The shape of a line of batch input: no rollout, but a request that a line of batch output answers."""


class Shape(NamedTuple):
    """A shape of line and its reader; an entry of SHAPES."""

    words: str
    """What the store says that a run consists of."""
    is_ours: Callable[[Row], bool]
    """Whether a line has this shape, if it has none of those above."""
    rows: Callable[[Parsed, Row | None], Sequence[Parsed]]
    """Returns the rollouts of a line, given the request that it answers."""
    is_joined: bool = False
    """Whether the request of a line is in another file."""


def _built(rows: Callable[[Row, Row | None], Iterable[BuiltRow]]) -> Callable[..., Sequence[Parsed]]:
    return lambda parsed, request: [_parsed(each) for each in rows(parsed.value, request)]


def _refuse_request(parsed: Parsed, _request: Row | None) -> Sequence[Parsed]:
    raise BadRow("a request of a batch, not an answer; the output file has the answers")


def _is_of_batch(value: Row) -> bool:
    return isinstance(value.get("custom_id"), str)


SHAPES: Mapping[str, Shape] = {
    "episode": Shape(
        "verifiers episodes",
        lambda value: isinstance(value.get("traces"), list),
        _built(lambda value, _request: rollouts_of_episode(value)),
    ),
    "trace": Shape(
        "verifiers traces",
        lambda value: isinstance(value.get("nodes"), list) and isinstance(value.get("task"), Mapping),
        _built(lambda value, _request: rollouts_of_trace(value)),
    ),
    "batch": Shape(
        "batch output",
        lambda value: (
            _is_of_batch(value) and (value.get("response") is not None or value.get("error") is not None)
        ),
        _built(rollouts_of_batch),
        is_joined=True,
    ),
    REQUESTS: Shape(
        "batch input",
        lambda value: _is_of_batch(value) and isinstance(value.get("body"), Mapping),
        _refuse_request,
    ),
    "row": Shape(
        "prime-rl synthesize or verifiers 0.1 to 0.3 results",
        lambda value: (
            not _is_of_batch(value)
            and value.get("example_id") is not None
            and value.get("completion") is not None
        ),
        lambda parsed, _request: [parsed],
    ),
}
"""The shapes by name; the first that matches a line is its shape."""


def shape_of(value: Any) -> str | None:
    """Returns the shape of a parsed line, a key of SHAPES; None if it has none."""
    if not isinstance(value, Mapping):
        return None
    return next((name for name, shape in SHAPES.items() if shape.is_ours(value)), None)


def is_joined(shape: str | None) -> bool:
    """Whether a line of this shape needs the request that it answers."""
    return shape is not None and SHAPES[shape].is_joined


# Fields that identify a shape.
_SHAPE_FIELDS = ("completion", "example_id", "traces", "nodes", "custom_id")


def why_no_rollout(value: Any) -> str:
    """Returns why a line of no shape cannot be recorded, and which command reads it."""
    if not isinstance(value, Mapping):
        return f"the line is {fields.type_name(value)}, not an object with fields"
    if value.get("completion") is not None or any(key in value for key in fields.PYTHON_CODE):
        meant = fields.meant_words(value, ("example_id",))
        return (
            f"no rollout of a run (no field 'example_id'{meant}); `kbetl ingest` reads modules and evals rows"
        )
    if value.get("example_id") is not None and "completion" in value:
        return "field 'completion' is null: no rollout of a known shape"
    names = ", ".join(list(value)[:12]) or "no fields"
    return f"no rollout of a known shape; it has {names}{fields.meant_words(value, _SHAPE_FIELDS)}"


class Tool(NamedTuple):
    """The tool that wrote a line, and its version; None if the line does not say."""

    name: str | None = None
    version: str | None = None


def tool_of(value: Mapping[str, Any]) -> Tool:
    """Returns the tool of a line: named in traces, and in ids and fingerprints of batch output."""
    traces = value.get("traces") or [value]
    verifiers = traces[0].get("verifiers") if isinstance(traces[0], Mapping) else None
    if isinstance(verifiers, Mapping):
        return Tool("verifiers", verifiers.get("version"))
    if not is_joined(shape_of(value)):
        return Tool()
    is_vllm = str(value.get("id")).startswith("vllm-")
    response = value.get("response")
    body = response.get("body") if isinstance(response, Mapping) else None
    printed = re.match(
        r"vllm-([\w.]+)", str(body.get("system_fingerprint")) if isinstance(body, Mapping) else ""
    )
    return Tool("vllm run-batch" if is_vllm else "OpenAI Batch", printed[1] if printed else None)


_SETTINGS = (
    "env_args",
    "sampling_args",
    "num_examples",
    "rollouts_per_example",
    "state_columns",
    "shuffle_seed",
)
_CONFIG_SETTINGS = ("sampling", "num_rollouts")
_DRAWN = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of a run; None if the run does not say."""

    model: str | None = None
    environment: str | None = None
    tool: str | None = None
    version: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Without addresses, headers and keys."""
    rollouts: int | None = None
    """Number of rollouts that it makes in all."""


def run_of_metadata(metadata: Row) -> Run:
    """Returns the run that `metadata.json` of verifiers 0.1 to 0.3 describes."""
    version = metadata.get("version_info")
    return Run(
        model=_text(metadata.get("model")),
        environment=_text(metadata.get("env_id")) or _text(metadata.get("env")),
        tool="verifiers",
        version=_text(version.get("vf_version")) if isinstance(version, Mapping) else None,
        settings=_settings(metadata, _SETTINGS),
        rollouts=_product(metadata.get("num_examples"), metadata.get("rollouts_per_example")),
    )


def run_of_config(config: Row) -> Run:
    """Returns the run that `configs/resolved/eval.json` of verifiers 0.4 describes."""
    env = config.get("env")
    env = env if isinstance(env, Mapping) else {}
    taskset = env.get("taskset")
    of_taskset = _text(taskset.get("id")) if isinstance(taskset, Mapping) else None
    return Run(
        model=_text(config.get("model")),
        environment=_text(env.get("id")) or of_taskset,
        tool="verifiers",
        settings=_settings(config, _CONFIG_SETTINGS),
    )


def run_of_names(names: Sequence[str]) -> Run:
    """Returns model and environment by folder names `ENV--MODEL/1a2b3c4d`, nearest folder last.

    A `/` in the model is written `--` too, so a name with more than two `--` is ambiguous: both are None.

    >>> run_of_names(["evals", "kernels--zai-org--GLM-4.7", "52279e7f"]).model
    'zai-org/GLM-4.7'
    """
    near = [name for name in names[-2:] if not _DRAWN.fullmatch(name)]
    parts = near[-1].split("--") if near else []
    if len(parts) not in (2, 3) or not all(parts):
        return Run()
    return Run(model="/".join(parts[1:]), environment=parts[0])


def _product(examples: Any, each: Any) -> int | None:
    """Returns the number of rollouts; None if a number is missing or means all examples (-1)."""
    is_counted = type(examples) is int and type(each) is int and examples > 0 and each > 0
    return examples * each if is_counted else None


def _settings(source: Row, keys: Sequence[str]) -> dict[str, Any]:
    """Returns the settings with these keys that are not empty."""
    found = {key: _without_nulls(source.get(key)) for key in keys}
    return {key: value for key, value in found.items() if value not in (None, [], {})}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: child for key, child in value.items() if child is not None}
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def rows_of(parsed: Parsed, request: Mapping[str, Any] | None = None) -> Sequence[Parsed]:
    """Returns the rollouts of a line as rows: the line itself if it is one, else rows built from it.

    `request` is the body that a line of batch output answers. Raises BadRow if the line has no rollout.
    """
    shape = shape_of(parsed.value)
    if shape is None:
        raise BadRow(why_no_rollout(parsed.value))
    return SHAPES[shape].rows(parsed, request)


def _parsed(built: BuiltRow) -> Parsed:
    row = {key: value for key, value in built.row.items() if value is not None}
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    return Parsed(row, text, tuple(built.nonfinite))
