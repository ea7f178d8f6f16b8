"""The memory of `kbetl enrich` does not grow with rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment
from enrich_case import DEADLINE_S, Case, rollout

pytest_plugins = ["enrich_fixtures"]

TEXT_BYTES = 40_000
CACHES_BYTES = 40 * 2**20
"""What SQLite may keep of the pages it has seen: the writer's 32 MiB, and the others'."""

TELLING_PEAK = """
import re, sys
from pathlib import Path
from kbetl.cli import run
status = run(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""
"""The largest resident size in KiB; that of `getrusage` counts the process that started this one."""


def peak_bytes(case: Case, samples: int) -> int:
    """The largest resident size of a run that asks so many samples more."""
    (known,) = case.rows("select count(*) from samples")[0] if (case.folder / "kbetl.db").exists() else (0,)
    case.ingest(
        rollout(
            known + number, completion=[{"role": "assistant", "content": f"{number:08}" * (TEXT_BYTES // 8)}]
        )
        for number in range(samples)
    )
    done = subprocess.run(
        [sys.executable, "-c", TELLING_PEAK, "enrich", "-b", case.llm.url, "-m", "m", "-c", "64"],
        cwd=case.folder,
        env=clean_environment(HOME=str(case.folder)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    return int(done.stdout.splitlines()[-1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")
def test_the_peak_does_not_grow_with_rows(case):
    """Four times the rows are 70 MB more of questions alone; none of that stays."""
    case.llm.keep = False
    small = peak_bytes(case, 600)
    large = peak_bytes(case, 2400)
    assert case.statuses() == {"ok": 3000}
    assert large - small < CACHES_BYTES
    assert 1800 * TEXT_BYTES > 1.5 * CACHES_BYTES
