"""`--max-cost` and `--max-tokens-total`: never exceeded, at any concurrency, over kills and restarts."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from enrich_case import (
    LIMIT_TOKENS,
    OUTPUT_USD,
    PRICES,
    PROMPT_USD,
    Case,
    ended,
    forget_environment,
    rollout,
    rollouts,
    started,
    until,
)
from fake_llm import Asked, FakeLlm, Reply, error_reply, json_reply

from kbetl.inference import Budget, BudgetLimits, BudgetScope, close_reservation, open_budget
from kbetl.records import Completion, Request
from kbetl.store import Store
from kbetl.store.answers import NewAnswer, add_answers
from kbetl.store.reservations import ToReserve, reserve


class BillingLlm(FakeLlm):
    """Bills all that it begins with, delivered or not, and makes every answer as dear as it may be."""

    tokens_billed = 0
    pusd_billed = 0
    with_cost = False

    def completion(self, asked: Asked) -> dict[str, Any]:
        good = super().completion(asked)
        usage = {"prompt_tokens": len(asked.raw), "completion_tokens": LIMIT_TOKENS}
        if self.with_cost:
            usage["cost"] = _bill_pusd(asked) / 1e12  # type: ignore[assignment]
        return {**good, "usage": usage}

    def reply_to(self, asked: Asked) -> Reply:
        reply = super().reply_to(asked)
        if reply.status not in (400, 429, 503):
            self.tokens_billed += len(asked.raw) + LIMIT_TOKENS
            self.pusd_billed += _bill_pusd(asked)
        return reply

    @property
    def billed_usd(self) -> float:
        return self.pusd_billed / 1e12


def _bill_pusd(asked: Asked) -> int:
    return round(len(asked.raw) * PROMPT_USD * 1e6 + LIMIT_TOKENS * OUTPUT_USD * 1e6)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    forget_environment(monkeypatch)
    (tmp_path / "kbetl.toml").write_text(PRICES)
    with BillingLlm() as llm:
        yield Case(tmp_path, llm)


def reserved(case: Case) -> list[tuple[int, str | None]]:
    """What counts in full: the number of its try, and the run's status."""
    return case.rows(
        "select try, status from reservations join runs on runs.id = run_id order by reservations.id"
    )


def accounted_usd(case: Case) -> float:
    """What the store says the task took at most."""
    found = case.rows(
        "select total(cost_usd) + total(computed_usd) + total(reserved_usd) from costs"
        " where task = 'difficulty'"
    )
    return float(found[0][0])


def faults(asked: Asked) -> str | None:
    """Of twelve requests four go wrong, three of them billed all the same."""
    return {3: "reset", 5: "429", 8: "cut body", 10: "500"}.get(asked.index % 12)


# never exceeded


@pytest.mark.parametrize("concurrency", [1, 16, 256])
def test_a_budget_is_used_up_and_never_exceeded(case, concurrency):
    """The server's own bill is the judge; room that answers give back is used."""
    case.ingest(rollouts(120))
    run = case.enrich("--max-cost", 0.2, "-c", concurrency)
    assert run.status == 3
    assert "budget reached: difficulty has taken $0.1" in run.out
    assert 0.18 < case.llm.billed_usd <= 0.2
    assert accounted_usd(case) == pytest.approx(case.llm.billed_usd)
    assert reserved(case) == []
    asked = case.statuses()["ok"]
    assert f"{120 - asked} of 120 samples were not asked" in run.out
    assert case.enrich("--max-cost", 0.2).requests == 0
    rest = case.enrich("--max-cost", 1, "-c", concurrency)
    assert (rest.status, rest.requests) == (0, 120 - asked)


@pytest.mark.parametrize("concurrency", [1, 16, 256])
def test_a_budget_holds_over_kills_restarts_and_faults(case, concurrency):
    """What was in flight at each of five kills counts in full, as the server may have billed it."""
    case.ingest(rollouts(300))
    case.llm.faults = faults if concurrency > 1 else deque()  # one alone would wait a second for each
    case.llm.latency_s = 0.02
    budget_usd = 0.6
    arguments = ["enrich", "-b", case.llm.url, "-m", "m", "-c", concurrency, "--max-cost", budget_usd]
    for _ in range(5):
        before = len(case.llm.requests)
        with started(case.folder, *arguments) as process:
            until(lambda: len(case.llm.requests) > before + 12 or process.poll() is not None)  # noqa: B023
            process.kill()
            process.wait()
        assert case.llm.billed_usd <= accounted_usd(case) + 1e-9
        assert accounted_usd(case) <= budget_usd + 1e-9
        assert case.rows("pragma foreign_key_check") == []
    assert case.rows("select count(*) > 0 from reservations where try is null") == [(1,)]
    last = case.enrich("-c", concurrency, "--max-cost", budget_usd)
    assert last.status == 3
    assert "budget reached" in last.out
    assert case.llm.billed_usd <= accounted_usd(case) + 1e-9
    assert accounted_usd(case) <= budget_usd + 1e-9


def test_what_a_killed_run_reserved_is_named(case):
    """By the stop that it causes, and by status, which says nothing of it while the run goes on."""
    case.ingest(rollouts(40))
    case.llm.latency_s = lambda index: 0.0 if index < 8 else 600.0
    arguments = ["enrich", "-b", case.llm.url, "-m", "m", "-c", 4, "--max-cost", 1]
    with started(case.folder, *arguments) as process:
        until(
            lambda: case.rows("select count(*) from reservations") == [(4,)] and len(case.llm.requests) == 12
        )
        assert "that nothing is known of" not in case.kbetl("status").out
        process.kill()
        process.wait()
    ((run_id, most),) = case.rows("select run_id, sum(cost_usd) from reservations group by run_id")
    status = case.kbetl("status").out
    assert f"difficulty by run {run_id} (enrich), which was killed: 4 requests" in status
    assert f"count in full, ${most:,.4f} at most" in status
    [reserved] = json.loads(case.kbetl("status", "--json").out)["reserved"]
    assert (reserved["run_id"], reserved["is_killed"], reserved["requests"]) == (run_id, True, 4)
    case.llm.latency_s = 0
    stopped = case.enrich("--max-cost", most + 0.002)
    assert stopped.status == 3
    assert f"4 requests that were in flight when run {run_id} was killed count in full" in stopped.out


def test_tokens_in_all_are_a_budget_too(case):
    """Without a price; and what was reserved without one is reckoned once there is one."""
    (case.folder / "kbetl.toml").unlink()
    case.ingest(rollouts(40))
    case.llm.faults.extend([None, "cut body"])
    run = case.enrich("--max-tokens-total", 20_000, "-c", 8)
    assert run.status == 3
    assert "20,000 tokens" in run.out
    assert 15_000 < case.llm.tokens_billed <= 20_000
    assert case.rows("select cost_usd from reservations") == [(None,)]
    assert "none is known of m: put" in case.enrich("--max-cost", 1).err
    (case.folder / "kbetl.toml").write_text(PRICES)
    tokens = case.rows("select total(tokens) from reservations")[0][0]
    dry = case.enrich("--max-cost", 1, "--dry-run").out
    answers = case.rows(
        "select total(prompt_tokens), total(completion_tokens) from answers where fault is null"
    )
    used_usd = (tokens * OUTPUT_USD + answers[0][0] * PROMPT_USD + answers[0][1] * OUTPUT_USD) / 1e6
    assert f"budget: ${used_usd:.4f} of $1.0000" in dry


# what counts, and as how much


def test_what_a_server_says_is_not_added_to_the_price(case):
    """A cost that is told settles the reservation; the price is for what is beyond it."""
    case.ingest(rollouts(2))
    case.llm.with_cost = True
    assert case.enrich("--max-cost", 1).status == 0
    assert case.rows("select round(total(cost_usd), 9), total(computed_usd) from costs") == [
        (round(case.llm.billed_usd, 9), 0.0)
    ]


def test_what_is_told_below_the_price_counts_by_the_price(case):
    """A router that tells its own fee alone, of nothing: in the run, over runs, in costs and in status."""
    case.ingest(rollouts(60))
    case.llm.faults = lambda asked: (
        lambda _, good: json_reply({**good, "usage": {**good["usage"], "cost": 0.0, "is_byok": False}})
    )
    run = case.enrich("--max-cost", 0.05, "-c", 4)
    assert run.status == 3
    assert "$0.0000 + $0.04" in run.out
    assert 0.04 < case.llm.billed_usd <= 0.05
    assert accounted_usd(case) == pytest.approx(case.llm.billed_usd)
    again = case.enrich("--max-cost", 0.05, "-c", 4)
    assert (again.status, again.requests) == (3, 0)
    assert f"difficulty has taken ${case.llm.billed_usd:.4f} of" in again.out
    assert f"$0.0000 + ${case.llm.billed_usd:,.4f} by tokens and price" in case.kbetl("status").out


def test_what_was_told_before_there_was_a_price_counts_by_the_price_of_now(case):
    """A cost of nothing is nothing only where no price says otherwise."""
    (case.folder / "kbetl.toml").unlink()
    case.ingest(rollouts(8))
    case.llm.faults = lambda asked: (
        lambda _, good: json_reply({**good, "usage": {**good["usage"], "cost": 0.0}})
    )
    assert case.enrich("-n", 4).status == 0
    (case.folder / "kbetl.toml").write_text(PRICES)
    run = case.enrich("--max-cost", case.llm.billed_usd)
    assert (run.status, run.requests) == (3, 0)
    assert f"difficulty has taken ${case.llm.billed_usd:.4f} of" in run.out


def test_a_user_key_at_a_router_is_charged_the_price_and_the_fee(case):
    """What the provider charges stands apart from what the account pays."""
    case.ingest(rollouts(3))
    spent = {"cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.003}}
    case.llm.faults = lambda asked: lambda _, good: json_reply({**good, "usage": {**good["usage"], **spent}})
    assert case.enrich("--max-cost", 1).status == 0
    assert case.rows("select round(sum(cost_usd), 9) from costs") == [(0.0093,)]


def test_an_answer_without_usage_counts_in_full(case):
    """Its reservation stays, in its place; status shows it apart from what was told and computed."""
    case.ingest(rollouts(3))
    case.llm.faults.extend([None])
    assert case.enrich("--max-cost", 1, "-n", 1).status == 0
    case.llm.faults = lambda asked: "no usage"
    run = case.enrich("--max-cost", 1)
    assert run.status == 0
    assert reserved(case) == [(0, 0), (0, 0)]
    most = case.rows("select sum(cost_usd) from reservations")[0][0]
    line = next(line for line in case.kbetl("status").out.splitlines() if line.startswith("cost"))
    assert "by tokens and price (2 did not tell theirs)" in line
    assert f"2 requests sent without an answer that tells its usage, ${most:.4f} at most" in line
    assert case.llm.billed_usd <= accounted_usd(case)


@pytest.mark.parametrize(
    ("fault", "counts"),
    [
        ("reset", True),
        ("500", True),
        ("cut body", True),
        ("429", False),
        (error_reply(503, "busy"), False),
        (error_reply(400, "too long", code="context_length_exceeded"), False),
    ],
)
def test_what_was_refused_is_given_back_and_what_broke_counts(case, fault, counts):
    case.ingest(rollouts(1))
    case.llm.faults.append(fault)
    case.enrich("--max-cost", 1)
    assert len(reserved(case)) == counts


def test_what_earlier_runs_cost_counts_whatever_they_asked(case):
    """Without a budget, with another template's parameters, by another model: the task's name counts."""
    case.ingest(rollouts(10))
    assert case.enrich("-n", 5).status == 0
    assert case.enrich("-n", 5, "-T", 0.7).status == 0
    billed_usd = case.llm.billed_usd
    run = case.enrich("--max-cost", billed_usd + 0.0001)
    assert (run.status, run.requests) == (3, 0)
    assert f"difficulty has taken ${billed_usd:.4f} of" in run.out
    assert case.enrich("--max-cost", 1, command="prompts").status == 0  # another task, another budget
    assert case.enrich(model="other").status == 0
    stopped = case.enrich("--max-cost", 1)
    assert (stopped.status, stopped.requests) == (2, 0)
    assert 'no price is known of other, which answered some: put [prices."other"]' in stopped.err


def test_answers_of_runs_without_a_budget_that_told_nothing_count_at_their_worst(case):
    case.ingest(rollouts(4))
    case.llm.faults = lambda asked: "no usage"
    assert case.enrich("-n", 2).status == 0
    assert reserved(case) == []
    run = case.enrich("--max-cost", case.llm.billed_usd)
    assert (run.status, run.requests) == (3, 0)
    case.enrich("-o", "max_tokens", "null", "-n", 1)
    assert "without an output limit, and an answer told neither" in case.enrich("--max-cost", 1).err


def test_the_price_of_a_run_stays_with_it(case):
    """A price that changes later does not change what was computed before."""
    case.ingest(rollouts(2))
    case.enrich("-n", 1)
    before = case.rows("select computed_usd from costs")
    (case.folder / "kbetl.toml").write_text(PRICES.replace("= 8.0", "= 80"))
    case.enrich()
    assert case.rows("select computed_usd from costs order by run_id")[:1] == before
    assert case.rows("select output_usd, source from prices order by run_id") == [
        (8.0, "kbetl.toml"),
        (80.0, "kbetl.toml"),
    ]


# what stops a budget


def test_an_answer_dearer_than_its_worst_case_stops_the_run(case):
    """Then the price is wrong: what is in flight is kept, nothing more is sent."""
    case.ingest(rollouts(20))
    case.llm.faults.extend(
        [lambda asked, good: json_reply({**good, "usage": {**good["usage"], "cost": 0.5}})]
    )
    run = case.enrich("--max-cost", 1, "-c", 1)
    assert (run.status, run.requests) == (1, 1)
    assert "an answer cost $0.500000 where at most" in run.err
    assert case.rows("select cost_usd from answers") == [(0.5,)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "other", "--max-cost", 1], 'none is known of other: put [prices."other"] with'),
        (["--max-cost", 1, "-o", "max_tokens", "null"], "--max-cost needs an output limit"),
        (["--max-tokens-total", 9, "-o", "max_tokens", "null"], "--max-tokens-total needs an output limit"),
        (["--max-cost", -1], "-1.0 is not in the range x>=0"),
        (["--max-cost", "nan"], "--max-cost nan is no amount"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(case, arguments, told):
    case.ingest(rollouts(1))
    run = case.enrich(*arguments)
    assert (run.status, run.requests) == (2, 0)
    assert told in run.err
    assert case.rows("select count(*) from runs where command = 'enrich'") == [(0,)]


def test_a_budget_used_up_by_broken_tries_ends_the_run(case):
    """Who waits for room does not wait for tries that are over, though they will be made again."""
    case.ingest(rollouts(30))
    case.llm.faults = lambda asked: "cut body"
    run = case.enrich("--max-cost", 0.05, "-c", 16)
    assert run.status == 3
    assert "budget reached" in run.out
    assert case.llm.billed_usd <= accounted_usd(case) <= 0.05 + 1e-9


def test_a_prompt_that_never_fits_ends_the_run_unasked(case):
    case.ingest([rollout(1, python_code="x = '" + "y" * 50_000 + "'")])
    run = case.enrich("--max-cost", 0.05)
    assert (run.status, run.requests) == (3, 0)
    assert "and the next request may take $0.10" in run.out


def test_dry_run_says_how_far_the_budget_reaches(case):
    case.ingest(rollouts(50))
    dry = case.enrich("--max-cost", 0.1, "--dry-run")
    assert (dry.status, dry.requests) == (0, 0)
    assert "answers at their limit, at the price of kbetl.toml)" in dry.out
    assert (
        "budget: $0.0000 of $0.1000 used; it would reach about 33 of 50 requests, at the worst 13" in dry.out
    )


def test_resume_keeps_the_budget(case):
    """It is one of the options of the run that is taken up, and a new one wins."""
    case.ingest(rollouts(60))
    case.enrich("--max-cost", 0.05)
    again = case.kbetl("enrich", "--resume")
    assert (again.status, again.requests) == (3, 0)
    assert case.kbetl("enrich", "--resume", "--max-cost", 1).status == 0


def test_ctrl_c_leaves_no_reservation_that_was_not_sent(case):
    """Who waits for room when the run is ended reserves nothing; what is in flight is settled."""
    case.ingest(rollouts(40))
    case.llm.latency_s = 0.3
    arguments = ["enrich", "-b", case.llm.url, "-m", "m", "-c", 32, "--max-cost", 0.08]
    with started(case.folder, *arguments) as process:
        until(lambda: len(case.llm.requests) >= 5)
        process.terminate()
        run = ended(process)
    assert run.status == 143
    assert reserved(case) == []
    assert case.llm.billed_usd == pytest.approx(accounted_usd(case))


# requests that are handed out together


def test_what_was_reserved_for_a_file_is_settled_one_by_one(case):
    """An answer gives its part back, what told nothing counts in full, what was not billed is free."""
    case.ingest(rollouts(1))
    asking = BudgetScope("difficulty", "m", {"max_tokens": 256}, case.llm.url)
    requests = [
        Request("m", [{"role": "user", "content": f"{number}"}], {"max_tokens": 256}) for number in range(5)
    ]
    with contextlib.chdir(case.folder), Store.open(Path("kbetl.db")) as store:
        run_id = store.begin_run("batch", {}, task="difficulty")

        def budget() -> Budget:
            found = open_budget(store, asking, BudgetLimits(tokens=5000))
            assert found is not None
            found.run_id = run_id
            return found

        with store.transaction():
            for request in requests[:3]:
                worst = budget().max_usage(request)
                reserve(store, ToReserve(run_id, request.hash, 0, "m", worst))
        assert not budget().balance.fits(budget().max_usage(requests[3]))
        told = Completion("{}", "h", 1.0, prompt_tokens=9, completion_tokens=1)
        with store.transaction():
            for request, completion in ((requests[0], told), (requests[1], Completion("{}", "h", 1.0))):
                add_answers(store, [NewAnswer(request, 0, completion, run_id)], "2026-11-22T10:00:00.000Z")
                close_reservation(store, run_id, request, (completion, 0))
            close_reservation(store, run_id, requests[2], None)
            close_reservation(store, run_id, requests[3], None)
        assert case.rows("select request_hash, try from reservations") == [(requests[1].hash, 0)]
        balance = budget().balance
        assert (balance.spent_tokens, balance.reserved_tokens) == (
            10,
            budget().max_usage(requests[1]).tokens,
        )


# prices in kbetl.toml, and the list


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("prices = 3", "prices are tables"),
        ("[prices.m]\noutput-usd-per-million-tokens = 1", "lacks input-usd-per-million-tokens"),
        ("[prices.m]\ninput = 1", "has no 'input'; it knows input-usd-per-million-tokens"),
        (PRICES.replace("8.0", "-8"), "must be a number from 0 to 1,000,000"),
        (PRICES.replace("8.0", "nan"), "must be a number"),
        (PRICES.replace("8.0", "true"), "must be a number"),
    ],
)
def test_prices_that_are_none_are_refused_by_every_command(case, toml, told):
    (case.folder / "kbetl.toml").write_text(toml)
    run = case.kbetl("status")
    assert run.status == 2
    assert told in run.err
    assert "Traceback" not in run.err


def test_list_prices_are_those_of_the_address_that_is_asked():
    """The same model elsewhere has no price; tiers hold up to where the next one begins."""
    pytest.importorskip("genai_prices", reason="the extra kbetl[prices] is not installed")
    from kbetl.prices import find_price

    price = find_price("gpt-4o", "https://api.openai.com/v1")
    assert price is not None
    assert (price.input_usd, price.cached_input_usd, price.output_usd) == (2.5, 1.25, 10.0)
    assert price.source.startswith("genai-prices ")
    assert find_price("gpt-4o", "http://127.0.0.1:8000/v1") is None
    assert find_price("no-such-model", "https://api.openai.com/v1") is None
    tiered = find_price("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai")
    assert tiered is not None
    assert tiered.below_prompt_tokens == 200_000
    assert find_price("sonar", "https://api.perplexity.ai") is None  # a fee for each request besides
