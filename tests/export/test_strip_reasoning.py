"""`kbetl export --no-reasoning`: the answers of all turns, and no byte of reasoning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evals_rows import UNREAD, evals_rows
from export_case import ANSWER, ASK, THOUGHT, exported, folder, row_with, said

from kbetl.cli import run

__all__ = ["folder"]


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (said(f"I think so.\n{ANSWER} done"), ANSWER),
        (said("so\nBEGIN_PYTHON\nx = 1\nEND_PYTHON\nbye"), "BEGIN_PYTHON\nx = 1\nEND_PYTHON"),
        (said("the text", reasoning=THOUGHT), "the text"),
        (said(" the text\n", reasoning_content=THOUGHT), "the text"),
        (said(f"<think>\n{THOUGHT}\n</think>\n\nthe text"), "the text"),
        (said(f"{THOUGHT}</think>the text"), "the text"),
        (said(f"<think>maybe <answer>no</answer></think>{ANSWER}"), ANSWER),
        (said(f"{ANSWER} again {ANSWER}"), ANSWER),
        (said(f"<think>BEGIN_PYTHON</think>{ANSWER}", reasoning=THOUGHT), ANSWER),
    ],
)
def test_without_reasoning_the_answer_alone_is_shipped(folder, message, answer):
    """Whatever marks the answer or the reasoning; the marks of an answer stay, as in the original."""
    rows = [row_with(message)]
    assert exported(rows, "--no-reasoning", "--format", "messages") == [{"messages": [ASK, said(answer)]}]
    assert run(["export", "filtered", "-o", "r.jsonl", "--no-reasoning"]) == 0
    found = json.loads(Path("r.jsonl").read_text())
    assert found["completion"] == [said(answer)]
    assert list(found) == [*rows[0], "difficulty"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (said("perhaps this is the answer, or this"), "no recognisable answer"),
        (said("<think>" + THOUGHT), "<think> without its end"),
        (said("<answer>cut off", reasoning=THOUGHT), "<answer> without its end mark"),
        (said("BEGIN_PYTHON\ncut", reasoning=THOUGHT), "BEGIN_PYTHON without its end mark"),
        (said("<answer>a</answer><answer>b</answer>"), "2 different answers between <answer>"),
        (said("  ", reasoning=THOUGHT), "no recognisable answer"),
    ],
)
@pytest.mark.parametrize("format_", ["rows", "messages"])
def test_a_row_without_a_recognisable_answer_is_not_shipped_with_its_reasoning(
    folder, capfd, message, reason, format_
):
    rows = [row_with(message), row_with(said(ANSWER), number=1)]
    found = exported(rows, "--no-reasoning", "--format", format_, status=3)
    assert len(found) == 1
    assert reason in capfd.readouterr().err
    assert THOUGHT not in Path("f.jsonl").read_text()


def test_without_reasoning_no_column_holds_it(folder, capfd):
    """Reasoning fields anywhere and whole trajectories are left out; a copy elsewhere stops the row."""
    trajectory = [{"response": {"message": {"reasoning_content": THOUGHT, "content": "<think>x</think>y"}}}]
    blocks = [{"type": "thinking", "thinking": THOUGHT}]
    first, last = said("one", reasoning=THOUGHT), said("two", reasoning=THOUGHT, thinking_blocks=blocks)
    again = {"role": "user", "content": "again"}
    clean = row_with(first, again, last, trajectory=trajectory, debug={"reasoning": THOUGHT, "n": 1.0})
    leaking = row_with(said("x", reasoning=THOUGHT), number=1, log=["...", f"it said: {THOUGHT}!"])

    (found,) = exported([clean, leaking], "--no-reasoning", status=3)

    assert found["completion"] == [said("one"), again, said("two")]
    assert found["debug"] == {"n": 1.0}
    assert "trajectory" not in found
    assert THOUGHT not in Path("f.jsonl").read_text()
    assert "its reasoning also stands in column 'log'" in capfd.readouterr().err


def test_without_reasoning_the_evals_rows_are_what_the_original_made(folder):
    """Its completion is one message with the answer; rows it would have stopped at are left out by name."""
    rows = [row for row in evals_rows() if len(row["completion"]) == 1]
    found = exported(rows, "--no-reasoning", status=3)
    assert [row["example_id"] for row in found] == [0, 1, 2, 3, 9, 11]
    for row in found:
        assert row["completion"] == [
            said(f"<answer>kernel {row['completion'][0]['content'][15:-9]}</answer>")
        ]


S = "SECRET of the model, %s, told at some length"
AGAIN = {"role": "user", "content": "again"}
CALL = {"id": "c", "type": "function", "function": {"name": "run", "arguments": '{"x": 1, "thought": "%s"}'}}
"""Reasoning as an argument: JSON inside text."""


RESULT = {"role": "tool", "content": "ok"}


def hidden() -> list[tuple[str, dict]]:
    """Rows of all kinds by what is special; everything that is reasoning says SECRET."""
    plain = said(ANSWER, reasoning=S % "field")
    one = {"response": {"choices": [{"message": {"role": "assistant", "content": "x", "reasoning": S % 1}}]}}
    parts = [{"type": "thinking", "thinking": S % "part"}, {"type": "text", "text": ANSWER}]
    return [
        ("a field", row_with(plain)),
        (
            "every field",
            row_with(said(ANSWER, reasoning_content=S % 1, thinking=S % 2, reasoning_details=[S])),
        ),
        ("blocks", row_with(said(ANSWER, thinking_blocks=[{"type": "thinking", "thinking": S % 1}]))),
        ("parts of the content", row_with(said(parts))),
        ("before the mark", row_with(said(f"{S % 1}\n{ANSWER}\n{S % 2}"))),
        ("an earlier turn", row_with(said(f"{S % 1} {ANSWER}"), AGAIN, said(ANSWER, reasoning=S % 2))),
        ("a turn of the prompt", row_with(plain, prompt=[ASK, said(f"<think>{S % 1}</think>no"), AGAIN])),
        ("a column", row_with(plain, reasoning=S % "column", reasoning_content=S % 2)),
        ("a thought around it", row_with(said(f"<think>{S % 1}</think>one", reasoning=S % 2))),
        ("another spelling", row_with(said(f"<thinking>{S % 1}</thinking>one"))),
        ("capitals", row_with(said(f"<THINK>{S % 1}</THINK>{ANSWER}"))),
        ("mistral", row_with(said(f"[THINK]{S % 1}[/THINK]one"))),
        ("gemma", row_with(said(f"<|channel>thought\n{S % 1}<channel|>one"))),
        ("gemma, by its end alone", row_with(said(f"{S % 1}<channel|>one"))),
        ("cohere", row_with(said(f"<|START_THINKING|>{S % 1}<|END_THINKING|>one"))),
        ("attributes", row_with(said(f"<think n='1'>{S % 1}</think>one"))),
        (
            "harmony, all channels",
            row_with(
                said(
                    f"<|channel|>analysis<|message|>{S % 1}<|end|><|start|>assistant"
                    f"<|channel|>commentary<|message|>{S % 2}<|end|><|channel|>final<|message|>one<|return|>"
                )
            ),
        ),
        ("harmony", row_with(said(f"<|channel|>analysis<|message|>{S % 1}<|channel|>final<|message|>one"))),
        ("a trajectory", row_with(said("one"), trajectory=[one])),
        ("messages elsewhere", row_with(plain, messages=[ASK, said(f"{S % 1} {ANSWER}")])),
        ("JSON in info", row_with(plain, info=json.dumps({"module_name": "A", "thoughts": S % 1}))),
        (
            "arguments of a call",
            row_with(said("", tool_calls=[json.loads(json.dumps(CALL) % S)]), RESULT, plain),
        ),
        ("tokens", row_with(plain, tokens={"logprobs": [S % 1]}, completion_ids=[1, 2], logprobs=[S])),
    ]


def copied() -> list[tuple[str, dict]]:
    """Rows with reasoning where nothing says that it is: these are named, and not shipped."""
    plain = said(ANSWER, reasoning=f"{S % 'a'}\nin two lines")
    quoted = f"> {S % 'a'}\n> in two lines"
    long = said(ANSWER, reasoning=f"{S % 'long'}. " * 20)
    return [
        ("quoted in a question", row_with(plain, {"role": "user", "content": quoted}, plain)),
        ("as JSON in a text", row_with(plain, log=json.dumps({"said": plain["reasoning"]}))),
        ("twice JSON", row_with(plain, log=json.dumps(json.dumps([plain["reasoning"]])))),
        ("cut short", row_with(long, preview=long["reasoning"][:250])),
        ("the whole turn", row_with(said(f"SECRET\n{ANSWER}"), response=f"SECRET\n{ANSWER}")),
        ("no mark in an earlier turn", row_with(said(S % 1), AGAIN, said(ANSWER))),
        ("no mark in the prompt", row_with(said(ANSWER), prompt=[ASK, said(S % 1), AGAIN])),
        ("no mark elsewhere", row_with(said(ANSWER), messages=[ASK, said(S % 1)])),
        ("text beside a call", row_with(said(S % 1, tool_calls=[CALL]), RESULT, said(ANSWER))),
        ("a mark that is only named", row_with(said(f"I say <answer> when done, {S % 1}, {ANSWER}"))),
        ("an end inside the answer", row_with(said(f"<answer>{S % 1} '</think>'</answer>"))),
        ("no answer at the end", row_with(said(ANSWER), AGAIN, said("", reasoning=S % 1))),
    ]


def numbered(rows: list[dict]) -> list[dict]:
    """Each another sample; one is put in where the store has no rating."""
    rows = [*rows[:UNREAD], row_with(said(ANSWER)), *rows[UNREAD:]]
    return [{**row, "example_id": number} for number, row in enumerate(rows)]


@pytest.mark.parametrize("format_", ["rows", "messages", "prompt-completion", "sharegpt"])
def test_no_byte_of_reasoning_is_shipped(folder, format_):
    kinds = hidden()
    rows = numbered([row for _, row in kinds])

    found = exported(rows, "--no-reasoning", "--format", format_)

    assert "SECRET" not in Path("f.jsonl").read_text()
    assert len(found) == len(kinds)
    assert "analysis" not in Path("f.jsonl").read_text()


@pytest.mark.parametrize("format_", ["rows", "messages"])
def test_a_row_that_may_hold_reasoning_is_named(folder, capfd, format_):
    """`messages` has no other columns, so that a copy in one does not matter to it."""
    kinds = copied()
    rows = numbered([row for _, row in kinds])
    in_columns = {"as JSON in a text", "twice JSON", "cut short", "the whole turn", "no mark elsewhere"}

    rows.append(row_with(said(ANSWER), number=99))
    found = exported(rows, "--no-reasoning", "--format", format_, status=3)

    assert "SECRET" not in Path("f.jsonl").read_text()
    assert len(found) == 1 + (0 if format_ == "rows" else len(in_columns))
    assert f"left out {len(kinds) + 1 - len(found)}, to f.jsonl" in capfd.readouterr().out


def test_what_goes_with_the_reasoning_is_said(folder, capfd):
    """Of what stays every byte is as it was, also JSON inside text."""
    info = '{"module_name":  "A", "python_code": "class A: pass"}'
    (found,) = exported(
        [row_with(said(ANSWER, reasoning=THOUGHT), info=info, trajectory=[], reasoning_tokens=7)],
        "--no-reasoning",
    )
    assert (found["info"], found["reasoning_tokens"]) == (info, 7)
    assert "columns left out with the reasoning: evaluation_raw, trajectory\n" in capfd.readouterr().err
    assert Path("f.jsonl").read_text().count("evaluation_raw") == 0
