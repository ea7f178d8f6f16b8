"""Answers that are all cut by the output limit: a run does not go on paying for them unasked."""

from __future__ import annotations

import json

import pytest
from enrich_case import Case, module_of, rollout, rollouts

pytest_plugins = ["enrich_fixtures"]


@pytest.fixture
def cut(case: Case) -> Case:
    """Sixty samples, and a model that has no room for any answer."""
    case.ingest(rollouts(60))
    case.llm.faults = lambda _: "length"
    return case


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_a_run_stops_where_the_first_forty_answers_are_cut(cut, concurrency):
    """No more is sent than that, all that was paid for is kept, and the message says what to change."""
    run = cut.enrich("-c", concurrency)
    assert (run.status, run.requests) == (1, 40)
    assert "all of the first 40 answers were cut by the output limit of 256 tokens" in run.err
    assert "-t N" in run.err
    assert cut.statuses() == {"truncated": 40}
    assert cut.rows("select count(*) from answers") == [(40,)]


def test_what_is_in_flight_is_kept(cut):
    """At a high concurrency more was sent before the first answer came: a run begins as fast as ever."""
    cut.llm.latency_s = 0.3
    run = cut.enrich("-c", 256)
    assert (run.status, run.requests) == (1, 60)
    assert cut.statuses() == {"truncated": 60}


def test_a_stopped_question_pays_nothing_again_before_it_is_changed(cut):
    cut.enrich("-c", 4)
    for again in (("enrich", "--resume"), ("enrich", "-b", cut.llm.url, "-m", "m")):
        run = cut.kbetl(*again)
        assert (run.status, run.requests) == (1, 0)
        assert "all of the first 40 answers were cut" in run.err
    cut.llm.faults = lambda _: None
    assert cut.enrich("-t", 1024).requests == 60
    assert cut.statuses() == {"truncated": 40, "ok": 60}


@pytest.mark.parametrize("resume", [True, False])
def test_keep_going_asks_the_rest(cut, resume):
    """It is an option of the run, and stays so where that is resumed."""
    cut.enrich("-c", 4)
    command = ("--resume",) if resume else ("-b", cut.llm.url, "-m", "m")
    run = cut.kbetl("enrich", *command, "--keep-going")
    assert (run.status, run.requests) == (3, 20)
    [options] = cut.rows("select options from runs order by id desc limit 1")[0]
    assert json.loads(options)["keep_going"] is True
    cut.ingest([rollout(99)], "more.jsonl")
    assert cut.kbetl("enrich", "--resume").requests == 1


def test_a_retry_with_another_limit_is_judged_by_its_own_answers(cut):
    cut.enrich("-c", 4)
    cut.llm.faults = lambda _: None
    assert cut.enrich("--retry", "truncated", "-o", "max_tokens", 1024).requests == 40
    assert cut.enrich().requests == 20


@pytest.mark.parametrize("whole", [0, 39])
def test_one_whole_answer_among_the_first_lets_all_go(cut, whole):
    cut.llm.faults = lambda asked: None if module_of(asked) == whole else "length"
    run = cut.enrich("-c", 1)
    assert (run.status, run.requests) == (3, 60)
    assert cut.statuses() == {"ok": 1, "truncated": 59}


def test_failures_among_the_first_do_not_count_and_hold_nothing_up(cut):
    cut.llm.faults = lambda asked: "422" if module_of(asked) % 3 == 1 else "length"
    run = cut.enrich("-c", 4)
    assert run.status == 1
    assert cut.statuses()["truncated"] == 40


def test_a_run_of_cut_answers_is_said_later_on(cut):
    cut.llm.faults = lambda asked: None if module_of(asked) == 0 else "length"
    run = cut.enrich("-c", 1)
    assert run.err.count("answers in a row were cut by the output limit of 256 tokens") == 1
    assert "40 answers in a row" in run.err


def test_fewer_than_forty_are_asked_to_the_end(cut):
    run = cut.enrich("-n", 39)
    assert (run.status, run.requests) == (3, 39)


def test_rollouts_that_are_all_cut_stop_a_run_too(cut):
    """Each is kept as the rollout that it is."""
    cut.ingest(
        [{"module_name": f"N{n}", "python_code": f"class N{n}:\n    x = {n}\n"} for n in range(60)], "n.jsonl"
    )
    arguments = ("-b", cut.llm.url, "-m", "m", "-c", "4")
    run = cut.kbetl("synth", "run", *arguments)
    assert (run.status, run.requests) == (1, 40)
    assert cut.rows("select count(*) from rollouts where finish_reason = 'length'") == [(40,)]
    assert cut.kbetl("synth", "run", "--resume", "--keep-going").requests == 20
