"""What a run says of itself beside its rollouts: in metadata.json, in its settings, in names of folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbetl.fields import Row

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
