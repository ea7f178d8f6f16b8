"""Describes a chat-completions server: its address, headers and key, and the limits of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from urllib.parse import SplitResult, urlsplit

from kbetl import config
from kbetl.client.redaction import SHORTEST
from kbetl.errors import ConfigError, KbetlError

_SECRET_NAME = re.compile("auth|key|token|secret|cookie|team|password|credential", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    "auth|key|token|secret|cookie|team|pass|pwd|credential|sig|sas|code|user|account|session|jwt|login",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}=[A-Za-z0-9._~-]{1,40}")
# A value with so long a word, or a UUID, may be a key; versions and regions are shorter.
_LIKE_A_KEY = re.compile(r"[A-Za-z0-9]{16}|^[0-9a-fA-F-]{32,}$")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Headers that the HTTP library sets itself; other values break the request.
_FRAMING = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """A chat-completions server: `base_url` as in `https://host/api/v1`, and the headers it requires.

    Headers hold the key, so `repr` has their names alone. Raises ConfigError for an address or a header
    that cannot be used; the message never has a header's value, a password or a query.
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    is_streamed: bool = False
    """Whether answers are streamed."""

    def __post_init__(self) -> None:
        _check_address(self.base_url)
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ConfigError(f"header name {name!r} holds a character that HTTP does not allow")
            if name.lower() in _FRAMING:
                raise ConfigError(
                    f"header {name} cannot be set: it is part of how requests are sent; leave it out"
                )
            if _CONTROL.search(value) or not value.isascii():
                raise ConfigError(
                    f"the value of header {name} holds a line break, a control or a non-ASCII character; "
                    "check the variable that it comes from"
                )

    def __repr__(self) -> str:
        return f"Endpoint(host={self.host!r}, headers={sorted(self.headers)})"

    @property
    def host(self) -> str:
        """`host` or `host:port`, in lower case, without the default port of the scheme."""
        parts = urlsplit(self.base_url)
        name = parts.hostname or ""
        name = f"[{name}]" if ":" in name else name
        return name if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{name}:{parts.port}"

    @property
    def url(self) -> str:
        """The URL to which requests are posted."""
        parts = urlsplit(self.base_url)
        return parts._replace(path=parts.path.rstrip("/") + "/chat/completions").geturl()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The header values that must never be shown or stored, longest first."""
        found = set(self.headers.values())
        found.update(
            value.split()[-1]
            for name, value in self.headers.items()
            if _SECRET_NAME.search(name) and value.split()
        )
        return tuple(sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True))


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigError("the base URL is no address; it looks like https://host/api/v1") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "the base URL holds a user name or a password; give the key by a variable and --api-key-var"
        )
    if parts.query and not _is_harmless(parts.query):
        raise ConfigError(
            "the base URL holds a query, what follows the '?', that may be a key and would be kept with the "
            "run; only parameters such as api-version=2024-10-21 may stay. Give a key by a variable: "
            "--api-key-var VARIABLE or --header 'Name: $VARIABLE'"
        )
    if not usable or _CONTROL.search(address) or " " in address:
        raise ConfigError(
            f"base URL {_shown(parts)!r} is no http or https address such as https://host/api/v1"
        )
    if parts.fragment or parts.path.rstrip("/").endswith("/chat/completions"):
        raise ConfigError(f"base URL {_shown(parts)!r}: leave out /chat/completions and what follows it")


def _is_harmless(query: str) -> bool:
    """Whether no parameter of a query can be a key, by its name and its value."""
    return all(
        _PARAMETER.fullmatch(each)
        and not _SECRET_PARAMETER.search(each.partition("=")[0])
        and not _LIKE_A_KEY.search(each.partition("=")[2])
        for each in query.split("&")
    )


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}{parts.path}" if parts.scheme else parts.path


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on concurrency, rate, retries and waits. Raises ConfigError for a negative number."""

    concurrency: int = 256
    """Most requests in flight; the limiter lowers it if the server refuses as many."""
    rpm: int | None = None
    """Most requests per minute; None for no limit of ours."""
    tpm: int | None = None
    """Most tokens per minute, prompt and completion; None for no limit of ours."""
    tries: int = 3
    """Tries per request; throttling and outages use up none."""
    give_up_after_s: float = 1800.0
    """Seconds without a success or text of an answer after which the run stops; bounds every wait."""
    patience_s: float | None = None
    """Seconds of failures alone after which one of several servers is given up; None: as above."""
    backoff_s: float = 1.0
    """The second wait if the server names none; the first is a quarter of it, later ones double."""
    backoff_max_s: float = 6.0
    """The longest wait, so also the longest time until a server that is back is noticed."""
    alone_s: float = 1.0
    """Seconds that the first request is in flight alone, so that a wrong key costs one request."""
    connect_timeout_s: float = 30.0
    idle_timeout_s: float = 600.0
    """Longest silence of the server after a request was sent or between two parts of its answer."""
    timeout_s: float | None = None
    """Longest time of a request, which is not sent again after it; None for no limit."""
    body_max_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            least = 0 if each.name in ("backoff_s", "backoff_max_s", "alone_s") else 1e-9
            if value is not None and not value >= least:
                raise ConfigError(f"{each.name} is {value}; it must be a number above zero")


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,60}")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def endpoint_at(
    base_url: str, api_key_var: str | None, headers: Iterable[str] = (), *, is_streamed: bool = False
) -> Endpoint:
    """Returns the endpoint at an address, with key and headers; `headers` are given as `Name: $VARIABLE`.

    The default key and the team's id are sent to the default host alone. Raises KbetlError (exit status
    1) if the key or a variable is not set, and ConfigError for an unusable address or header.
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
    """Raises ConfigError for an unusable address, or one with a password: it is stored with the run."""
    Endpoint(base_url)


def check_names(api_key_var: str | None, headers: Iterable[str]) -> None:
    """Raises ConfigError if a key or a header's value was typed in: these options are stored with runs.

    The message does not repeat it.
    """
    if api_key_var is not None and not _is_name(api_key_var):
        raise ConfigError(
            "-k/--api-key-var takes the name of an environment variable, not the key: "
            "put VARIABLE=... into .env and give -k VARIABLE"
        )
    for text in headers:
        _header_parts(text)


def _is_name(text: str) -> bool:
    """Whether a text names a variable: a usual name, or one that is set. A key may look like a name."""
    return bool(_USUAL_NAME.fullmatch(text) or (_NAME.fullmatch(text) and config.variable(text)))


def is_local(base_url: str) -> bool:
    """Whether an address is on this machine."""
    return urlsplit(base_url).hostname in {"127.0.0.1", "localhost", "::1"}


def _key(variable: str) -> str:
    key = config.variable(variable)
    if key is None:
        raise KbetlError(
            f"no key: {variable} is not set. Put {variable}=... into .env or the environment, name another "
            "variable with -k, or try the offline model, which answers difficulty and prompts: -m offline"
        )
    return key


def _header(text: str) -> tuple[str, str]:
    """Returns name and value of a header given as `Name: $VARIABLE`."""
    name, value = _header_parts(text)
    return name, _VARIABLE.sub(lambda found: _value(found[1] or found[2], name), value)


def _header_parts(text: str) -> tuple[str, str]:
    """Returns name and value; refuses a value without variable, which the process list would show."""
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
