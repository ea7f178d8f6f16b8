"""The views `rollouts` and `synthetic`: they read what kbetl/samples/fields.py reads."""

from __future__ import annotations

import json

import pytest

from kbetl.errors import BadRow
from kbetl.samples import fields

# rollouts

ODD_ROWS = {
    "text": {"completion": "done"},
    "empty text": {"completion": ""},
    "no completion": {"reward": 1.0},
    "null completion": {"completion": None},
    "no messages": {"completion": []},
    "one message": {"completion": [{"role": "assistant", "content": "a"}]},
    "multi-turn": {
        "completion": [
            {"role": "assistant", "content": "first", "reasoning": "r1"},
            {"role": "user", "content": "again", "reasoning": "not mine"},
            {"role": "assistant", "content": "last", "reasoning_content": "r2"},
            {"role": "tool", "content": "tool"},
        ]
    },
    "empty last message": {
        "completion": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": ""}]
    },
    "null last message": {
        "completion": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": None}]
    },
    "no content": {"completion": [{"role": "assistant", "reasoning": "only"}]},
    "parts": {
        "completion": [
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "a"},
                    "b",
                    {"type": "image"},
                    {"text": None},
                    {"text": 5},
                    {"type": "text", "text": "c"},
                ],
            }
        ]
    },
    "parts without text": {
        "completion": [
            {"role": "assistant", "content": "earlier"},
            {"role": "assistant", "content": [{"type": "image"}]},
        ]
    },
    "no parts": {"completion": [{"role": "assistant", "content": "x"}, {"role": "assistant", "content": []}]},
    "blank content": {
        "completion": [{"role": "assistant", "content": "x"}, {"role": "assistant", "content": " "}]
    },
    "both reasonings": {
        "completion": [{"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "rc"}]
    },
    "empty reasoning beside another": {
        "completion": [{"role": "assistant", "content": "a", "reasoning": "", "reasoning_content": "rc"}]
    },
    "null reasoning": {"completion": [{"role": "assistant", "content": "a", "reasoning": None}]},
    "reasoning in parts": {
        "completion": [{"role": "assistant", "content": "a", "reasoning": ["x", {"text": "y"}]}]
    },
    "empty reasoning in parts": {
        "completion": [{"role": "assistant", "content": "a", "reasoning": [], "reasoning_content": "z"}]
    },
    "blank reasoning before reasoning": {
        "completion": [{"role": "assistant", "content": "a", "reasoning": "\t", "reasoning_content": "z"}]
    },
    "other roles": {
        "completion": [{"role": "user", "content": "u", "reasoning": "r"}, {"content": "nobody"}]
    },
    "JSON in text": {
        "completion": [{"role": "assistant", "content": '[{"text": "no part"}]', "reasoning": "[]"}]
    },
    "twelve messages": {
        "completion": [{"role": "assistant", "content": str(n), "reasoning": f"r{n}"} for n in range(12)]
    },
    "quotes and lines": {
        "completion": [{"role": "assistant", "content": 'a"b\\c\n\u2028é\U0001f600', "reasoning": "\t"}]
    },
}


@pytest.mark.parametrize("row", ODD_ROWS.values(), ids=ODD_ROWS)
def test_rollouts_reads_what_fields_reads(store, row):
    """The view in SQL and `samples.fields` in Python are one definition."""
    store.sample(row)
    assert store.rows("select completion, reasoning from rollouts") == [
        (fields.completion(row), fields.reasoning(row))
    ]


@pytest.mark.parametrize(
    "completion",
    [
        "text",
        5,
        {"role": "assistant"},
        {"a": "b"},
        [5, "x", None, ["assistant"]],
        [{"role": "assistant", "content": 5}],
    ],
    ids=repr,
)
def test_no_row_makes_the_views_fail_for_all(store, completion):
    """What `ingest` would refuse, were it in the store, is null and stops no query."""
    row = {"completion": completion, "info": "", "reward": None}
    if completion != "text":
        with pytest.raises(BadRow):
            fields.completion(row)
    sample = {"module_name": "A", "info": " \n"}
    store.outcome(store.sample(sample, "module"), store.task("prompts", about="module"), value="spec")
    store.add(
        "samples", hash="s1:" + "0" * 64, kind="rollout", code_point=0, name_point=0, row=json.dumps(row)
    )
    for view in ("rollouts", "selectable", "synthetic"):
        store.rows(f"select * from {view}")
    assert store.rows("select completion from rollouts") == [(completion if completion == "text" else None,)]


def test_rollouts_columns(store):
    """One row per rollout, in each the row's own facts; modules are none."""
    store.module("M")
    sample = store.sample(
        {
            "completion": "c",
            "model": "m",
            "env_id": "kernels",
            "example_id": 7,
            "reward": 0.5,
            "finish_reason": "stop",
            "error": None,
            "info": {"module_name": "N"},
        }
    )
    assert store.rows("select * from rollouts") == [
        (sample, "N", "m", "kernels", 7, 0.5, "c", None, "stop", None)
    ]


# synthetic


@pytest.mark.parametrize(
    "row",
    [
        {"module_name": "A", "python_code": "p", "triton_code": "t", "uuid": "u"},
        {"module_name": "A", "pytorch_code": "p", "original_triton_code": "o", "uuid": 5},
        {"name": "A", "code": "p"},
        {"name": "A", "code": "p", "python_code": "first", "pytorch_code": "second"},
        {"module_name": "outer", "python_code": "outer", "info": {"module_name": "A", "code": "inner"}},
        {"python_code": "outer", "info": json.dumps({"module_name": "A", "python_code": "in"})},
        {"entry_point": "A", "info": " \t\n"},
        {"entry_point": "A", "info": None, "triton_code": None, "original_triton_code": "x"},
    ],
)
def test_synthetic_reads_what_fields_reads(store, row):
    sample = store.sample(row, "module")
    store.outcome(sample, store.task("prompts", about="module", closing="\n\nEND"), value="Write it.")
    assert store.rows(
        "select sample_hash, prompt, module_name, python_code, triton_code, uuid from synthetic"
    ) == [
        (sample, "Write it.\n\nEND", "A", fields.python_code(row), fields.triton_code(row), row.get("uuid"))
    ]


def test_synthetic_holds_what_is_ok_by_the_task_in_use(store):
    good, bad = store.module("A"), store.module("B")
    used = store.task("prompts", about="module")
    other = store.task("prompts", about="module", model="other", in_use=False)
    store.outcome(good, used, value="a")
    store.outcome(good, used, value="second attempt", attempt=1, request_hash=None)
    store.outcome(bad, used, "truncated")
    store.outcome(bad, other, value="b")
    assert store.rows("select prompt from synthetic") == [("a",)]
