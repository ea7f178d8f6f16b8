"""Packed answers: read whole, however they are packed, and never held beyond their ceilings."""

from __future__ import annotations

import gzip
import zlib

import pytest
from client_case import Asking, ask_one, question
from fake_faults import Reply
from fake_llm import FakeLlm

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


def test_large_answers_at_once_all_arrive():
    """Beyond their first MiB they come two at a time."""
    packed = gzip.compress(BODY)
    with FakeLlm([Reply(packed, headers={"Content-Encoding": "gzip"})] * 16) as llm:
        asking = Asking(llm, [question(str(number)) for number in range(16)])
        assert len(llm.requests) == 16
    assert [len(each.response) for each in asking.results] == [len(BODY)] * 16
