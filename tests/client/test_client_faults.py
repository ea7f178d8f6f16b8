"""The client against a server that fails: what costs time, a try, the sample or the run."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from client_case import FAST, RATINGS, Asking, ask_one, asked_like, endpoint, question, refused, until
from fake_llm import FakeLlm, Reply, error_reply, json_reply

from kbetl.cli.progress import shown_run
from kbetl.client import Client, Endpoint, Limits
from kbetl.client.retry_policy import REFUSED_ALIKE, ServerHealth
from kbetl.errors import Declined, RequestFailed, RunStopped, Undecided
from kbetl.inference.report import RunProgress
from kbetl.records import Completion

EIGHT_AT_ONCE = replace(FAST, concurrency=8)

# What uses up tries


@pytest.mark.parametrize("fault", ["500", "408", "409", "error 200"])
def test_server_error_is_tried_three_times(fault):
    with FakeLlm([fault] * 3) as llm:
        message = refused(llm, RequestFailed)
        assert len(llm.requests) == 3
    assert f"127.0.0.1:{llm.port}" in message
    assert "tried 3 times" in message


@pytest.mark.parametrize("fault", ["500", "error 200"])
def test_server_error_passes(fault):
    with FakeLlm([fault] * 2) as llm:
        assert ask_one(llm).content in RATINGS
        assert len(llm.requests) == 3


SPOILT = {
    "cut body": "broke off",
    "cut json": "not JSON",
    "html": "text/html",
    "empty body": "not JSON",
    "empty choices": "no choices",
    "no choices": "no choices",
    "no message": "no message",
    "choice error": "upstream died",
    "number content": "not a text",
    "null content": "content is null",
}


@pytest.mark.parametrize("fault", SPOILT)
def test_spoilt_answer_is_handed_over_and_asked_again(fault):
    """It was paid for, so whoever asked gets it as it came; then a good one."""
    with FakeLlm([fault]) as llm:
        asking = Asking(llm, [question()])
        assert len(llm.requests) == 2
    assert asking.only.content in RATINGS
    (spoilt,) = asking.wasted
    assert SPOILT[fault] in spoilt.fault
    assert spoilt.host == f"127.0.0.1:{llm.port}"


def test_spoilt_answers_use_up_the_tries():
    with FakeLlm(["cut body", "empty choices", "cut json", None]) as llm:
        asking = Asking(llm, [question()])
        assert len(llm.requests) == 3
    assert type(asking.only) is RequestFailed
    assert [completion.fault is not None for completion in asking.wasted] == [True] * 3
    assert asking.wasted[0].response.startswith('{"id":"chatcmpl-0"')
    assert asking.wasted[1].prompt_tokens is not None


def test_what_the_keeper_of_spoilt_answers_raises_ends_the_request():
    """Nothing more is sent when what was paid for cannot be kept."""

    async def main(llm):
        async def keep(completion):
            raise RunStopped("the disk is full")

        async with Client(endpoint(llm), FAST) as client:
            with pytest.raises(RunStopped, match="disk"):
                await client.complete(question(), keep)

    with FakeLlm(["empty choices"]) as llm:
        asyncio.run(main(llm))
        assert len(llm.requests) == 1


def test_body_beyond_the_limit_is_not_read_further():
    with FakeLlm(content=lambda asked: "x" * 1_000_000) as llm:
        limits = Limits(backoff_s=0.0, tries=1, body_max_bytes=100_000)
        message = refused(llm, RequestFailed, limits=limits)
    assert "longer than 100000 bytes" in message


@pytest.mark.parametrize("fault", ["400", "400 context", "413", "422"])
def test_what_cannot_succeed_is_sent_once(fault):
    with FakeLlm([fault]) as llm:
        refused(llm, RequestFailed)
        assert len(llm.requests) == 1


def test_question_that_a_moderation_flags_does_not_stop_the_run():
    error = {"message": "flagged", "code": 403, "metadata": {"reasons": ["x"], "flagged_input": "y"}}
    with FakeLlm([json_reply({"error": error}, status=403)]) as llm:
        refused(llm, Declined)
        assert len(llm.requests) == 1


# What costs time alone


@pytest.mark.parametrize("fault", ["429", "429 retry-after", "503", "529", "error 200 rate"])
def test_throttling_uses_up_no_try(fault):
    with FakeLlm([fault] * 8) as llm:
        asking = Asking(llm, [question()])
        assert len(llm.requests) == 9
    assert asking.only.content in RATINGS
    assert (asking.stats.throttled, asking.wasted) == (8, [])


@pytest.mark.parametrize("fault", ["502", "504"])
def test_gateway_whose_server_is_away_uses_up_no_try(fault):
    with FakeLlm([fault] * 8) as llm:
        assert ask_one(llm).content in RATINGS
        assert len(llm.requests) == 9


def test_gateway_error_of_one_question_alone_uses_up_its_tries():
    """The others have their answers meanwhile: it is not the server that is away."""

    def gateway(asked):
        return "502" if asked.prompt == "poison" else None

    with FakeLlm(gateway, latency_s=0.002) as llm:
        names = ["poison", *map(str, range(200))]
        limits = replace(FAST, concurrency=4, backoff_s=0.01, backoff_max_s=0.01)
        asking = Asking(llm, [question(name) for name in names], limits)
        sent = sum(asked.prompt == "poison" for asked in llm.requests)
    assert type(asking.results[0]) is RequestFailed
    assert all(isinstance(result, Completion) for result in asking.results[1:])
    assert 3 <= sent <= 13


def test_error_that_everybody_gets_is_an_outage():
    """500 for all, and no answer between: nobody's tries are used up but those of the first two."""
    with FakeLlm(lambda asked: "500" if asked.index < 40 else None) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(20)], EIGHT_AT_ONCE)
    assert all(isinstance(result, Completion) for result in asking.results[3:])


def test_question_too_large_for_the_limit_is_not_sent_for_ever():
    """429, yet no wait will help."""
    fault = error_reply(429, "Request too large for m on tokens per min: Limit 10000, Requested 12000")
    with FakeLlm([None, fault]) as llm:

        async def main():
            async with Client(endpoint(llm), FAST) as client:
                await client.complete(question("good"))
                with pytest.raises(RequestFailed, match="too large"):
                    await client.complete(question("large"))

        asyncio.run(main())
        assert len(llm.requests) == 2


def test_silent_server_that_answers_others_costs_no_try_at_first():
    """It may be slow, and is asked for less; a question it never answers fails all the same."""

    def silent(asked):
        return "silence" if asked.prompt == "poison" else None

    with FakeLlm(silent) as llm:
        limits = Limits(backoff_s=0.0, idle_timeout_s=0.05, alone_s=0.0, concurrency=4)

        async def others(client):
            for n in range(10_000):
                if asking.done():
                    return
                await client.complete(question(str(n)))

        async def main():
            nonlocal asking
            async with Client(endpoint(llm), limits) as client:
                asking = asyncio.create_task(client.complete(question("poison")))
                await others(client)
                with pytest.raises(RequestFailed, match="silent"):
                    await asking

        asking: asyncio.Task[Completion]
        asyncio.run(main())
        assert sum(asked.prompt == "poison" for asked in llm.requests) == 4


def test_hold_is_said_once_with_its_reason():
    said = []

    async def main(llm):
        async with Client(endpoint(llm), FAST, said.append) as client:
            waiting = [asyncio.create_task(client.complete(question(str(n)))) for n in range(8)]
            await until(lambda: client.stats.hold_s > 0)
            client.stop("enough")
            await asyncio.gather(*waiting, return_exceptions=True)

    with FakeLlm([error_reply(429, "slow down", {"Retry-After": "600"})] * 8) as llm:
        asyncio.run(main(llm))
    (line,) = said
    assert line.startswith(
        f'127.0.0.1:{llm.port} answered 429 Too Many Requests: "slow down"; nothing is sent '
    )
    assert "for 600 s, until " in line


def test_throttling_and_errors_are_counted_apart():
    with FakeLlm(["500", "429", "500", "429", "503", None]) as llm:
        assert ask_one(llm).content in RATINGS


def test_all_rows_come_through_a_server_that_takes_few_at_once():
    with FakeLlm(max_concurrent=4, latency_s=0.005) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(100)], Limits(concurrency=64, backoff_s=0.001))
        assert all(isinstance(result, Completion) for result in asking.results)
        assert asking.stats.allowed < 64
        answered = [llm.requests[answer.index].raw for answer in llm.answered if answer.status == 200]
    assert len(answered) == len(set(answered)) == 100


def test_reset_is_an_outage_once_the_server_was_there():
    with FakeLlm([None, *["reset"] * 5]) as llm:

        async def main():
            async with Client(endpoint(llm), FAST) as client:
                return [await client.complete(question(str(n))) for n in range(2)]

        first, second = asyncio.run(main())
        assert len(llm.requests) == 7
    assert {first.content, second.content} <= RATINGS


def test_request_that_breaks_every_time_fails_while_others_succeed():
    """A question that kills its connection is not an outage: it is not sent for ever."""

    def poison(asked):
        return "reset" if asked.prompt == "poison" else None

    with FakeLlm(poison) as llm:

        async def main():
            async with Client(endpoint(llm), FAST) as client:
                await client.complete(question("good"))
                with pytest.raises(RequestFailed, match=r"the connection broke|closed the connection"):
                    await client.complete(question("poison"))
                return client.stats.wasted

        wasted = asyncio.run(main())
        sent = sum(asked.prompt == "poison" for asked in llm.requests)
    assert 3 <= sent <= 13
    assert wasted == sent


def test_silence_ends_and_is_tried_again():
    with FakeLlm([None, "silence"]) as llm:
        limits = Limits(backoff_s=0.0, idle_timeout_s=0.05)

        async def main():
            wasted = []

            async def keep(completion):
                wasted.append(completion)

            async with Client(endpoint(llm), limits) as client:
                await client.complete(question("a"))
                return await client.complete(question("b"), keep), wasted

        completion, wasted = asyncio.run(main())
        assert len(llm.requests) == 3
    assert completion.content in RATINGS
    assert wasted == [None]


def test_server_that_comes_back_is_asked_on():
    with FakeLlm() as llm:

        async def main():
            async with Client(endpoint(llm), Limits(backoff_s=0.005, backoff_max_s=0.01)) as client:
                await client.complete(question("a"))
                await asyncio.to_thread(llm.stop_listening)
                waiting = asyncio.create_task(client.complete(question("b")))
                await until(lambda: client.stats.repeated >= 5)
                await asyncio.to_thread(llm.listen_again)
                return await waiting

        assert asyncio.run(main()).content in RATINGS


def test_run_stops_after_nothing_but_failures():
    with FakeLlm(["503"] * 1000) as llm:
        limits = Limits(backoff_s=0.001, backoff_max_s=0.001, give_up_after_s=0.05)
        message = refused(llm, RunStopped, limits=limits)
    assert "nothing but failures" in message
    assert "503" in message


def test_wait_beyond_the_limit_stops_the_run_at_once():
    with FakeLlm([error_reply(429, "daily limit", {"Retry-After": "86400"})]) as llm:
        assert "wait 86400 s" in refused(llm, RunStopped)


@pytest.mark.parametrize("reset", ["24h0m0s", "9" * 30 + "h", "1e309", "86400"])
def test_limit_that_a_good_answer_names_beyond_give_up_holds_nobody(reset):
    """It is not waited out: were it true, the next reply would refuse, and stop the run."""
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}
    with FakeLlm() as llm:
        llm.faults.append(json_reply(llm.completion(asked_like()), headers=headers))

        async def main():
            async with Client(endpoint(llm), FAST) as client:
                await client.complete(question("a"))
                return client.stats.hold_s, await client.complete(question("b"))

        held_s, answer = asyncio.run(main())
    assert (held_s, answer.fault) == (0, None)


def test_limit_that_is_used_up_beyond_give_up_stops_at_the_refusal():
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "24h0m0s"}
    with FakeLlm() as llm:
        good = json_reply(llm.completion(asked_like()), headers=headers)
        llm.faults.extend([good, error_reply(429, "daily limit", headers)])
        asking = Asking(llm, [question("a"), question("b")], replace(FAST, concurrency=1))
        assert len(llm.requests) == 2
    assert isinstance(asking.results[1], RunStopped)
    assert "wait 86400 s, longer than --give-up-after" in str(asking.results[1])


@pytest.mark.parametrize("status", [500, 502, 503, 408])
def test_wait_beyond_give_up_of_one_request_alone_is_that_request_s(status):
    def long_wait(asked):
        return error_reply(status, "boom", {"Retry-After": "86400"}) if asked.prompt == "0" else None

    with FakeLlm(long_wait) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(30)], EIGHT_AT_ONCE)
        assert len(llm.requests) == 30
    assert isinstance(asking.results[0], RequestFailed)
    assert "longer than --give-up-after" in str(asking.results[0])
    assert all(isinstance(result, Completion) for result in asking.results[1:])


@pytest.mark.parametrize(
    "life",
    [
        b" " * 1000,
        b"\r\n" * 500,
        b": still at work\n\n" * 100,
        b'data: {"choices":[{"delta":{"role":"a","content":" "}}]}\n\n' * 40,
    ],
)
def test_signs_of_life_alone_do_not_keep_a_run_alive(life):
    """Blanks for ten seconds: the run ends by --give-up-after, with the request in flight."""
    kind = "application/json" if life.isspace() else "text/event-stream"
    with FakeLlm([None, Reply(life, content_type=kind, drip_s=1.0)]) as llm:
        where = replace(endpoint(llm), is_streamed=not life.isspace())
        limits = Limits(give_up_after_s=0.2, concurrency=1)
        asking = Asking(where, [question("a"), question("b")], limits)
    assert isinstance(asking.results[1], RunStopped)
    assert "no text of one for 0 s (--give-up-after)" in str(asking.results[1])


def test_text_that_arrives_keeps_a_run_alive():
    """Ten parts, each sooner than --give-up-after; all of them take longer than it."""
    with FakeLlm() as llm:
        llm.faults.append(replace(json_reply(llm.completion(asked_like())), drip_s=0.2))
        assert ask_one(llm, limits=Limits(give_up_after_s=1.2)).content in RATINGS


def test_request_that_takes_too_long_as_a_whole_is_not_sent_again():
    """Its text comes and comes; the next request has its answer."""
    with FakeLlm() as llm:
        llm.faults.append(replace(json_reply(llm.completion(asked_like())), drip_s=0.5))
        limits = Limits(concurrency=1, timeout_s=0.7)
        asking = Asking(llm, [question("a"), question("b")], limits)
        assert len(llm.requests) == 2
    assert type(asking.results[0]) is RequestFailed
    assert "longer than --request-timeout; it is not sent again in this run" in str(asking.results[0])
    (cut,) = asking.wasted
    assert cut.response.startswith('{"id"')
    assert isinstance(asking.results[1], Completion)


def test_exhausted_limit_of_a_good_answer_holds_the_next_request():
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}
    with FakeLlm() as llm:
        good = json_reply(llm.completion(asked_like()), headers=headers)
        llm.faults.append(good)

        async def main():
            async with Client(endpoint(llm), FAST) as client:
                await client.complete(question("a"))
                held_s = client.stats.hold_s
                await client.complete(question("b"))
                return held_s

        assert 0 < asyncio.run(main()) <= 0.02


# What stops the run


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", "check the key"),
        ("402", "top up the account"),
        ("403", "may not use this model"),
        ("404", "model's name and the base URL"),
        ("429 quota", "top up the account"),
    ],
)
def test_what_hits_every_request_stops_the_run(fault, words):
    """One request went out, and nobody else's; all others are told the same."""
    with FakeLlm([fault] * 300) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(256)])
        assert len(llm.requests) == 1
    messages = {str(result) for result in asking.results}
    assert {type(result) for result in asking.results} == {RunStopped}
    assert len(messages) == 1
    assert words in messages.pop()


def test_refusal_of_every_request_in_the_same_words_stops_the_run():
    """A grammar that no request passes with would be sent 18,000 times."""
    with FakeLlm(["400"] * 200) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(200)], EIGHT_AT_ONCE)
        assert len(llm.requests) <= REFUSED_ALIKE + 8
    kinds = [type(result) for result in asking.results]
    assert kinds.count(Undecided) < REFUSED_ALIKE + 8
    assert kinds.count(RunStopped) == 200 - kinds.count(Undecided)
    assert "the first 20 requests were all refused so" in str(asking.results[-1])


def test_refusals_of_some_samples_do_not_stop_the_run():
    """Not after a success, and not in words of their own."""
    with FakeLlm([None] + ["400"] * 60) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(61)], EIGHT_AT_ONCE)
        assert [type(result) for result in asking.results].count(RequestFailed) == 60
    with FakeLlm([error_reply(400, f"row {n} is too long") for n in range(60)]) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(60)], EIGHT_AT_ONCE)
        assert {type(result) for result in asking.results} == {Undecided}


UNSURE = {
    "403": (error_reply(403, "Forbidden"), "check key, team and model"),
    "403 html": (Reply(b"<html>blocked by policy</html>", 403, content_type="text/html"), "check key"),
    "404": (error_reply(404, "Not Found"), "model's name and the base URL"),
    "405": (error_reply(405, "Method Not Allowed"), "does not take chat completions"),
    "redirect": ("redirect", "redirect is not followed"),
    "500 for a day": (error_reply(500, "boom", {"Retry-After": "86400"}), "run again later"),
}
"""What may be everybody's, and what is said where it is."""


@pytest.mark.parametrize("concurrency", [1, 256])
@pytest.mark.parametrize("fault", UNSURE)
def test_status_that_three_requests_and_a_probe_get_stops_the_run(fault, concurrency):
    """Nobody's outcome is decided: three wait for that, and a fourth one tells."""
    reply, words = UNSURE[fault]
    with FakeLlm([reply] * 300) as llm:
        limits = replace(FAST, concurrency=concurrency)
        asking = Asking(llm, [question(str(n)) for n in range(256)], limits)
        assert len(llm.requests) == 4
    kinds = [type(result) for result in asking.results]
    assert (kinds.count(Undecided), kinds.count(RunStopped)) == (3, 253)
    assert all(words in str(each) for each in asking.results if isinstance(each, RunStopped))


@pytest.mark.parametrize("concurrency", [1, 8, 256])
@pytest.mark.parametrize("fault", UNSURE)
def test_status_that_some_requests_get_while_others_succeed_stops_nothing(fault, concurrency):
    """One in seven, the first one among them: each is sent once, and all others have their answers."""
    reply, _ = UNSURE[fault]
    poisoned = range(0, 70, 7)

    def firewall(asked):
        return reply if int(asked.prompt) in poisoned else None

    with FakeLlm(firewall, latency_s=0.01) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(70)], replace(FAST, concurrency=concurrency))
        assert len(llm.requests) == 70
    for number, result in enumerate(asking.results):
        assert isinstance(result, Undecided if number in poisoned else Completion), result


def test_status_that_everybody_gets_from_now_on_stops_the_run():
    """A ban in the middle of a run: after twenty without a success between, the next one that goes alone."""
    with FakeLlm(lambda asked: error_reply(403, "banned") if asked.index >= 30 else None) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(200)], EIGHT_AT_ONCE)
        assert 51 <= len(llm.requests) <= 51 + 8
    kinds = [type(result) for result in asking.results]
    assert (kinds.count(Completion), kinds.count(RunStopped)) == (30, 200 - len(llm.requests) + 1)


def test_what_is_in_flight_when_the_run_stops_is_kept():
    with FakeLlm([None, None, "401"], latency_s=lambda index: 0.05 if index == 1 else 0.0) as llm:

        async def main():
            async with Client(endpoint(llm), FAST) as client:
                await client.complete(question("first"))
                slow = asyncio.create_task(client.complete(question("slow")))
                await until(lambda: len(llm.requests) == 2)
                with pytest.raises(RunStopped):
                    await client.complete(question("third"))
                return await slow

        assert asyncio.run(main()).content in RATINGS


def test_stopped_client_ends_waits_at_once():
    """Who waits for a throttled server hears of the end; the wait asked for is a quarter of an hour."""
    with FakeLlm([error_reply(429, "later", {"Retry-After": "900"})]) as llm:

        async def main():
            async with Client(endpoint(llm), FAST) as client:
                waiting = [asyncio.create_task(client.complete(question(str(n)))) for n in range(3)]
                await until(lambda: client.stats.hold_s > 0)
                client.stop("interrupted")
                return await asyncio.gather(*waiting, return_exceptions=True)

        results = asyncio.run(main())
    assert [(type(result), str(result)) for result in results] == [(RunStopped, "interrupted")] * 3


def test_no_server_stops_after_three_tries():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = Endpoint(f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        asking = Asking(where, [question(str(n)) for n in range(256)])
    assert {type(result) for result in asking.results} == {RunStopped}
    assert asking.stats.sent == 3
    assert "(connection refused); no reply at all in 3 tries" in str(asking.results[0])


@pytest.mark.parametrize("fault", ["reset", "not http"])
def test_server_that_never_replies_stops_after_three_tries(fault):
    with FakeLlm([fault] * 100) as llm:
        assert "no reply at all" in refused(llm, RunStopped)
        assert len(llm.requests) == 3


# What one failure among successes costs


@pytest.mark.parametrize(
    "fault", ["429", "500", "502", "503", "529", "reset", "cut body", "empty choices", "error 200 rate"]
)
def test_failure_that_stands_alone_holds_up_no_other(fault):
    """It waits for a quarter of an hour on its own; meanwhile all the others have their answers."""
    limits = Limits(concurrency=4, backoff_s=3600, backoff_max_s=3600, alone_s=0.0)

    async def main(llm):
        async with Client(endpoint(llm), limits) as client:
            await client.complete(question("first"))
            failing = asyncio.create_task(client.complete(question("fails")))
            await until(lambda: len(llm.requests) == 2)
            others = [client.complete(question(str(n))) for n in range(20)]
            answers = await asyncio.wait_for(asyncio.gather(*others), 30)
            stats = client.stats
            client.stop("enough")
            with pytest.raises(RunStopped):
                await failing
            return answers, stats

    with FakeLlm([None, fault]) as llm:
        answers, stats = asyncio.run(main(llm))
        assert len(llm.requests) == 22
    assert {answer.content for answer in answers} <= RATINGS
    assert (stats.hold_s, stats.allowed) == (0.0, 4)


@pytest.mark.parametrize("fault", ["429", "503", "502"])
def test_failures_without_a_success_between_them_hold_all(fault):
    """After a few of them nothing more is sent: those in flight, and no second round."""
    limits = Limits(concurrency=8, backoff_s=3600, backoff_max_s=3600, alone_s=0.0)

    async def main(llm):
        async with Client(endpoint(llm), limits) as client:
            await client.complete(question("first"))
            failing = [asyncio.create_task(client.complete(question(str(n)))) for n in range(100)]
            await until(lambda: client.stats.hold_s > 0 and not client.stats.in_flight)
            client.stop("enough")
            await asyncio.gather(*failing, return_exceptions=True)

    with FakeLlm([None, *[fault] * 1000]) as llm:
        asyncio.run(main(llm))
        assert 4 <= len(llm.requests) - 1 <= 3 + 8


def test_scattered_failures_cost_one_repeat_each_and_no_line():
    """One in twelve fails, once: as many requests more, and nothing is held that would be worth a word."""
    faults = ["500", "503", "429", "reset", "cut body", "502"]
    met: set[str] = set()

    def scattered(asked):
        number = 0 if asked.prompt == "first" else int(asked.prompt)
        if number % 12 != 11 or asked.prompt in met:
            return None
        met.add(asked.prompt)
        return faults[number // 12 % len(faults)]

    said: list[str] = []

    async def main(llm):
        async with Client(
            endpoint(llm), Limits(concurrency=8, backoff_s=0.04, alone_s=0.0), said.append
        ) as client:
            await client.complete(question("first"))
            await asyncio.gather(*(client.complete(question(str(n))) for n in range(144)))
            return client.stats

    with FakeLlm(scattered, latency_s=0.002) as llm:
        stats = asyncio.run(main(llm))
        assert len(llm.requests) == 145 + 12
    assert (stats.repeated, said) == (12, [])
    assert stats.allowed >= 6


@pytest.mark.parametrize(
    ("successes_between", "is_trouble"), [(0, True), (1, True), (2, True), (5, False), (12, False)]
)
def test_failures_are_trouble_for_all_where_few_succeed_between(successes_between, is_trouble):
    health = ServerHealth(1800)
    health.succeeded()
    found = []
    for _ in range(20):
        found.append(health.is_trouble())
        for _ in range(successes_between):
            health.succeeded()
    assert found[0] is False
    assert any(found) is is_trouble


def test_failures_before_any_success_are_trouble_for_all():
    assert ServerHealth(1800).is_trouble()


def test_progress_says_for_how_long_nothing_is_sent():
    tally = RunProgress(waiting=10)
    tally.hold_s = lambda: 42.4
    assert "nothing sent for 42 s" in shown_run(tally, 1.0).text()
    tally.hold_s = lambda: 0.2
    assert "nothing sent" not in shown_run(tally, 1.0).text()
