"""Which model a command goes on with where none is named: that of the last run, or of the labels in use."""

from __future__ import annotations

import re
import shlex

import pytest
from conftest import ROOT
from enrich_case import Case, module_of, rollout, rollouts

from kbetl import config
from kbetl.store import Store

pytest_plugins = ["enrich_fixtures"]

CHOSEN = [rollout(number) for number in range(20, 23)]


def asked(case: Case) -> list[tuple[int, str]]:
    """What the server was asked since it was last cleared: module and model."""
    return sorted((module_of(each), each.body["model"]) for each in case.llm.requests)


@pytest.mark.parametrize("options", [(), ("-T", 0.5, "--header", "X-Team: $TEAM", "-c", 3)])
def test_resume_asks_new_rows_as_the_last_run_asked(case, options, monkeypatch):
    """With its model, server, headers and parameters, though all of it ended well, and never a default."""
    monkeypatch.setenv("TEAM", "blue")
    case.ingest(rollouts(6))
    assert case.enrich(*options).requests == 6
    assert case.kbetl("enrich", "--resume").requests == 0
    case.ingest(CHOSEN, "more.jsonl")
    dry = case.kbetl("enrich", "--resume", "--dry-run")
    assert "difficulty by m (" in dry.out
    assert "would ask 3 of 9 samples" in dry.out
    case.llm.requests.clear()
    run = case.kbetl("enrich", "--resume")
    assert (run.status, asked(case)) == (0, [(20, "m"), (21, "m"), (22, "m")])
    assert {each.body["temperature"] for each in case.llm.requests} == {0.5 if options else 0.1}
    assert case.rows("select count(*) from tasks") == [(1,)]


def test_resume_after_a_limited_run_asks_the_rest(case):
    """A limit and a retry were of that run; where it looked for samples stays."""
    case.ingest(rollouts(6), "one.jsonl", "--as", "one")
    case.ingest(CHOSEN, "two.jsonl", "--as", "two")
    assert case.enrich("-n", 2, "--source", "one").status == 0
    run = case.kbetl("enrich", "--resume")
    assert (run.status, run.requests) == (0, 4)
    assert case.kbetl("enrich", "--resume", "--source", "two").requests == 3


def test_resume_passes_over_a_retry_with_other_parameters(case):
    case.ingest(rollouts(3))
    case.llm.faults = lambda each: "length" if module_of(each) == 1 else None
    assert case.enrich("-n", 1).status == 0
    assert case.enrich().status == 3
    case.llm.faults = lambda _: None
    assert case.enrich("--retry", "truncated", "-o", "max_tokens", 999).status == 0
    case.ingest(CHOSEN, "more.jsonl")
    case.llm.requests.clear()
    assert case.kbetl("enrich", "--resume").requests == 3
    assert {each.body["max_tokens"] for each in case.llm.requests} == {256}


def test_resume_does_not_take_up_a_mistake(case):
    """A run that settled nothing, once another question was asked to its end."""
    case.ingest(rollouts(4))
    case.llm.faults = lambda _: "401"
    assert case.enrich(model="gpt-typo").status == 1
    case.llm.faults = lambda _: None
    assert case.enrich().status == 0
    case.ingest(CHOSEN, "more.jsonl")
    case.llm.requests.clear()
    assert case.kbetl("enrich", "--resume").status == 0
    assert asked(case) == [(20, "m"), (21, "m"), (22, "m")]


def test_resume_refuses_another_model_than_that_of_the_last_run(rated):
    run = rated.kbetl("enrich", "--resume", "-m", "other", "-b", rated.llm.url)
    assert (run.status, run.requests) == (2, 0)
    assert "leave out --resume" in run.err


COMMANDS: dict[str, tuple[str, ...]] = {
    "enrich": ("enrich",),
    "dry run": ("enrich", "--dry-run"),
    "with other options": ("enrich", "-n", "2", "--where", "reward > 0", "-q"),
    "retry": ("enrich", "--retry", "truncated", "-o", "max_tokens", "1024"),
    "batch write": ("batch", "write", "enrich", "out"),
    "task": ("enrich", "--task", "difficulty"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_model_named_and_another_ones_labels_in_use(rated, name):
    """Exit 2, nothing asked or recorded, and both ways on with what each would ask; each works as pasted."""
    rated.ingest(CHOSEN, "more.jsonl")
    words = COMMANDS[name]
    runs = rated.rows("select count(*) from runs")
    stopped = rated.kbetl(*words)
    assert (stopped.status, stopped.requests) == (2, 0)
    assert rated.rows("select count(*) from runs") == runs
    ways = re.findall(r"kbetl (.*?) \(asks (\d+) samples\)", stopped.err)
    assert len(ways) == 2
    (on, rest), (other, everything) = ways
    assert "-m m" in on
    assert f"-m {config.MODEL}" in other
    wanted = {"with other options": ("2", "2"), "retry": ("0", "0")}
    assert (rest, everything) == wanted.get(name, ("3", "9"))
    for line, samples in ways:
        dry = rated.kbetl(*shlex.split(line), *(() if "batch" in line else ("--dry-run",)))
        assert dry.status in (0, 3)
        assert f"would ask {samples} of" in dry.out or "batch" in line


def test_the_way_on_has_the_server_and_the_parameters_of_the_labels_in_use(case):
    case.ingest(rollouts(3))
    case.enrich("-T", 0.5, "-o", "seed", 7)
    stopped = case.kbetl("enrich")
    [on, _] = re.findall(r"kbetl (.*?) \(asks", stopped.err)
    case.ingest(CHOSEN, "more.jsonl")
    case.llm.requests.clear()
    assert case.kbetl(*shlex.split(on)).requests == 3
    assert case.rows("select count(*) from tasks") == [(1,)]


@pytest.mark.parametrize("told", ["command line", "environment", "kbetl.toml"])
def test_a_model_that_is_named_anywhere_is_asked(rated, told, monkeypatch):
    options: tuple[str, ...] = ()
    if told == "command line":
        options = ("-m", "other")
    elif told == "environment":
        monkeypatch.setenv("KBETL_ENRICH_MODEL", "other")
    else:
        (rated.folder / "kbetl.toml").write_text('[enrich]\nmodel = "other"\n')
    assert rated.enrich(*options, model=None).requests == 6


def test_a_plain_run_is_plain_where_the_default_model_has_the_labels(case):
    """And where nothing has any: no model need be named."""
    case.ingest(rollouts(3))
    assert case.enrich(model=None).requests == 3
    assert case.llm.requests[0].body["model"] == config.MODEL
    case.ingest(CHOSEN, "more.jsonl")
    assert case.enrich(model=None).requests == 3


def test_the_pipeline_asks_no_default_either(rated):
    (rated.folder / "kbetl.toml").write_text(
        f'[ingest]\nsources = ["rows.jsonl"]\n[enrich]\nbase-url = "{rated.llm.url}"\n'
        f'[prompts]\nmodel = "offline"\n[lengths]\ntokenizer = "{ROOT / "data" / "tokenizer"}"\n'
    )
    stopped = rated.kbetl("run")
    assert (stopped.status, stopped.requests) == (2, 0)
    assert "kbetl enrich -m m (asks 0 samples). To ask another: kbetl enrich -m" in stopped.err


def test_what_is_left_of_a_limit_does_not_hang_on_the_clock(case):
    """Answers of a run count as its own although the clock was set back under it."""
    case.ingest(rollouts(9))
    case.llm.faults = lambda _: "401" if case.llm.counts["answered 200"] >= 3 else None
    case.llm.counts.clear()
    assert case.enrich("-n", 5, "-c", 1).status == 1
    case.llm.faults = lambda _: None
    case.change("update outcomes set decided_at = '2001-01-01T00:00:00.000Z'")
    assert case.kbetl("enrich", "--resume").requests == 2
    with Store.read(case.folder / "kbetl.db") as store:
        assert store.last_run_left_over("difficulty") is None
