"""A store that can no longer be written while `kbetl enrich` asks: it stops paying, and says so."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from conftest import clean_environment
from enrich_case import DEADLINE_S, Case, rollouts, started, until

pytest_plugins = ["enrich_fixtures"]

CONCURRENCY = 8
LIMITED = (
    "import resource, sys; from kbetl.cli import main; size = int(sys.argv.pop(1));"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); main()"
)


def check_stopped(case: Case, status: int, err: str) -> None:
    """One line, and no more requests than what is kept and what was in flight."""
    assert status == 1
    assert "Traceback" not in err
    assert "never retrieved" not in err
    (line,) = [line for line in err.splitlines() if not line.startswith("asking ")]
    assert line.startswith("kbetl: store kbetl.db: ")
    (kept,) = case.rows("select count(*) from answers")[0]
    assert case.llm.counts["requests"] <= kept + CONCURRENCY
    assert case.rows("pragma integrity_check") == [("ok",)]


@pytest.mark.parametrize("room_bytes", [200_000, 1_000_000])
def test_a_full_disk_stops_the_run(case, room_bytes):
    """What was kept stays, and once there is room only the rest is asked."""
    case.ingest(rollouts(400))
    case.llm.latency_s = 0.01
    case.llm.content = lambda asked: "<difficulty>low</difficulty>" + " " * 20_000
    size_bytes = (case.folder / "kbetl.db").stat().st_size + room_bytes
    words = ["enrich", "-b", case.llm.url, "-m", "m", "-c", str(CONCURRENCY)]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size_bytes), *words],
        cwd=case.folder,
        env=clean_environment(HOME=str(case.folder)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    check_stopped(case, done.returncode, done.stderr)
    (kept,) = case.rows("select count(*) from answers")[0]
    assert 0 < kept < 400
    case.llm.latency_s = 0
    again = case.enrich()
    assert (again.status, again.requests) == (0, 400 - kept)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_table_that_is_gone_stops_the_run(case):
    """An error of SQLite that is none of disk or lock."""
    case.ingest(rollouts(60))
    case.llm.latency_s = 0.05
    with started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", CONCURRENCY) as process:
        until(lambda: case.rows("select count(*) > 0 from outcomes") == [(1,)])
        case.change("alter table outcomes rename to gone")
        out, err = process.communicate(timeout=DEADLINE_S)
    case.change("alter table gone rename to outcomes")
    assert out == ""
    check_stopped(case, process.returncode, err)
    case.llm.latency_s = 0
    assert case.enrich().status == 0
    assert case.statuses() == {"ok": 60}


def test_what_should_not_happen_ends_the_run_with_a_traceback(case):
    """A broken rule of the schema is a fault of ours: it is shown, and nothing waits for ever."""
    case.ingest(rollouts(60))
    case.change("create trigger no before insert on outcomes begin select raise(abort, 'broken rule'); end")
    with started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", CONCURRENCY) as process:
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "broken rule" in err.splitlines()[-1]
    assert case.llm.counts["requests"] <= CONCURRENCY
    assert case.statuses() == {}
