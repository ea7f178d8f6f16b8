"""A store that can no longer be written while `kbetl enrich` asks: it stops paying, and says so."""

from __future__ import annotations

import errno
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment
from disk import compiled, watched
from enrich_case import DEADLINE_S, Case, rollouts, started, until

pytest_plugins = ["enrich_fixtures"]

CONCURRENCY = 8
LIMITED = (
    "import resource, sys; from kbetl.cli import main; size = int(sys.argv.pop(1));"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); main()"
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("shim"))


def check_stopped(case: Case, status: int, err: str) -> None:
    """One line, and no more requests than what is kept and what was in flight."""
    assert status == 1
    assert "Traceback" not in err
    assert "never retrieved" not in err
    (line,) = [
        line
        for line in err.splitlines()
        if not line.startswith("asking ") and not line.endswith(" from now on")
    ]
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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_more_stops_the_run(case, shim, number):
    """Full, over its quota, made read-only, broken: all while files are open."""
    case.ingest(rollouts(200))
    case.llm.latency_s = 0.02
    log = case.folder.with_name("log")
    failing = watched(shim, case.folder, log, fail_bytes=600_000, fail_errno=number)
    with started(
        case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", CONCURRENCY, **failing
    ) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    assert out == ""
    check_stopped(case, process.returncode, err)
    (kept,) = case.rows("select count(*) from answers")[0]
    assert 0 < kept < 200
    case.llm.latency_s = 0
    again = case.enrich()
    assert (again.status, again.requests) == (0, 200 - kept)


def test_a_sync_that_fails_stops_the_run(case, shim):
    """What could not be synced is not said to be kept."""
    case.ingest(rollouts(200))
    case.llm.latency_s = 0.02
    failing = watched(shim, case.folder, case.folder.with_name("log"), fail_syncs=12, fail_errno=errno.EIO)
    with started(
        case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", CONCURRENCY, **failing
    ) as process:
        _, err = process.communicate(timeout=DEADLINE_S)
    check_stopped(case, process.returncode, err)
    assert case.enrich().status == 0


def remove(case: Case) -> None:
    for name in ("kbetl.db", "kbetl.db-wal", "kbetl.db-shm"):
        (case.folder / name).unlink()


def move(case: Case) -> None:
    (case.folder / "kbetl.db").rename(case.folder / "moved.db")


def replace(case: Case) -> None:
    """As `cp copy kbetl.db.new; mv kbetl.db.new kbetl.db` does."""
    (case.folder / "copy.db").rename(case.folder / "kbetl.db")


def take_the_wal(case: Case) -> None:
    """As somebody may who holds it for rubbish."""
    (case.folder / "kbetl.db-wal").unlink()


@pytest.mark.parametrize("harm", [remove, move, replace, take_the_wal])
def test_a_store_that_is_gone_stops_the_run(case, harm):
    """SQLite writes on into a file that nobody can find: answers would be paid for and lost."""
    case.ingest(rollouts(200))
    (case.folder / "copy.db").write_bytes((case.folder / "kbetl.db").read_bytes())
    case.llm.latency_s = 0.05
    with started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", CONCURRENCY) as process:
        until(lambda: case.rows("select count(*) > 20 from outcomes") == [(1,)])
        harm(case)
        answered = case.llm.counts["answered 200"]
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert err.splitlines()[-1] == (
        "kbetl: store kbetl.db: it was moved, removed or replaced while it was written; all that was written "
        "is in kbetl.db.rescued: use that, then run this again"
    )
    requests = case.llm.counts["requests"]
    assert requests <= answered + 3 * CONCURRENCY
    for path in case.folder.glob("kbetl.db*"):
        if path.name != "kbetl.db.rescued":
            path.unlink()
    (case.folder / "kbetl.db.rescued").rename(case.folder / "kbetl.db")
    (kept,) = case.rows("select count(*) from answers")[0]
    assert requests - CONCURRENCY <= kept <= requests
    case.llm.latency_s = 0
    again = case.enrich()
    assert (again.status, again.requests) == (0, 200 - kept)


def test_a_folder_that_is_gone_stops_the_run(case):
    """Nothing can be rescued then; it is said, in one line."""
    case.ingest(rollouts(200))
    case.llm.latency_s = 0.05
    with started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", CONCURRENCY) as process:
        until(lambda: case.rows("select count(*) > 20 from outcomes") == [(1,)])
        shutil.rmtree(case.folder)
        answered = case.llm.counts["answered 200"]
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "Traceback" not in err
    # whichever is missed first
    lost, unlocked = "what came since is lost, a copy cannot be written (", "beside the store was removed"
    assert lost in err.splitlines()[-1] or unlocked in err.splitlines()[-1]
    assert case.llm.counts["requests"] <= answered + 3 * CONCURRENCY


def test_a_real_disk_that_is_full_stops_the_run(case):
    """A file system of two megabytes, in a namespace of its own."""
    case.ingest(rollouts(100))
    case.llm.latency_s = 0.02
    case.llm.content = lambda asked: "<difficulty>low</difficulty>" + " " * 40_000
    words = [sys.executable, "-m", "kbetl", "enrich", "-b", case.llm.url, "-m", "m", "-c", str(CONCURRENCY)]
    script = (
        "set -e; mkdir small; mount -t tmpfs -o size=2m none small; cp kbetl.db small/; cd small\n"
        "echo ready\n"
        'status=0; "$@" || status=$?; cp kbetl.db* ..; exit $status'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", *words],
        cwd=case.folder,
        env=clean_environment(HOME=str(case.folder)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if "ready" not in done.stdout:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[:100]}")
    check_stopped(case, done.returncode, done.stderr)
    assert "the disk is full" in done.stderr
    assert case.enrich().status == 0


def test_a_store_that_cannot_be_written_at_all_is_not_paid_into(case, shim):
    """On a disk that is read-only from the beginning no request is sent."""
    case.ingest(rollouts(20))
    failing = watched(shim, case.folder, case.folder.with_name("log"), fail_bytes=0, fail_errno=errno.EROFS)
    with started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", **failing) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("kbetl: store kbetl.db: ")
    assert case.llm.counts["requests"] == 0
