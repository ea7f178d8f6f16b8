"""The options of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from kbetl import config
from kbetl.client.endpoint import check_names

RETRIABLE = ("unparsed", "truncated", "refused", "failed")
OFFLINE = "offline"


@dataclass(frozen=True)
class EnrichOptions:
    """The options of `enrich`, as given and resolved; they hold no secrets and are stored with the run."""

    task: str = "difficulty"
    model: str = config.MODEL
    base_url: str = config.BASE_URL
    api_key_var: str | None = None
    headers: tuple[str, ...] = ()
    """As `Name: $VARIABLE`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Request parameters that replace the task's own; None removes one."""
    sources: tuple[str, ...] = ()
    where: str | None = None
    min_reward: float | None = None
    """Exclusive; None: the setting."""
    limit: int | None = None
    """Samples asked at most; None: all that wait."""
    retry: tuple[str, ...] = ()
    """Statuses to ask again; then nothing else is asked."""
    retry_since_run: int | None = None
    """The run whose `retry` a resumed run goes on with: what was answered since is not asked again."""
    resumed_run: int | None = None
    """The first run that this one goes on with; None if it goes on with none, or with a part of one."""
    concurrency: int = config.CONCURRENCY
    rpm: int | None = None
    tpm: int | None = None
    timeout_s: float = 600.0
    """Longest silence of the server."""
    request_timeout_s: float = 3600.0
    """Longest time for a whole request; 0: no limit."""
    give_up_after_s: float = 1800.0
    takes_back: bool = False
    """Whether to ask as well what is pending in a batch file, and release it there."""
    max_cost_usd: float | None = None
    """What the task may cost in this store in all, over all runs; None: no limit."""
    keep_going: bool = False
    """Whether to go on if the first answers are all cut by the output limit."""
    max_tokens_total: int | None = None
    """Prompt and completion tokens that it may use; None: no limit."""

    def __post_init__(self) -> None:
        check_names(self.api_key_var, self.headers)

    def as_json(self) -> dict[str, Any]:
        """For `runs.options`."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From `runs.options`, also of an older kbetl with fewer options."""
        known = {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
        for name in ("headers", "sources", "retry"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


def question_words(options: Mapping[str, Any], usual: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what is typed for model, server, key, headers and parameters, less what is as `usual`."""
    words = []
    for option, key in (("-m", "model"), ("-b", "base_url"), ("-k", "api_key_var")):
        value = options.get(key)
        if value is not None and value != usual.get(key):
            words += [option, value]
    for header in options.get("headers", ()):
        if header not in usual.get("headers", ()):
            words += ["--header", header]
    parameters = usual.get("parameters", {})
    for key, value in options.get("parameters", {}).items():
        if key not in parameters or parameters[key] != value:
            words += ["-o", key, json.dumps(value)]
    return tuple(words)
