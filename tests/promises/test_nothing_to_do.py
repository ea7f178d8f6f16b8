"""A run that asks nothing and an export without rows say why, and what to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enrich_case import rollout

from kbetl.cli import run as kbetl

pytest_plugins = ["enrich_fixtures"]

CODE = "import torch\nclass A(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n"
MODULE = {"module_name": "A", "python_code": CODE}
ROLLOUT = {"completion": "import triton", "info": MODULE}


def write(*rows: object) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert kbetl(["ingest", "rows.jsonl", "-q"]) == 0


WHY = {
    "no rollouts": (MODULE, [], "no sample is chosen: there is no rollout in kbetl.db; run: kbetl ingest"),
    "no reward": (ROLLOUT, [], "no sample is chosen: none of 1 rollouts has a reward\n"),
    "a reward of another name": (
        {**ROLLOUT, "score": 0.9},
        [],
        "none of 1 rollouts has a reward; 'score': did you mean 'reward'?",
    ),
    "low rewards": (
        {**ROLLOUT, "reward": 0.5},
        [],
        "none of 1 rollouts has a reward above 0.85; the highest is 0.5",
    ),
    "a condition": (
        {**ROLLOUT, "reward": 0.9},
        ["--where", "module_name = 'B'"],
        "none of 1 rollouts satisfies 'reward > :min_reward' and",
    ),
    "a source": (
        {**ROLLOUT, "reward": 0.5},
        ["--source", "rows.jsonl"],
        "none of 1 rollouts of rows.jsonl has a reward above 0.85",
    ),
}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
@pytest.mark.parametrize("what", WHY)
def test_run_that_chooses_no_sample_says_why(tmp_path, monkeypatch, capfd, what, dry):
    monkeypatch.chdir(tmp_path)
    row, options, why = WHY[what]
    write(row)
    capfd.readouterr()
    assert kbetl(["enrich", "-m", "offline", *options, *dry]) == 0
    assert why in capfd.readouterr().err


def test_run_after_all_is_settled_says_so(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write({**ROLLOUT, "reward": 0.9})
    assert kbetl(["enrich", "-m", "offline"]) == 0
    assert "nothing to ask" not in capfd.readouterr().err
    assert kbetl(["enrich", "-m", "offline"]) == 0
    assert "nothing to ask: each of the 1 samples chosen has its outcome" in capfd.readouterr().err


def test_export_names_the_labels_that_are_there_and_not_in_use(case):
    """Those of another task than the one in use, with the command that uses them."""
    case.ingest([rollout(1)], "one.jsonl")
    case.enrich("-q")
    case.ingest([rollout(2)], "two.jsonl")
    case.enrich("-q", "-o", "top_k", 5, "--source", "two.jsonl")
    ((task,),) = case.rows("select hash from tasks where in_use = 0")
    export = ("export", "filtered", "--source", "two.jsonl", "-o", "f.jsonl")
    empty = case.kbetl(*export)
    assert empty.status == 1
    use = f"kbetl use difficulty --task-hash {task[:15]}"
    assert f"is rated by the task in use; 1 are labelled by m, to use those: {use}" in empty.err
    assert case.kbetl(*use.split()[1:]).status == 0
    assert case.kbetl(*export).status == 0
