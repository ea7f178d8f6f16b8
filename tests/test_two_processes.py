"""Several processes on one store: who pays is alone with its task, and nobody else is kept from working."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time

import pytest
from enrich_case import DEADLINE_S, Case, ended, rollout, rollouts, started, until

from kbetl.store import Store

HELD_S = 1.5
"""Longer than anything but a wait for the lock takes."""

pytest_plugins = ["enrich_fixtures"]


def asking(case: Case, *more: object, command: str = "enrich"):
    return started(case.folder, command, "-b", case.llm.url, "-m", "m", *more)


def is_asking(case: Case, requests: int = 1) -> None:
    until(lambda: case.llm.counts["requests"] >= requests)


@pytest.fixture
def slow(case: Case) -> Case:
    """Forty rollouts and two modules; the server lets questions on rollouts wait until `let_go`."""
    modules = [{"module_name": f"Module{number}", "python_code": f"x = {number}\n"} for number in (90, 91)]
    case.ingest([*rollouts(40), *modules])
    case.llm.latency_s = 600.0
    return case


def test_a_second_process_is_refused_and_told_by_whom(slow):
    """At once, with the run and the process of the first; nothing is asked twice; other tasks go on."""
    with asking(slow, "-c", 4) as first:
        is_asking(slow, 4)
        with asking(slow) as second:
            done = ended(second)
        assert done.status == 1
        ((run_id,),) = slow.rows("select id from runs where command = 'enrich'")
        assert done.err.splitlines() == [
            "kbetl: another process is asking about difficulty in kbetl.db "
            f"(run {run_id}, process {first.pid}); wait for it, or end it"
        ]
        assert slow.llm.counts["requests"] == 4
        first.kill()
        first.wait()
    slow.llm.latency_s = 0
    third = slow.enrich()
    assert (third.status, third.requests) == (0, 40)


def test_other_work_goes_on_beside_a_run(slow):
    """Another task, an ingest, readers that come and go, and the labels that there are."""
    with asking(slow, "-c", 4) as process:
        is_asking(slow, 4)
        slow.llm.latency_s = 0
        slow.llm.content = lambda asked: "<specification>Adds.</specification>"
        beside = slow.enrich(command="prompts")
        assert (beside.status, beside.requests) == (0, 2)
        slow.llm.content = slow.llm._rating
        assert "new 1, known 0" in slow.ingest([rollout(77)], "more.jsonl").out
        read = slow.kbetl("query", "select count(*) as n from synthetic")
        assert read.out.strip() == '[{"n": 2}]'
        assert slow.kbetl("status").status in (0, 3)
        process.kill()
        process.wait()
    assert slow.enrich().requests == 41
    assert slow.kbetl("check").status == 0


def test_readers_that_come_and_go_disturb_nothing(case):
    """Each closes as if it were the last: the WAL of the run that writes stays where it is."""
    case.ingest(rollouts(400))
    case.llm.latency_s = 0.01
    looks = 0
    with asking(case, "-c", 16) as process:
        while process.poll() is None:
            case.rows("select count(*) from outcomes")
            looks += 1
        done = ended(process)
    assert done.status == 0, done.err
    assert looks > 10
    assert case.statuses() == {"ok": 400}


LOOKS_ONCE = (
    "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
    "connection.execute('select 1 from samples').fetchall(); connection.close()"
)


def test_a_store_that_is_opened_twice_in_a_process_keeps_its_locks(tmp_path):
    """POSIX locks go when any descriptor of the file is closed: no second one is opened and closed."""
    path = tmp_path / "kbetl.db"
    with Store.open(path) as store:
        with store.another() as other, store.guarded() as guarded, Store.read(path) as reading:
            other.change_setting("min_reward", 0.4)
            guarded.execute("select 1").fetchall()
            reading.setting("min_reward")
        store.change_setting("min_reward", 0.5)
        subprocess.run([sys.executable, "-c", LOOKS_ONCE, str(path)], check=True)
        assert path.with_name("kbetl.db-wal").exists()
        store.change_setting("min_reward", 0.6)
    with Store.read(path) as store:
        assert store.setting("min_reward") == 0.6


def test_a_write_lock_of_another_is_waited_for(case):
    """Somebody holds the store while answers come: they wait for it, no slot goes on, and none is lost."""
    case.ingest(rollouts(20))
    with contextlib.closing(sqlite3.connect(case.folder / "kbetl.db", isolation_level=None)) as holder:
        case.llm.latency_s = 0.05
        with asking(case, "-c", 4) as process:
            is_asking(case)
            holder.execute("begin immediate")
            begun = time.monotonic()
            until(lambda: case.llm.counts["answered 200"] == case.llm.counts["requests"] >= 4)
            assert case.llm.in_flight == 0
            seen = case.llm.counts["requests"]
            (kept,) = holder.execute("select count(*) from answers").fetchone()
            assert kept + 4 >= seen
            until(lambda: time.monotonic() > begun + HELD_S)
            assert process.poll() is None
            assert case.llm.counts["requests"] == seen
            holder.execute("commit")
            done = ended(process, DEADLINE_S)
    assert done.status == 0, done.err
    assert case.statuses() == {"ok": 20}
    assert case.llm.counts["requests"] == 20
