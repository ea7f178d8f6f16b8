"""`kbetl batch write synth`: answers of batch files become rollouts, each once, as those of a run do."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from batch_case import answer_file, completion, lines_of, openai_result, vllm_result
from enrich_case import Case
from synth_case import check_whole, kernel, module, modules, rollouts

pytest_plugins = ["enrich_fixtures"]


def write(case: Case, *arguments: object):
    return case.kbetl("batch", "write", "synth", "out", "-m", "m", *arguments)


def run(case: Case, *arguments: object):
    return case.kbetl("synth", "run", "-b", case.llm.url, "-m", "m", *arguments)


def only_file(case: Case) -> Path:
    [file] = (case.folder / "out").glob("*.jsonl")
    return file


def answers_of(case: Case, **changes: object) -> None:
    """Another kernel for each line, with its reasoning."""
    numbers = itertools.count()
    answer_file(
        only_file(case),
        case.folder / "results.jsonl",
        lambda asked: vllm_result(
            asked, completion(kernel(str(next(numbers))), message={"reasoning": "Tiles."}, **changes)
        ),
    )


@pytest.fixture
def handed_out(case: Case) -> Case:
    """Three modules, two rollouts wanted of each."""
    case.llm.content = lambda asked: kernel(f"online {asked.index}")
    assert case.ingest(modules(3)).status == 0
    assert write(case, "--rollouts", 2).status == 0
    return case


def test_each_attempt_is_a_line_and_its_answer_a_rollout(handed_out):
    """With prompt, reasoning, usage and problem; a run finds nothing to ask."""
    case = handed_out
    lines = lines_of(only_file(case))
    assert len({line["custom_id"] for line in lines}) == 6
    assert sorted(line["custom_id"][-2:] for line in lines) == ["-0", "-0", "-0", "-1", "-1", "-1"]
    assert run(case, "--rollouts", 2).requests == 0
    answers_of(case)
    done = case.kbetl("batch", "read", "results.jsonl")
    assert done.status == 0, done.text
    assert "answers that became rollouts: 6" in done.out
    assert rollouts(case) == 6
    check_whole(case)
    assert case.rows("select distinct reasoning, model from rollouts") == [("Tiles.", "m")]
    assert case.rows(
        "select distinct row ->> '$.info.uuid' from samples where kind = 'rollout' order by 1"
    ) == [
        ("u0",),
        ("u1",),
        ("u2",),
    ]
    online = run(case, "--rollouts", 2)
    assert (online.status, online.requests) == (0, 0)
    again = case.kbetl("batch", "read", "results.jsonl")
    assert "read 6, new 0, known 6, rejected 0" in again.out
    assert "became rollouts" not in again.out
    assert rollouts(case) == 6


def test_rollouts_of_files_are_those_of_a_run(handed_out, tmp_path_factory):
    """The same answers, once online and once from a file, are the same samples."""
    case = handed_out
    case.llm.content = lambda asked: kernel("the same")
    answer_file(
        only_file(case),
        case.folder / "results.jsonl",
        lambda asked: openai_result(asked, completion(kernel("the same"))),
    )
    case.kbetl("batch", "read", "results.jsonl")
    case.kbetl("ingest", "rows.jsonl", "-d", "other.db")
    run(case, "--rollouts", 2, "-d", "other.db")
    query = ["query", "--tsv", "select row ->> '$.completion' from samples where kind = 'rollout' order by 1"]
    assert case.kbetl(*query).out == case.kbetl(*query, "-d", "other.db").out


def test_what_is_missing_is_asked_online(handed_out):
    """Of a file that is cut: the rest, once."""
    case = handed_out
    answers_of(case)
    lines = (case.folder / "results.jsonl").read_text().splitlines(keepends=True)
    (case.folder / "cut.jsonl").write_text("".join(lines[:4]) + lines[4][:80])
    assert case.kbetl("batch", "read", "cut.jsonl").status == 3
    assert rollouts(case) == 4
    assert run(case, "--rollouts", 2, "--also-handed-out").requests == 2
    assert rollouts(case) == 6
    check_whole(case)


def test_more_rollouts_are_more_lines(handed_out):
    """Those that are out or there are not written again."""
    case = handed_out
    answers_of(case)
    case.kbetl("batch", "read", "results.jsonl")
    only_file(case).unlink()
    assert write(case, "--rollouts", 3).status == 0
    assert [line["custom_id"][-2:] for line in lines_of(only_file(case))] == ["-2"] * 3


def test_answers_that_were_kept_without_their_rollouts_become_some(handed_out):
    """A stop between the two: the next read makes them, and asks nothing."""
    case = handed_out
    answers_of(case)
    case.kbetl("batch", "read", "results.jsonl")
    case.change("delete from generations")
    case.change("delete from source_samples where source_id = 2")
    case.change("delete from rollout_facts")
    case.change("delete from samples where kind = 'rollout'")
    done = case.kbetl("batch", "read", "results.jsonl")
    assert "answers that became rollouts: 6" in done.out
    assert rollouts(case) == 6
    check_whole(case)


def test_statuses_that_are_asked_again_become_rollouts_too(case):
    """A cut answer is one, and so is the longer one that was asked for instead."""
    case.ingest([module(1)])
    write(case, "-t", 10)
    answers_of(case, finish_reason="length")
    assert case.kbetl("batch", "read", "results.jsonl").status == 3
    assert rollouts(case) == 1
    only_file(case).unlink()
    assert write(case, "-t", 10, "--retry", "truncated", "-o", "max_tokens", "20").status == 2
    assert write(case, "--retry", "truncated", "-t", 20).status == 0
    answers_of(case)
    assert case.kbetl("batch", "read", "results.jsonl").status == 0
    assert case.rows("select status, count(*) from outcomes group by 1") == [("ok", 1)]
    assert case.rows("select finish_reason from rollouts order by 1") == [("length",), ("stop",)]


def test_an_answer_that_is_there_becomes_a_rollout_when_a_file_is_written(case):
    """No request is written for it."""
    case.llm.content = lambda asked: kernel("the same")
    case.ingest([module(1), module(2)])
    assert run(case).requests == 2
    case.ingest([module(3), module(1, uuid="twin")], "more.jsonl")
    done = write(case)
    assert "settled without a request: ok 1" in done.out
    assert len(lines_of(only_file(case))) == 1
    assert case.rows("select count(*) from generations") == [(3,)]
