"""What a module computes, read from its source: one dataflow whatever the source's names and form."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from kbetl import dataflow
from kbetl.dataflow.fingerprints import VERSION
from kbetl.dataflow.source import parse, unused_modules
from kbetl.errors import UnreadableCode

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"
SHARED = Path(__file__).parents[3] / "shared"
KERNELBENCH = SHARED / "data" / "kernelbench" / "kernelbench.jsonl"


def module(forward: str, init: str = "pass", arguments: str = "x", more: str = "") -> str:
    """A class M with a constructor and a forward; statements are divided by `;`."""
    lines = "\n        ".join(init.split("; "))
    return (
        f"{HEAD}{more}\nclass M(nn.Module):\n    def __init__(self, n, m):\n        super().__init__()\n"
        f"        {lines}\n\n    def forward(self, {arguments}):\n        {forward}\n"
    )


def digest(code: str) -> bytes:
    """The hash of the dataflow of the one module that no other uses."""
    source = parse(code)
    return dataflow.read_module(source, unused_modules(source)[-1]).result.digest


BLOCK = """
class Block(nn.Module):
    def __init__(self, a, b, down=None):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3)
        self.down = down
    def forward(self, x):
        kept = x if self.down is None else self.down(x)
        return F.relu(self.conv(x) + kept)
"""
STAGES = (
    "self.width = {width}; self.stages = nn.Sequential(self.stage(64, 2, 1), self.stage(128, {depth}, 2))"
)
STAGE = """return self.stages(x)

    def stage(self, width, depth, stride):
        down = None
        if stride != 1 or self.width != width:
            down = nn.Sequential(nn.Conv2d(self.width, width, 1), nn.BatchNorm2d(width))
        layers = [Block(self.width, width, down)]
        self.width = width
        for _ in range(1, depth):
            layers.append(Block(width, width))
        return nn.Sequential(*layers)"""
DENSE = """kept = [x]
        for layer in self.layers:
            x = layer(torch.cat(kept, 1))
            kept.append(x)
        return torch.cat(kept, 1)"""
HELPER = """
def run(block, x):
    return torch.relu(block.conv(x))

class Inner(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.conv = nn.Conv2d(n, m, 3)
    def forward(self, x):
        return run(self, x)
"""
CONVOLUTION = "self.conv = nn.Conv2d(n, m, 3)"
SAME = {
    "layer, function and method": [
        module("return self.act(x)", "self.act = nn.ReLU()"),
        module("return F.relu(x)"),
        module("return torch.relu(x)"),
        module("return x.relu()"),
        module("return nn.ReLU()(x)"),
        module("x.relu_(); return x".replace("; ", "\n        ")),
    ],
    "products": [
        module("return x @ y", arguments="x, y"),
        module("return torch.matmul(x, y.t())", arguments="x, y"),
        module("return a.bmm(b)", arguments="a, b"),
    ],
    "operands in any order, numbers left out": [
        module("return x * y + 1", arguments="x, y"),
        module("return 2.5 + y * x", arguments="x, y"),
    ],
    "views and copies left out": [
        module("return x.view(n, -1).sum(1)"),
        module("return x.clone().permute(1, 0).contiguous().sum(0, keepdim=True)"),
    ],
    "a module handed to a function, and wrapped": [
        module("return self.conv(x).relu()", CONVOLUTION),
        HEAD + HELPER,
        module("return self.inner(*xs)", "self.inner = Inner(n, m)", "*xs", HELPER),
    ],
    "sequential, list and loop": [
        module("return self.b(F.relu(self.a(x)))", "self.a = nn.Linear(n, m); self.b = nn.Linear(m, m)"),
        module("return self.net(x)", "self.net = nn.Sequential(nn.Linear(n, m), nn.ReLU(), nn.Linear(m, m))"),
        module(
            "for layer in self.layers:\n            x = layer(x)\n        return x",
            "parts = [nn.Linear(n, m)]; parts += [nn.ReLU(), nn.Linear(m, 4)]; "
            "self.layers = nn.ModuleList(parts)",
        ),
    ],
    "layers by a name that is put together": [
        module(
            "for i in range(2):\n            x = getattr(self, f'fc{i}')(x)\n        return x",
            "self.fc0 = nn.Linear(n, m); self.fc1 = nn.Linear(n, m)",
        ),
        module("return self.b(self.a(x))", "self.a = nn.Linear(n, m); self.b = nn.Linear(m, n)"),
    ],
    "stages made by a method, whatever the sizes": [
        module(STAGE, STAGES.format(width=64, depth=5), more=BLOCK),
        module(STAGE, STAGES.format(width=96, depth=9), more=BLOCK),
    ],
    "concatenated lists, whatever the length": [
        module(DENSE, "self.layers = nn.ModuleList([nn.Conv2d(i, m, 3) for i in range(6)])"),
        module(DENSE, "self.layers = nn.ModuleList(nn.Conv2d(i, m, 3) for i in range(12))"),
    ],
}
DIFFERENT = [
    module("return F.relu(x)"),
    module("return F.gelu(x)"),
    module("return F.relu(x) + x"),
    module("return self.conv(x).relu()", CONVOLUTION),
    module("return self.conv(x.relu())", CONVOLUTION),
    module("return x - y.exp()", arguments="x, y"),
    module("return x.exp() - y", arguments="x, y"),
    module(STAGE, STAGES.format(width=64, depth=5), more=BLOCK),
    module(DENSE, "self.layers = nn.ModuleList([nn.Conv2d(i, m, 3) for i in range(6)])"),
]


@pytest.mark.parametrize("codes", SAME.values(), ids=SAME)
def test_one_dataflow_for_the_same_computation(codes: list[str]) -> None:
    """Form, names and numbers are left out."""
    assert len({digest(code) for code in codes}) == 1


def test_another_computation_is_another_dataflow() -> None:
    """Other operators, another order, other operands of a difference."""
    assert len({digest(code) for code in DIFFERENT}) == len(DIFFERENT)


def test_hashes_are_the_same_on_every_python() -> None:
    """The hash is spelled by this package; a change needs a new version."""
    assert VERSION == 1
    assert digest(DIFFERENT[3]).hex() == "8b4214eae3aacb10527055f9535d1528"
    assert digest(DIFFERENT[7]).hex() == "126b440afaf379581cb83cb70f10bcf4"


def test_a_function_that_is_called_again_applies_its_operators_again() -> None:
    """It is read once; its operators count for each call."""
    code = module("return self.f(x) + self.f(x)\n\n    def f(self, x):\n        return torch.relu(x)")
    operations = dataflow.read_module(parse(code), "M").operations
    assert [one.name for one in operations] == ["relu", "relu", "addition"]


FORWARD = f"{HEAD}class M(nn.Module):\n    def forward(self, x):\n"
TOO_LARGE = {
    "five megabytes": "x = 1\n" * 900_000,
    "twenty thousand statements": FORWARD + "        x = x + x\n" * 20_000 + "        return x\n",
    "deep brackets": "x = " + "(" * 10_000 + ")" * 10_000,
    "deep calls": FORWARD + "        return x" + ".relu()" * 3000 + "\n",
    "a list that doubles": FORWARD + "        f = [x]\n" + "        f = f + f\n" * 60 + "        return f\n",
    "loops in loops": FORWARD
    + "".join(f"        {'    ' * depth}for i in range(3):\n" for depth in range(18))
    + f"        {'    ' * 18}y = [x]\n        return x\n",
}


@pytest.mark.parametrize("code", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_is_too_large_has_a_reason(code: str) -> None:
    """A reading ends by a count of steps, never by a crash."""
    with pytest.raises(UnreadableCode, match=r"too large to follow|does not parse"):
        digest(code)


def test_many_open_conditions_are_read() -> None:
    """Values of one name are joined, not copied at each condition."""
    code = FORWARD + "        if x.sum() > 0:\n            x = x + 1\n" * 300 + "        return x\n"
    assert digest(code)


@pytest.mark.skipif(not KERNELBENCH.is_file(), reason="the KernelBench problems are not beside this checkout")
def test_disguised_problems_keep_their_dataflow() -> None:
    """Copies of the KernelBench problems, renamed and written otherwise, have the problem as a part."""
    path = SHARED / "trust" / "disguise.py"
    spec = importlib.util.spec_from_file_location("disguise", path)
    assert spec is not None
    assert spec.loader is not None
    disguise = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(disguise)
    problems = [json.loads(line) for line in KERNELBENCH.read_text(encoding="utf-8").splitlines()]
    wanted = {(row["level"], row["problem_id"]): digest(row["code"]) for row in problems}
    # Every tenth problem says as much in a tenth of the time.
    for name, stands_for, code in disguise.plant(problems[::10]):
        source = parse(code)
        found = dataflow.read_module(source, unused_modules(source)[-1]).result
        parts = {node.digest for node in found.walk()}
        assert all(wanted[problem] in parts for problem in stands_for), (name, stands_for)
