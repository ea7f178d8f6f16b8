"""The rows of `data/sample.jsonl`: the demo and the small corpus of the other tests live on their variety."""

from __future__ import annotations

import ast
import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from kbetl import offline
from kbetl.json_codec import read_json
from kbetl.records import code_hash, sample_hash
from kbetl.resources import data_path
from kbetl.samples import fields

PATH = data_path("sample.jsonl")
LINES = PATH.read_bytes().splitlines()
ROWS: list[dict[str, Any]] = [json.loads(line) for line in LINES]
MODULES = [row for row in ROWS if "completion" not in row]
ROLLOUTS = [row for row in ROWS if "completion" in row]
MODULE_COLUMNS = (
    "entry_point module_name python_code triton_code original_triton_code repo_name synthetic uuid "
    "licenses stars"
)
ROLLOUT_COLUMNS = (
    "example_id prompt completion task reward generation_ms scoring_ms total_ms info answer speedup_reward "
    "num_turns oai_tools"
)


def assistant(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The assistant messages of a rollout."""
    return [message for message in row["completion"] if message["role"] == "assistant"]


def test_rows_are_counted() -> None:
    """Twelve modules, eighteen rollouts, small enough to ship."""
    assert (len(MODULES), len(ROLLOUTS)) == (12, 18)
    assert 60_000 <= PATH.stat().st_size <= 150 * 1024


def test_every_line_is_plain_json() -> None:
    """No line holds what has to be read the slow way, and no two are the same sample."""
    assert all(read_json(line).nonfinite == () for line in LINES)
    assert len({sample_hash(row) for row in ROWS}) == len(ROWS)


def test_columns_are_those_of_the_real_files() -> None:
    """In the order in which those are written; one rollout has a column more."""
    assert {" ".join(row) for row in MODULES} == {MODULE_COLUMNS}
    assert Counter(" ".join(row) for row in ROLLOUTS) == {
        ROLLOUT_COLUMNS: 17,
        f"{ROLLOUT_COLUMNS} module_name": 1,
    }


@pytest.mark.parametrize("row", ROWS, ids=range(1, len(ROWS) + 1))
def test_code_parses_and_defines_what_it_should(row: dict[str, Any]) -> None:
    """Each row has its module with inputs for it, and a Triton class with `New` behind the name."""
    name, python_code, triton_code = fields.module_name(row), fields.python_code(row), fields.triton_code(row)
    assert python_code
    assert triton_code
    assert {name, "get_inputs", "get_init_inputs"} <= defined(python_code)
    assert f"{name}New" in defined(triton_code)
    assert f"{name}New" in defined(row.get("original_triton_code", triton_code))
    assert row.get("entry_point", name) == name


def defined(code: str) -> set[str]:
    """The classes and functions at the top of a source."""
    return {node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_rewards_lie_on_both_sides_of_the_threshold() -> None:
    """Above, exactly at, below, zero and none at all."""
    rewards = [row["reward"] for row in ROLLOUTS]
    assert sum(reward is not None and reward > 0.85 for reward in rewards) == 12
    assert rewards.count(0.85) == 1
    assert rewards.count(0.0) == 1
    assert rewards.count(None) == 1
    assert sum(reward is not None and reward < 0.85 for reward in rewards) == 4


def test_one_module_has_a_tie() -> None:
    """Two rollouts of one module share the best reward."""
    rewards = [row["reward"] for row in ROLLOUTS if fields.module_name(row) == "ScaledTanh"]
    assert rewards == [0.93, 0.93, 0.41]


def test_one_name_hides_two_codes() -> None:
    """A module name is not a module."""
    codes: dict[str | None, set[str]] = defaultdict(set)
    for row in ROWS:
        codes[fields.module_name(row)].add(code_hash(fields.python_code(row) or ""))
    assert {name: len(hashes) for name, hashes in codes.items() if len(hashes) > 1} == {"Attention": 2}


def test_reasoning_is_in_either_field_or_in_none() -> None:
    """Most rollouts say `reasoning`, one says `reasoning_content`, one has none."""
    kinds = Counter(
        next((key for key in fields.REASONING if key in assistant(row)[-1]), "none") for row in ROLLOUTS
    )
    assert kinds == {"reasoning": 16, "reasoning_content": 1, "none": 1}


def test_one_rollout_has_two_turns() -> None:
    """Feedback stands between two answers, and the last one counts."""
    turns = [row for row in ROLLOUTS if row["num_turns"] == 2.0]
    assert [[message["role"] for message in row["completion"]] for row in turns] == [
        ["assistant", "user", "assistant"]
    ]
    assert all(row["num_turns"] == 1.0 for row in ROLLOUTS if row not in turns)
    assert fields.completion(turns[0]) == turns[0]["completion"][-1]["content"]


def test_one_rollout_has_its_module_name_at_the_top() -> None:
    """All others have it in `info`."""
    places = Counter(("module_name" in row, "module_name" in row["info"]) for row in ROLLOUTS)
    assert places == {(True, False): 1, (False, True): 17}


def test_answers_stand_between_the_markers() -> None:
    """`answer` is what stands there; the one rollout whose reward is 0 has no code at all."""
    for row in ROLLOUTS:
        _, marker, rest = (fields.completion(row) or "").partition("BEGIN_PYTHON\n")
        assert rest.removesuffix("END_PYTHON") == row["answer"]
        assert bool(marker) == (row["reward"] != 0.0)


def test_every_difficulty_occurs() -> None:
    """Rated without a network, what lies above the threshold has all three labels."""
    found = Counter(
        offline.answer(
            "difficulty",
            {"module_name": fields.module_name(row) or "", "python_code": fields.python_code(row) or ""},
        )
        .split(">")[1]
        .split("<")[0]
        for row in ROLLOUTS
        if (row["reward"] or 0) > 0.85
    )
    assert found == {"low": 4, "medium": 4, "high": 4}
