"""What the tests share: the command line in a clean folder, and real files where they are present."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fill_disk import Filling
from hypothesis import HealthCheck, settings
from preloaded import run_preloaded, start

pytest.register_assert_rewrite("client_case", "enrich_case", "export_case", "secrets_case", "synth_case")

# how fast the machine is decides no test
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
"""Real files of real tools; not part of the project."""

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


def pytest_configure(config: pytest.Config) -> None:
    """The workers share one process that has everything loaded."""
    if config.getoption("numprocesses", None):
        start()


def clean_environment(**variables: str) -> dict[str, str]:
    """An environment without keys, proxies, settings of `kbetl` or a Hub; `variables` on top."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUTF8": "1"}
    return {**kept, "PYTHONPATH": str(ROOT), **offline, **variables}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `kbetl ARGUMENTS` in a process of its own, in `tmp_path`, which is its home too.

    `input` is standard input (none by default), `env` adds variables, `timeout` is in seconds.
    """

    def run_kbetl(
        *arguments: object, input: str | None = None, env: dict[str, str] | None = None, timeout: float = 120
    ) -> Result:
        environment = clean_environment(HOME=str(tmp_path), **(env or {}))
        return run_preloaded([*map(str, arguments)], tmp_path, environment, input or "", timeout_s=timeout)

    return run_kbetl


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Filling]:
    """An empty store in `tmp_path`."""
    with Filling(tmp_path / "kbetl.db") as filling:
        yield filling


@pytest.fixture
def shared() -> Path:
    """The folder of real files; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name} with real files beside the checkout")
    return SHARED
