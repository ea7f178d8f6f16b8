"""Reads the environment, `.env` and `kbetl.toml`, and holds the defaults.

Options win over the environment, that over `.env`, that over `kbetl.toml`, that over defaults.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbetl.errors import ConfigError

if TYPE_CHECKING:
    from dotenv.parser import Binding

DATABASE = Path("kbetl.db")
BASE_URL = "https://api.pinference.ai/api/v1"
BASE_HOST = "api.pinference.ai"
MODEL = "openai/gpt-5.2"
CONCURRENCY = 256
TRIES = 3
KEY_VARIABLE = "PRIME_API_KEY"
TEAM_VARIABLE = "PRIME_TEAM_ID"
TEAM_HEADER = "X-Prime-Team-ID"
TEST_MODE_LIMIT = 5
EVALS = "siro1/kernelbook-glm4_7-evals"
KERNELBOOK = "GPUMODE/KernelBook"

TOML = Path("kbetl.toml")
_AT_LINE = re.compile(r"\(at line (\d+),")
_TABLE = re.compile(r"\s*\[+([^\]]*)\]")
_KEY = re.compile(r"""\s*("[^"]*"|'[^']*'|[\w-]+)\s*[=.]""")
DOTENV = Path(".env")


def load_dotenv() -> None:
    """Adds the variables of `.env` to the environment, without changing those that are set.

    Raises ConfigError for a line that cannot be read, with its number only, because it may hold a key.
    """
    if not DOTENV.is_file():
        return
    from dotenv.parser import parse_stream

    try:
        with DOTENV.open(encoding="utf-8-sig") as file:
            lines = list(parse_stream(file))
    except UnicodeDecodeError:
        raise ConfigError(f"{DOTENV}:1: it is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{DOTENV} cannot be read: {error}") from None
    for line in lines:
        holds_nul = "\0" in f"{line.key}{line.value}"
        if line.error or holds_nul or (line.key is not None and line.value is None):
            raise ConfigError(f"{DOTENV}:{_number(line)}: it cannot be read; a line is NAME=value")
        if line.key and line.value:  # `NAME=`, as in a copied example, is not set
            os.environ.setdefault(line.key, line.value)


def _number(line: Binding) -> int:
    """Returns the number of a line in its file; the parser counts blank lines before it as part of it."""
    text = line.original.string
    return line.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def load_toml(path: Path = TOML) -> Mapping[str, Any]:
    """Returns the tables of `kbetl.toml`; empty if there is no such file. Raises ConfigError."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line = found[1] if found else text.count("\n") + (not text.endswith("\n"))
        raise ConfigError(f"{path}:{line}: it cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}:1: it is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def toml_place(table: str, key: str) -> str:
    """Returns `kbetl.toml:LINE` of a key, else of its table, else just the file's name."""
    try:
        lines = TOML.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return str(TOML)
    current, found = "", 0
    for number, line in enumerate(lines, 1):
        if header := _TABLE.match(line):
            current = header[1].strip()
            if current in (table, f"{table}.{key}".strip(".")):
                found = number
        elif current == table and (named := _KEY.match(line)) and named[1].strip("\"'") == key:
            found = number
            break
    return f"{TOML}:{found}" if found else str(TOML)


def command_line(database: Path, *words: str) -> str:
    """Returns `kbetl WORDS` quoted for a shell, with `-d` if the store is not the default one."""
    store = [] if database == DATABASE else ["-d", str(database)]
    return shlex.join(["kbetl", *words, *store])


def variable(name: str) -> str | None:
    """Returns an environment variable without white space around it; None if it is unset or blank."""
    return os.environ.get(name, "").strip() or None


def is_test_mode() -> bool:
    """Whether TEST_MODE limits each stage to five samples. Raises ConfigError for an unknown value."""
    value = (variable("TEST_MODE") or "false").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ConfigError(f"TEST_MODE={value} is neither true nor false; set TEST_MODE=true or leave it out")
