"""Where requests go, and with which key: an address, variables that hold secrets, and what they hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from kbetl import config
from kbetl.client import Endpoint
from kbetl.errors import ConfigError, KbetlError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,60}")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def endpoint_at(
    base_url: str, api_key_var: str | None, headers: Iterable[str] = (), *, is_streamed: bool = False
) -> Endpoint:
    """The server at an address; `headers` as `Name: $VARIABLE`.

    The default key and the team's id go to the default host alone. Raises KbetlError (exit status 1)
    where the key is missing, before anything is asked.
    """
    check_address(base_url)
    found = {}
    parts = urlsplit(base_url)
    is_default_host = parts.scheme == "https" and parts.hostname == config.BASE_HOST
    if api_key_var is None and is_default_host:
        api_key_var = config.KEY_VARIABLE
    if api_key_var is not None:
        found["Authorization"] = f"Bearer {_key(api_key_var)}"
    team = config.variable(config.TEAM_VARIABLE)
    if is_default_host and team:
        found[config.TEAM_HEADER] = team
    found.update(_header(text) for text in headers)
    return Endpoint(base_url, found, is_streamed)


def check_address(base_url: str) -> None:
    """Raises ConfigError for an address that is none, or that holds a password: it is kept with the run."""
    Endpoint(base_url)


def check_names(api_key_var: str | None, headers: Iterable[str]) -> None:
    """Raises ConfigError for a key or a header's value that was typed in: these options are kept with runs.

    The message does not hold it.
    """
    if api_key_var is not None and not _is_name(api_key_var):
        raise ConfigError(
            "-k/--api-key-var takes the name of an environment variable, not the key: "
            "put VARIABLE=... into .env and give -k VARIABLE"
        )
    for text in headers:
        _header_parts(text)


def _is_name(text: str) -> bool:
    """Whether it names a variable. A key may look like a name, but not like a usual one, and none is set."""
    return bool(_USUAL_NAME.fullmatch(text) or (_NAME.fullmatch(text) and config.variable(text)))


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
    """`Name: $VARIABLE` as a header, with the variable's value."""
    name, value = _header_parts(text)
    return name, _VARIABLE.sub(lambda found: _value(found[1] or found[2], name), value)


def _header_parts(text: str) -> tuple[str, str]:
    """Name and value; a value typed in would show in the process list, so it is refused."""
    name, colon, value = text.partition(":")
    name, value = (name.strip(), value.strip()) if colon else ("", "")
    if not name or not _VARIABLE.search(value):
        raise ConfigError(
            f"--header {name!r}: give its value by a variable, in single quotes: "
            f"'{name or 'Name'}: $VARIABLE'"
        )
    return name, value


def _value(variable: str, header: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise KbetlError(f"--header {header!r}: the variable {variable} is not set")
    return value
