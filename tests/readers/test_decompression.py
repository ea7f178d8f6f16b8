"""Packed answers: read whole, however they are packed, and never held beyond their ceilings."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from client_case import Asking, ask_one, question
from fake_faults import Reply
from fake_llm import FakeLlm

from kbetl.client import transport
from kbetl.client.unpacking import BufferLimit

BODY = (
    b'{"choices":[{"message":{"role":"assistant","content":"'
    + b"<difficulty>low</difficulty> " * 100_000
    + b'"},"finish_reason":"stop"}]}'
)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
    ],
)
def test_a_packed_answer_is_read_whole(encoding, packed):
    with FakeLlm([Reply(packed, headers={"Content-Encoding": encoding})]) as llm:
        completion = ask_one(llm)
        assert len(llm.requests) == 1
        assert llm.requests[0].headers["accept-encoding"] == "gzip, deflate"
    assert completion.response == BODY.decode()


@pytest.mark.parametrize(
    ("encoding", "packed", "why"),
    [
        ("gzip", gzip.compress(BODY)[:-20], "the encoding ends early"),
        ("gzip", gzip.compress(BODY)[:-8] + b"x" * 8, "the encoding is broken"),
        ("gzip", BODY, "the encoding is broken"),
        ("br", BODY, "content encoding 'br' was not asked for"),
    ],
)
def test_what_cannot_be_unpacked_is_asked_again(encoding, packed, why):
    with FakeLlm([Reply(packed, headers={"Content-Encoding": encoding})]) as llm:
        asking = Asking(llm, [question()])
        assert len(llm.requests) == 2
    assert why in asking.wasted[0].fault


def test_a_body_beyond_the_ceiling_is_named_and_only_its_beginning_kept():
    """60 KB that unpack to 70 MB: nobody can read it, so the rest is not stored."""
    bomb = gzip.compress(b'{"a":"' + b" " * (70 * 2**20) + b'"}')
    with FakeLlm([Reply(bomb, headers={"Content-Encoding": "gzip"})]) as llm:
        asking = Asking(llm, [question()])
    [spoilt] = asking.wasted
    assert "longer than 67108864 bytes" in spoilt.fault
    assert len(spoilt.response) == 2**20


def test_large_answers_at_once_all_arrive(monkeypatch):
    """Beyond what all in flight may hold they come two at a time."""
    monkeypatch.setattr(transport, "_IN_FLIGHT_BYTES", 2**20)
    packed = gzip.compress(BODY)
    with FakeLlm([Reply(packed, headers={"Content-Encoding": "gzip"})] * 16) as llm:
        asking = Asking(llm, [question(str(number)) for number in range(16)])
        assert len(llm.requests) == 16
    assert [len(each.response) for each in asking.results] == [len(BODY)] * 16


def test_beyond_the_room_few_go_on_and_every_byte_is_given_back():
    """Each of 20 answers holds 30 of 100 bytes at a time, up to 90: one that is cut off gives its turn on."""
    held, most, ended = 0, 0, []

    async def read(limit: BufferLimit, number: int) -> None:
        nonlocal held, most
        with limit.buffer() as buffer:
            try:
                for _ in range(3):
                    await buffer.reserve(30)
                    held += 30
                    most = max(most, held)
                    await asyncio.sleep(0)
                    if number == 7:
                        raise ConnectionError
            finally:
                held -= min(held, buffer.size_bytes)
        ended.append(number)

    async def read_all() -> None:
        limit = BufferLimit(100, 2)
        await asyncio.gather(*(read(limit, number) for number in range(20)), return_exceptions=True)
        with limit.buffer() as buffer:
            await asyncio.wait_for(buffer.reserve(100), 10)

    asyncio.run(read_all())
    assert sorted(ended) == [number for number in range(20) if number != 7]
    assert most <= 100 + 2 * 90
