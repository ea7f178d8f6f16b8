"""The fake server itself: what tests rely on."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fake_llm import FAULTS, FakeLlm, Reply, log_normal


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


@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"silence"}))
def test_every_fault_is_delivered_once(name):
    """A fault is another reply than the good one, and the next request gets the good one."""
    with FakeLlm([None, name]) as llm:
        good, spoilt = exchange(llm.port), exchange(llm.port)
        llm.forget()

        assert good[0] == 200
        assert spoilt != good
        assert exchange(llm.port) == good


def test_limits_answer_429():
    with FakeLlm(per_minute=2) as llm:
        post(llm.url)
        post(llm.url)
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(llm.url)
        assert refused.value.code == 429
        assert 0 < float(refused.value.headers["Retry-After"]) <= 60


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
    program = Path(__file__).with_name("fake_llm.py")
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
        finally:
            process.kill()

    assert (stats["requests"], stats["answered 200"], stats["answered 404"]) == (2, 1, 1)
    assert [body["messages"][0]["content"] for body in bodies] == ["one", "two"]
