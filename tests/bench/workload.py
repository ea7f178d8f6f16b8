"""Rows shaped like rollouts of the evals data, at any number and size, in constant memory.

At `text_scale` 1 a row has some 54 KB: source 10 KB, prompt 6, answer 7 and 7, reasoning with a median of
16 KB and a 99th percentile of 140. Of 18,162 rows 7,000 modules are asked about, and 39 % are good.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES_PER_ROW = 7000 / 18162
GOOD_SHARE = 0.39
_PYTHON, _TRITON, _ASKED, _ANSWER = 2000, 8000, 3500, 6500  # characters at text_scale 1
_REASONING, _REASONING_SIGMA = 16_000, math.log(140 / 16) / 2.326  # log-normal: median, and by p99
_POOL = 400_000
_WORDS = """the kernel block size stride mask load store offset program row column tile reduction input output
tensor shape sum exp max so we need each one wait actually therefore however `tl.load` (x, y) "mask" 128 <"""
_LINES = (
    "        self.{name} = nn.Linear({number}, {number} * 2, bias=False)\n",
    "        {name} = torch.relu(self.{other}(x[..., :{number}]) + 1e-5)  # {other}\n",
    "        if {name}.shape[-1] != {number} and not x.requires_grad:\n"
    "            return {name}.view(-1, {number})\n",
    "        x = F.softmax({name} @ {other}.transpose(-2, -1) / math.sqrt({number}), dim=-1)\n",
    '\n    def {name}(self, x: torch.Tensor, {other}=None) -> torch.Tensor:\n        """Gives {other}."""\n',
)
_NAMES = "conv norm proj query key value gate hidden scale bias embed attn pool head mask weight"


def rows(count: int, text_scale: float = 1.0, *, seed: int = 7) -> Iterator[dict[str, Any]]:
    """The rows in order; the same ones for the same arguments."""
    draw = random.Random(seed)
    prose = " ".join(draw.choices([*_WORDS.split(), "\n\n"], k=_POOL // 5))
    triton = "".join(_line(draw) for _ in range(_POOL // 70))
    modules = max(1, round(count * MODULES_PER_ROW))
    for number in range(count):
        module = draw.randrange(modules)
        name = f"Module{module}"
        python_code = _source(name, module, int(_PYTHON * text_scale))
        reasoning = int(text_scale * _REASONING * math.exp(draw.gauss(0, _REASONING_SIGMA)))
        answer = _piece(draw, triton, int(_ANSWER * text_scale))
        asked = f"{_piece(random.Random(1), prose, int(_ASKED * text_scale))}\n{python_code}"
        said = {
            "role": "assistant",
            "content": f"Row {number}.\n```python\n{answer}```",
            "reasoning_content": _piece(draw, prose, reasoning),
        }
        is_good = draw.random() < GOOD_SHARE
        yield {
            "example_id": number,
            "prompt": [{"role": "user", "content": asked}],
            "completion": [said],
            "task": "default",
            "reward": draw.uniform(0.86, 1.2) if is_good else draw.uniform(0, 0.85),
            "generation_ms": draw.uniform(1e3, 1e5),
            "scoring_ms": draw.uniform(1e2, 1e4),
            "total_ms": draw.uniform(1e3, 1e5),
            "info": {
                "module_name": name,
                "python_code": python_code,
                "triton_code": _piece(random.Random(module), triton, int(_TRITON * text_scale)),
            },
            "answer": answer,
            "speedup_reward": draw.random(),
            "num_turns": 1.0,
            "oai_tools": None,
        }


def write(path: Path, count: int, text_scale: float = 1.0) -> int:
    """Writes the rows as JSONL; gives the size in bytes."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows(count, text_scale):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path.stat().st_size


def _source(name: str, module: int, size: int) -> str:
    """Source of a module, the same each time; no two modules have the same."""
    draw = random.Random(module)
    text = f"import torch\nimport torch.nn as nn\n\n\nclass {name}(nn.Module):\n    def __init__(self):\n"
    lines = [text]
    while size > 0:
        lines.append(_line(draw))
        size -= len(lines[-1])
    return "".join(lines)


def _line(draw: random.Random) -> str:
    return draw.choice(_LINES).format(
        name=f"{draw.choice(_NAMES)}{draw.randrange(20)}",
        other=draw.choice(_NAMES),
        number=draw.randrange(512),
    )


def _piece(draw: random.Random, text: str, size: int) -> str:
    start = draw.randrange(len(text))
    found = text[start : start + size]
    while len(found) < size:
        found += text[: size - len(found)]
    return found
