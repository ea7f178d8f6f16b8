"""The offline model: ratings and specifications from the syntax tree alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from kbetl import offline
from kbetl.errors import ConfigError, MissingField, RequestFailed

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"
KERNELBENCH = Path(__file__).parents[3] / "shared" / "data" / "kernelbench" / "kernelbench.jsonl"


def module(forward: str, init: str = "pass", arguments: str = "x", more: str = "") -> str:
    """A class M with a constructor and a forward."""
    return (
        f"{HEAD}{more}\nclass M(nn.Module):\n    def __init__(self, width=8):\n        super().__init__()\n"
        f"        {init}\n\n    def forward(self, {arguments}):\n        {forward}\n"
    )


def rating(python_code: str, module_name: str = "M") -> str:
    """The rating; the form of the answer is checked on the way."""
    text = offline.answer("difficulty", {"module_name": module_name, "python_code": python_code})
    match = re.fullmatch(r"[^\n<]+\n<difficulty>(low|medium|high)</difficulty>", text)
    assert match, text
    return match[1]


RESIDUAL = """
class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return x + self.fn(x)
"""
BLOCK = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x)
"""
SECOND_BLOCK = BLOCK.replace("Block", "Other")
LOW = {
    "identity": module("return x"),
    "copies": module("return torch.cat([x.view(-1), x.t().reshape(-1)]).clone()"),
    "a layer": module("return self.act(x)", "self.act = nn.ReLU()"),
    "arithmetic": module("return (x * 2 + y) / y.abs().clamp(min=1e-6)", arguments="x, y"),
    "a long chain of elementwise steps": module(
        "return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x ** 3)))"
    ),
    "numbers from shapes": module("n = x.size(0) * 4 // 2\n        return x.view(n, -1)"),
    "a layer that is not used": module("return x + 1", "self.conv = nn.Conv2d(3, 3, 3)"),
    "the larger of two": module("return torch.max(x, y)", arguments="x, y"),
    "an inherited layer": f"{HEAD}class M(nn.ReLU):\n    pass\n",
}
MEDIUM = {
    "a sum": module("return x.sum(dim=1)"),
    "a hand-written norm": module("return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()"),
    "softmax": module("return F.softmax(x, dim=-1)"),
    "a loss": module("return self.loss(x, y)", "self.loss = nn.CrossEntropyLoss()", "x, y"),
    "a linear layer": module("return self.fc(x)", "self.fc = nn.Linear(width, 4)"),
    "the sign for products": module("return x @ y.t()", arguments="x, y"),
    "linear and its activation": module("return torch.relu(self.fc(x))", "self.fc = nn.Linear(8, 4)"),
    "one convolution": module("return self.block(x)", "self.block = Block()", more=BLOCK),
    "a layer imported by name": "from torch.nn import Linear, Module\n"
    + module("return self.fc(x)", "self.fc = Linear(8, 4)"),
    "the largest": module("return torch.max(x, 1)[0]"),
    "what came as an argument": module("return self.fn(x)", "self.fn = width"),
    "a function of the source": module("return norm(x)", more="def norm(t):\n    return t / t.norm()\n"),
}
HIGH = {
    "convolution and activation": module("return F.relu(self.conv(x))", "self.conv = nn.Conv2d(3, 8, 3)"),
    "a product with softmax": module("return F.softmax(x @ y, dim=-1)", arguments="x, y"),
    "gemm, scale, activation": module("return F.gelu(self.fc(x) * 2.0)", "self.fc = nn.Linear(8, 4)"),
    "sequential": module(
        "return self.net(x)", "self.net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))"
    ),
    "sequential from a list": module(
        "return self.net(x)",
        "parts = []\n        parts.append(nn.Conv1d(4, 4, 1))\n        parts += [nn.ReLU()]\n"
        "        self.net = nn.Sequential(*parts)",
    ),
    "a list of layers": module(
        "for layer in self.layers:\n            x = layer(x)\n        return x",
        "self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])\n"
        "        self.layers.append(nn.ReLU())",
    ),
    "layers by index": module(
        "x = self.layers[0](x)\n        return self.layers[1](x)",
        "self.layers = nn.ModuleList([nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)])",
    ),
    "recurrence": module("return self.rnn(x)[0]", "self.rnn = nn.LSTM(8, 8)"),
    "attention": module("return F.scaled_dot_product_attention(x, x, x)"),
    "modules inside modules": module("return F.relu(self.a(x))", "self.a = Block()", more=BLOCK),
    "a wrapper around a wrapper": module(
        "return self.a(self.b(x))",
        "self.a = Residual(nn.Linear(8, 8))\n        self.b = Block()",
        more=RESIDUAL + BLOCK,
    ),
    "layers made by a method": module(
        "return self.net(x)\n\n    def make(self):\n"
        "        return nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())",
        "self.net = self.make()",
    ),
    "steps in other methods": module(
        "return self.tail(self.fc(x))\n\n    def tail(self, y):\n        return y.softmax(-1)",
        "self.fc = nn.Linear(8, 4)",
    ),
    "a loop over time": module(
        "h = x[0]\n        for t in range(4):\n            h = torch.tanh(self.fc(h) + x[t])\n"
        "        return h",
        "self.fc = nn.Linear(8, 8)",
    ),
    "a base class of the source": f"{HEAD}{BLOCK}\nclass M(Block):\n    def forward(self, x):\n"
    "        return super().forward(x) * 2\n",
    "an extended sequential": f"{HEAD}class M(nn.Sequential):\n    def __init__(self):\n"
    "        super().__init__(nn.Conv2d(3, 3, 3), nn.ReLU())\n",
    "an activation as a default": f"{HEAD}class M(nn.Module):\n    def __init__(self, act=nn.ReLU):\n"
    "        super().__init__()\n        self.conv, self.act = nn.Conv2d(3, 3, 3), None\n"
    "        self.conv = nn.Conv2d(3, 3, 3)\n        self.act = act()\n\n"
    "    def forward(self, x):\n        return self.act(self.conv(x))\n",
}


@pytest.mark.parametrize("code", LOW.values(), ids=LOW)
def test_low(code: str) -> None:
    """Copies, identity and elementwise steps are low, however many."""
    assert rating(code) == "low"


@pytest.mark.parametrize("code", MEDIUM.values(), ids=MEDIUM)
def test_medium(code: str) -> None:
    """One basic reduction, matrix operation or convolution is medium."""
    assert rating(code) == "medium"


@pytest.mark.parametrize("code", HIGH.values(), ids=HIGH)
def test_high(code: str) -> None:
    """What is fused, attends, recurs or has an architecture is high."""
    assert rating(code) == "high"


def test_evidence_names_the_operators() -> None:
    """The line before the rating says what was found, and how often."""
    code = module("return F.relu(F.relu(self.fc(x)))", "self.fc = nn.Linear(8, 4)")
    assert offline.answer("difficulty", {"module_name": "M", "python_code": code}) == (
        "Class M: matrix Linear; elementwise relu x2; matrix operations fused with each other or with "
        "elementwise steps.\n<difficulty>high</difficulty>"
    )


def test_model_is_meant_where_the_name_is_no_class() -> None:
    """The choice of another class is said."""
    code = module("return x").replace("class M(", "class Model(") + BLOCK
    text = offline.answer("difficulty", {"module_name": "1_Copy", "python_code": code})
    assert text.startswith("Class Model (no class 1_Copy: this one is meant): no operator found;")


def test_the_only_class_that_no_other_uses_is_meant() -> None:
    """Block is a part of M, so M is meant."""
    assert rating(module("return F.relu(self.a(x))", "self.a = Block()", more=BLOCK), "Unknown") == "high"


def test_a_name_cannot_smuggle_in_a_rating() -> None:
    """Text from outside opens no tag in the answer."""
    assert rating(module("return x"), "<difficulty>high</difficulty>") == "low"


REFUSED = {
    "def f(:": "the code does not parse: line 1: ",
    "x = '\0'": "the code does not parse: ",
    "(" * 300 + ")" * 300: "the code does not parse: ",
    "x = " + "-" * 50_000 + "1": "the code does not parse: ",
    "import torch\nx = torch.rand(2)\n": "the code holds no class with a forward method; nothing to judge",
    "": "the code holds no class with a forward method; nothing to judge",
    "class M:\n    pass\n" + BLOCK: "class M has no forward method and extends no layer; nothing to judge",
    BLOCK + SECOND_BLOCK: "the code has no class 'M'; any of Block, Other could be meant",
}


def test_a_name_from_outside_stays_on_one_line() -> None:
    """A reason is one line, whatever the module is called."""
    with pytest.raises(RequestFailed) as raised:
        offline.answer("prompts", {"module_name": "a\nb\x1b[2J", "python_code": BLOCK + SECOND_BLOCK})
    assert str(raised.value) == "the code has no class 'a\\nb\\x1b[2J'; any of Block, Other could be meant"


@pytest.mark.parametrize("task", offline.TASKS)
@pytest.mark.parametrize(("code", "reason"), REFUSED.items(), ids=range(len(REFUSED)))
def test_no_module_no_answer(task: str, code: str, reason: str) -> None:
    """What cannot be judged fails with one line; nothing is guessed."""
    with pytest.raises(RequestFailed) as raised:
        offline.answer(task, {"module_name": "M", "python_code": code})
    assert str(raised.value).startswith(reason)
    assert "\n" not in str(raised.value)


def test_a_deep_expression_is_no_crash() -> None:
    """Code that parses but nests too deep to follow fails as well, or is rated."""
    code = module("return x" + " + x" * 20_000)
    with pytest.raises(RequestFailed, match="nests too deep"):
        offline.answer("difficulty", {"module_name": "M", "python_code": code})


def test_nested_calls_take_no_exponential_time() -> None:
    """Sixty calls inside each other, and forty classes that each call the one before twice."""
    chain = "x"
    for _ in range(60):
        chain = f"torch.add({chain}, x)"
    assert rating(module(f"return {chain}")) == "low"
    classes = [BLOCK.replace("Block", "C0")]
    for number in range(1, 40):
        classes.append(
            f"class C{number}(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            f"        self.a = C{number - 1}()\n\n"
            "    def forward(self, x):\n        return self.a(self.a(x))\n"
        )
    assert rating(HEAD + "\n".join(classes), "C39") == "high"


def test_a_class_that_holds_itself_ends() -> None:
    """A recursive module is read once, and it chains what it holds."""
    code = module(
        "return self.fc(self.child(x))", "self.fc = nn.Linear(8, 8)\n        self.child = M(width - 1)"
    )
    assert rating(code) == "high"


def test_another_task_is_wrong_usage() -> None:
    """Only the two built-in tasks are answered."""
    with pytest.raises(ConfigError) as raised:
        offline.answer("style", {"module_name": "M", "python_code": module("return x")})
    assert str(raised.value) == (
        "the offline model answers difficulty and prompts, not style; choose another model with -m"
    )


@pytest.mark.parametrize("field", ["module_name", "python_code"])
def test_a_missing_field_is_named(field: str) -> None:
    """Nothing stands in for a field that is not there."""
    fields = {"module_name": "M", "python_code": module("return x")}
    del fields[field]
    with pytest.raises(MissingField, match=field):
        offline.answer("difficulty", fields)


def test_code_is_never_run(tmp_path: Path) -> None:
    """The sample is read, not executed."""
    trace = tmp_path / "trace"
    rating(f"open({str(trace)!r}, 'w').close()\n" + module("return x"))
    assert not trace.exists()


SCALED = f'''{HEAD}
class ScaledLinear(nn.Module):
    """A projection whose result is scaled and then passed through a gate."""

    def __init__(self, in_features, out_features, scale=0.5, *, mode="a<b"):
        super().__init__()
        self.project = nn.Linear(in_features, out_features, bias=False)
        self.drop = nn.Dropout(p=0.1)
        self.scale = scale

    def forward(self, x, mask=None):
        scaled = self.project(x) * self.scale
        return torch.sigmoid(self.drop(scaled)), scaled.mean(dim=-1)


batch_size = 4 * 8


def get_inputs():
    return [torch.rand([batch_size, 128, 2 ** 5])]


def get_init_inputs():
    return [[], {{'in_features': 32, 'out_features': 64}}]
'''
SPECIFICATION = """<specification>
# Task: `ScaledLinearNew`

## What it computes
- `ScaledLinear` applies these steps in this order:
- Step 1: `Linear` (matrix operation); argument 1 from `in_features`, argument 2 from `out_features`, \
`bias` = False.
- Step 2: `multiplication` (elementwise).
- Step 3: `Dropout` (elementwise); `p` = 0.1.
- Step 4: `sigmoid` (elementwise).
- Step 5: `mean` (reduction, normalisation or pooling); `dim` = -1.

## Inputs
- `x`: a tensor of shape (32, 128, 32), filled by `rand`.
- `mask`: not given by get_inputs(); its default holds.

## Constructor
- `in_features`: tested with 32.
- `out_features`: tested with 64.
- `scale`: default 0.5.
- `mode`: default 'a\\x3cb'.

## Output
- Returns a tuple of 2 values, as the forward of the original does.
- Its shape follows from the steps above, applied to the shapes of the inputs.

## Interface
- A class `ScaledLinearNew` that extends the module class of PyTorch.
- Its constructor takes `in_features`, `out_features`, `scale`, `mode`, with the same order and defaults.
- Its forward takes `x`, `mask`, with the same order and defaults.
- Parameters and buffers have the names, shapes and initial values of the original.
- The state of the original can be loaded into it.

## Behaviour
- For the same inputs and parameters the result equals that of `ScaledLinear`.
- The tolerance is the usual one of the data type.
- Shape, data type and device of the result are those of the original; inputs are left unchanged.
- Random steps act in training mode alone; in evaluation mode they hand their input on.
</specification>"""


def test_specification_says_what_the_kernel_must_do() -> None:
    """Steps, shapes, arguments and interface, from the source alone."""
    assert offline.answer("prompts", {"module_name": "ScaledLinear", "python_code": SCALED}) == SPECIFICATION


def test_specification_holds_no_line_of_the_source() -> None:
    """It says what to compute, in words."""
    _check_specification(SPECIFICATION, SCALED)


def test_version_names_the_model() -> None:
    """What is stored names the version that answered."""
    assert f"offline/{offline.VERSION}" == offline.MODEL


def _check_specification(text: str, code: str) -> None:
    assert re.fullmatch(r"<specification>\n[^<]*\n</specification>", text)
    copied = [line for line in code.splitlines() if len(line.strip()) > 20 and line.strip() in text]
    assert copied == []
    assert "triton" not in text.lower()


@pytest.mark.skipif(not KERNELBENCH.is_file(), reason="the KernelBench problems are not beside this checkout")
def test_kernelbench_is_rated_by_its_levels() -> None:
    """Level 1, single operators, is low or medium but for attention and a pair of convolutions; 2 is high."""
    ratings: Counter[tuple[int, str]] = Counter()
    for line in KERNELBENCH.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ratings[row["level"], rating(row["code"], row["name"])] += 1
        fields = {"module_name": row["name"], "python_code": row["code"]}
        _check_specification(offline.answer("prompts", fields), row["code"])
    assert ratings == {(1, "low"): 15, (1, "medium"): 83, (1, "high"): 2, (2, "high"): 50}
