"""SIGINT and SIGTERM while `kbetl enrich` asks: in order the first time, at once the second."""

from __future__ import annotations

import shlex
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import clean_environment
from enrich_case import Case, ended, rollouts, started, until

from kbetl.inference.workers import TERMINATION_GRACE_S
from kbetl.store import Store

pytest_plugins = ["enrich_fixtures"]

AT_ONCE_S = 5.0
"""Far below the replies that a test lets hang, and far above what ending takes on a busy machine."""


def asking(case: Case, *more: object):
    return started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", 8, *more)


def wait_until_said(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"it ended without saying: {text}")


def last_run(case: Case) -> tuple[object, ...]:
    return case.rows("select status, ended_at is not null from runs order by id desc limit 1")[0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_in_flight_and_says_how_to_go_on(case, number, status):
    case.ingest(rollouts(60))
    case.llm.latency_s = lambda index: 0.0 if index < 16 else 0.5
    with asking(case) as process:
        until(lambda: case.llm.counts["requests"] >= 24)
        process.send_signal(number)
        done = ended(process)
    assert done.status == status
    assert f"{number.name}: waiting for 8 requests in flight" in done.err
    last = done.err.splitlines()[-1]
    assert last == (
        f"kbetl: {number.name} ended the run: 24 samples are done and kept. Go on with: kbetl enrich --resume"
    )
    assert "Traceback" not in done.err
    assert case.statuses() == {"ok": 24}
    assert case.rows("select count(*) from answers") == [(24,)]
    assert last_run(case) == (status, 1)
    case.llm.latency_s = 0
    run = case.kbetl("enrich", "--resume")
    assert (run.status, run.requests) == (0, 36)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(case, number):
    """Also where the requests hang silently; what was kept stays, and the store is whole."""
    case.ingest(rollouts(30))
    case.llm.faults = lambda asked: None if asked.index < 5 else "silence"
    with asking(case) as process:
        until(lambda: case.llm.counts["requests"] >= 13)
        until(lambda: case.rows("select count(*) from outcomes") == [(5,)])
        process.send_signal(number)
        wait_until_said(process, "waiting for 8 requests in flight")
        process.send_signal(number)
        begun = time.monotonic()
        done = ended(process, timeout_s=AT_ONCE_S)
    assert done.status == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert time.monotonic() - begun < AT_ONCE_S
    assert "Traceback" not in done.err
    assert "--resume" in done.err
    assert case.statuses() == {"ok": 5}
    assert case.rows("pragma integrity_check") == [("ok",)]
    case.llm.faults = lambda asked: None
    assert case.kbetl("enrich", "--resume").requests == 25


def test_only_what_was_sent_is_waited_for(case):
    """Samples that wait for their turn under --rpm are not in flight, and are not asked any more."""
    case.ingest(rollouts(20))
    case.llm.latency_s = 0.5
    with asking(case, "--rpm", 60) as process:
        until(lambda: case.llm.counts["requests"] == 1)
        process.send_signal(signal.SIGINT)
        done = ended(process)
    assert "waiting for 1 requests in flight" in done.err
    assert done.status == 130
    assert case.llm.counts["requests"] == 1
    assert case.statuses() == {"ok": 1}


def test_a_signal_while_the_server_is_away_ends_the_run(case):
    """Waits between tries are not in flight: nothing has to be waited for."""
    case.ingest(rollouts(20))
    case.llm.faults = lambda asked: None if asked.index < 4 else "503"
    with asking(case) as process:
        until(lambda: case.llm.counts["answered 503"] >= 1)
        process.send_signal(signal.SIGINT)
        assert ended(process, timeout_s=AT_ONCE_S).status == 130
    assert case.statuses() == {"ok": 4}


def test_ctrl_c_after_another_stop_counts_from_one(case):
    """A key that is revoked stops the run; while it waits for the rest, Ctrl-C twice ends it."""
    case.ingest(rollouts(30))
    case.llm.faults = lambda asked: None if asked.index < 9 else "401" if asked.index == 16 else "silence"
    with asking(case) as process:
        until(lambda: case.llm.counts["answered 401"] == 1)
        until(lambda: case.rows("select count(*) from outcomes") == [(9,)])
        process.send_signal(signal.SIGINT)
        wait_until_said(process, "waiting for 7 requests in flight")
        process.send_signal(signal.SIGINT)
        done = ended(process, timeout_s=AT_ONCE_S)
    assert done.status == 1
    assert "401" in done.err
    assert case.statuses() == {"ok": 9}


@pytest.mark.parametrize("task", [False, True], ids=["difficulty", "a task file"])
def test_the_command_to_go_on_works_as_it_stands(case, task):
    """With the store and the task's file, in the words of a shell."""
    (case.folder / "a b").mkdir()
    store = "a b/my store.db"
    case.ingest(rollouts(6), "rows.jsonl", "-d", store)
    (case.folder / "my style.md").write_text(
        '+++\nname = "style"\nabout = "rollout"\nanswer = { tag = "difficulty" }\n+++\nRate {{ module_name }}'
    )
    options = ["--task", "./my style.md"] if task else []
    case.llm.latency_s = 0.3
    with asking(case, "-c", 2, "-d", store, *options) as process:
        until(lambda: case.llm.counts["requests"] >= 2)
        process.send_signal(signal.SIGINT)
        done = ended(process)
    case.llm.latency_s = 0
    words = shlex.split(done.err.splitlines()[-1].partition("Go on with: kbetl ")[2])
    assert words[0] == "enrich"
    run = case.kbetl(*words)
    assert run.status == 0
    assert len({asked.prompt for asked in case.llm.requests}) == len(case.llm.requests) == 6


def test_ctrl_c_before_anything_is_asked_leaves_no_run(case):
    """A condition that takes for ever is ended at once, exit 130."""
    case.ingest(rollouts(3))
    endless = "(with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n) > 0"
    with asking(case, "--where", endless) as process:
        until((case.folder / "kbetl.db-lock").exists)
        process.send_signal(signal.SIGINT)
        done = ended(process, timeout_s=AT_ONCE_S)
    assert done.status == 130
    assert "Traceback" not in done.err
    assert case.llm.counts["requests"] == 0
    assert case.rows("select count(*) from runs where command = 'enrich'") == [(0,)]


def test_ctrl_c_while_a_condition_is_prepared_is_no_error_of_the_store(tmp_path):
    """SQLite takes an exception in the authorizer for a refusal; what was raised there is what counts."""
    path = tmp_path / "kbetl.db"
    with Store.open(path) as store:

        def interrupted(*_: object) -> int:
            signal.raise_signal(signal.SIGINT)
            return sqlite3.SQLITE_OK

        def ask() -> None:
            with store.guarded() as guarded, store.transaction(writes=False):
                guarded.set_authorizer(interrupted)
                guarded.execute("select count(*) from samples")

        with pytest.raises(KeyboardInterrupt):
            ask()


SHORT_TIMEOUT = (
    "import sys; from functools import partial; import kbetl.inference.run as run;"
    "run.Limits = partial(run.Limits, idle_timeout_s=float(sys.argv.pop(1)));"
    "from kbetl.cli import main; main()"
)


def test_a_run_that_was_stopped_takes_the_answers_that_came_meanwhile(case):
    """SIGSTOP for longer than any time-out: what lies in the sockets is read before timers are heard."""
    case.ingest(rollouts(40))
    case.llm.latency_s = 0.25
    words = ["enrich", "-b", case.llm.url, "-m", "m", "-c", "8"]
    process = subprocess.Popen(
        [sys.executable, "-c", SHORT_TIMEOUT, "0.6", *words],
        cwd=case.folder,
        env=clean_environment(HOME=str(case.folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        until(lambda: case.llm.counts["requests"] >= 16)
        process.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        until(lambda: time.monotonic() > stopped_at + 1.2)
        assert case.llm.counts["answered 200"] == case.llm.counts["requests"] < 40
        process.send_signal(signal.SIGCONT)
        done = ended(process)
    assert done.status == 0, done.err
    assert case.llm.counts["requests"] == 40
    assert case.statuses() == {"ok": 40}
    assert case.rows("select count(*) from answers") == [(40,)]


def test_sigterm_ends_a_run_whose_requests_hang(case):
    """After the time that it gives them, here a short one; what was kept stays, exit 143."""
    case.ingest(rollouts(20))
    case.llm.latency_s = lambda index: 0.0 if index < 5 else 600.0
    short = (
        "import sys; from kbetl.inference import workers;"
        "workers.TERMINATION_GRACE_S = float(sys.argv.pop(1));"
        "from kbetl.cli import main; main()"
    )
    words = ["enrich", "-b", case.llm.url, "-m", "m", "-c", "8"]
    process = subprocess.Popen(
        [sys.executable, "-c", short, "0.5", *words],
        cwd=case.folder,
        env=clean_environment(HOME=str(case.folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert TERMINATION_GRACE_S < 15 - 1
    with process:
        until(lambda: case.llm.in_flight == 8)
        until(lambda: case.rows("select count(*) from outcomes") == [(5,)])
        process.send_signal(signal.SIGTERM)
        done = ended(process)
    assert done.status == 143
    assert "Traceback" not in done.err
    assert case.statuses() == {"ok": 5}
    assert last_run(case) == (143, 1)
