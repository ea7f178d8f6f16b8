"""The fixtures of the tests of asking; a test module names this file in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from enrich_case import Case, forget_environment, rollouts
from fake_llm import FakeLlm


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    with FakeLlm() as server:
        yield server


@pytest.fixture
def case(tmp_path: Path, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch) -> Case:
    forget_environment(monkeypatch)
    return Case(tmp_path, llm)


@pytest.fixture
def rated(case: Case) -> Case:
    """Six rollouts, rated."""
    assert case.ingest(rollouts(6)).status == 0
    assert case.enrich().requests == 6
    return case
