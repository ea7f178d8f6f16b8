"""Where a value comes from: options, then the environment, then `.env`, then `kbetl.toml`, then defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbetl.errors import ConfigError

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
DOTENV = Path(".env")


def load_dotenv() -> None:
    """Puts the variables of `.env` into the environment, beneath those already there."""
    if not DOTENV.is_file():
        return
    from dotenv import dotenv_values

    try:
        values = dotenv_values(DOTENV, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{DOTENV} cannot be read: {error}") from None
    for name, value in values.items():
        if value:  # `NAME=` in a copied example says nothing
            os.environ.setdefault(name, value)


def load_toml(path: Path = TOML) -> Mapping[str, Any]:
    """What `kbetl.toml` in the working folder says; empty where there is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def variable(name: str) -> str | None:
    """An environment variable less blanks around it; None where it is unset or blank."""
    return os.environ.get(name, "").strip() or None


def is_test_mode() -> bool:
    """Whether TEST_MODE asks for five samples per stage.

    Raises ConfigError for a value that is neither yes nor no.
    """
    value = (variable("TEST_MODE") or "false").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ConfigError(f"TEST_MODE={value} is neither true nor false; set TEST_MODE=true or leave it out")
