"""Hashes of a module's code, and how two codes are alike by them."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

from kbetl.dataflow.fingerprints import VERSION, Fingerprint, fingerprint, matches

SHARED = Path(__file__).parents[3] / "shared"
KERNELBENCH = SHARED / "data" / "kernelbench" / "kernelbench.jsonl"
MODULE = '''import torch
import torch.nn as nn
import torch.nn.functional as F

class Model(nn.Module):
    """Scales."""

    def __init__(self, width, scale=2.5):
        super().__init__()
        self.fc = nn.Linear(width, width, bias=False)
        self.scale = scale

    def forward(self, x):
        # scaled
        scaled = self.head(x) * self.scale
        return F.relu(scaled)

    def head(self, x):
        return self.fc(x)

size = 64

def get_inputs():
    return [torch.rand(size, 8)]
'''
RENAMED = """import torch
from torch import nn
import torch.nn.functional as fn
class Other(nn.Module):
    def __init__(this, breadth, factor: float = 2.5):
        super().__init__()
        this.inner = nn.Linear(breadth, breadth, bias=False)
        this.factor = factor
    def forward(this, t):
        big = this.top(t) * this.factor
        return fn.relu(big)
    def top(this, t):
        return this.inner(t)
amount = 64
def get_inputs():
    return [torch.rand(amount, 8)]
"""
RESIZED = RENAMED.replace("2.5", "4.0").replace("amount = 64\n", "").replace("amount, 8", "16, 32")
REWRITTEN = """import torch
from torch import nn
class Other(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, n)
    def forward(self, x):
        return torch.relu(3 * self.fc(x))
"""
INSIDE = REWRITTEN.replace("torch.relu(3 * self.fc(x))", "torch.relu(3 * self.fc(x)).sum() + x")
OTHER = REWRITTEN.replace("torch.relu", "torch.tanh")
LIKE = {
    "other names": (RENAMED, "renamed"),
    "other numbers": (RESIZED, "shape"),
    "another form": (REWRITTEN, "dataflow"),
    "a part": (INSIDE, "inside"),
    "another computation": (OTHER, None),
}


@pytest.mark.parametrize(("code", "how"), LIKE.values(), ids=LIKE)
def test_the_strongest_likeness(code: str, how: str | None) -> None:
    """From other names to another form."""
    match = matches(fingerprint(MODULE), fingerprint(code), is_same_code=False)
    assert (match.how if match else None) == how


def test_other_settings_are_said() -> None:
    """The same computation with other numbers is told apart from a copy."""
    known = fingerprint(MODULE)
    differ = [matches(known, fingerprint(code), is_same_code=False) for code in (RENAMED, RESIZED, REWRITTEN)]
    assert [match.settings_differ for match in differ if match] == [False, True, True]


def test_fingerprints_are_the_same_on_every_python() -> None:
    """The spelling is this package's; a change needs a new version."""
    known = fingerprint(MODULE)
    assert VERSION == 1
    assert known.renamed_hash == "788ecd0c8ed45e019299d052bbf9c372"
    assert known.shape_hash == "d37d9fb0be7f4bbb649756852298b26a"
    assert known.settings_hash == "2a12b8793b58f74ce37a04a47784ff26"
    assert known.operators == 3


UNREADABLE = {
    "def f(:": "the code does not parse",
    "x = 1\n": "the code holds no class with a forward method",
    "x = 1\n" * 900_000: "the code is too large to follow",
    "x = " + "(" * 10_000: "the code does not parse",
    "class M(torch.nn.Module):\n    def forward(self, x):\n"
    + "        x = x + x.relu()\n" * 7_000
    + "        return x\n": "the code is too large to follow",
}


@pytest.mark.parametrize(("code", "reason"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_has_a_reason(code: str, reason: str) -> None:
    """And is like nothing."""
    known = fingerprint(code)
    assert known == Fingerprint(reason=known.reason)
    assert str(known.reason).startswith(reason)
    assert matches(known, known, is_same_code=False) is None


def test_a_model_by_its_name_has_no_dataflow() -> None:
    """What is computed stands elsewhere: only names and numbers tell such modules apart."""
    code = (
        "import torch\nfrom transformers import AutoModel\nclass Model(torch.nn.Module):\n"
        "    def __init__(self, name):\n        super().__init__()\n"
        "        self.model = AutoModel.from_pretrained(name)\n    def forward(self, x):\n"
        "        return self.model(x).logits\n"
    )
    assert fingerprint(code).dataflow_hash is None
    assert fingerprint(code).renamed_hash is not None


@pytest.mark.skipif(not KERNELBENCH.is_file(), reason="the KernelBench problems are not beside this checkout")
def test_disguised_problems_are_found() -> None:
    """Each disguise of every tenth problem, by the likeness that it leaves."""
    spec = importlib.util.spec_from_file_location("disguise", SHARED / "trust" / "disguise.py")
    assert spec is not None
    assert spec.loader is not None
    disguise = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(disguise)
    problems = [json.loads(line) for line in KERNELBENCH.read_text(encoding="utf-8").splitlines()][::10]
    known = {(row["level"], row["problem_id"]): fingerprint(row["code"]) for row in problems}
    found: dict[str, Counter[str]] = {}
    for name, stands_for, code in disguise.plant(problems):
        read = fingerprint(code)
        for problem in stands_for:
            match = matches(known[problem], read, is_same_code=False)
            found.setdefault(name, Counter())[match.how if match else "lost"] += 1
    assert not any(counts["lost"] for counts in found.values()), found
    assert set(found["renamed"]) == set(found["reformatted"]) == {"renamed"}
    assert set(found["constants"]) == {"shape"}
    assert set(found["merged"]) == {"inside", "operators"}
