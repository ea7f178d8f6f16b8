"""`kbetl enrich` killed at any moment: nothing is lost that was kept, and nothing is paid for twice."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest
from bench import kills
from enrich_case import Case, Lateness, ended, rollouts, started, until

pytest_plugins = ["enrich_fixtures"]

SAMPLES = 300
CONCURRENCY = 32
LATENCY_S = 0.2


def arguments(case: Case, *more: object) -> list[object]:
    return ["enrich", "-b", case.llm.url, "-m", "m", "-c", CONCURRENCY, *more]


def check_whole(case: Case) -> None:
    """The store is sound, and every row that is there is there once."""
    assert case.rows("pragma integrity_check") == [("ok",)]
    assert case.rows("pragma foreign_key_check") == []
    assert case.rows("select count(*) - count(distinct sample_hash) from outcomes") == [(0,)]
    assert case.rows("select count(*) from answers where try > 0") == [(0,)]
    assert case.rows(
        "select count(*) from outcomes left join answers using (request_hash, attempt, try)"
        " where content is null or value is null"
    ) == [(0,)]


@pytest.mark.parametrize("kills", [[40], [1, 130, 200], [290]])
def test_a_killed_run_asks_only_for_what_was_not_kept(case, kills):
    """After each kill at most one answer a slot is missing, and none that came a moment before."""
    case.ingest(rollouts(SAMPLES))
    case.llm.latency_s = LATENCY_S
    lost: Counter[str] = Counter()
    for answers in kills:
        with Lateness() as lateness, started(case.folder, *arguments(case)) as process:
            until(lambda: case.llm.counts["answered 200"] >= answers + lost.total())  # noqa: B023
            process.kill()
            killed_at = time.monotonic()
            process.wait()
        check_whole(case)
        kept = Counter(
            text for (text,) in case.rows("select request ->> '$.messages[0].content' from answers")
        )
        asked = Counter(each.prompt for each in case.llm.requests)
        missing = asked - kept - lost
        assert missing.total() <= CONCURRENCY
        delivered = [
            case.llm.requests[each.index].prompt
            for each in case.llm.answered
            if each.at < killed_at - lateness.allowance_s
        ]
        assert Counter(delivered) - kept - lost == Counter()
        lost += missing
    case.llm.latency_s = 0
    last = case.enrich("-c", CONCURRENCY)
    assert last.status == 0
    check_whole(case)
    assert case.rows("select count(*) from filtered") == [(SAMPLES,)]
    asked = Counter(each.prompt for each in case.llm.requests)
    assert asked - lost == Counter(set(asked))
    assert len(asked) == SAMPLES
    assert case.enrich().requests == 0


def test_resume_after_a_kill_goes_on_with_its_options(case):
    """Of forty samples of the limit, those that are missing; and the lock of the dead is free."""
    case.ingest(rollouts(100))
    case.llm.latency_s = lambda index: 0.0 if index < 10 else 600.0
    with started(case.folder, *arguments(case, "-n", 40, "-T", 0.5, "-c", 4)) as process:
        until(lambda: case.rows("select count(*) from outcomes") == [(10,)])
        process.kill()
        process.wait()
    case.llm.latency_s = 0
    run = case.kbetl("enrich", "--resume")
    assert (run.status, run.requests) == (0, 30)
    assert {each.body["temperature"] for each in case.llm.requests} == {0.5}
    assert case.statuses() == {"ok": 40}
    assert case.rows("select status from runs where command = 'enrich' order by id") == [(None,), (0,)]


def test_spoilt_tries_survive_a_kill(case):
    """A try that was paid for and brought nothing is kept before the next is sent."""
    case.ingest(rollouts(1))
    case.llm.faults.extend(["cut json", "silence"])
    with started(case.folder, *arguments(case)) as process:
        until(lambda: len(case.llm.requests) == 2)
        process.kill()
        ended(process)
    assert case.rows("select try, fault is not null from answers") == [(0, 1)]
    assert case.enrich().requests == 1
    assert case.rows("select try, fault is not null from answers order by try") == [(0, 1), (1, 0)]


def test_kills_at_any_moment_amid_faults(monkeypatch):
    """As `tests/bench/kills.py` measures it, in short: nothing twice, nothing wrong, nothing old lost."""
    monkeypatch.setattr(kills, "SAMPLES", 150)
    with Lateness() as lateness:
        figures = kills.kills(signal.SIGKILL, 3, 1.6, seed=11)
    assert figures.statuses == {-signal.SIGKILL: 3}
    assert figures.oldest_lost_ms < lateness.allowance_s * 1000
    assert (figures.twice, figures.wrong, figures.rerun_requests) == (0, 0, 0)
