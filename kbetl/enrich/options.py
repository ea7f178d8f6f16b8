"""What a run of a task was told, and where it sends its requests."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from kbetl import config
from kbetl.client import Endpoint
from kbetl.errors import ConfigError, KbetlError

RETRIABLE = ("unparsed", "truncated", "refused", "failed")
OFFLINE = "offline"

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Options:
    """The options of `enrich`, as given and resolved; they hold no secrets and are kept with the run."""

    task: str = "difficulty"
    model: str = config.MODEL
    base_url: str = config.BASE_URL
    api_key_var: str | None = None
    headers: tuple[str, ...] = ()
    """As `Name: $VARIABLE`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Request parameters in place of the task's own; None takes one away."""
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
    """The first run that this one goes on with; None where it goes on with none, or with a part of it."""
    concurrency: int = config.CONCURRENCY
    rpm: int | None = None
    tpm: int | None = None
    give_up_after_s: float = 1800.0

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


def endpoint(options: Options) -> Endpoint:
    """The server to ask. The default key and the team's id go to the default host alone.

    Raises KbetlError (exit status 1) where the key is missing, before anything is asked.
    """
    check_address(options)
    headers = {}
    variable = options.api_key_var
    parts = urlsplit(options.base_url)
    is_default_host = parts.scheme == "https" and parts.hostname == config.BASE_HOST
    if variable is None and is_default_host:
        variable = config.KEY_VARIABLE
    if variable is not None:
        headers["Authorization"] = f"Bearer {_key(variable)}"
    team = config.variable(config.TEAM_VARIABLE)
    if is_default_host and team:
        headers[config.TEAM_HEADER] = team
    headers.update(_header(text) for text in options.headers)
    return Endpoint(options.base_url, headers)


def check_address(options: Options) -> None:
    """Raises ConfigError for an address that is none, or that holds a password: it is kept with the run."""
    Endpoint(options.base_url)


def is_local(base_url: str) -> bool:
    """Whether an address is this machine's own."""
    return urlsplit(base_url).hostname in {"127.0.0.1", "localhost", "::1"}


def _key(variable: str) -> str:
    key = config.variable(variable)
    if key is None:
        raise KbetlError(
            f"no key: {variable} is not set. Put {variable}=... into .env or the environment, name another "
            "variable with -k, or try the offline model: -m offline"
        )
    return key


def _header(text: str) -> tuple[str, str]:
    """`Name: $VARIABLE` as a header; a value typed in would show in the process list, so it is refused."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not name or not _VARIABLE.search(value):
        raise ConfigError(
            f"--header {name!r}: give its value by a variable, in single quotes: "
            f"'{name or 'Name'}: $VARIABLE'"
        )
    return name, _VARIABLE.sub(lambda found: _value(found[1] or found[2], name), value)


def _value(variable: str, header: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise KbetlError(f"--header {header!r}: the variable {variable} is not set")
    return value
