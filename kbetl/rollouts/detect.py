"""Which shape a line has, by what it holds, and what its run says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kbetl.errors import BadRow
from kbetl.json_codec import Parsed
from kbetl.rollouts.batch_output import rollouts_of_batch
from kbetl.rollouts.traces import Built, rollouts_of_episode, rollouts_of_trace
from kbetl.samples import fields
from kbetl.samples.fields import Row

REQUESTS = "batch input"
"""The shape of what is no rollout, but the request that a line of batch output answers."""


class Shape(NamedTuple):
    """One shape of line. An entry of SHAPES and a reader make a new one."""

    words: str
    """What the store says that a run is made of."""
    is_ours: Callable[[Row], bool]
    """Whether a line that no entry above took has it."""
    rows: Callable[[Parsed, Row | None], Sequence[Parsed]]
    """The rollouts of a line, given the request that it answers."""
    is_joined: bool = False
    """Whether the request of a line stands in another file."""


def _built(rows: Callable[[Row, Row | None], Iterable[Built]]) -> Callable[..., Sequence[Parsed]]:
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
"""Asked from the top: the first that a line has is its shape."""


def shape_of(value: Any) -> str | None:
    """The shape of a parsed line, a key of SHAPES; None for one that is no rollout."""
    if not isinstance(value, Mapping):
        return None
    return next((name for name, shape in SHAPES.items() if shape.is_ours(value)), None)


def is_joined(shape: str | None) -> bool:
    """Whether a line of this shape needs the request that it answers."""
    return shape is not None and SHAPES[shape].is_joined


_SHAPE_FIELDS = ("completion", "example_id", "traces", "nodes", "custom_id")
"""By which a shape is known."""


def why_no_rollout(value: Any) -> str:
    """Why a line of no shape cannot be recorded, and what reads it."""
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
    """Who wrote a line, as far as it says."""

    name: str | None = None
    version: str | None = None


def tool_of(value: Mapping[str, Any]) -> Tool:
    """The tool of a line with a shape: traces name theirs, batch ids and fingerprints begin with it."""
    traces = value.get("traces") or [value]
    told = traces[0].get("verifiers") if isinstance(traces[0], Mapping) else None
    if isinstance(told, Mapping):
        return Tool("verifiers", told.get("version"))
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
    """A run of a tool. None: it does not say."""

    model: str | None = None
    environment: str | None = None
    tool: str | None = None
    version: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Without addresses, headers and keys."""
    rollouts: int | None = None
    """How many it will have made when it ends."""


def run_of_metadata(metadata: Row) -> Run:
    """What `metadata.json` of verifiers 0.1 to 0.3 says."""
    version = metadata.get("version_info")
    return Run(
        model=_text(metadata.get("model")),
        environment=_text(metadata.get("env_id")) or _text(metadata.get("env")),
        tool="verifiers",
        version=_text(version.get("vf_version")) if isinstance(version, Mapping) else None,
        settings=_kept(metadata, _SETTINGS),
        rollouts=_product(metadata.get("num_examples"), metadata.get("rollouts_per_example")),
    )


def run_of_config(config: Row) -> Run:
    """What `configs/resolved/eval.json` of verifiers 0.4 says."""
    env = config.get("env")
    env = env if isinstance(env, Mapping) else {}
    taskset = env.get("taskset")
    of_taskset = _text(taskset.get("id")) if isinstance(taskset, Mapping) else None
    return Run(
        model=_text(config.get("model")),
        environment=_text(env.get("id")) or of_taskset,
        tool="verifiers",
        settings=_kept(config, _CONFIG_SETTINGS),
    )


def run_of_names(names: Sequence[str]) -> Run:
    """What the names of the folders around a file say: `ENV--MODEL/1a2b3c4d`, nearest folder last.

    A `/` in the model is `--` too. With more of them than an owner needs, what belongs to what cannot be
    told, and nothing is said.

    >>> run_of_names(["evals", "kernels--zai-org--GLM-4.7", "52279e7f"]).model
    'zai-org/GLM-4.7'
    """
    near = [name for name in names[-2:] if not _DRAWN.fullmatch(name)]
    parts = near[-1].split("--") if near else []
    if len(parts) not in (2, 3) or not all(parts):
        return Run()
    return Run(model="/".join(parts[1:]), environment=parts[0])


def _product(examples: Any, each: Any) -> int | None:
    """None where a number is missing, or stands for all there are (-1)."""
    is_counted = type(examples) is int and type(each) is int and examples > 0 and each > 0
    return examples * each if is_counted else None


def _kept(told: Row, keys: Sequence[str]) -> dict[str, Any]:
    """The settings that say something."""
    found = {key: _without_nulls(told.get(key)) for key in keys}
    return {key: value for key, value in found.items() if value not in (None, [], {})}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: child for key, child in value.items() if child is not None}
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def rows_of(parsed: Parsed, request: Mapping[str, Any] | None = None) -> Sequence[Parsed]:
    """The rollouts of a line, as rows: the line itself where it is one, else rows built from it.

    `request` is the body that a line of batch output answers. Raises BadRow where the line holds none.
    """
    shape = shape_of(parsed.value)
    if shape is None:
        raise BadRow(why_no_rollout(parsed.value))
    return SHAPES[shape].rows(parsed, request)


def _parsed(built: Built) -> Parsed:
    row = {key: value for key, value in built.row.items() if value is not None}
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    return Parsed(row, text, tuple(built.nonfinite))
