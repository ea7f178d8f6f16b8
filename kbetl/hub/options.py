"""What is to be pushed, and where to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbetl.dataset import Name
from kbetl.errors import ConfigError

ALL = "all"
OWNER = "siro1"
MODEL_NAME = "glm4_7"
REPOS: Mapping[Name, str] = {
    "filtered": "{owner}/kernelbook-{model}-evals-filtered",
    "unique": "{owner}/kernelbook-{model}-evals-unique",
    "synthetic": "{owner}/kernelbook-synthetic-tasks",
    "evals": "{owner}/kernelbook-{model}-evals",
}
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be pushed, and where to."""

    datasets: Sequence[str] = ()
    """Names, or `all` for those that have rows."""
    repo: str | None = None
    """OWNER/NAME in place of the usual one; for one dataset."""
    owner: str = OWNER
    model_name: str = MODEL_NAME
    is_private: bool = False
    is_dry_run: bool = False
    allow_schema_change: bool = False
    sources: tuple[str, ...] = ()
    all_sources: bool = False
    is_quiet: bool = False
    first_wait_s: float = 1.0
    """Seconds before the second try of a commit; they double from try to try."""


def repo_of(name: Name, options: Options) -> str:
    """Where a dataset goes. Raises ConfigError for what cannot be a name on the Hub."""
    repo = options.repo or REPOS[name].format(owner=options.owner, model=options.model_name)
    if _REPO.fullmatch(repo) is None or "--" in repo or ".." in repo:
        raise ConfigError(
            f"{repo!r} cannot be a dataset on the Hub; it is OWNER/NAME of letters, digits, -_."
        )
    return repo
