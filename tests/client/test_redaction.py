"""A key that a server echoes is found however it is spelled, at no more cost than reading the answer."""

from __future__ import annotations

import json

import pytest
from enrich_case import Case, rollouts
from fake_faults import Reply
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from kbetl.client.redaction import Redactor

pytest_plugins = ["enrich_fixtures"]

KEY = 'sk-kb/SENTINEL"0123\\abc'


def spelled(escaped: list[bool]) -> str:
    """The key within JSON, some of its characters as numbers."""
    chars = zip(KEY, escaped, strict=True)
    return "".join(f"\\u{ord(char):04x}" if each else json.dumps(char)[1:-1] for char, each in chars)


@given(st.lists(st.booleans(), min_size=len(KEY), max_size=len(KEY)), st.text(), st.booleans())
def test_a_key_is_found_in_any_spelling_of_json(escaped, text, is_ascii):
    around = json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode("utf-8", "surrogatepass")
    body = b'{"a":"' + around + spelled(escaped).encode() + around + b'"}'
    assert Redactor([KEY])(body) == b'{"a":"' + around + b"***" + around + b'"}'


@pytest.mark.parametrize(
    "body", [b"\\u0041" * 200_000, b"\\/" * 200_000, b"\\u00e9\\n" * 200_000, b"sk-" * 300_000]
)
def test_a_body_without_the_key_is_as_it_was(body):
    assert Redactor([KEY])(body) == body


def test_headers_are_searched_by_name_and_value():
    headers = CIMultiDict({"Content-Type": f"text/{KEY}", f"x-{KEY}": "1", "Retry-After": "2"})
    clean = Redactor([KEY]).headers(headers)
    assert dict(clean) == {"Content-Type": "text/***", "x-***": "1", "Retry-After": "2"}
    assert clean["retry-after"] == "2"


def test_a_key_in_a_content_type_reaches_neither_store_nor_terminal(case: Case, monkeypatch):
    """It is quoted where a body cannot be read."""
    key = "sk-kbsentinel0123456789"
    monkeypatch.setenv("THE_KEY", key)
    case.ingest(rollouts(1))
    case.llm.faults = lambda asked: Reply(b"no json", content_type=f"text/{key}")
    done = case.enrich("-k", "THE_KEY")
    assert "content type text/***" in case.rows("select reason from outcomes")[0][0]
    assert key not in done.text
    assert key.encode() not in b"".join(each.read_bytes() for each in case.folder.glob("kbetl.db*"))
