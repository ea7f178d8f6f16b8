"""Formats of `kbetl export`: what trainers read, reasoning in or out, and rows that cannot be carried."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from evals_rows import Row, evals_row, evals_rows, store_with
from export_case import ANSWER, ASK, CODE, METADATA, THOUGHT, exported, folder, row_with, said
from fill_disk import Filling

from kbetl.cli import run

__all__ = ["folder"]


# messages, prompt-completion


def test_messages_keep_the_reasoning_where_templates_read_it(folder):
    """`reasoning` becomes `reasoning_content`; which row it is stands beside the messages."""
    rows = [row_with(said(ANSWER, reasoning=THOUGHT))]
    expected = {"messages": [ASK, said(ANSWER, reasoning_content=THOUGHT)]}
    assert exported(rows, "--format", "messages") == [expected]
    found = json.loads(Path("f.jsonl").read_text())
    assert list(found) == ["messages", *METADATA]
    assert (found["module_name"], found["reward"], found["difficulty"]) == ("A", 1.0, "low")
    assert found["sample_hash"].startswith("s1:")


def test_prompt_and_completion_are_lists_of_messages_also_where_they_were_text(folder):
    rows = [evals_row(0, "A", 1.0, CODE, prompt="Write it.", completion="done")]
    assert exported(rows, "--format", "prompt-completion") == [
        {"prompt": [{"role": "user", "content": "Write it."}], "completion": [said("done")]}
    ]


CALL = {"id": "c1", "type": "function", "function": {"name": "compile", "arguments": '{"x": 1.0}'}}


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        json.dumps({"id": "c1", "name": "compile", "arguments": '{"x": 1.0}'}),
        json.dumps(CALL),
        {"id": "c1", "name": "compile", "arguments": '{"x": 1.0}'},
    ],
    ids=["dict", "flat text", "text", "flat"],
)
def test_tool_calls_are_objects_with_a_function_whatever_wrote_them(folder, call):
    """verifiers 0.1 writes them as JSON text, which prime-rl's trainer breaks on."""
    tool = {"role": "tool", "content": "ok", "tool_call_id": "c1"}
    tools = '[{"type":"function","function":{"name":"compile"}}]'
    rows = [row_with(said(None, tool_calls=[call]), tool, said("done"), oai_tools=tools)]
    assert exported(rows, "--format", "messages") == [
        {"messages": [ASK, said("", tool_calls=[CALL]), tool, said("done")], "tools": tools}
    ]


def test_arguments_that_are_objects_become_text(folder):
    """As text they survive Arrow, which would give each call the keys of all."""
    call = {"name": "compile", "arguments": {"b": 1, "a": None}}
    rows = [row_with(said("", tool_calls=[call]), tools=[{"name": "compile"}], oai_tools="null")]
    (found,) = exported(rows, "--format", "messages")
    assert found["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"b":1,"a":null}'
    assert found["tools"] == '[{"type":"function","function":{"name":"compile"}}]'


def test_parts_that_are_text_are_joined(folder):
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert exported([row_with(said(parts))], "--format", "messages") == [{"messages": [ASK, said("one two")]}]


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ([], "no assistant message with text or tool calls in 'completion'"),
        ([said(None)], "no assistant message with text or tool calls in 'completion'"),
        ([said("x"), {"role": "developer", "content": "y"}], 'role "developer"; trainers know'),
        ([said([{"type": "image_url", "image_url": {"url": "u"}}])], "has a part that is not text"),
        ([said("", tool_calls=["{"])], "tool_calls[0]' is text that is not JSON"),
        ([said("", tool_calls=[{"id": "1"}])], "tool_calls[0]' names no function"),
    ],
)
def test_a_row_that_a_trainer_could_not_read_is_named_and_left_out(folder, capfd, completion, reason):
    """The others are written, and the exit status is 3."""
    rows = [row_with(*completion), row_with(said("fine"), number=1)]
    assert exported(rows, "--format", "messages", status=3) == [{"messages": [ASK, said("fine")]}]
    out, err = capfd.readouterr()
    assert "wrote 1 rows, left out 1, to f.jsonl" in out
    assert err.startswith("left out s1:")
    assert reason in err


def test_where_all_rows_are_left_out_nothing_is_written(folder, capfd):
    store_with(Path("kbetl.db"), evals=[row_with(said(None))])
    Path("f.jsonl").write_text("old")
    for output in ("f.jsonl", "new"):
        assert run(["export", "filtered", "-o", output, "--format", "alpaca"]) == 3
        told, named, *_ = capfd.readouterr().err.splitlines()
        assert told.startswith(
            "kbetl: nothing is left of the dataset filtered to write: 1 rows: no assistant"
        )
        assert named.startswith("left out s1:")
    assert Path("f.jsonl").read_text() == "old"
    assert not Path("new").exists()


def test_of_many_rows_left_out_the_first_ten_are_named_and_all_counted(folder, capfd):
    rows = [row_with(said(None), number=number) for number in range(20, 32)] + [
        row_with(said("x"), number=32)
    ]
    exported(rows, "--format", "messages", status=3)
    err = capfd.readouterr().err.splitlines()
    assert [line[:12] for line in err[:10]] == ["left out s1:"] * 10
    assert err[10] == "... and 2 more rows"
    assert err[11].startswith("left out 12 rows: no assistant message")


# sharegpt, alpaca


def test_sharegpt_puts_the_thought_before_the_text(folder):
    system = {"role": "system", "content": "Be brief."}
    rows = [row_with(said(ANSWER, reasoning_content=THOUGHT), prompt=[system, ASK])]
    assert exported(rows, "--format", "sharegpt") == [
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": ASK["content"]},
                {"from": "gpt", "value": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"},
            ]
        }
    ]


def test_sharegpt_has_calls_and_results_as_turns_of_their_own(folder):
    rows = [row_with(said("", tool_calls=[CALL]), {"role": "tool", "content": "ok"}, said("done"))]
    (found,) = exported(rows, "--format", "sharegpt")
    assert found["conversations"][1:] == [
        {"from": "function_call", "value": '{"name":"compile","arguments":{"x":1.0}}'},
        {"from": "observation", "value": "ok"},
        {"from": "gpt", "value": "done"},
    ]


def test_alpaca_is_for_one_question_and_one_answer(folder, capfd):
    """Rows of several turns are named and not shipped."""
    turns = [said("first"), {"role": "user", "content": "no"}, said("second")]
    rows = [row_with(said("a"), prompt=[{"role": "system", "content": "S"}, ASK]), row_with(*turns, number=1)]
    assert exported(rows, "--format", "alpaca", status=3) == [
        {"instruction": ASK["content"], "input": "", "output": "a", "system": "S"}
    ]
    assert "more than one question and one answer, which alpaca cannot carry" in capfd.readouterr().err


# folders


def test_a_folder_for_prime_rl_has_settings_with_the_measured_length(folder):
    store = store_with(Path("kbetl.db"), evals=evals_rows())
    arguments = ["export", "unique", "-o", "sft", "--format", "messages"]
    assert run(arguments) == 3
    assert tomllib.loads(Path("sft/sft.toml").read_text()) == {"data": {"name": "sft", "splits": ["train"]}}
    measure(store, 5000)
    assert run(arguments) == 3
    assert tomllib.loads(Path("sft/sft.toml").read_text())["data"]["seq_len"] == 8192


@pytest.mark.parametrize("longest", [1, 1024, 1025, 131_072, 131_073, 140_000, 262_145])
def test_the_settings_of_a_trainer_take_the_length_that_lengths_advises(folder, longest):
    store = store_with(Path("kbetl.db"), evals=evals_rows())
    measure(store, longest)
    assert run(["export", "unique", "-o", "sft", "--format", "messages"]) == 3
    seq_len = tomllib.loads(Path("sft/sft.toml").read_text())["data"]["seq_len"]
    advice = "select seq_len from seq_len_advice where dataset = 'unique' and percentile = 100"
    assert store.rows(advice) == [(seq_len,)]


def measure(store: Filling, longest: int) -> None:
    for number, (sample,) in enumerate(store.rows("select sample_hash from filtered")):
        tokens = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": longest if number == 1 else 10}
        store.add("lengths", sample_hash=sample, tokenizer="T", template_hash="h", **tokens)


def test_a_folder_for_llama_factory_says_where_its_columns_are(folder):
    store_with(Path("kbetl.db"), evals=evals_rows())
    assert run(["export", "filtered", "-o", "lf", "--format", "sharegpt"]) == 3
    found = json.loads(Path("lf/dataset_info.json").read_text())
    assert sorted(found) == ["filtered_train", "filtered_validation"]
    entry = found["filtered_train"]
    assert entry["file_name"] == "data/train-00000-of-00001.parquet"
    assert entry["columns"] == {"messages": "conversations"}
    assert (Path("lf") / entry["file_name"]).is_file()
    assert run(["export", "filtered", "-o", "lf", "--format", "alpaca", "--no-splits"]) == 3
    entry = json.loads(Path("lf/dataset_info.json").read_text())["filtered_train"]
    assert entry["columns"] == {"prompt": "instruction", "query": "input", "response": "output"}


@pytest.mark.parametrize("format_", ["messages", "prompt-completion", "sharegpt", "alpaca"])
def test_every_format_is_the_same_in_parquet(folder, format_):
    import pyarrow.parquet as pq

    rows = [row_with(said(ANSWER, reasoning=THOUGHT)), row_with(said("x"), number=1)]
    store_with(Path("kbetl.db"), evals=rows)
    for kind in ("jsonl", "parquet"):
        assert run(["export", "filtered", "-o", f"f.{kind}", "--format", format_]) == 0
    expected = [json.loads(line) for line in Path("f.jsonl").read_text().splitlines()]
    assert without_nulls(pq.read_table("f.parquet").to_pylist()) == without_nulls(expected)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    return [without_nulls(child) for child in value] if isinstance(value, list) else value


def test_real_rollout_files_become_messages(folder, shared):
    """Files of prime-rl and verifiers: each row is carried, or named."""
    done = 0
    for path in sorted((shared / "data" / "rollouts").rglob("results.jsonl")):
        database = f"{done}.db"
        if run(["ingest", str(path), "-d", database]) not in (0, 3):
            continue
        status = run(["export", "evals", "-d", database, "-o", f"{done}.jsonl", "--format", "messages"])
        assert status in (0, 1, 3)
        if status != 1:
            for line in Path(f"{done}.jsonl").read_text(encoding="utf-8").splitlines():
                for message in json.loads(line)["messages"]:
                    assert message["role"] in ("system", "user", "assistant", "tool")
                    assert all(isinstance(call["function"]["arguments"], str) for call in calls(message))
        done += 1
    assert done > 0


def calls(message: Row) -> list[Row]:
    return message.get("tool_calls", [])
