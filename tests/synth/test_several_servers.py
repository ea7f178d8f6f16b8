"""Several servers at once, and what they say of themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from enrich_case import DEADLINE_S, Case, Result
from fake_llm import FakeLlm
from fake_stream import BODIES, Reply
from synth_case import check_whole, kernel, modules, rollouts

from kbetl.client import Endpoint, Limits
from kbetl.client.server_info import counters_in
from kbetl.inference import PreparedRequest, backends
from kbetl.inference.backends import LoadBalancer
from kbetl.records import Completion, Request

pytest_plugins = ["enrich_fixtures"]


@pytest.fixture
def other() -> Iterator[FakeLlm]:
    with FakeLlm(content=lambda asked: kernel(f"other {asked.index}")) as server:
        yield server


@pytest.fixture
def synth(case: Case) -> Case:
    case.llm.content = lambda asked: kernel(f"first {asked.index}")
    return case


def run(case: Case, other: FakeLlm, *arguments: object) -> Result:
    return case.kbetl("synth", "run", "-b", case.llm.url, "-b", other.url, "-m", "m", *arguments)


def by_host(case: Case) -> dict[str, int]:
    return dict(case.rows("select host, count(*) from answers group by host"))


def host(llm: FakeLlm) -> str:
    return f"127.0.0.1:{llm.port}"


def test_the_least_busy_server_is_asked(synth, other):
    """One that takes longer gets fewer; `answers.host` says who answered."""
    synth.ingest(modules(60))
    synth.llm.latency_s = 0.2
    assert run(synth, other, "-c", 4).status == 0
    counts = by_host(synth)
    assert counts == {host(synth.llm): len(synth.llm.requests), host(other): len(other.requests)}
    assert sum(counts.values()) == 60
    assert counts[host(other)] > 2 * counts[host(synth.llm)] > 0
    check_whole(synth)


def test_equal_servers_share_the_work(synth, other):
    synth.ingest(modules(40))
    synth.llm.latency_s = other.latency_s = 0.02
    run(synth, other, "-c", 8)
    assert min(by_host(synth).values()) >= 12


def test_a_server_that_is_not_there_leaves_the_work_to_the_other(synth, other):
    other.stop_listening()
    synth.ingest(modules(20))
    result = run(synth, other, "-c", 4)
    assert result.status == 0
    assert by_host(synth) == {host(synth.llm): 20}
    assert "the other servers have its requests" in result.err
    check_whole(synth)


def test_a_server_that_goes_away_loses_no_request(synth, other, monkeypatch):
    """What it had is asked of the other one, once."""
    monkeypatch.setattr(backends, "PATIENCE_S", 0.1)
    synth.ingest(modules(40))
    synth.llm.latency_s = 0.05

    def leaving(index: int) -> float:
        if index == 5:
            other._loop.call_soon(lambda: other._loop.create_task(other._close()))
        return 0.01

    other.latency_s = leaving
    result = run(synth, other, "-c", 8)
    assert result.status == 0, result.text
    assert rollouts(synth) == 40
    assert by_host(synth)[host(synth.llm)] >= 30
    check_whole(synth)


def test_a_server_that_comes_back_is_asked_again(synth, other, monkeypatch):
    """After its rest it is tried; meanwhile nothing waits for it."""
    monkeypatch.setattr(backends, "REST_S", 0.05)
    other.stop_listening()
    endpoints = [Endpoint(synth.llm.url), Endpoint(other.url)]
    said: list[str] = []

    async def ask() -> None:
        limits = Limits(backoff_s=0.01, alone_s=0)
        async with LoadBalancer(endpoints, limits, said.append) as servers:

            async def answer(number: int) -> str:
                request = Request("m", [{"role": "user", "content": f"Module{number}"}], {})
                completion = await servers.complete(PreparedRequest(f"s{number}", request, {}), no_waste)
                return completion.host

            first = [await answer(number) for number in range(4)]
            assert set(first) == {host(synth.llm)}
            other.listen_again()
            number = 4
            while await answer(number) != host(other):
                number += 1

    async def no_waste(_: Completion | None) -> None:
        return None

    asyncio.run(asyncio.wait_for(ask(), DEADLINE_S))
    assert any("the other servers have its requests" in line for line in said)


def test_no_server_at_all_stops_the_run(synth, other):
    other.stop_listening()
    synth.llm.stop_listening()
    synth.ingest(modules(3))
    result = run(synth, other)
    assert result.status == 1
    assert "no reply at all" in result.err
    synth.llm.listen_again()
    other.listen_again()


def test_a_wrong_key_at_one_server_stops_the_run(synth, other):
    """It is a mistake to be mended, not a server to be passed over."""
    other.faults = lambda asked: "401"
    synth.ingest(modules(30))
    result = run(synth, other, "-c", 4)
    assert result.status == 1
    assert "Incorrect API key" in result.err


def test_limits_hold_for_all_servers_together(synth, other):
    synth.ingest(modules(1))
    refused = run(synth, other, "--rpm", 1)
    assert (refused.status, refused.requests) == (2, 0)
    assert "--rpm 1 is less than one for each of 2 servers" in refused.err
    twice = synth.kbetl("synth", "run", "-b", synth.llm.url, "-b", synth.llm.url, "-m", "m")
    assert (twice.status, twice.requests) == (2, 0)


def recorded(name: str, kind: str) -> Reply:
    return Reply((BODIES / name).read_bytes(), content_type=kind)


def test_what_a_server_says_of_itself_is_kept_with_the_run(synth, other):
    """Version, models and throughput of vLLM; a server without them is fine."""
    synth.llm.about_itself = {
        "/version": recorded("version.json", "application/json"),
        "/v1/models": recorded("models.json", "application/json"),
        "/metrics": recorded("metrics.txt", "text/plain"),
    }
    synth.ingest(modules(4))
    assert run(synth, other).status == 0
    counts = json.loads(synth.rows("select counts from runs where command = 'synth run'")[0][0])
    first, second = counts["servers"]
    assert {**first, "seconds": 0} == {
        "host": host(synth.llm),
        "version": "0.32.0",
        "models": {"SmolLM2-135M-Instruct": 4096},
        "seconds": 0,
        "prompt_tokens": 0.0,
        "generation_tokens": 0.0,
        "prompt_tokens_per_s": 0.0,
        "generation_tokens_per_s": 0.0,
    }
    assert second == {"host": host(other)}


def test_counters_of_all_engines_are_added_up():
    text = (
        "# TYPE vllm:generation_tokens_total counter\n"
        'vllm:generation_tokens_total{engine="0"} 794.0\nvllm:generation_tokens_total{engine="1"} 6.0\n'
        "vllm:prompt_tokens_total 1e3\nvllm:other 5\n"
    )
    assert counters_in(text) == {"generation_tokens": 800.0, "prompt_tokens": 1000.0}


def test_resume_goes_on_with_all_servers(synth, other):
    synth.ingest(modules(6))
    run(synth, other, "-n", 2)
    synth.llm.faults.extend(["400"])  # type: ignore[union-attr]
    run(synth, other)
    before = len(other.requests)
    other.latency_s = synth.llm.latency_s = 0.0
    assert synth.kbetl("synth", "run", "--resume").status == 0
    assert len(other.requests) + len(synth.llm.requests) >= before
    told = synth.rows("select json_array_length(options, '$.base_urls') from runs order by id desc limit 1")
    assert told == [(2,)]
    assert rollouts(synth) == 6
