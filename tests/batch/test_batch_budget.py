"""`--max-cost` with batch files: what is handed out counts in full until its result is read."""

from __future__ import annotations

import pytest
from batch_case import answer_file, completion, lines_of, openai_expired, openai_result, rated
from enrich_case import LIMIT_TOKENS, OUTPUT_USD, PRICES, PROMPT_USD, Case, rollout, rollouts
from fake_batches import KEY, FakeBatches

pytest_plugins = ["enrich_fixtures"]


@pytest.fixture
def priced(case: Case) -> Case:
    """Ten rollouts, and a price of the model."""
    (case.folder / "kbetl.toml").write_text(PRICES)
    case.ingest(rollouts(10))
    return case


def write(case: Case, folder: str, *arguments: object):
    return case.kbetl("batch", "write", "enrich", folder, "-m", "m", *arguments)


def lines_in(case: Case, folder: str) -> list[dict[str, object]]:
    path = case.folder / folder
    return lines_of(*path.glob("*.jsonl")) if path.is_dir() else []


def budget_for(case: Case, requests: int) -> float:
    """US dollars that so many requests may cost at most, and a little more."""
    write(case, "probe", "-n", 1, "--max-cost", 1000)
    [(worst_usd,)] = case.rows("select max(cost_usd) from reservations")
    case.change("update handed_out set ending = 'released', ended_at = 'now' where ending is null")
    case.change("delete from reservations")
    return float(worst_usd) * (requests + 0.5)


def test_what_is_handed_out_counts_in_full(priced):
    """No more is written than the budget bears, and none is left for asking online meanwhile."""
    case = priced
    budget = budget_for(case, 3)
    done = write(case, "out", "--max-cost", budget)
    assert done.status == 3
    assert "budget reached: 7 samples were not handed out" in done.out
    assert "budget: $" in done.out
    lines = lines_in(case, "out")
    assert len(lines) == 3
    assert case.rows("select count(*), sum(cost_usd) <= ? from reservations", budget) == [(3, 1)]
    assert case.enrich("--max-cost", budget).requests == 0
    assert write(case, "more", "--max-cost", budget).status == 3
    assert lines_in(case, "more") == []


def test_results_take_the_place_of_what_was_reserved(priced):
    """By tokens and the price that was known when they were handed out; an error costs nothing."""
    case = priced
    budget = budget_for(case, 3)
    write(case, "out", "--max-cost", budget)
    [file] = (case.folder / "out").glob("*.jsonl")
    [first, second, _] = lines_in(case, "out")
    usage = {"prompt_tokens": 100, "completion_tokens": LIMIT_TOKENS}
    answer_file(
        file,
        case.folder / "results.jsonl",
        lambda asked: (
            openai_result(asked, completion("<difficulty>low</difficulty>", usage=usage))
            if asked == first
            else openai_expired(asked)
            if asked == second
            else openai_result(asked, completion("<difficulty>low</difficulty>", usage=None))
        ),
    )
    assert case.kbetl("batch", "read", "results.jsonl").status == 3
    assert case.rows("select count(*), count(try) from reservations") == [(1, 1)]
    spent = 100 * PROMPT_USD / 1e6 + LIMIT_TOKENS * OUTPUT_USD / 1e6
    [(computed,)] = case.rows("select sum(computed_usd) from costs where task = 'difficulty'")
    assert computed == pytest.approx(spent)
    assert case.enrich("--max-cost", budget).requests > 0


def test_taking_back_gives_back_what_no_service_was_given(priced):
    case = priced
    budget = budget_for(case, 3)
    write(case, "out", "--max-cost", budget)
    assert write(case, "again", "--again", "--max-cost", budget).status == 3
    again = [line["custom_id"] for line in lines_in(case, "again")]
    assert again == [line["custom_id"] for line in lines_in(case, "out")]
    assert case.rows("select count(*) from reservations") == [(3,)]
    assert case.enrich("--also-handed-out", "-n", 2, "--max-cost", 1).requests == 2
    assert case.rows("select count(*) from reservations") == [(1,)]
    assert case.statuses() == {"ok": 2}


def test_without_a_budget_nothing_is_reserved(priced):
    case = priced
    write(case, "out")
    assert case.rows("select count(*) from reservations") == [(0,)]
    [file] = (case.folder / "out").glob("*.jsonl")
    answer_file(file, case.folder / "results.jsonl", rated)
    assert case.kbetl("batch", "read", "results.jsonl").status == 0
    assert case.rows("select count(*) from prices") == [(2,)]


def test_what_was_handed_out_without_a_budget_counts_in_a_later_one(priced):
    """At the most that it may take, until its result is read; a file that is written anew counts once."""
    case = priced
    budget = budget_for(case, 10)
    write(case, "out")
    case.ingest([rollout(number) for number in range(20, 25)], "more.jsonl")
    assert write(case, "again", "--again", "--max-cost", budget, "-n", 10).status == 0
    assert case.rows("select count(*) from reservations") == [(10,)]
    case.change("delete from reservations")
    online = case.enrich("--max-cost", budget)
    assert (online.status, online.requests) == (3, 0)
    assert "budget reached" in online.out
    assert lines_in(case, "none") == []
    assert write(case, "none", "--max-cost", budget).status == 3
    assert lines_in(case, "none") == []
    [file] = (case.folder / "again").glob("*.jsonl")
    answer_file(file, case.folder / "results.jsonl", rated)
    assert case.kbetl("batch", "read", "results.jsonl").status == 0
    assert case.enrich("--max-cost", budget).requests == 5


def test_a_file_without_an_output_limit_keeps_no_budget(priced):
    """What it may cost is not known before it is read."""
    case = priced
    write(case, "out", "-n", 2, "-o", "max_tokens", "null")
    done = case.enrich("--max-cost", 1)
    assert (done.status, done.requests) == (2, 0)
    assert "a batch file asks m without an output limit" in done.err
    [file] = (case.folder / "out").glob("*.jsonl")
    answer_file(file, case.folder / "results.jsonl", rated)
    assert case.kbetl("batch", "read", "results.jsonl").status == 0
    assert case.enrich("--max-cost", 1).requests > 0


def test_what_a_service_never_ran_is_given_back(priced, monkeypatch):
    """Also for requests that were taken back while it had them."""
    case = priced
    monkeypatch.setenv("BATCH_KEY", KEY)
    with FakeBatches() as service:
        write(case, "out", "-n", 3, "--max-cost", 1)
        case.kbetl("batch", "submit", "-b", service.url, "-k", "BATCH_KEY", "--settle", 0)
        assert "3 of them are at a service" in write(case, "again", "--again", "-n", 3, "--max-cost", 1).out
        assert case.rows("select count(*) from reservations") == [(6,)]
        service.finish("batch_1", lambda asked: None, "expired")
        case.kbetl("batch", "fetch")
    assert case.rows("select count(*), count(distinct run_id) from reservations") == [(3, 1)]
    assert case.rows("select count(*) from handed_out where ending is null") == [(3,)]


@pytest.mark.parametrize("make", [openai_expired, rated])
def test_results_of_an_older_batch_leave_the_newer_one_as_it_is(priced, monkeypatch, make):
    """Taken back while a service had them: what that says does not end what the second file waits for."""
    case = priced
    monkeypatch.setenv("BATCH_KEY", KEY)
    submit = ["-b", "@", "-k", "BATCH_KEY", "--settle", 0]
    with FakeBatches() as service:
        submit[1] = service.url
        write(case, "out", "-n", 3, "--max-cost", 1)
        case.kbetl("batch", "submit", *submit)
        write(case, "again", "--again", "-n", 3, "--max-cost", 1)
        case.kbetl("batch", "submit", *submit)
        service.finish("batch_1", make)
        case.kbetl("batch", "fetch", "batch_1")
        waiting = case.rows("select count(*) from handed_out where batch_id = 2 and ending is null")
        assert waiting == [(3,)]
        ((newer_run,),) = case.rows("select run_id from batches where id = 2")
        assert case.rows("select run_id, count(*) from reservations group by 1") == [(newer_run, 3)]
        assert case.statuses() == ({"ok": 3} if make is rated else {})
        service.finish("batch_2", rated)
        case.kbetl("batch", "fetch", "batch_2")
    assert case.statuses() == {"ok": 3}
    assert case.rows("select count(*) from reservations") == [(0,)]
    assert case.kbetl("check").status == 0


def test_a_budget_needs_a_price(case):
    case.ingest(rollouts(1))
    done = write(case, "out", "--max-cost", 1)
    assert done.status == 2
    assert "--max-cost needs a price" in done.err
    assert lines_in(case, "out") == []
