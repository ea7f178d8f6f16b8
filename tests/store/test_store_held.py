"""Another program holds the write lock of a store, or took the file away: what who writes does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from enrich_case import Case, ended, rollout, rollouts, started, until, write_rows
from fake_llm import Asked

from kbetl.inference import workers
from kbetl.store import Store, write_lock

pytest_plugins = ["enrich_fixtures"]

TOKENIZER = Path(__file__).parents[2] / "data" / "tokenizer"
RUN = (
    Path(__file__).parents[1]
    / "data"
    / "rollouts"
    / "verifiers-0.1.14"
    / "kernelbook-env--mock--glm-err500"
    / "21e570b9"
)

WRITERS = {
    "ingest": ("ingest", "more.jsonl"),
    "synth record": ("synth", "record", RUN),
    "synth record --follow": ("synth", "record", RUN, "--follow", "--idle-s", "0.5"),
    "synth score": ("synth", "score", "scores.jsonl"),
    "lengths": ("lengths", "--tokenizer", TOKENIZER, "--dataset", "samples"),
    "enrich": ("enrich", "-m", "offline", "--task", "prompts"),
    "reparse": ("reparse", "difficulty", "--yes"),
    "use": ("use", "--min-reward", "0.5"),
    "batch write": ("batch", "write", "synth", "batches", "-m", "other"),
}
"""Every command that writes, by one line of each."""
ORDERLY = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextlib.contextmanager
def held(folder: Path) -> Iterator[sqlite3.Connection]:
    """The write lock, in the hands of this process until `commit`."""
    with contextlib.closing(sqlite3.connect(folder / "kbetl.db", isolation_level=None)) as holder:
        holder.execute("begin immediate")
        yield holder


def said(process: subprocess.Popen[str], text: str) -> str:
    """The first line with a text, read as it comes."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"{process.args[3:]} ended without saying: {text}")


@pytest.fixture
def store(case: Case) -> Case:
    """Two rated rollouts, a module, and files for every command of WRITERS."""
    (case.folder / "kbetl.toml").write_text("", encoding="utf-8")
    case.ingest([*rollouts(2), {"module_name": "Module9", "python_code": "x = 9\n"}])
    assert case.enrich().status == 0
    case.change("update outcomes set parser_version = 'of before'")
    (sample,) = case.rows("select hash from samples where kind = 'rollout' order by hash limit 1")[0]
    (case.folder / "scores.jsonl").write_text(json.dumps({"sample_hash": sample, "reward": 0.9}) + "\n")
    write_rows(case.folder / "more.jsonl", [rollout(7)])
    return case


@contextlib.contextmanager
def all_started(case: Case) -> Iterator[dict[str, subprocess.Popen[str]]]:
    with contextlib.ExitStack() as running:
        yield {name: running.enter_context(started(case.folder, *words)) for name, words in WRITERS.items()}


def test_every_command_that_writes_says_who_holds_the_store_and_waits(store):
    """The process is named; each goes on once the lock is free."""
    with held(store.folder) as holder, all_started(store) as processes:
        for name, process in processes.items():
            assert f"process {os.getpid()} (" in said(process, "holds its write lock"), name
        holder.execute("commit")
        for name, process in processes.items():
            done = ended(process)
            assert done.status in (0, 3), (name, done.err)
            assert "free again after" in done.err, name
    assert store.rows("select count(*) from runs where status is null") == [(0,)]


@pytest.mark.parametrize("number", ORDERLY)
def test_a_signal_ends_every_command_that_waits_for_the_store(store, number):
    """In order, though the lock is never freed."""
    with held(store.folder), all_started(store) as processes:
        for process in processes.values():
            said(process, "holds its write lock")
        for process in processes.values():
            process.send_signal(number)
        for name, process in processes.items():
            done = ended(process)
            assert done.status == ORDERLY[number], (name, done.err)
            assert "Traceback" not in done.err, name


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_store_that_is_gone_ends_every_command_that_writes(store, is_replaced):
    """Moved away, or another one in its place: what was written is named, and nothing is called done."""
    gone = store.folder / "gone"
    gone.mkdir()
    with held(store.folder) as holder, all_started(store) as processes:
        for process in processes.values():
            said(process, "holds its write lock")
        for name in ("kbetl.db", "kbetl.db-wal", "kbetl.db-shm"):
            shutil.move(store.folder / name, gone / name)
        if is_replaced:
            with contextlib.chdir(store.folder), Store.open(Path("kbetl.db")):
                pass
        holder.execute("commit")
        copies = set()
        for name, process in processes.items():
            done = ended(process)
            assert done.status == 1, (name, done.err)
            assert "it was moved, removed or replaced while it was written; all that was written is in " in (
                done.err
            ), name
            copies.add(done.err.partition("all that was written is in ")[2].partition(": use that")[0])
    assert len(copies) == len(processes)
    for copy in copies:
        with Store.read(store.folder / copy) as rescued:
            assert rescued.connection.execute("select count(*) from samples").fetchone() == (3,)
    if is_replaced:
        assert store.rows("select count(*) from runs") == [(0,)]


def asking(case: Case, *more: object):
    return started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", 64, *more)


def is_standing_still(case: Case) -> bool:
    counts = case.llm.counts
    return counts["answered 200"] == counts["requests"] and not case.llm.in_flight


def test_a_paying_run_sends_nothing_while_the_store_is_held_and_loses_nothing(case):
    """Not even what had a place in the queue; all that was delivered is kept once the lock is free."""
    case.ingest(rollouts(200))
    case.llm.latency_s = 0.02
    with asking(case) as process:
        until(lambda: case.llm.counts["requests"] >= 8)
        with held(case.folder) as holder:
            said(process, "holds its write lock")
            until(lambda: is_standing_still(case))
            seen = case.llm.counts["requests"]
            process.send_signal(signal.SIGINT)
            said(process, "SIGINT: waiting for the store")
            assert is_standing_still(case)
            assert case.llm.counts["requests"] == seen < 200
            holder.execute("commit")
        done = ended(process)
    assert done.status == 130, done.err
    assert case.rows("select count(*) from answers") == [(seen,)]
    assert case.enrich().status == 0
    assert case.llm.counts["requests"] == 200


def test_a_second_ctrl_c_ends_a_paying_run_that_waits_for_the_store(case):
    """At once, though what it has in hand is lost then."""
    case.ingest(rollouts(40))
    case.llm.latency_s = 0.02
    with asking(case, "-c", 4) as process:
        until(lambda: case.llm.counts["requests"] >= 8)
        with held(case.folder):
            said(process, "holds its write lock")
            process.send_signal(signal.SIGINT)
            said(process, "press Ctrl-C again to end at once")
            process.send_signal(signal.SIGINT)
            done = ended(process)
    assert done.status == 130, done.err


def test_answers_are_kept_where_a_fault_ends_the_run_beside_a_held_store(case, monkeypatch):
    """The grace of a stop is for requests in flight; what was delivered waits for the lock."""
    case.ingest(rollouts(12))
    monkeypatch.setattr(workers, "TERMINATION_GRACE_S", 0.2)
    monkeypatch.setattr(write_lock, "SAY_AFTER_S", 0.1)
    cancel = workers.WorkerPool._cancel_requests
    with contextlib.closing(
        sqlite3.connect(case.folder / "kbetl.db", isolation_level=None, check_same_thread=False)
    ) as holder:

        def fault(asked: Asked) -> str | None:
            if asked.index == 7:
                holder.execute("begin immediate")
            return "401" if asked.index == 7 else None

        def cancelled(pool: workers.WorkerPool) -> None:
            cancel(pool)
            if holder.in_transaction:  # long after the writer would have given up
                asyncio.get_running_loop().call_later(1.0, holder.commit)

        monkeypatch.setattr(workers.WorkerPool, "_cancel_requests", cancelled)
        case.llm.latency_s = lambda index: 0.3 if index >= 4 else 0.0
        case.llm.faults = fault
        done = case.enrich("-c", 4)
        assert done.status == 1, done.err
    answered = case.llm.counts["answered 200"]
    assert answered >= 7
    assert case.rows("select count(*) from answers") == [(answered,)]
