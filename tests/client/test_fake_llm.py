"""The fake server itself: what tests rely on."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter

import fake_llm
import orjson
import pytest
from fake_limits import Window
from fake_llm import FAULTS, Allowed, Asked, ByContent, FakeLlm, Outage, Reply, json_reply, log_normal

from kbetl.client.retry_after import retry_after_s


def post(url: str, text: str = "rate this", **parameters: object) -> dict[str, object]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **parameters}
    request = urllib.request.Request(url + "/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def content(completion: dict[str, object]) -> str:
    return completion["choices"][0]["message"]["content"]  # type: ignore[index]


def test_answers_are_a_function_of_messages_and_seed():
    with FakeLlm() as one, FakeLlm() as other, FakeLlm(seed=1) as seeded:
        texts = [f"question {number}" for number in range(20)]
        answers = [content(post(one.url, text)) for text in texts]

        assert answers == [content(post(other.url, text, temperature=0)) for text in texts]
        assert answers != [content(post(seeded.url, text)) for text in texts]
        assert set(answers) == {f"<difficulty>{label}</difficulty>" for label in ("low", "medium", "high")}


def test_requests_and_answers_are_logged_and_forgotten():
    with FakeLlm(["500"]) as llm:
        with pytest.raises(urllib.error.HTTPError):
            post(llm.url, "first")
        post(llm.url, "second")

        assert [asked.prompt for asked in llm.requests] == ["first", "second"]
        assert [(answer.index, answer.status) for answer in llm.answered] == [(0, 500), (1, 200)]
        assert llm.max_in_flight == 1
        llm.forget()
        assert (llm.requests, llm.answered, llm.max_in_flight) == ([], [], 0)


def test_faults_may_be_chosen_by_request():
    def by_content(asked):
        return Reply(b"mine") if "special" in asked.prompt else None

    with FakeLlm(by_content) as llm:
        assert content(post(llm.url, "plain")).startswith("<difficulty>")
        with pytest.raises(json.JSONDecodeError):
            post(llm.url, "special")


def exchange(port: int) -> tuple[object, ...]:
    """Status, content type and body less its id of one reply; the exception's class where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        response = connection.getresponse()
        return (
            response.status,
            response.headers["Content-Type"],
            response.read().replace(b"cmpl-1", b"cmpl-0"),
        )
    except (OSError, http.client.HTTPException) as error:
        return (type(error),)
    finally:
        connection.close()


HOW_IT_COMES = {"silence", "silence body", "slow drip", "drop", "no gzip"}
"""Faults whose bytes are good as far as they come."""


@pytest.mark.parametrize("name", sorted(set(FAULTS) - HOW_IT_COMES))
def test_every_fault_is_delivered_once(name):
    """A fault is another reply than the good one, and the next request gets the good one."""
    with FakeLlm([None, name]) as llm:
        good, spoilt = exchange(llm.port), exchange(llm.port)
        llm.forget()

        assert good[0] == 200
        assert spoilt != good
        assert exchange(llm.port) == good


def received(port: int) -> tuple[bytes, bytes, int]:
    """What one reply sends, until it ends or the time is up: head, body, and in how many parts it came."""
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        parts = []
        with contextlib.suppress(TimeoutError):
            while part := connection.recv(1 << 20):
                parts.append(part)
        head, _, rest = b"".join(parts).partition(b"\r\n\r\n")
        return head, rest, len(parts)


def test_faults_of_how_a_reply_comes():
    with FakeLlm(["silence body", "slow drip", "drop", "no gzip"]) as llm:
        good = len(json_reply(llm.completion(asked_of(llm))).body)
        half, dripped, dropped, unzipped = (received(llm.port) for _ in range(4))
    assert len(half[1]) == good // 2
    assert len(dripped[1]) == len(dropped[1]) == len(unzipped[1]) == good
    assert dripped[2] > 3
    assert b"Content-Encoding: gzip" in unzipped[0]


def asked_of(llm: FakeLlm) -> Asked:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    return Asked(0, 0.0, "POST", "/v1/chat/completions", {}, body)


def refusal(url: str, **parameters: object) -> urllib.error.HTTPError:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(url, **parameters)
    return refused.value


def test_limits_answer_429():
    with FakeLlm(per_minute=2) as llm:
        post(llm.url)
        post(llm.url)
        refused = refusal(llm.url)
        assert refused.code == 429
        assert 0 < float(refused.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("says", "header"),
    [
        ("seconds", "Retry-After"),
        ("ms", "Retry-After-Ms"),
        ("date", "Retry-After"),
        ("headers", "X-RateLimit-Reset-Requests"),
        ("nothing", None),
    ],
)
def test_limit_says_how_long_to_wait(says, header):
    with FakeLlm(allowed=Allowed(requests=1, window_s=30.0, says=says)) as llm:
        post(llm.url)
        wait_s = retry_after_s(refusal(llm.url).headers)
    assert (wait_s is None) == (header is None)
    assert wait_s is None or 25 < wait_s <= 31


def test_limit_of_a_window_is_over_when_the_window_is():
    window = Window(3, 10.0)
    for at in (0.0, 1.0, 2.0):
        assert window.wait_s(at, 1) == 0
        window.take(at, 1)
    assert window.wait_s(5.0, 1) == 5.0
    assert window.wait_s(5.0, 2) == 6.0
    assert window.wait_s(10.0, 1) == 0


def test_tokens_are_limited_by_what_a_request_may_use():
    with FakeLlm(allowed=Allowed(tokens=1000)) as llm:
        post(llm.url, max_tokens=900)
        assert refusal(llm.url, max_tokens=900).code == 429
        post(llm.url, max_tokens=1)


def test_server_is_away_during_its_outage():
    with FakeLlm(outage=Outage(0.0, 3600.0, "503 html")) as llm:
        assert refusal(llm.url).code == 503
    with FakeLlm(outage=Outage(3600.0, 1.0, "503")) as llm:
        post(llm.url)


def test_nobody_listens_during_an_outage_and_then_somebody_does():
    with FakeLlm(outage=Outage(0.0, 0.2, "refuse"), latency_s=10.0) as llm:
        with pytest.raises(OSError, match=r"reset|closed|refused|without response"):
            post(llm.url)
        llm.latency_s = 0.0
        end = time.monotonic() + 30
        while True:
            try:
                post(llm.url)
                break
            except urllib.error.URLError:
                assert time.monotonic() < end


def test_faults_are_drawn_by_content_and_seed():
    """The same questions get the same faults in any order; each so often as was ordered."""
    texts = [f"question {number}" for number in range(200)]

    def faults(seed: int, order: list[str]) -> dict[str, str | None]:
        schedule = ByContent(
            {"500": 0.2, "429+cut body": 0.1, "length": 0.1}, seed=seed, times={"length": None}
        )
        asked = {text: Asked(0, 0.0, "POST", "", {}, orjson.dumps(body(text))) for text in order}
        return {text: [schedule(asked[text]) for _ in range(3)] for text in sorted(order)}

    def body(text: str) -> dict[str, object]:
        return {"messages": [{"role": "user", "content": text}]}

    drawn = faults(0, texts)
    assert drawn == faults(0, texts[::-1])
    assert drawn != faults(1, texts)
    found = Counter(map(tuple, drawn.values()))
    assert set(found) == {
        (None, None, None),
        ("500", None, None),
        ("429", "cut body", None),
        ("length", "length", "length"),
    }
    assert 25 < found["500", None, None] < 55


def test_every_request_is_logged_with_what_it_would_cost():
    with FakeLlm([None, "500", "cut body"], prices=(1.0, 4.0), tells_cost=True) as llm:
        usage = post(llm.url)["usage"]
        refusal(llm.url)
        with pytest.raises(http.client.IncompleteRead):
            post(llm.url)
        good, failed, cut = llm.log()
    cost = (usage["prompt_tokens"] + 4 * usage["completion_tokens"]) / 1e6
    assert good["billed_usd"] == usage["cost"] == pytest.approx(cost)
    assert (failed["status"], failed["billed_usd"]) == (500, 0.0)
    assert (cut["status"], cut["delivered_at_s"], cut["billed_usd"]) == (None, None, pytest.approx(cost))
    assert good["at_s"] <= good["delivered_at_s"]


def test_what_is_no_completion_call_is_refused():
    with FakeLlm() as llm:
        for url, status in ((llm.url + "/other", 404), (llm.url + "/chat/completions", 405)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(url, timeout=30)
            assert refused.value.code == status


def test_latencies_hang_on_seed_and_index_alone():
    one, again, other = log_normal(2.0, 0.35), log_normal(2.0, 0.35), log_normal(2.0, 0.35, seed=1)
    indexes = range(50)
    assert [one(index) for index in indexes] == [again(index) for index in reversed(indexes)][::-1]
    assert [one(index) for index in indexes] != [other(index) for index in indexes]


def test_it_serves_as_a_process_of_its_own():
    program = fake_llm.__file__
    command = [sys.executable, program, "--faults", '[null, "404"]', "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        try:
            post(url, "one")
            with pytest.raises(urllib.error.HTTPError):
                post(url, "two")
            base = url.removesuffix("/v1")
            with urllib.request.urlopen(f"{base}/fake/stats", timeout=30) as response:
                stats = json.load(response)
            with urllib.request.urlopen(f"{base}/fake/requests", timeout=30) as response:
                bodies = [json.loads(line) for line in response]
            with urllib.request.urlopen(f"{base}/fake/log", timeout=30) as response:
                log = [json.loads(line) for line in response]
        finally:
            process.kill()

    assert (stats["requests"], stats["answered 200"], stats["answered 404"]) == (2, 1, 1)
    assert [body["messages"][0]["content"] for body in bodies] == ["one", "two"]
    assert [line["status"] for line in log] == [200, 404]


def test_its_faults_are_listed():
    program = fake_llm.__file__
    done = subprocess.run([sys.executable, program, "--list"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(FAULTS)
