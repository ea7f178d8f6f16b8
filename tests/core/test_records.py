"""What makes two rows the same sample, and what does not."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_rows import ROWS, TEXT, VALUES
from conftest import Run, clean_environment
from hypothesis import given
from hypothesis import strategies as st

from kbetl.json_codec import read_json
from kbetl.records import NOT_CONTENT, Request, RequestTemplate, sample_hash

MODULE: dict[str, Any] = {
    "entry_point": "Scale",
    "module_name": "Scale",
    "python_code": (
        "import torch\n\n\nclass Scale(torch.nn.Module):\n    def forward(self, x):\n        return 2 * x\n"
    ),
    "triton_code": "import triton",
    "repo_name": "someone/models",
    "synthetic": False,
    "uuid": 17,
    "licenses": ["MIT"],
    "stars": 3,
}
ROLLOUT: dict[str, Any] = {
    "example_id": 4,
    "prompt": [{"role": "user", "content": "Write Scale as a kernel"}],
    "completion": [{"role": "assistant", "content": "BEGIN_PYTHON\nEND_PYTHON", "reasoning": "Twice."}],
    "task": "default",
    "reward": 0.9125,
    "generation_ms": 1234.5,
    "scoring_ms": 7.25,
    "total_ms": 1241.75,
    "info": {"module_name": "Scale", "python_code": "class Scale: pass", "triton_code": "tl"},
    "answer": "",
    "speedup_reward": 1.0,
    "num_turns": 1.0,
    "oai_tools": None,
}
MIXED: dict[str, Any] = {
    "completion": 'é 漢 😀 \x7f \u2028 / " \\ \n',
    "numbers": [0, -0.0, 1.0, 1e-7, 1e22, 0.1, 2**53 + 1, 2**64, -(2**70), 1.5e300, 5e-324],
    "nested": {"b": [{}, [], [[]], None, {"z": None, "a": True}], "ä": {"": ""}},
}
GOLDEN = {
    "module": (MODULE, "s1:95530d664bf7b3ad9268e004ae1372f6c688f3644b33f660c79ea5ed229e3499"),
    "rollout": (ROLLOUT, "s1:a5087fefc6dbb4c072a942d4b2de62aa08ef110d083d6558b315ece39a7cf086"),
    "mixed": (MIXED, "s1:764aed3d306df3e541f555334144d6a3fbea086af814e696bc5e6402f3966de2"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_hashes(name: str) -> None:
    """These identities hold for ever: a store made today must know its rows in any later version."""
    row, expected = GOLDEN[name]
    assert sample_hash(row) == expected
    assert sample_hash(read_json(json.dumps(row).encode()).value) == expected


DROPPED = [path for path in NOT_CONTENT if path.isidentifier()]


def spelled_otherwise(value: Any, draw: st.DataObject) -> Any:
    """The same content: keys in another order, nulls added, integers as floats where those are exact."""
    if isinstance(value, dict):
        items = [(key, spelled_otherwise(child, draw)) for key, child in value.items()]
        items += [(key, None) for key in draw.draw(st.lists(TEXT, max_size=2)) if key not in value]
        return dict(draw.draw(st.permutations(items)))
    if isinstance(value, list):
        return [spelled_otherwise(child, draw) for child in value]
    if type(value) is int and float(value) == value and int(float(value)) == value:
        return draw.draw(st.sampled_from([value, float(value)]))
    if type(value) is float and value.is_integer():
        return draw.draw(st.sampled_from([value, int(value)]))
    return value


@given(ROWS, st.data())
def test_spelling_nulls_and_timings_do_not_count(row: dict[str, Any], data: st.DataObject) -> None:
    other = spelled_otherwise(row, data)
    for name in data.draw(st.lists(st.sampled_from(DROPPED), unique=True)):
        if name not in row:
            other[name] = data.draw(VALUES)
    text = json.dumps(
        other, indent=data.draw(st.sampled_from([None, 2])), ensure_ascii=data.draw(st.booleans())
    )

    assert sample_hash(read_json(text.encode()).value) == sample_hash(row)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def content(value: Any) -> str:
    """What a value says, less what does not count; by the standard library alone."""

    def less(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: less(child) for key, child in part.items() if child is not None}
        if isinstance(part, list):
            return [less(child) for child in part]
        return int(part) if type(part) is float and part.is_integer() else part

    return json.dumps(
        less({key: child for key, child in value.items() if key not in DROPPED}), sort_keys=True
    )


@given(ROWS, st.data())
def test_any_change_of_content_counts(row: dict[str, Any], data: st.DataObject) -> None:
    """Another leaf, a key more, an element less: another sample, unless the content is the same after all."""
    changed = copy.deepcopy(row)
    path = data.draw(st.sampled_from(places(changed)[1:]))
    holder = at(changed, path[:-1])
    if data.draw(st.booleans()) and isinstance(holder, list):
        del holder[path[-1]]
    elif data.draw(st.booleans()) and isinstance(holder, dict):
        holder[data.draw(TEXT)] = data.draw(VALUES)
    else:
        holder[path[-1]] = data.draw(VALUES)

    assert (sample_hash(changed) == sample_hash(row)) == (content(changed) == content(row))


@pytest.mark.parametrize("name", DROPPED)
def test_timings_do_not_count(name: str) -> None:
    assert sample_hash({**ROLLOUT, name: 5}) == sample_hash({**ROLLOUT, name: {"start": 9.5}})


def test_ids_count_but_where_a_tool_draws_them() -> None:
    assert sample_hash({**ROLLOUT, "id": 1}) != sample_hash({**ROLLOUT, "id": 2})
    assert sample_hash({"traces": [{"id": 1, "a": 1}], "id": 1}) == sample_hash(
        {"traces": [{"a": 1}], "id": 2}
    )
    assert sample_hash({"custom_id": "a", "id": 1}) == sample_hash({"custom_id": "a", "id": 2})
    assert sample_hash({"custom_id": "a", "id": 1}) != sample_hash({"custom_id": "b", "id": 1})


def evals_rows(count: int) -> list[dict[str, Any]]:
    """Rows as evals are, no two alike, with all that Arrow unifies: absent keys, 1 beside 1.5, nulls.

    Rewards have nine decimals: `datasets` rounds to ten where it reads or writes JSON by way of pandas.
    """
    draw = random.Random(5)
    rows = []
    for number in range(count):
        row = copy.deepcopy(ROLLOUT)
        row["example_id"] = number // 2
        row["reward"] = draw.choice([0, 1, 0.5, round(draw.random(), 9), None])
        row["completion"][0]["content"] += f" {number} é漢😀"
        if number % 3:
            row["completion"].append({"role": "tool", "content": "ok"})
        if number % 4 == 0:
            del row["answer"]
        row["generation_ms"] = draw.random()
        rows.append(row)
    return rows


def kernelbook_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        row = {**MODULE, "uuid": number, "module_name": f"Scale{number}", "stars": number or None}
        row["licenses"] = ["MIT", "BSD"][: number % 3]
        rows.append(row)
    return rows


BY_DATASETS = """
import datasets, sys
made = datasets.load_dataset("json", data_files="rows.jsonl", split="train")
made.to_parquet("datasets.parquet")
made.to_json("datasets.jsonl")
"""


@pytest.mark.parametrize("rows", [evals_rows(40), kernelbook_rows(40)], ids=["evals", "kernelbook"])
def test_rows_are_the_same_samples_through_arrow(
    run: Run, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    """As pyarrow writes them, and as `datasets` does to Parquet and to JSON."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(_with_all_keys(rows)), tmp_path / "arrow.parquet")
    subprocess.run(
        [sys.executable, "-c", BY_DATASETS],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path)),
        check=True,
        capture_output=True,
    )

    result = run("ingest", "rows.jsonl", "arrow.parquet", "datasets.parquet", "datasets.jsonl")

    assert result.returncode == 0, result.stderr
    counts = [line.partition(": ")[2].partition(" (")[0] for line in result.stdout.splitlines()]
    assert counts == ["read 40, new 40, known 0, rejected 0"] + ["read 40, new 0, known 40, rejected 0"] * 3


def _with_all_keys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`Table.from_pylist` takes the columns of the first row alone."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


_JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(), st.none() | st.text(), st.dictionaries(st.text(), _JSON_VALUE, max_size=4), st.text())
def test_a_form_makes_the_request_that_would_be_made_alone(
    model: str, system: str | None, parameters: dict[str, Any], prompt: str
) -> None:
    """Text, hash and body to the byte, whatever the model, the parameters and the prompt say."""
    parameters = {name: value for name, value in parameters.items() if name not in ("model", "messages")}
    before = [] if system is None else [{"role": "system", "content": system}]
    alone = Request(model, [*before, {"role": "user", "content": prompt}], parameters)

    made = RequestTemplate(model, before, parameters).request(prompt)

    assert (made.text, made.hash, made.sent_body, made) == (alone.text, alone.hash, alone.sent_body, alone)


def test_a_form_is_not_misled_by_a_prompt_or_a_model_that_looks_like_its_mark() -> None:
    """The place of the prompt is found by a mark that nothing else holds."""
    parameters = {"stop": ["<1>", '"<2>"'], "response_format": {"<3>": None}}
    alone = Request("<0>", [{"role": "user", "content": '"<1>" {"<0>'}], parameters)

    made = RequestTemplate("<0>", [], parameters).request('"<1>" {"<0>')

    assert (made.text, made.hash, made.sent_body) == (alone.text, alone.hash, alone.sent_body)
