"""Who answered: a reply that names another model than was asked leaves a trace that users see."""

from __future__ import annotations

import json

import pytest
from batch_case import answer_file
from enrich_case import Case, rollouts
from fake_faults import json_reply
from fake_llm import FakeLlm
from fake_stream import stream

from kbetl.inference.report import is_other_model

pytest_plugins = ["enrich_fixtures"]


@pytest.mark.parametrize(
    ("asked", "served", "is_other"),
    [
        ("m", "m", False),
        ("openai/gpt-5.2", "gpt-5.2", False),
        ("gpt-5.2", "openai/gpt-5.2", False),
        ("GPT-5.2", "gpt-5.2", False),
        ("gpt-5.2", "gpt-5.2-2026-01-01", False),
        ("openai/gpt-5.2", "gpt-5.2-20260101", False),
        ("kimi-k2", "moonshotai/kimi-k2-0905", False),
        ("gemini-2.0-flash", "gemini-2.0-flash-001", False),
        ("claude-sonnet-latest", "claude-sonnet-20260101", False),
        ("gpt-5.2-2026-01-01", "gpt-5.2", False),
        ("gpt-5.2-2026-01-01", "gpt-5.2-2026-05-05", True),
        ("gpt-5.2", "gpt-5.2-mini", True),
        ("gpt-5", "gpt-5.2", True),
        ("gpt-4", "gpt-4-32k", True),
        ("qwen3-8b", "qwen3-30b", True),
        ("test/judge", "other/cheap-model", True),
    ],
)
def test_a_snapshot_or_a_provider_makes_no_other_model(asked, served, is_other):
    assert is_other_model(served, asked) is is_other


def served_by(llm: FakeLlm, model: object, *, streams: bool = False) -> None:
    answer = stream if streams else json_reply
    llm.faults = lambda asked: lambda told, good: answer({**good, "model": model})


@pytest.mark.parametrize("streams", [False, True])
def test_another_model_is_kept_counted_and_said_once(case: Case, streams):
    """Of four answers; each row has the name, the run says it once, and so does `status`."""
    case.ingest(rollouts(4))
    served_by(case.llm, "other/cheap-model", streams=streams)
    done = case.enrich()
    assert done.status == 0
    assert done.text.count("cheap-model") == 1
    assert "m was asked, and other/cheap-model answers" in done.err
    assert case.rows("select distinct model, served_model from answers") == [("m", "other/cheap-model")]
    assert "m by other/cheap-model: 4 answers" in case.kbetl("status").out
    assert json.loads(case.kbetl("status", "--json").out)["served"] == [
        {"model": "m", "served_model": "other/cheap-model", "answers": 4}
    ]


@pytest.mark.parametrize(
    ("model", "kept"), [("m", None), (None, None), (7, None), ("", None), ("m-2026-01-01", "m-2026-01-01")]
)
def test_the_model_that_was_asked_is_not_said(case: Case, model, kept):
    """A snapshot of it is kept, and no line of the run names it."""
    case.ingest(rollouts(2))
    served_by(case.llm, model)
    assert "was asked" not in case.enrich().text
    assert case.rows("select distinct served_model from answers") == [(kept,)]


def test_another_model_in_a_batch_file_is_kept_and_said(case: Case):
    case.ingest(rollouts(2))
    case.kbetl("batch", "write", "enrich", "out", "-m", "m")
    answer_file(next((case.folder / "out").iterdir()), case.folder / "results.jsonl")
    text = (case.folder / "results.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        line["response"]["body"]["model"] = "other/cheap-model"
    (case.folder / "results.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = case.kbetl("batch", "read", "results.jsonl")
    assert "m was asked and other/cheap-model answered: 2 answers" in done.out
    assert case.rows("select distinct served_model from answers") == [("other/cheap-model",)]
