"""Which task the datasets use: of each name the first that records an outcome which is ok."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from batch_case import answer_file, completion, openai_result
from enrich_case import Case, rollout, rollouts

pytest_plugins = ["enrich_fixtures"]

STYLE = """+++
name = "difficulty"
about = "rollout"
answer = {{ tag = "difficulty" }}
+++
Rate {{{{ {field} }}}}.
"""


def in_use(case: Case) -> list[tuple[str]]:
    """Model and parameters of what is in use."""
    return case.rows("select model, parameters ->> '$.top_k' from tasks where in_use = 1")


def refused_parameter(case: Case) -> None:
    case.llm.faults = lambda _: "400"
    case.enrich("-o", "top_k", 5)
    case.llm.faults = lambda _: None


def unreadable(case: Case) -> None:
    case.llm.faults = lambda _: "no tag"
    case.enrich("-o", "top_k", 5)
    case.llm.faults = lambda _: None


def declined(case: Case) -> None:
    case.llm.faults = lambda _: "refusal"
    case.enrich("-o", "top_k", 5)
    case.llm.faults = lambda _: None


def missing_field(case: Case) -> None:
    (case.folder / "style.md").write_text(STYLE.format(field="nowhere"), encoding="utf-8")
    case.enrich("--task", "style.md", "-o", "top_k", 5)


def unreadable_batch(case: Case) -> None:
    case.kbetl("batch", "write", "enrich", "out", "-m", "m", "-o", "top_k", 5)
    file = next((case.folder / "out").iterdir())
    answer_file(file, case.folder / "r.jsonl", lambda asked: openai_result(asked, completion("no idea")))
    case.kbetl("batch", "read", "r.jsonl")


FIRST_RUNS: tuple[Callable[[Case], None], ...] = (
    refused_parameter,
    unreadable,
    declined,
    missing_field,
    unreadable_batch,
)
"""Runs that record outcomes, and none that is ok."""


@pytest.mark.parametrize("first", FIRST_RUNS)
def test_a_first_task_without_a_label_is_in_nobodys_way(case, first):
    """It is not in use, `ratings` says what became of it; the next with labels comes into use, said so."""
    case.ingest(rollouts(2))
    first(case)
    assert case.rows("select count(*) from outcomes where status <> 'ok'") == [(2,)]
    assert in_use(case) == []
    assert case.rows("select count(*), count(difficulty), sum(status = 'ok') from ratings") == [(2, 0, 0)]
    assert case.rows("select (select count(*) from filtered), (select count(*) from pending)") == [(0, 0)]
    assert case.rows("select count(*), sum(in_use) from failures") == [(2, 0)]
    assert case.kbetl("check").status == 0
    done = case.enrich()
    assert done.status == 0, done.err
    assert in_use(case) == [("m", None)]
    assert done.err.count("difficulty: the datasets use the labels of m (t1:") == 1
    assert case.rows("select count(*) from filtered") == [(2,)]
    assert case.kbetl("check").status == 0


def test_a_task_stays_in_use_whatever_others_record(case):
    """Also when its own labels are lost again; only `kbetl use` changes it."""
    case.ingest(rollouts(2))
    case.enrich()
    assert "from now on" not in case.enrich("-o", "top_k", 5).text
    assert in_use(case) == [("m", None)]


def test_the_first_label_of_a_run_that_is_stopped_comes_into_use(case):
    """In the transaction that keeps it: the run needs no end."""
    case.ingest(rollouts(8))
    case.llm.faults = lambda _: "402" if len(case.llm.requests) > 1 else None
    done = case.enrich("-c", 1)
    assert done.status == 1
    assert in_use(case) == [("m", None)]
    assert "from now on" in done.err


def test_labels_that_only_a_new_parser_reads_come_into_use(case):
    """By `reparse`, which says so."""
    (case.folder / "style.md").write_text(STYLE.format(field="module_name"), encoding="utf-8")
    case.ingest([rollout(1)])
    case.llm.content = lambda _asked: "<hardness>low</hardness>"
    case.enrich("--task", "style.md")
    assert in_use(case) == []
    (case.folder / "style.md").write_text(
        STYLE.format(field="module_name").replace('tag = "difficulty"', 'tag = "hardness"'), encoding="utf-8"
    )
    done = case.kbetl("reparse", "style.md", "--yes")
    assert "difficulty: the datasets use the labels of m (t1:" in done.err
    assert in_use(case) == [("m", None)]
    assert case.rows("select difficulty from filtered") == [("low",)]


def test_the_offline_model_comes_into_use_too(case):
    code = "import torch\nclass A(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n"
    case.ingest([rollout(1, python_code=code)])
    done = case.kbetl("enrich", "-m", "offline")
    assert done.status == 0, done.text
    assert "the datasets use the labels of offline/" in done.err
