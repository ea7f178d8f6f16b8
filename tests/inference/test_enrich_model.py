"""Any sequence of ingests, runs, retries and stops asks just what a plain model of the contract says."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from enrich_case import Case, forget_environment, module_of, rollout
from fake_llm import FakeLlm
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

STATUS_OF = {None: "ok", "no tag": "unparsed", "length": "truncated", "refusal": "refused", "400": "failed"}
MODULES = range(8)
REWARDS = (0.9, 1.0)
"""Two rollouts of a module that differ in their reward alone ask the same."""


class Asking(RuleBasedStateMachine):
    """`samples`: in the order in which they came; `outcomes`: by temperature and sample, as they must be.

    `answers`: the status that each question's newest usable answer has, by temperature and module.
    `recorded`: the statuses that the last run recorded, which alone decide how it ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kbetl-model-"))
        self.llm = FakeLlm(lambda asked: self.faults.get(module_of(asked))).__enter__()
        self.case = Case(self.folder, self.llm)
        self.faults: dict[int, str | None] = {}
        self.samples: list[tuple[int, float]] = []
        self.outcomes: dict[float, dict[tuple[int, float], str]] = {0.1: {}, 0.7: {}}
        self.failures: dict[float, Counter[tuple[int, float]]] = {0.1: Counter(), 0.7: Counter()}
        self.answers: dict[tuple[float, int], str] = {}
        self.recorded: set[str] = set()
        self.files = itertools.count()

    def teardown(self) -> None:
        self.llm.__exit__()
        shutil.rmtree(self.folder)

    @initialize(samples=st.sets(st.tuples(st.sampled_from(MODULES), st.sampled_from(REWARDS)), min_size=1))
    def first(self, samples):
        self.ingest(samples)

    @rule(samples=st.sets(st.tuples(st.sampled_from(MODULES), st.sampled_from(REWARDS)), min_size=1))
    def ingest(self, samples):
        rows = [rollout(module, reward=reward) for module, reward in sorted(samples)]
        done = self.case.ingest(rows, f"rows{next(self.files)}.jsonl")
        new = [sample for sample in sorted(samples) if sample not in self.samples]
        assert f"new {len(new)}, known {len(samples) - len(new)}" in done.out
        self.samples += new

    @rule(module=st.sampled_from(MODULES), fault=st.sampled_from(list(STATUS_OF)))
    def spoil(self, module, fault):
        self.faults[module] = fault

    @rule(
        temperature=st.sampled_from([0.1, 0.7]),
        limit=st.none() | st.integers(0, 5),
        retry=st.sets(st.sampled_from(["unparsed", "truncated", "refused", "failed"])),
        concurrency=st.sampled_from([1, 3, 256]),
    )
    def enrich(self, temperature, limit, retry, concurrency):
        options: list[object] = ["-c", concurrency, "-T", temperature]
        options += [] if limit is None else ["-n", limit]
        options += [word for status in sorted(retry) for word in ("--retry", status)]
        expected = self.expect(temperature, limit, retry)
        dry = self.case.enrich(*options, "--dry-run")
        assert f"requests to send {sum(expected.values())};" in dry.out
        before = len(self.llm.requests)
        done = self.case.enrich(*options)
        assert Counter(map(module_of, self.llm.requests[before:])) == expected
        assert done.status == (3 if self.recorded - {"ok"} else 0)

    def expect(self, temperature: float, limit: int | None, retry: set[str]) -> Counter[int]:
        """The questions that a run sends, by module; notes what comes of it."""
        outcomes = self.outcomes[temperature]
        again = retry or {"failed", None}
        failures = self.failures[temperature]
        parked = set() if retry else {sample for sample in self.samples if failures[sample] >= 3}
        wanted = [sample for sample in self.samples if outcomes.get(sample) in again]
        waiting = [sample for sample in wanted if sample not in parked][:limit]
        asked: Counter[int] = Counter()
        for module, reward in waiting:
            stored = self.answers.get((temperature, module))
            if not asked[module] and (stored is None or stored in {"failed", *retry}):
                asked[module] = 1
                status = STATUS_OF[self.faults.get(module)]
                if status != "failed":  # a refusal by HTTP is no answer
                    self.answers[(temperature, module)] = status
            else:
                status = stored if not asked[module] else STATUS_OF[self.faults.get(module)]
            outcomes[(module, reward)] = status
            failures[(module, reward)] = failures[(module, reward)] + 1 if status == "failed" else 0
        self.recorded = {outcomes[sample] for sample in waiting}
        return asked

    @invariant()
    def the_store_agrees(self):
        if not self.samples:
            return
        found = self.case.rows(
            "select parameters ->> 'temperature', module_name, samples.reward, status from outcomes"
            " join tasks on tasks.hash = task_hash join samples on samples.hash = sample_hash"
        )
        expected = [
            (temperature, f"Module{module}", reward, status)
            for temperature, outcomes in self.outcomes.items()
            for (module, reward), status in outcomes.items()
        ]
        assert sorted(found) == sorted(expected)
        assert self.case.rows("select count(*) from samples") == [(len(self.samples),)]
        kept = self.case.rows("select count(*) from answers")[0][0]
        assert kept == sum(each.status == 200 for each in self.llm.answered)


def test_every_sequence_of_commands_asks_what_the_contract_says(monkeypatch: pytest.MonkeyPatch):
    forget_environment(monkeypatch)
    run_state_machine_as_test(
        Asking,
        settings=settings(
            max_examples=12,
            stateful_step_count=10,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
