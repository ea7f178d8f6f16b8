"""What a run that generates rollouts was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from kbetl import config, enrich

MODULES = "modules"
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Options(enrich.Options):
    """The options of `synth run`; `limit` counts rollouts, and `min_reward` is never set."""

    task: str = "kernels"
    rollouts: int = 1
    """Wanted for each prompt."""
    prompts: str = MODULES
    """Where they come from: MODULES, SYNTHETIC, or the path of a JSONL file."""
    base_urls: tuple[str, ...] = (config.BASE_URL,)
    """One or several servers of the same model."""
    stream: bool = False
    name: str | None = None
    """Of the source that the rollouts go to; None: by task and model."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From `runs.options`."""
        found = super().from_json(stored)
        return replace(found, base_urls=tuple(found.base_urls))
