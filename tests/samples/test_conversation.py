"""One reading of a conversation: what `lengths` counts is what `export --format messages` writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fill_disk import Filling
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbetl.cli import run
from kbetl.lengths import Chosen, measure
from kbetl.records import sample_hash
from kbetl.resources import data_path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

DEMO = data_path("tokenizer")
TEXTS = st.sampled_from(["", "a", " b ", "<think>t</think>c", "[THINK]u[/THINK]d", "<think>e", "é\n\nf"])
PARTS = st.sampled_from(
    [
        "g",
        {"type": "text", "text": "h"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "i"}]},
        {"type": "thinking", "thinking": "j"},
        {"type": "reasoning", "text": "k"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "input_audio", "input_audio": {}},
        {"image": "x"},
        None,
    ]
)
ARGUMENTS = st.sampled_from([None, "", "{}", '{"n": 1}', "{", {"n": None}, "[1]"])
NAMES = st.sampled_from(["look", "add", None])
CALLS = st.builds(
    lambda name, arguments, shape: {
        "flat": {"id": "1", "name": name, "arguments": arguments},
        "nested": {"id": "1", "function": {"name": name, "arguments": arguments}},
        "text": json.dumps({"function": {"name": name, "arguments": arguments}}),
    }[shape],
    NAMES,
    ARGUMENTS,
    st.sampled_from(["flat", "nested", "text"]),
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant"] * 4 + ["user"] * 3 + ["tool", "system", "developer", None])},
    optional={
        "content": st.one_of(TEXTS, st.none(), st.lists(PARTS, max_size=3)),
        "reasoning": TEXTS,
        "reasoning_content": TEXTS,
        "reasoning_details": st.just([{"type": "reasoning.text", "text": "l"}]),
        "thinking_blocks": st.just([{"type": "thinking", "thinking": "m"}]),
        "tool_calls": st.lists(CALLS, max_size=2),
        "tool_call_id": st.sampled_from(["1", None]),
        "refusal": st.sampled_from(["no", None]),
    },
)
TURNS = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["human", "gpt", "system", "observation", "function_call", "user"]),
        "value": st.sampled_from(["n", "<think>o</think>p", '{"name": "add", "arguments": {"a": 1}}']),
    }
)
ANSWER = st.lists(MESSAGES, max_size=3).map(lambda some: [*some, {"role": "assistant", "content": "q"}])
SIDES = st.one_of(TEXTS, st.lists(MESSAGES, max_size=3), st.lists(TURNS, max_size=3), ANSWER)
TOOLS = st.sampled_from([None, "null", [], [{"name": "add"}], '[{"function": {"name": "look"}}]', "[", [{}]])
ROWS = st.fixed_dictionaries(
    {"prompt": st.one_of(st.just("Do it."), SIDES), "completion": SIDES},
    optional={"tools": TOOLS, "tool_defs": TOOLS, "oai_tools": TOOLS},
)


def counted_and_written(folder: Path, rows: list[dict[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """Tokens by sample: as `lengths` counts them, and as a trainer counts what `export` wrote."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(DEMO), local_files_only=True)
    database, output = folder / "kbetl.db", folder / "messages.jsonl"
    for path in folder.glob("*"):
        path.unlink()
    with Filling(database) as store:
        different = {sample_hash({**row, "reward": 1.0}): {**row, "reward": 1.0} for row in rows}
        store.source("rows", *(store.sample(row, "rollout") for row in different.values()))
        measure(store.store, str(DEMO), Chosen("samples"))
        counted = dict(
            store.rows(
                "select sample_hash, total_tokens from lengths where total_tokens > 0 and unreached is null"
            )
        )
        unreached = {
            sample for (sample,) in store.rows("select sample_hash from lengths where unreached is not null")
        }
    run(["export", "evals", "-d", str(database), "-o", str(output), "--format", "messages", "-q"])
    written = {}
    for line in output.read_text(encoding="utf-8").splitlines() if output.exists() else ():
        row = json.loads(line)
        for message in row["messages"]:
            for call in message.get("tool_calls", ()):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        tools = json.loads(row["tools"]) if "tools" in row else None
        ids = tokenizer.apply_chat_template(row["messages"], tools=tools, tokenize=True, return_dict=False)
        if row["sample_hash"] not in unreached:
            written[row["sample_hash"]] = len(ids)
    return counted, written


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=25, max_size=25, unique_by=json.dumps))
def test_what_is_counted_is_what_is_written(tmp_path, rows):
    """Of rows of any shape: the same rows, the same tokens; one is whole."""
    rows.append({"prompt": "Do it.", "completion": "Done."})
    counted, written = counted_and_written(tmp_path, rows)
    assert len(written) > 0
    assert counted == written


def test_what_is_counted_of_the_shipped_rows_is_what_is_written(tmp_path):
    rows = rows_of([data_path("sample.jsonl")])
    counted, written = counted_and_written(tmp_path, rows)
    assert counted == written
    assert len(written) == sum(bool(row["completion"]) for row in rows)


def test_what_is_counted_of_real_rows_is_what_is_written(tmp_path, shared):
    counted, written = counted_and_written(
        tmp_path, rows_of(sorted((shared / "data" / "rollouts").rglob("results.jsonl")))
    )
    assert counted == written != {}


def rows_of(files: list[Path]) -> list[dict[str, Any]]:
    rows = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    return [row for row in rows if row.get("completion") is not None]
