"""What the tests of generated rollouts share: modules, answers with a kernel, and what is stored of them."""

from __future__ import annotations

from typing import Any

from enrich_case import Case, Result

CODE = "import triton\n\nclass New:\n    pass"


def code(number: int) -> str:
    return f"class Module{number}(nn.Module):\n    def forward(self, x):\n        return x + {number}\n"


def module(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "module_name": f"Module{number}",
        "python_code": code(number),
        "triton_code": f"# kernel {number}",
        "uuid": f"u{number}",
        **changes,
    }


def modules(count: int) -> list[dict[str, Any]]:
    return [module(number) for number in range(count)]


def kernel(text: str) -> str:
    return f"Here it is.\nBEGIN_PYTHON\n```python\n{CODE}  # {text}\n```\nEND_PYTHON"


def run(case: Case, *arguments: object, model: str = "m") -> Result:
    return case.kbetl("synth", "run", "-b", case.llm.url, "-m", model, *arguments)


def rollouts(case: Case) -> int:
    return int(case.rows("select count(*) from samples where kind = 'rollout'")[0][0])


def check_whole(case: Case) -> None:
    """Each answer that is a completion is a rollout, at a place, with an outcome; the store is sound."""
    assert case.rows("pragma integrity_check") == [("ok",)]
    assert case.rows("pragma foreign_key_check") == []
    kept = (
        "select request_hash, attempt, try from answers"
        " where fault is null and host <> 'offline' order by 1, 2, 3"
    )
    placed = "select distinct request_hash, attempt, try from generations order by 1, 2, 3"
    assert case.rows(kept) == case.rows(placed)
    assert case.rows(
        "select count(*) from generations left join source_samples using (source_id, position)"
        " where source_samples.sample_hash is null"
    ) == [(0,)]
    assert case.rows(
        "select count(*) from generations left join outcomes on outcomes.task_hash = generations.task_hash"
        " and outcomes.sample_hash = problem_hash and outcomes.attempt = generations.attempt"
        " where outcomes.status is null"
    ) == [(0,)]
