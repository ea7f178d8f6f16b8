"""The command line against a server that fails in every way: nothing is lost, nothing is wrong."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest
from enrich_case import DEADLINE_S, Case, ended, module_of, rollouts, started
from fake_llm import Allowed, Asked, Outage, Reply, error_reply, json_reply, refuse_parameter
from fault_case import (
    HOLDS,
    LASTING,
    PASSING,
    expected_of,
    fault_of,
    faults_not_covered,
    one_of_each,
    rating_of,
)

from kbetl.inference.workers import TERMINATION_GRACE_S

pytest_plugins = ["enrich_fixtures"]

FAULTY = len(PASSING) + len(LASTING) - len(HOLDS)


def test_every_fault_has_its_place():
    assert not faults_not_covered()


def test_every_sample_ends_in_the_state_that_its_fault_means(case: Case):
    """One sample for each fault and as many without: each as it must be, no wrong value, counts add up."""
    rows = 2 * FAULTY
    met: dict[int, int] = {}
    case.llm.content, case.llm.faults = rating_of, lambda asked: one_of_each(asked, met)
    case.ingest(rollouts(rows))
    run = case.enrich("-c", 16, "--timeout", 1)

    expected = {f"Module{n}": expected_of(fault_of(n), n) for n in range(rows)}
    found = case.rows(
        "select module_name, status, case status when 'ok' then value end, reason"
        " from outcomes join samples on hash = sample_hash"
    )
    assert {name: (status, value) for name, status, value, _ in found} == expected
    assert all((reason is None) == (status == "ok") for _, status, _, reason in found)
    statuses = [each.status for each in expected.values()]
    assert run.status == 3
    parts = ", ".join(
        f"{s} {statuses.count(s)}" for s in ("ok", "unparsed", "refused", "truncated", "failed")
    )
    assert f"asked {rows}: {parts}" in run.out
    assert json.loads(case.rows("select counts from runs order by id desc limit 1")[0][0])["asked"] == rows
    answered = [answer for answer in case.llm.answered if answer.status == 200]
    assert case.rows("select count(*) from answers")[0][0] >= len(answered)
    assert all(met[number] <= 16 for number in met)
    rerun = case.enrich("-c", 16, "--timeout", 1)
    assert {module_of(asked) for asked in case.llm.requests[-rerun.requests :]} == {
        number for number, each in enumerate(expected.values()) if each.status == "failed"
    }


def test_limit_in_time_costs_few_refusals(case: Case):
    """300 a 3 seconds, said by refusals alone: all rows done, at most a tenth of the requests refused."""
    case.llm.allowed, case.llm.latency_s = Allowed(requests=300, window_s=3.0), 0.05
    case.ingest(rollouts(450))
    run = case.enrich("-c", 32)
    assert (run.status, case.statuses()) == (0, {"ok": 450})
    assert case.llm.counts["answered 429"] <= 0.1 * run.requests


def test_limit_that_the_user_names_is_not_met(case: Case):
    """6,000 a minute are 100 a second, where 125 are allowed."""
    case.llm.allowed = Allowed(requests=125, window_s=1.0)
    case.ingest(rollouts(250))
    run = case.enrich("--rpm", 6000)
    assert (run.status, case.statuses(), case.llm.counts["answered 429"]) == (0, {"ok": 250}, 0)


def test_no_server_at_all_ends_after_three_tries(case: Case):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        case.ingest(rollouts(20))
        run = case.kbetl("enrich", "-b", f"http://127.0.0.1:{unused.getsockname()[1]}/v1", "-m", "m")
    assert (run.status, case.rows("select count(*) from outcomes")) == (1, [(0,)])
    assert "no reply at all in 3 tries" in run.err
    assert len(run.err.strip().splitlines()[-1]) < 300


@pytest.mark.parametrize("kind", ["503", "500", "reset", "refuse"])
def test_outage_costs_time_and_no_rows(case: Case, kind: str):
    case.llm.outage, case.llm.latency_s = Outage(0.6, 0.8, kind), 0.02
    case.ingest(rollouts(400))
    run = case.enrich("-c", 8)
    assert (run.status, case.statuses()) == (0, {"ok": 400})
    first = case.llm.requests[0].at
    into_it = sum(0.6 <= asked.at - first < 1.4 for asked in case.llm.requests)
    assert into_it <= 3 * 8
    assert case.rows("select count(*) from answers where fault is not null") == [(0,)]


@pytest.mark.parametrize("fault", ["402", "429 quota"])
def test_end_of_the_funds_ends_the_run_and_keeps_what_was_answered(case: Case, fault: str):
    """Requests after the refusal: at most those in flight. One line says what to do; a rerun goes on."""
    case.llm.latency_s = 0.01
    case.llm.faults = lambda asked: fault if asked.index >= 100 else None
    case.ingest(rollouts(300))
    run = case.enrich("-c", 16)
    assert run.status == 1
    assert run.requests <= 101 + 16
    assert case.rows("select count(*), count(distinct sample_hash) from outcomes") == [(100, 100)]
    assert "top up the account or use another key" in run.err.strip().splitlines()[-1]
    case.llm.faults = lambda _: None
    assert case.enrich("-c", 16).requests == 200


@pytest.mark.parametrize("concurrency", [1, 16, 256])
def test_refused_parameter_costs_two_requests_at_most(
    case: Case, concurrency: int, monkeypatch: pytest.MonkeyPatch
):
    """The first request goes alone; for as long as a busy machine needs to see its reply."""
    monkeypatch.setattr("kbetl.inference.run.LOCAL_ALONE_S", DEADLINE_S)
    case.llm.latency_s = 0.02
    case.llm.faults = lambda _: refuse_parameter("max_tokens", "max_completion_tokens")
    count = 10 if concurrency == 1 else 300
    case.ingest(rollouts(count))
    run = case.enrich("-c", concurrency)
    assert (run.status, run.requests - count) == (0, 1)


POISON = {
    "firewall": (Reply(b"<html>Request blocked: SQL</html>", 403, content_type="text/html"), "failed"),
    "403": (error_reply(403, "Forbidden"), "failed"),
    "404": (error_reply(404, "Not Found"), "failed"),
    "400": (error_reply(400, "Invalid value"), "failed"),
    "redirect": ("redirect", "failed"),
    "moderation": (error_reply(403, "Your input was flagged", code=403), "refused"),
    "content filter": (error_reply(400, "The prompt was filtered", code="content_filter"), "refused"),
}
"""What one prompt gets for ever while others succeed, and what becomes of it."""


@pytest.mark.parametrize("concurrency", [1, 16, 256])
@pytest.mark.parametrize("kind", POISON)
def test_prompt_that_is_always_refused_stops_nothing(case: Case, kind: str, concurrency: int):
    """The very first request is the poisoned one: all others are rated, it is that sample's own outcome."""
    reply, status = POISON[kind]
    poisoned: list[int] = []

    def firewall(asked: Asked):
        if not poisoned:
            poisoned.append(module_of(asked))
        return reply if module_of(asked) in poisoned else None

    case.llm.faults, case.llm.latency_s = firewall, 0.002
    case.ingest(rollouts(40))
    run = case.enrich("-c", concurrency)
    assert (run.status, run.requests, case.statuses()) == (3, 40, {"ok": 39, status: 1})
    assert case.rows("select module_name from failures") == [(f"Module{poisoned[0]}",)]
    again = [case.enrich("-c", concurrency).requests for _ in range(3)]
    assert again == ([1, 1, 0] if status == "failed" else [0, 0, 0])
    assert case.kbetl("check").status == 0


@pytest.mark.parametrize("concurrency", [1, 256])
def test_what_everybody_is_refused_for_decides_no_outcome(case: Case, concurrency: int):
    """Three runs with a bad key, told by a bare 403: none of the samples is parked afterwards."""
    case.llm.faults = lambda asked: error_reply(403, "Forbidden")
    case.ingest(rollouts(20))
    for _ in range(3):
        run = case.enrich("-c", concurrency)
        assert (run.status, run.requests, case.statuses()) == (1, 4, {})
        assert "check key, team and model" in run.err.strip().splitlines()[-1]
    case.llm.faults = lambda asked: None
    run = case.enrich("-c", concurrency)
    assert (run.status, run.requests, case.statuses()) == (0, 20, {"ok": 20})


def test_prompts_that_alone_are_left_and_refused_are_parked_in_the_end(case: Case):
    """Six of 40: when only they are left, runs stop, then end with their outcomes, then ask nothing."""
    case.llm.faults = lambda asked: error_reply(403, "Forbidden") if module_of(asked) < 6 else None
    case.ingest(rollouts(40))
    first = case.enrich("-c", 1)
    assert (first.status, case.statuses()) == (3, {"ok": 34, "failed": 6})
    for _ in range(8):
        last = case.enrich("-c", 1)
    assert (last.status, last.requests, case.statuses()) == (0, 0, {"ok": 34, "failed": 6})
    assert "6 samples failed in 3 runs in a row and are parked" in last.err


def test_request_that_takes_too_long_is_charged_in_full_and_sent_once(case: Case):
    """Its reservation counts for ever; the other samples are rated within the same budget."""
    slow: list[int] = []

    def drips(asked: Asked, good):
        slow.append(module_of(asked))
        return replace(json_reply(good), drip_s=1.0)

    case.llm.faults = lambda asked: drips if module_of(asked) == 1 else None
    case.ingest(rollouts(4))
    case.llm.latency_s = 0.0
    run = case.enrich("-c", 4, "--request-timeout", 2, "--max-tokens-total", 10_000)
    assert (run.status, slow, case.statuses()) == (3, [1], {"ok": 3, "failed": 1})
    ((reason,),) = case.rows("select reason from outcomes where status = 'failed'")
    assert "longer than --request-timeout; it is not sent again in this run" in reason
    assert case.rows("select count(*) from reservations") == [(1,)]


@pytest.mark.parametrize("option", ["--timeout", "--request-timeout", "--give-up-after"])
@pytest.mark.parametrize("value", ["1e307", "nan", "inf", "-1", "99999999999"])
def test_time_that_no_clock_counts_with_is_refused(case: Case, option: str, value: str):
    case.ingest(rollouts(1))
    run = case.enrich(option, value)
    assert (run.status, run.requests) == (2, 0)
    assert option in run.err


def test_run_that_a_fault_ends_says_so_at_once_and_waits_for_little(case: Case):
    """One request is silent, another's reply ends the run: the reason comes before the end."""
    case.llm.latency_s = 0.0
    case.llm.faults = lambda asked: (None, "silence", "402")[asked.index] if asked.index < 3 else "402"
    case.ingest(rollouts(8))
    with started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", 2) as process:
        done = ended(process, timeout_s=TERMINATION_GRACE_S + 20)
    assert done.status == 1
    said = done.err.splitlines()
    (ending,) = [line for line in said if line.startswith("the run ends: ")]
    assert "top up the account" in ending
    assert ending.endswith("Waiting for 1 requests in flight, 12 s at most")
    assert not any(" left" in line for line in said[said.index(ending) :])
    assert "top up the account" in said[-1]


def test_sample_that_fails_for_ever_is_parked_and_the_rest_goes_on(case: Case):
    """After three runs in a row a plain run leaves it out and says so; --retry failed asks it again."""
    case.llm.faults = lambda asked: "400 context" if module_of(asked) == 3 else None
    case.ingest(rollouts(6))
    assert [case.enrich().requests for _ in range(4)] == [6, 1, 1, 0]
    parked = case.enrich()
    assert (parked.status, parked.requests) == (0, 0)
    assert "1 samples failed in 3 runs in a row and are parked; --retry failed asks them again" in parked.err
    assert "failed 1" in parked.out
    assert case.rows("select count(*) from pending") == [(0,)]
    said = case.kbetl("status").out
    assert "difficulty: 1 failed in 3 runs in a row; --retry failed asks them again" in said
    case.llm.faults = lambda _: None
    assert case.enrich("--retry", "failed").requests == 1
    assert case.rows("select max(failures) from outcomes") == [(0,)]
    assert case.enrich().status == 0
