"""`kbetl synth run`: every answer becomes a rollout, once, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest
from enrich_case import Case, ended, started, until, write_rows
from fake_llm import Asked
from synth_case import CODE, check_whole, code, kernel, module, modules, rollouts, run

pytest_plugins = ["enrich_fixtures"]


@pytest.fixture
def synth(case: Case) -> Case:
    """A server that writes another kernel each time."""
    case.llm.content = lambda asked: kernel(str(asked.index))
    return case


def test_every_answer_is_a_rollout_of_its_module(synth):
    """The row has the shape of the evals data: prompt, completion, info, and no reward."""
    synth.ingest(modules(3))
    result = run(synth, "--rollouts", 2, "-T", 0.7)
    assert (result.status, result.requests) == (0, 6)
    assert "asked 6: ok 6" in result.out
    assert "rollouts in source kernels:m: 6\n" in result.out
    check_whole(synth)
    found = synth.rows(
        "select row from samples join source_samples on sample_hash = hash where kind = 'rollout'"
        " and module_name = 'Module1' order by position"
    )
    assert len(found) == 2
    row = json.loads(found[0][0])
    problem = synth.rows("select hash from samples where kind = 'module' and module_name = 'Module1'")[0][0]
    asked = next(each for each in synth.llm.requests if "Module1" in each.prompt)
    assert asked.body["temperature"] == 0.7
    assert row == {
        "example_id": int(problem[3:16], 16),
        "prompt": asked.body["messages"],
        "completion": [{"role": "assistant", "content": row["completion"][0]["content"], "reasoning": None}],
        "task": "kernels",
        "reward": None,
        "generation_ms": row["generation_ms"],
        "info": {
            "module_name": "Module1",
            "python_code": code(1),
            "triton_code": "# kernel 1",
            "uuid": "u1",
            "problem": problem,
        },
        "model": "m",
        "env_id": "kernels",
        "finish_reason": "stop",
        "is_truncated": False,
        "usage": row["usage"],
    }
    values = synth.rows("select value from outcomes")
    assert {value.rpartition("  # ")[0] for (value,) in values} == {CODE}
    assert synth.rows("select kind, model, environment from sources where kind = 'run'") == [
        ("run", "m", "kernels")
    ]
    assert synth.kbetl("check").status == 0


def test_a_rollout_is_what_the_check_derives_from_its_row(synth):
    """Also with a number beyond 64 bit; code and split are those of its module."""
    synth.ingest([module(0, uuid=2**70, python_code=code(0) + "# a remark\n"), module(1)])
    assert run(synth, "--rollouts", 2).status == 0
    assert synth.kbetl("check").status == 0
    assert synth.rows("select count(*) from samples where row like '%1180591620717411303424%'") == [(3,)]
    points = "select distinct module_name, code_hash, code_point, name_point from samples order by 1"
    assert len(synth.rows(points)) == 2


def test_a_second_run_asks_only_for_more(synth):
    """More rollouts of the same prompt are further attempts; those that are there are not asked again."""
    synth.ingest(modules(3))
    assert run(synth, "--rollouts", 2).requests == 6
    assert run(synth, "--rollouts", 2).requests == 0
    more = run(synth, "--rollouts", 5)
    assert (more.status, more.requests) == (0, 9)
    assert "rollouts wanted 15, not to be asked 6" in more.out
    assert synth.rows("select attempt, count(*) from answers group by attempt") == [
        (attempt, 3) for attempt in range(5)
    ]
    synth.ingest(modules(4))
    assert run(synth, "--rollouts", 5).requests == 5
    check_whole(synth)
    assert rollouts(synth) == 20


def test_two_answers_in_the_same_words_are_one_sample_at_two_places(case):
    case.llm.content = lambda asked: kernel(str(len(asked.prompt)))
    case.ingest(modules(2))
    result = run(case, "--rollouts", 3)
    assert "rollouts in source kernels:m: 6, 4 of them in the same words as another" in result.out
    assert rollouts(case) == 2
    assert case.rows(
        "select count(*) from source_samples join sources on id = source_id where kind = 'run'"
    ) == [(6,)]
    check_whole(case)


def test_modules_that_ask_the_same_share_the_answer_and_not_the_rollout(synth):
    """One request is paid for; each of the two modules has a rollout that names it."""
    synth.ingest([module(1), module(1, uuid="other"), module(2)])
    result = run(synth, "--rollouts", 2)
    assert result.requests == 4
    assert "reused 2" in result.out
    assert rollouts(synth) == 6
    check_whole(synth)
    assert synth.rows("select count(distinct row ->> '$.info.uuid') from samples where kind = 'rollout'") == [
        (3,)
    ]


@pytest.mark.parametrize("kills", [[1, 60], [40, 41, 100]])
def test_a_killed_run_asks_nothing_twice_that_was_kept(synth, kills):
    """Answer, outcome and rollout are there together or not at all; what is missing is asked later."""
    synth.ingest(modules(30))
    synth.llm.latency_s = 0.02
    arguments = ["synth", "run", "-b", synth.llm.url, "-m", "m", "--rollouts", 4, "-c", 8]
    lost = 0
    for answers in kills:
        with started(synth.folder, *arguments) as process:
            until(lambda: synth.llm.counts["answered 200"] >= answers + lost)  # noqa: B023
            process.kill()
            process.wait()
        check_whole(synth)
        kept = synth.rows("select count(*) from answers")[0][0]
        assert len(synth.llm.requests) - kept - lost <= 8
        lost = len(synth.llm.requests) - kept
    synth.llm.latency_s = 0
    last = synth.kbetl("synth", "run", "--resume")
    assert last.status == 0
    check_whole(synth)
    assert len(synth.llm.requests) == 120 + lost
    assert synth.rows("select count(*) from answers") == [(120,)]
    assert rollouts(synth) == 120
    assert run(synth, "--rollouts", 4).requests == 0


def test_an_interrupted_run_says_how_to_go_on(synth):
    synth.ingest(modules(5))
    synth.llm.latency_s = lambda index: 0.0 if index < 2 else 0.3
    arguments = ["synth", "run", "-b", synth.llm.url, "-m", "m", "-c", 2]
    with started(synth.folder, *arguments) as process:
        until(lambda: len(synth.llm.requests) >= 3)
        process.terminate()
        stopped = ended(process)
    assert stopped.status == 143
    assert "Go on with: kbetl synth run --resume" in stopped.err
    there = rollouts(synth)
    assert synth.kbetl("synth", "run", "--resume").requests == 5 - there
    assert rollouts(synth) == 5
    check_whole(synth)


def test_truncated_and_declined_answers_are_rollouts_too(synth):
    """They are flagged and left over; a retry adds a rollout and takes none away."""
    synth.ingest(modules(3))
    synth.llm.faults.extend(["length", "refusal"])
    result = run(synth, "-c", 1, "-t", 100)
    assert result.status == 3
    assert "truncated 1" in result.out
    assert "1 cut off at the limit" in result.out
    assert synth.rows("select is_truncated, count(*) from rollout_facts group by 1") == [(0, 2), (1, 1)]
    again = run(synth, "--retry", "truncated", "-t", 200)
    assert again.requests == 1
    assert again.status == 0
    assert synth.rows("select count(*) from source_samples where source_id = 2") == [(4,)]
    assert synth.statuses() == {"ok": 2, "refused": 1}
    check_whole(synth)


def test_what_failed_is_no_rollout_and_is_asked_again(synth):
    synth.ingest(modules(2))
    synth.llm.faults.extend([None, "400", None])
    first = run(synth, "-c", 1)
    assert first.status == 3
    assert rollouts(synth) == 1
    assert run(synth).requests == 1
    assert rollouts(synth) == 2
    check_whole(synth)


def test_an_answer_without_its_rollout_becomes_one_without_a_request(synth):
    """As `enrich --task kernels` leaves them."""
    synth.ingest(modules(3))
    assert synth.enrich("--task", "kernels").requests == 3
    assert rollouts(synth) == 0
    result = run(synth)
    assert (result.status, result.requests) == (0, 0)
    assert "answered before" in result.err
    assert rollouts(synth) == 3
    check_whole(synth)
    tokens = synth.rows("select count(*) from rollout_facts where prompt_tokens is null")
    assert tokens == [(0,)]


def test_a_dry_run_asks_nothing(synth):
    synth.ingest(modules(4))
    run(synth, "-n", 3)
    result = run(synth, "--rollouts", 2, "--dry-run")
    assert result.requests == 0
    assert "would ask 5 of 8 rollouts" in result.out
    assert "requests to send 5;" in result.out


def test_test_mode_asks_for_five(synth, monkeypatch):
    monkeypatch.setenv("TEST_MODE", "true")
    synth.ingest(modules(4))
    assert run(synth, "--rollouts", 4).requests == 5


def test_where_and_source_choose_modules(synth):
    synth.ingest(modules(4))
    synth.ingest([module(9)], "more.jsonl")
    assert run(synth, "--source", "more.jsonl").requests == 1
    assert run(synth, "--where", "module_name in ('Module1', 'Module2')").requests == 2
    names = synth.rows("select module_name from samples where kind = 'rollout' order by 1")
    assert names == [("Module1",), ("Module2",), ("Module9",)]


def test_another_model_or_parameter_is_another_source(synth):
    """Nothing is mixed by accident, and each has its own name."""
    synth.ingest(modules(1))
    run(synth)
    run(synth, model="n")
    run(synth, "-T", 0.2)
    run(synth, "-T", 0.3, "--as", "cool")
    names = [name for (name,) in synth.rows("select name from sources where kind = 'run' order by id")]
    assert names[:2] == ["kernels:m", "kernels:n"]
    assert names[2].startswith("kernels:m@")
    assert names[3] == "cool"
    taken = run(synth, "-T", 0.4, "--as", "cool")
    assert (taken.status, taken.requests) == (2, 0)


def test_a_budget_holds_over_attempts_and_runs(synth):
    """Each attempt is reserved for itself; what is left is said, and a larger budget goes on."""
    synth.ingest(modules(2))
    reached = run(synth, "--rollouts", 4, "-t", 100, "--max-tokens-total", 4500, "-c", 1)
    assert reached.status == 3
    assert 0 < reached.requests < 8
    spent = "select sum(prompt_tokens + completion_tokens) from answers"
    assert synth.rows(spent)[0][0] <= 4500
    assert rollouts(synth) == reached.requests
    assert run(synth, "--rollouts", 4, "-t", 100, "--max-tokens-total", 4500).requests <= 1
    more = synth.kbetl("synth", "run", "--resume", "--max-tokens-total", 100_000)
    assert more.status == 0
    assert rollouts(synth) == 8
    check_whole(synth)


def test_the_time_out_of_the_command_line_holds(synth):
    """A server that says nothing for so long has lost the request; the next try has it."""
    synth.ingest(modules(1))
    synth.llm.faults.extend(["silence"])
    result = run(synth, "--timeout", 0.2)
    assert (result.status, result.requests) == (0, 2)
    assert rollouts(synth) == 1


def test_reparse_reads_every_attempt_again(synth):
    """With today's parser, and without a request; rollouts stay as they are."""
    synth.ingest(modules(2))
    run(synth, "--rollouts", 3)
    before = synth.rows("select sample_hash, attempt, value from outcomes order by 1, 2")
    synth.change("update outcomes set status = 'unparsed', value = null, reason = 'an old parser'")
    result = synth.kbetl("reparse", "kernels", "--yes")
    assert "6 labels change" in result.text
    assert synth.rows("select sample_hash, attempt, value from outcomes order by 1, 2") == before
    check_whole(synth)


def test_one_run_at_a_time_asks_for_rollouts_of_a_task(synth):
    synth.ingest(modules(2))
    synth.llm.latency_s = 600.0
    with started(synth.folder, "synth", "run", "-b", synth.llm.url, "-m", "m") as process:
        until(lambda: synth.llm.requests)
        second = run(synth)
        assert second.status == 1
        assert f"process {process.pid}" in second.err
    synth.llm.latency_s = 0.0
    assert run(synth).requests == 2


def test_the_configuration_file_knows_synth_run(synth):
    """With one or several servers, as a list."""
    synth.ingest(modules(2))
    (synth.folder / "kbetl.toml").write_text(
        f'[synth.run]\nbase-url = ["{synth.llm.url}"]\nmodel = "m"\nrollouts = 3\nstream = true\n'
    )
    result = synth.kbetl("synth", "run")
    assert (result.status, result.requests) == (0, 6)
    assert synth.llm.requests[0].body["stream"] is True


# other prompts


def test_synthetic_prompts_are_asked_as_they_are(synth):
    """The user message is the prompt of the view, whole; other specifications make other rollouts."""
    synth.ingest(modules(2))
    nothing = run(synth, "--from", "synthetic")
    assert (nothing.status, nothing.requests) == (2, 0)
    assert "`kbetl prompts` makes them first" in nothing.err
    synth.kbetl("prompts", "-m", "offline")
    assert run(synth, "--from", "synthetic").requests == 2
    wanted = {prompt for (prompt,) in synth.rows("select prompt from synthetic")}
    assert {each.prompt for each in synth.llm.requests} == wanted
    assert synth.rows(
        "select distinct row ->> '$.prompt[0].content' in (select prompt from synthetic)"
        " from samples where kind = 'rollout'"
    ) == [(1,)]
    assert run(synth, "--from", "synthetic").requests == 0
    check_whole(synth)


def test_prompts_come_from_a_file(synth):
    """Text or messages, with or without code; a bad line is named, and the others are asked."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "second"}]
    write_rows(
        synth.folder / "prompts.jsonl",
        [
            {"prompt": "first", "example_id": 7},
            {"prompt": messages, "info": {"module_name": "Known"}},
            {"prompt": " "},
            {"prompt": "third", **module(3)},
        ],
    )
    result = run(synth, "--from", "prompts.jsonl")
    assert (result.status, result.requests) == (3, 3)
    assert "rejected: 1 rows that hold no prompt; see: " in result.out
    assert "prompts.jsonl: read 4, new 3, known 0, rejected 1" in result.err
    assert "prompts.jsonl:3: no field 'prompt' with text or messages" in result.err
    assert sorted(each.prompt for each in synth.llm.requests) == ["first", "second", "third"]
    assert messages in [each.body["messages"] for each in synth.llm.requests]
    assert synth.rows("select command, task is null, options ->> '$.from', status from runs order by id") == [
        ("synth run", 1, "prompts.jsonl", 3),
        ("synth run", 0, None, 0),
    ]
    assert "'select * from rejected_rows'" in synth.kbetl("status").out
    facts = synth.rows("select example_id, module_name from rollouts order by module_name")
    assert facts[0] == (7, None)
    assert [name for _, name in facts] == [None, "Known", "Module3"]
    assert run(synth, "--from", "prompts.jsonl").requests == 0
    check_whole(synth)
    assert synth.kbetl("check").status == 0


def test_a_dry_run_of_a_file_stores_nothing(synth):
    """Neither where there is no store, nor in one; what is answered already is known."""
    lines = [{"prompt": "first"}, {"prompt": "first"}, {"prompt": " "}, {"prompt": "second"}]
    write_rows(synth.folder / "prompts.jsonl", lines)
    dry = ("--from", "prompts.jsonl", "--rollouts", 2, "--dry-run")
    result = run(synth, *dry)
    assert (result.status, result.requests) == (0, 0)
    assert "would ask 4 of 4 rollouts" in result.out
    assert "prompts.jsonl: read 4, rejected 1; --dry-run stores nothing" in result.err
    assert "prompts.jsonl:3: no field 'prompt'" in result.err
    assert [path.name for path in synth.folder.iterdir()] == ["prompts.jsonl"]
    run(synth, "--from", "prompts.jsonl", "-n", 1)
    write_rows(synth.folder / "prompts.jsonl", [*lines, {"prompt": "third"}])
    counts = (
        "select (select count(*) from runs), (select count(*) from samples), (select count(*) from sources)"
    )
    before = synth.rows(counts)
    assert "would ask 5 of 6 rollouts" in run(synth, *dry).out
    assert synth.rows(counts) == before
    assert run(synth, *dry, "--where", "1").status == 2


def test_runs_say_the_command_that_ran(synth):
    """Also the one that took the prompts in."""
    write_rows(synth.folder / "prompts.jsonl", [{"prompt": "first"}, {"prompt": " "}])
    run(synth, "--from", "prompts.jsonl")
    counted = synth.rows("select command, task, status, counts ->> '$.rejected' from runs order by id")
    assert counted == [("synth run", None, 3, 1), ("synth run", "kernels", 0, None)]
    bad = run(synth, "--from", "prompts.jsonl", "--task", "missing.md")
    assert (bad.status, synth.rows("select count(*) from runs")) == (2, [(2,)])


def test_a_source_was_written_when_it_last_got_a_rollout(synth):
    synth.ingest(modules(2))
    run(synth, "-n", 1)
    said = "select ingested_at from sources where kind = 'run'"
    first = synth.rows(said)
    run(synth)
    assert synth.rows(said) > first
    assert synth.rows(said) >= synth.rows("select max(answered_at) from answers")


def test_bare_prompts_are_asked_by_no_other_task(synth):
    """They have no code: a task about modules passes over them, and `pending` does not count them."""
    write_rows(synth.folder / "prompts.jsonl", [{"prompt": "first"}])
    run(synth, "--from", "prompts.jsonl")
    synth.ingest(modules(2))
    assert run(synth).requests == 2
    assert synth.kbetl("prompts", "-m", "offline").status == 0
    assert synth.rows("select count(*) from pending where task = 'prompts'") == [(0,)]


def test_a_prompt_may_come_in_parts(synth):
    """They are sent as they are; parts without text ask nothing."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "first"}]}]
    empty = [{"role": "user", "content": [{"type": "text", "text": " "}]}]
    write_rows(synth.folder / "prompts.jsonl", [{"prompt": parts}, {"prompt": empty}])
    result = run(synth, "--from", "prompts.jsonl")
    assert (result.status, result.requests) == (3, 1)
    assert synth.llm.requests[0].body["messages"] == parts
    check_whole(synth)
    assert synth.kbetl("check").status == 0


def test_a_store_without_modules_says_so(synth):
    write_rows(synth.folder / "rows.jsonl", [{"prompt": "x", "completion": "y"}])
    synth.kbetl("ingest", "rows.jsonl")
    result = run(synth)
    assert (result.status, result.requests) == (0, 0)
    assert "nothing to ask about: `kbetl ingest` brings modules" in result.out


def test_a_file_without_prompts_is_named(synth):
    write_rows(synth.folder / "prompts.jsonl", [{"completion": [], "prompt": "x"}])
    result = run(synth, "--from", "prompts.jsonl")
    assert (result.status, result.requests) == (1, 0)
    assert "prompts.jsonl: no prompts in it; prompts.jsonl:1: it has a completion" in result.err
    missing = run(synth, "--from", "none.jsonl")
    assert (missing.status, missing.err) == (1, "kbetl: none.jsonl: No such file or directory\n")


def test_status_names_the_command_that_goes_on(synth):
    synth.ingest(modules(3))
    run(synth, "-n", 1)
    said = synth.kbetl("status").out
    assert "kernels by m" in said
    assert f"next          kbetl synth run -m m -b {synth.llm.url}" in said


def test_a_run_needs_a_model_and_a_task_about_modules(synth):
    synth.ingest(modules(1))
    nameless = synth.kbetl("synth", "run", "-b", synth.llm.url)
    assert (nameless.status, nameless.requests) == (2, 0)
    assert "name the model with -m" in nameless.err
    assert run(synth, "--task", "difficulty").status == 2


def digest(asked: Asked) -> str:
    return hashlib.sha256(asked.raw).hexdigest()


def test_attempts_are_told_apart_in_answers_alone(synth):
    """The request goes out unchanged, so that a server's cache serves all attempts."""
    synth.ingest(modules(2))
    run(synth, "--rollouts", 3)
    assert sorted(Counter(map(digest, synth.llm.requests)).values()) == [3, 3]
