"""The gate, and the waits that servers ask for."""

from __future__ import annotations

import asyncio
import time

import pytest
from client_case import RATINGS, Asking, asked_like, endpoint, question, until
from fake_llm import FakeLlm, json_reply
from hypothesis import given, settings
from hypothesis import strategies as st

from kbetl.client import Client, Limits
from kbetl.client.limiter import ConcurrencyLimiter
from kbetl.client.rate import RateEstimator, RateLimiter
from kbetl.client.retry_after import LONGEST_S, body_wait_s, duration_s, reset_after_s, retry_after_s
from kbetl.errors import RequestFailed, RunStopped
from kbetl.records import Completion

# The gate


def test_as_many_as_allowed_are_in_flight():
    with FakeLlm(latency_s=0.2) as llm:
        limits = Limits(concurrency=150, alone_s=0.0)
        asking = Asking(llm, [question(str(n)) for n in range(300)], limits)
        assert llm.max_in_flight == 150
    assert all(isinstance(result, Completion) for result in asking.results)


def test_slow_first_answer_does_not_hold_the_others_for_long():
    with FakeLlm(latency_s=0.3) as llm:
        Asking(llm, [question(str(n)) for n in range(20)], Limits(alone_s=0.01))
        assert llm.max_in_flight == 20


def test_cancelled_request_gives_its_place_back():
    async def main(llm):
        async with Client(endpoint(llm), Limits(concurrency=1)) as client:
            stuck = asyncio.create_task(client.complete(question("stuck")))
            await until(lambda: llm.requests)
            waiting = asyncio.create_task(client.complete(question("waiting")))
            await asyncio.sleep(0)
            waiting.cancel()
            stuck.cancel()
            await asyncio.gather(stuck, waiting, return_exceptions=True)
            assert client.stats.in_flight == 0
            return await client.complete(question("next"))

    with FakeLlm(["silence"]) as llm:
        assert asyncio.run(main(llm)).content in RATINGS


def test_the_slot_of_a_cancelled_waiter_goes_to_the_next():
    """Let in and cancelled in the same turn of the loop: the place is not lost."""

    async def main():
        gate = ConcurrencyLimiter(Limits(concurrency=1, alone_s=0))
        await gate.acquire()
        first, second = asyncio.create_task(gate.acquire()), asyncio.create_task(gate.acquire())
        await asyncio.sleep(0)
        gate.release()
        first.cancel()
        await second
        return gate.in_flight, gate.waiting

    assert asyncio.run(main()) == (1, 0)


def test_one_round_of_refusals_slows_down_once():
    async def main():
        gate = ConcurrencyLimiter(Limits(concurrency=256, alone_s=0, backoff_s=0))
        rounds = [await gate.acquire() for _ in range(256)]
        for number in rounds[:200]:
            gate.on_throttled(number, None)
            gate.release()
        gate.release()
        await gate.acquire()
        await asyncio.wait_for(until(lambda: gate.allowed == 128), 30)

    asyncio.run(main())


def test_concurrency_grows_again_with_successes():
    async def main():
        gate = ConcurrencyLimiter(Limits(concurrency=8, alone_s=0, backoff_s=0))
        lowest = gate.allowed
        for refuses in (True, True, True, *[False] * 200):
            rounds = [await gate.acquire() for _ in range(gate.allowed)]
            for number in rounds:
                gate.on_throttled(number, None) if refuses else gate.succeeded(number)
                gate.release()
            gate.succeeded(await gate.acquire())
            gate.release()
            lowest = min(lowest, gate.allowed)
        return lowest, gate.allowed

    assert asyncio.run(main()) == (2, 8)


def test_limit_in_time_is_learned_and_lowers_no_concurrency():
    """300 were let through in a second, and it names a wait of two: a hundred a second from then on."""

    now = time.monotonic()
    learner = RateEstimator(now)
    learner.on_refusal(now + 3, 300, 2.0)
    first = learner.limiter.per_minute
    learner.grow()
    learner.on_refusal(now + 3.5, 350, 0.01)
    later = learner.limiter.per_minute
    assert first == pytest.approx(0.98 * 6000)
    assert first < later < 1.1 * first


@pytest.mark.parametrize("others_in_flight", [0, 1])
def test_limit_in_time_that_names_no_wait_is_learned_where_one_alone_is_refused(others_in_flight):
    """What is refused while others are in flight may be one too many at once: no pace helps there."""

    async def main():
        gate = ConcurrencyLimiter(Limits(concurrency=8, alone_s=0, backoff_s=0), lambda: 300)
        gate._estimator = RateEstimator(time.monotonic() - 60)
        for _ in range(others_in_flight):
            await gate.acquire()
        for _ in range(3):
            gate.on_throttled(await gate.acquire(), None, is_rate=True)
            gate.release()
        gate._unnamed_since -= 50
        gate.succeeded(await gate.acquire())
        return gate._estimator.limiter

    pace = asyncio.run(main())
    if others_in_flight:
        assert pace is None
    else:
        assert pace.per_minute == pytest.approx(0.98 * 300, rel=0.01)


def test_refusal_for_a_named_time_leaves_concurrency_as_it_was():
    async def main():
        accepted = 0
        gate = ConcurrencyLimiter(Limits(concurrency=64, alone_s=0), lambda: accepted)
        rounds = [await gate.acquire() for _ in range(64)]
        for number in rounds:
            gate.on_throttled(number, 0.01, is_rate=True)
            gate.release()
        await gate.acquire()
        await asyncio.wait_for(until(lambda: gate.allowed == 64), 30)

    asyncio.run(main())


def test_refusal_that_stands_alone_takes_one_place_until_sixteen_succeeded():
    async def main():
        gate = ConcurrencyLimiter(Limits(concurrency=32, alone_s=0))
        rounds = [await gate.acquire() for _ in range(32)]
        assert gate.on_single_refusal(None)
        lowered = gate.allowed
        for number in rounds[:15]:
            gate.succeeded(number)
        before = gate.allowed
        gate.succeeded(rounds[15])
        return lowered, before, gate.allowed, gate.hold_s()

    assert asyncio.run(main()) == (31, 31, 32, 0.0)


def test_wait_that_one_refusal_names_holds_all_and_teaches_no_pace():
    """Only where many are refused it is a limit in time."""

    async def main():
        accepted = 0
        gate = ConcurrencyLimiter(Limits(concurrency=64, alone_s=0), lambda: accepted)
        await gate.acquire()
        assert gate.on_single_refusal(0.02)
        gate.release()
        held_s = gate.hold_s()
        await gate.acquire()
        await asyncio.wait_for(until(lambda: gate.allowed == 64), 30)
        return held_s, gate._estimator.limiter

    held_s, pace = asyncio.run(main())
    assert 0 < held_s <= 0.02
    assert pace is None


def test_limit_used_up_at_a_learned_pace_holds_for_a_moment():
    """The server names the minute until all of it is there again; a part of it is there much sooner."""

    async def main():
        gate = ConcurrencyLimiter(Limits(concurrency=64, alone_s=0))
        gate.on_exhausted(60.0)
        first_s = gate.hold_s()
        paced = ConcurrencyLimiter(Limits(concurrency=64, alone_s=0))
        paced._estimator.limiter = RateLimiter(300)
        paced.on_exhausted(60.0)
        return first_s, paced.hold_s(), paced.on_single_refusal(1.0)

    first_s, later_s, is_alone = asyncio.run(main())
    assert first_s > 50
    assert later_s <= 2
    assert not is_alone


def test_one_goes_ahead_after_two_holds():
    async def main():
        gate = ConcurrencyLimiter(Limits(concurrency=64, alone_s=0, backoff_s=0))
        for _ in range(2):
            gate.on_throttled(await gate.acquire(), None)
            gate.release()
        number = await gate.acquire()
        while_ahead = gate.allowed
        gate.succeeded(number)
        await asyncio.wait_for(until(lambda: gate.allowed == 64), 30)
        return while_ahead

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("per_minute", [1, 7, 300, 60_000])
def test_no_minute_holds_more_than_its_pace(per_minute):
    """Any window of 60 s, also right after a long rest, also when timers come late."""
    pace, now, times = RateLimiter(per_minute), 1000.0, []
    for step in range(min(3 * per_minute, 2000)):
        now += max(0.0, pace.wait_s(now)) + (0.0 if step % 3 else 0.01)
        pace.consume(now, 1)
        times.append(now)
    busiest = max(
        sum(start <= other < start + 60 for other in times) for start in times[:: max(1, len(times) // 50)]
    )
    assert busiest <= per_minute


def test_tokens_a_minute_are_settled_by_usage():
    pace = RateLimiter(6000)
    pace.consume(1000.0, 100)
    before = pace.wait_s(1000.0)
    pace.correct(100)
    assert pace.wait_s(1000.0) - before == pytest.approx(1.0, rel=0.01)


def test_requests_a_minute_are_kept():
    """The second of two at 1,200 a minute does not go out with the first."""
    with FakeLlm() as llm:
        Asking(llm, [question(str(n)) for n in range(8)], Limits(rpm=1200, alone_s=0.0))
        times = [asked.at for asked in llm.requests]
    assert times[-1] - times[0] >= 0.2


def test_tokens_a_minute_are_kept():
    """Each has some 24 tokens by our estimate and 50 by the server's count: 0.05 s at 60,000 a minute."""
    usage = {"prompt_tokens": 25, "completion_tokens": 25}
    choice = {"message": {"content": "x"}, "finish_reason": "stop"}
    with FakeLlm(lambda asked: json_reply({"choices": [choice], "usage": usage})) as llm:
        questions = [question("x" * 40) for _ in range(4)]
        Asking(llm, questions, Limits(concurrency=1, tpm=60_000))
        times = [asked.at for asked in llm.requests]
    # A tenth of a second may be made up for after a rest: two of the three waits of 0.05 s are left.
    assert times[-1] - times[0] >= 0.04


# Waits that servers ask for


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("12ms", 0.012),
        ("1s", 1),
        ("1h2m3.5s", 3723.5),
        ("17", 17),
        ("0", 0),
        ("24h0m0s", 86400),
        ("1e3", 1000),
        *((text, LONGEST_S) for text in ("1e309", "9" * 30 + "h", "9" * 40, "99999999999999999")),
        *((text, None) for text in ("-1", "soon", "", None, "1x", "\u0663", "inf", "nan", "1e", "-1e309")),
    ],
)
def test_durations(text, seconds):
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 30),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, None),
        ({"retry-after": "nonsense"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_S),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 GMT"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 +9999999999999999"}, None),
        ({"retry-after-ms": "9" * 300}, LONGEST_S),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        (
            {
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-requests": "60",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "2",
            },
            2,
        ),
        ({"x-ratelimit-reset-requests": "2", "x-ratelimit-reset-tokens": "1"}, 2),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "-1"}, None),
        ({}, None),
    ],
)
def test_waits_that_a_refusal_asks_for(headers, seconds):
    assert retry_after_s(headers) == (None if seconds is None else pytest.approx(seconds))


def test_what_remains_holds_nobody():
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "60"}
    assert reset_after_s(headers) is None


NUMBERS = st.one_of(
    st.integers().map(str), st.floats().map(str), st.from_regex(r"[0-9]{1,400}(\.[0-9]+)?", fullmatch=True)
)
DURATIONS = st.one_of(
    NUMBERS,
    st.lists(st.tuples(NUMBERS, st.sampled_from(["h", "m", "s", "ms", "us", "ns", " seconds", "x"]))).map(
        lambda parts: "".join(number + unit for number, unit in parts)
    ),
    st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.sampled_from(["Fri, 31 Dec 9999 23:59:59 -2359", "Sun, 06 Nov 1994 08:49:37 +" + "9" * 30, "1e309"]),
    st.text(max_size=40),
)
WAIT_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("retry-after", "retry-after-ms", "date", "x-ratelimit-remaining", "x-ratelimit-reset"),
            *("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"),
        ]
    ),
    st.one_of(st.just("0"), DURATIONS),
)


@settings(deadline=None)
@given(DURATIONS, WAIT_HEADERS, st.one_of(DURATIONS, st.integers(), st.floats()))
def test_no_wait_from_outside_is_beyond_what_clocks_count_with(text, headers, value):
    """Whatever it is, it is nothing or a number of seconds above zero and not above the longest."""
    error = {"retry_after": value, "details": [{"retryDelay": text}], "metadata": {"headers": headers}}
    found = [
        retry_after_s(headers),
        reset_after_s(headers),
        body_wait_s(error, ""),
        body_wait_s({}, f"Please try again in {text}."),
    ]
    assert all(wait_s is None or 0 < wait_s <= LONGEST_S for wait_s in found)
    seconds = duration_s(text)
    assert seconds is None or 0 <= seconds <= LONGEST_S


ABSURD = ("9" * 30, "9" * 30 + "h", "1e309", "inf", "nan", "-5", "", "86400", "24h0m0s", "99999999999999999")
ABSURD_DATES = (
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Sat, 01 Jan 0000 00:00:00 GMT",
    "Mon, 01 Jan 1900 00:00:00 GMT",
)


@pytest.mark.parametrize("text", [*ABSURD, *ABSURD_DATES])
@pytest.mark.parametrize("status", [200, 429, 503, 500])
def test_no_wait_from_outside_holds_a_run_beyond_give_up(text, status):
    """Two requests and one absurd wait: an answer, a failure or a stop with a reason, and soon."""
    headers = {
        "Retry-After": text,
        "X-RateLimit-Remaining-Requests": "0",
        "X-RateLimit-Reset-Requests": text,
    }
    with FakeLlm() as llm:
        good = llm.completion(asked_like())
        told = good if status == 200 else {"error": {"message": "later", "retry_after": text}}
        llm.faults.append(json_reply(told, status=status, headers=headers))
        limits = Limits(backoff_s=0.0, concurrency=1, give_up_after_s=20.0)
        asking = Asking(llm, [question("a"), question("b")], limits)
    for result in asking.results:
        assert isinstance(result, Completion | RequestFailed | RunStopped), result
        assert isinstance(result, Completion) or "longer than --give-up-after" in str(result)
