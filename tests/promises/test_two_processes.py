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


def refused(case: Case, *arguments: object) -> None:
    """A command that exits 1 at once, naming the run and the process that asks the same question."""
    requests = case.llm.counts["requests"]
    ((run_id, process),) = case.rows("select id, pid from runs where status is null")
    done = case.kbetl(*arguments)
    assert done.status == 1
    assert done.err.splitlines()[-1] == (
        "kbetl: another process is asking the same question in kbetl.db "
        f"(run {run_id} about one, process {process}); wait for it, or end it"
    )
    assert case.llm.counts["requests"] == requests


def test_the_same_question_under_another_name_is_refused_while_it_is_asked(case):
    """Online and into batch files, however the template spells its fields; later the answers settle it."""
    case.ingest(rollouts(12))
    same_questions(case, "one", "two")
    (case.folder / "two.md").write_text(
        STYLE.format(name="two").replace("{{ module_name }}", "{{module_name}}")
    )
    case.llm.latency_s = lambda index: 600.0 if index < 4 else 0.0
    with asking(case, "-c", 4, "--task", "one.md") as one:
        is_asking(case, 4)
        refused(case, "enrich", "-b", case.llm.url, "-m", "m", "--task", "two.md")
        refused(case, "batch", "write", "enrich", "out", "--task", "two.md", "-m", "m")
        one.kill()
        one.wait()
    case.llm.latency_s = 0
    case.llm.requests.clear()
    assert case.kbetl("enrich", "-b", case.llm.url, "-m", "m", "--task", "two.md").status == 0
    assert case.kbetl("enrich", "-b", case.llm.url, "-m", "m", "--task", "one.md").status == 0
    paid_once(case, 12, 2)


@pytest.mark.parametrize("change", [["-m", "other"], ["-T", "0.5"], ["--task", "three.md"]])
def test_another_question_is_asked_beside_it(case, change):
    """Another model, parameter or template under another name."""
    case.ingest(rollouts(8))
    same_questions(case, "one", "two")
    (case.folder / "three.md").write_text(
        STYLE.format(name="three").replace("Rate", "How hard is").replace("\nabout", "\nabout", 1)
    )
    case.llm.latency_s = lambda index: 600.0 if index < 4 else 0.0
    with asking(case, "-c", 4, "--task", "one.md") as one:
        is_asking(case, 4)
        beside = case.kbetl("enrich", "-b", case.llm.url, "-m", "m", "--task", "two.md", *change)
        assert beside.status == 0, beside.err
        one.kill()
        one.wait()


def test_batch_files_keep_the_same_question_from_being_asked(case):
    """What waits for a file is not asked online, also under another name, until it is taken back."""
    case.ingest(rollouts(12))
    same_questions(case, "one", "two")
    assert case.kbetl("batch", "write", "enrich", "out", "--task", "two.md", "-m", "m").status == 0
    done = case.kbetl("enrich", "-b", case.llm.url, "-m", "m", "--task", "one.md")
    assert case.llm.counts["requests"] == 0, done.err


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
