"""Several processes on one store: who pays is alone with its task, and nobody else is kept from working."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from batch_case import lines_of
from enrich_case import DEADLINE_S, Case, ended, rollout, rollouts, started, until

from kbetl.batch.claiming import Claiming
from kbetl.store import Store, paying_lock

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


def test_a_command_that_begins_waits_for_a_write_lock_of_another(case):
    """Nothing is asked meanwhile."""
    case.ingest(rollouts(3))
    with contextlib.closing(sqlite3.connect(case.folder / "kbetl.db", isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with asking(case, "-c", 4) as process:
            until((case.folder / "kbetl.db-lock").exists)
            begun = time.monotonic()
            until(lambda: time.monotonic() > begun + HELD_S)
            assert process.poll() is None
            assert case.llm.counts["requests"] == 0
            holder.execute("commit")
            done = ended(process)
    assert done.status == 0, done.err
    assert case.statuses() == {"ok": 3}


# the same request, put by tasks of two names

STYLE = """+++
name = "{name}"
about = "rollout"
answer = {{ tag = "difficulty" }}
+++
Rate {{{{ module_name }}}}.
"""


def same_questions(case: Case, *task_names: str) -> None:
    """Task files that differ in nothing but their names."""
    for name in task_names:
        (case.folder / f"{name}.md").write_text(STYLE.format(name=name))


def paid_once(case: Case, samples: int, tasks: int) -> None:
    """Each question was sent once, and each task has an outcome for each sample."""
    asked = [each.prompt for each in case.llm.requests]
    assert (len(asked), len(set(asked))) == (samples, samples)
    assert case.rows("select count(*), count(distinct request_hash) from answers") == [(samples, samples)]
    assert case.rows("select count(*), count(distinct task_hash) from outcomes where status = 'ok'") == [
        (samples * tasks, tasks)
    ]
    assert case.kbetl("check").status == 0


@pytest.mark.parametrize("concurrency", [1, 8])
def test_two_tasks_that_ask_the_same_at_the_same_time_pay_once(case, concurrency):
    """Whoever claims a request sends it, and the other takes its answer."""
    case.ingest(rollouts(60))
    same_questions(case, "one", "two")
    case.llm.latency_s = 0.03
    with (
        asking(case, "-c", concurrency, "--task", "one.md") as one,
        asking(case, "-c", concurrency, "--task", "two.md") as two,
    ):
        for process in (one, two):
            done = ended(process)
            assert done.status == 0, done.err
    paid_once(case, 60, 2)


def test_what_is_in_flight_when_another_begins_is_not_paid_twice(case):
    """The first pays alone and has claimed nothing; the second gets its answers all the same."""
    case.ingest(rollouts(12))
    same_questions(case, "one", "two")
    case.llm.latency_s = lambda index: HELD_S if index < 4 else 0.0
    with asking(case, "-c", 4, "--task", "one.md") as one:
        is_asking(case, 4)
        with asking(case, "-c", 12, "--task", "two.md") as two:
            is_asking(case, 12)
            until(lambda: case.rows("select count(*) from outcomes") == [(8,)])
            assert two.poll() is None
            for process in (one, two):
                done = ended(process)
                assert done.status == 0, done.err
    paid_once(case, 12, 2)


def test_a_process_that_dies_gives_its_requests_back(case):
    """Locks of the dead are free: the other asks what was in flight, and what it alone had claimed."""
    case.ingest(rollouts(12))
    same_questions(case, "one", "two")
    case.llm.latency_s = lambda index: 600.0 if index < 4 else 0.0
    with asking(case, "-c", 4, "--task", "one.md") as one:
        is_asking(case, 4)
        with asking(case, "-c", 12, "--task", "two.md") as two:
            until(lambda: case.rows("select count(*) from outcomes") == [(8,)])
            one.kill()
            done = ended(two)
    assert done.status == 0, done.err
    assert case.statuses() == {"ok": 12}
    assert case.llm.counts["requests"] == 16


def test_what_failed_for_one_is_asked_by_the_other(case):
    """A question without an answer settles nothing for somebody else."""
    case.ingest(rollouts(6))
    same_questions(case, "one", "two")
    case.llm.latency_s = 0.3
    case.llm.faults = lambda asked: "400" if asked.index < 2 else None
    with asking(case, "-c", 2, "--task", "one.md") as one:
        is_asking(case, 2)
        with asking(case, "-c", 6, "--task", "two.md") as two:
            statuses = {ended(one).status, ended(two).status}
    assert statuses == {0, 3}
    assert case.rows("select status, count(*) from outcomes group by status") == [("failed", 2), ("ok", 10)]
    assert case.llm.counts["requests"] == 8


def test_who_waits_for_a_process_that_stands_still_says_so(case):
    """The first is stopped before it can make room: the second names its run and process, and waits."""
    case.ingest(rollouts(6))
    same_questions(case, "one", "two")
    case.llm.latency_s = lambda index: HELD_S if index < 2 else 0.0  # nothing is being written meanwhile
    with asking(case, "-c", 2, "--task", "one.md") as one:
        is_asking(case, 2)
        one.send_signal(signal.SIGSTOP)
        with asking(case, "-c", 2, "--task", "two.md") as two:
            assert two.stderr is not None
            line = next(line for line in two.stderr if line.startswith("waiting for"))
            ((run_id,),) = case.rows("select id from runs where pid = ?", one.pid)
            assert line.startswith(
                f"waiting for run {run_id} about one, process {one.pid}, which has requests"
            )
            one.send_signal(signal.SIGCONT)
            for process in (one, two):
                done = ended(process)
                assert (done.status, "waiting for" in done.err) == (0, False)
    paid_once(case, 6, 2)


# batch files and those who pay online


def handed_out(case: Case) -> set[str]:
    """The requests in the files below `out`."""
    files = (case.folder / "out").glob("*.jsonl")
    return {json.dumps(line["body"]["messages"]) for line in lines_of(*files)}


def asked(case: Case) -> set[str]:
    """The requests that were sent, each once."""
    found = [json.dumps(each.body["messages"]) for each in case.llm.requests]
    assert len(set(found)) == len(found)
    return set(found)


@pytest.mark.parametrize("per_file", [1000, 5])
def test_what_is_in_flight_is_not_handed_out_and_the_other_way(case, per_file):
    """One question is paid for once, online or in a file, whoever came first to it."""
    case.ingest(rollouts(60))
    same_questions(case, "one", "two")
    case.llm.latency_s = lambda index: 600.0 if index < 4 else 0.0
    with asking(case, "-c", 4, "--task", "one.md") as one:
        is_asking(case, 4)
        done = case.kbetl(
            "batch", "write", "enrich", "out", "--task", "two.md", "-m", "m", "--max-requests", per_file
        )
        assert done.status == 3
        assert "4 samples are being asked by another process: write again later" in done.out
        assert "handed out 56 requests" in done.out
        assert len(handed_out(case)) == 56
        assert handed_out(case).isdisjoint(asked(case))
        one.kill()
        one.wait()
    case.llm.latency_s = 0
    rest = case.kbetl("enrich", "-b", case.llm.url, "-m", "m", "--task", "one.md")
    assert rest.requests == 4
    assert "56" in rest.out
    case.llm.requests.clear()
    again = case.kbetl("batch", "write", "enrich", "out", "--task", "two.md", "-m", "m")
    assert "settled without a request: ok 4" in again.out
    assert len(handed_out(case)) == 56


def test_what_is_handed_out_under_a_run_is_not_asked_by_it(case):
    """The run looked its questions up before they stood in a file; it leaves them."""
    case.ingest(rollouts(60))
    same_questions(case, "one", "two")
    case.llm.latency_s = lambda index: 2.5 if index < 4 else 0.0
    with asking(case, "-c", 4, "--task", "one.md") as one:
        is_asking(case, 4)
        done = case.kbetl("batch", "write", "enrich", "out", "--task", "two.md", "-m", "m")
        assert "handed out 56 requests" in done.out
        online = ended(one)
    assert online.status == 3, online.text
    assert len(asked(case)) == 4
    assert handed_out(case).isdisjoint(asked(case))
    assert case.statuses() == {"ok": 4}


@pytest.mark.parametrize("shares", [True, False])
def test_what_waits_while_files_are_written_goes_on(tmp_path, shares):
    """Who writes files makes room for who pays online, and has what is not recorded yet."""
    path = tmp_path / "kbetl.db"
    with Store.open(path) as store, paying_lock(path, "two") as claims:
        claiming = Claiming(store, claims, print)
        claiming.begin()
        assert not claiming.is_shared
        code = (
            "import sys; from pathlib import Path; from kbetl.store import paying_lock\n"
            "with paying_lock(Path(sys.argv[1]), 'one') as claims:\n"
            "    claims.begin(); print(claims.is_shared, flush=True); sys.stdin.readline()\n"
            "    print([claims.claim('r1:' + each * 64, 0) for each in '12'], claims.is_held_back())\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "True\n"
            if shares:
                claiming.look_round(lambda: [("r1:" + "1" * 64, 0)])
            out, _ = other.communicate("\n")
        assert out == ("[False, True] False\n" if shares else "[False, False] True\n")


# one store, several paths


def test_the_lock_is_of_the_store_not_of_its_path(slow):
    """By a link, by another spelling; a copy is a store of its own."""
    other = slow.folder / "other"
    other.mkdir()
    (other / "link.db").symlink_to("../kbetl.db")
    with contextlib.closing(sqlite3.connect(slow.folder / "kbetl.db")) as connection:
        connection.execute("vacuum into ?", [str(slow.folder / "copy.db")])
    with asking(slow, "-c", 2) as first:
        is_asking(slow, 2)
        itself = str(slow.folder / "kbetl.db")
        for path in ("other/link.db", "other/../kbetl.db", itself):
            with asking(slow, "-d", path) as second:
                done = ended(second)
            assert (done.status, slow.llm.counts["requests"]) == (1, 2)
            named = itself if path == "other/link.db" else path
            assert f"another process is asking about difficulty in {named} (run " in done.err
        with asking(slow, "-d", "copy.db", "-c", 2) as third:
            is_asking(slow, 4)
            assert third.poll() is None
        first.kill()
        first.wait()


def test_a_store_of_two_names_is_refused(slow):
    """SQLite keeps the WAL by name: two names for one file lose what is written by the other."""
    with asking(slow, "-c", 2) as first:
        is_asking(slow, 2)
        (slow.folder / "hard.db").hardlink_to(slow.folder / "kbetl.db")
        for arguments in (["enrich", "-m", "m", "-b", slow.llm.url], ["status"]):
            done = slow.kbetl(*arguments, "-d", "hard.db")
            assert (done.status, done.err) == (
                1,
                "kbetl: store hard.db has 2 names (hard links), and what is written by one is lost by the "
                "other; keep one of them and copy the file for the rest\n",
            )
        assert slow.llm.counts["requests"] == 2
        first.kill()
        first.wait()
    (slow.folder / "hard.db").unlink()
    slow.llm.latency_s = 0
    assert slow.enrich().status == 0


def test_a_lock_file_that_is_removed_stops_the_run(slow):
    """Somebody who takes it for left over would let two pay for the same."""
    slow.llm.latency_s = 0.05
    with asking(slow, "-c", 2) as process:
        is_asking(slow, 4)
        slow.llm.latency_s = 0.5
        (slow.folder / "kbetl.db-lock").unlink()
        done = ended(process)
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith(
        "kbetl: the file that ends in -lock beside the store was removed"
    )
    asked = slow.llm.counts["requests"]
    assert asked < 40
    assert slow.statuses() == {"ok": asked}
    slow.llm.latency_s = 0
    again = slow.enrich()
    assert (again.status, again.requests) == (0, 40 - asked)
