"""`kbetl synth score`: a reward reaches just the rollout that it names, and every view at once."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from enrich_case import Case, Result, rollout, write_rows
from synth_case import kernel, modules, run

pytest_plugins = ["enrich_fixtures"]


@pytest.fixture
def made(case: Case) -> Case:
    """Three modules with two rollouts each, none with a reward."""
    case.llm.content = lambda asked: kernel(str(asked.index))
    case.ingest(modules(3))
    assert run(case, "--rollouts", 2).status == 0
    return case


def score(case: Case, rows: list[dict[str, Any]], *arguments: object, name: str = "rewards.jsonl") -> Result:
    write_rows(case.folder / name, rows)
    return case.kbetl("synth", "score", name, *arguments)


def hashes(case: Case, order: str = "position") -> list[str]:
    """The rollouts of the generated source, in order."""
    found = case.rows(
        "select sample_hash from source_samples join sources on id = source_id where kind = 'run' order by "
        + order
    )
    return [each for (each,) in found]


def examples(case: Case) -> list[tuple[int, int, str]]:
    """Example, attempt and rollout of all that was generated."""
    return case.rows(  # type: ignore[return-value]
        "select example_id, attempt, source_samples.sample_hash from generations"
        " join source_samples using (source_id, position)"
        " join rollout_facts on rollout_facts.sample_hash = source_samples.sample_hash"
        " order by example_id, attempt"
    )


def test_rewards_by_hash_reach_every_view(made):
    """The newest counts; what stands in the row and its identity stay."""
    first, second, *_ = hashes(made)
    before = made.rows("select hash, row, reward from samples order by hash")
    result = score(made, [{"sample_hash": first, "reward": 0.5}, {"sample_hash": second, "reward": 1}])
    assert (result.status, result.out) == (
        0,
        "rewards.jsonl: read 2, new 2, known 0, refused 0; rollouts without a reward: 4\n",
    )
    score(made, [{"sample_hash": first, "reward": 0.95}])
    assert made.rows("select hash, row, reward from samples order by hash") == before
    for view in ("rollouts", "selectable"):
        statement = f"select reward from {view} where sample_hash = ?"
        assert made.rows(statement, first) == [(0.95,)]
        assert made.rows(statement, second) == [(1.0,)]
    made.llm.content = lambda asked: "<difficulty>low</difficulty>"
    assert made.enrich().requests == 2
    for view in ("ratings", "filtered", "unique_best"):
        rewards = made.rows(f"select reward from {view} order by reward")
        assert rewards[-1:] == [(1.0,)]
        assert view == "unique_best" or rewards == [(0.95,), (1.0,)]
    assert "rewards       2 of 6 rollouts above 0.85" in made.kbetl("status").out
    made.kbetl("export", "filtered", "-o", "out.jsonl")
    exported = [json.loads(line) for line in (made.folder / "out.jsonl").read_text().splitlines()]
    assert sorted(row["reward"] for row in exported) == [0.95, 1.0]
    assert made.kbetl("check").status == 0


def test_a_rollout_without_a_reward_is_not_above_any(made):
    """Neither asked for its difficulty nor in a dataset, however low the bar."""
    assert made.enrich("--min-reward", "-1000").requests == 0
    made.kbetl("use", "--min-reward", "-1000")
    assert made.enrich().requests == 0
    assert made.rows("select count(*) from pending where task = 'difficulty'") == [(0,)]
    assert made.kbetl("export", "evals", "-o", "all.jsonl", "--where", "reward > -1000").status == 1
    score(made, [{"sample_hash": hashes(made)[0], "reward": 0}])
    assert made.enrich().requests == 1


def test_the_same_file_again_adds_nothing(made):
    rows = [{"sample_hash": each, "reward": 0.1} for each in hashes(made)]
    assert "new 6, known 0" in score(made, rows).out
    again = score(made, rows)
    assert (again.status, again.out) == (0, "rewards.jsonl: read 6, new 0, known 6, refused 0\n")
    assert made.rows("select count(*) from scores") == [(6,)]
    assert "new 1, known 5" in score(made, [{**rows[0], "reward": 0.2}, *rows[1:]]).out
    assert "new 1, known 5" in score(made, rows).out


def test_an_example_with_its_attempt_names_a_rollout(made):
    """Without the attempt it means two: refused, and never guessed."""
    there = examples(made)
    vague = score(made, [{"example_id": there[0][0], "reward": 1.0}])
    assert (vague.status, vague.out[:44]) == (3, "rewards.jsonl: read 1, new 0, known 0, refus")
    assert f"rewards.jsonl:1: example_id {there[0][0]} means several rollouts (s1:" in vague.err
    assert "give 'sample_hash', or 'attempt' and 'source'" in vague.err
    rows = [
        {"example_id": example, "attempt": attempt, "reward": number / 10}
        for number, (example, attempt, _) in enumerate(there)
    ]
    assert score(made, rows).status == 0
    assert made.rows("select sample_hash, reward from scores order by id") == [
        (each, number / 10) for number, (_, _, each) in enumerate(there)
    ]
    beyond = score(made, [{"example_id": there[0][0], "attempt": 9, "reward": 1.0}])
    assert beyond.status == 3
    assert "attempts are known of those that `synth run` made alone" in beyond.err


def test_an_attempt_that_was_asked_again_means_the_answer_that_settled_it(made):
    """The truncated one of before is still a rollout, by its hash."""
    made.llm.faults.extend(["length"])
    run(made, "--rollouts", 3, "-c", 1, "-n", 1)
    run(made, "--rollouts", 3, "--retry", "truncated")
    example = made.rows("select example_id from rollout_facts where is_truncated = 1")[0][0]
    assert score(made, [{"example_id": example, "attempt": 2, "reward": 0.7}]).status == 0
    assert made.rows("select is_truncated from scores join rollout_facts using (sample_hash)") == [(0,)]


def test_a_source_tells_examples_apart(case):
    """Recorded runs number their examples from 0, each of them."""
    for name in ("one", "two"):
        rows = [rollout(number, example_id=number, reward=None, task=name) for number in range(2)]
        case.ingest(rows, f"{name}.jsonl")
    rows = [{"example_id": 0, "reward": 0.5}]
    vague = score(case, rows)
    assert vague.status == 3
    assert "in one.jsonl at 0" in vague.err
    assert score(case, rows, "--source", "two.jsonl").status == 0
    assert score(case, [{**rows[0], "source": "one.jsonl", "reward": 0.25}]).status == 0
    assert case.rows(
        "select row ->> '$.task', scores.reward from scores join samples on hash = sample_hash"
    ) == [
        ("two", 0.5),
        ("one", 0.25),
    ]
    unknown = score(case, rows, "--source", "three")
    assert (unknown.status, unknown.err) == (
        2,
        "kbetl: no source 'three'; kbetl status lists them\n",
    )


BAD = [
    ('{"sample_hash": HASH, "reward": NaN}', "field 'reward' is NaN or infinite"),
    ('{"sample_hash": HASH, "reward": Infinity}', "field 'reward' is NaN or infinite"),
    ('{"sample_hash": HASH, "reward": -1e999}', "field 'reward' is NaN or infinite"),
    ('{"sample_hash": HASH, "reward": "high"}', "field 'reward' is text 'high', not a number"),
    ('{"sample_hash": HASH, "reward": true}', "field 'reward' is a boolean"),
    ('{"sample_hash": HASH}', "no field 'reward'; it has sample_hash"),
    ('{"reward": 1}', "no field 'sample_hash' or 'example_id'"),
    ('{"sample_hash": "s1:0", "reward": 1}', "no rollout s1:0 in the store"),
    ('{"sample_hash": MODULE, "reward": 1}', "is a module, not a rollout"),
    ('{"sample_hash": 7, "reward": 1}', "field 'sample_hash' is a number"),
    ('{"example_id": 1, "attempt": -1, "reward": 1}', "field 'attempt' is -1"),
    (
        '{"example_id": 1, "attempt": 99999999999999999999, "reward": 1}',
        "field 'attempt' is larger than 9223372036854775807",
    ),
    ('{"example_id": 404, "reward": 1}', "no rollout with example_id 404"),
    ("[1]", "the row is a list"),
    ('{"sample_hash": ', "not JSON"),
]


def test_what_is_wrong_is_named_by_its_line_and_the_rest_counts(made):
    """A bad row between good ones takes none of them with it."""
    good = hashes(made)[0]
    module = made.rows("select hash from samples where kind = 'module'")[0][0]
    lines = [text.replace("HASH", json.dumps(good)).replace("MODULE", json.dumps(module)) for text, _ in BAD]
    lines.append(json.dumps({"sample_hash": good, "reward": 0.3}))
    (made.folder / "rewards.jsonl").write_text("\n".join(lines) + "\n")
    result = made.kbetl("synth", "score", "rewards.jsonl")
    assert result.status == 3
    assert f"read {len(BAD) + 1}, new 1, known 0, refused {len(BAD)}" in result.out
    said = result.err.splitlines()
    for number, (_, reason) in enumerate(BAD, 1):
        place = re.compile(rf"rewards\.jsonl:{number}\b")
        assert any(place.search(line) and reason in line for line in said), (reason, said)
    assert made.rows("select sample_hash, reward from scores") == [(good, 0.3)]
    assert made.rows("select status, counts ->> '$.refused' from runs order by id desc limit 1") == [
        (3, len(BAD))
    ]


def test_two_rewards_for_one_rollout_in_a_file_are_refused(made):
    first = hashes(made)[0]
    rows = [{"sample_hash": first, "reward": value} for value in (0.5, 0.5, 0.6)]
    result = score(made, rows)
    assert result.status == 3
    assert "read 3, new 1, known 1, refused 1" in result.out
    assert f"rewards.jsonl:3: rollout {first} has the reward 0.5 in line 1, and 0.6 here" in result.err
    assert made.rows("select reward from scores") == [(0.5,)]


def test_a_reward_that_the_row_has_itself_is_known(case):
    case.ingest([rollout(1, reward=0.4)])
    first = case.rows("select hash from samples")[0][0]
    assert "new 0, known 1" in score(case, [{"sample_hash": first, "reward": 0.4}]).out
    assert "new 1, known 0" in score(case, [{"sample_hash": first, "reward": 0.6}]).out
    assert "new 1, known 0" in score(case, [{"sample_hash": first, "reward": 0.4}]).out
    assert case.rows("select reward from rollouts") == [(0.4,)]


@pytest.mark.parametrize("name", ["r.csv", "r.parquet", "r.json", "r.jsonl.gz"])
def test_rewards_come_in_every_form(made, name):
    """By example and attempt, which Parquet may hold as floats."""
    there = examples(made)
    rows = [
        {"example_id": example, "attempt": attempt, "reward": number / 4}
        for number, (example, attempt, _) in enumerate(there)
    ]
    path = made.folder / name
    if name.endswith(".csv"):
        lines = [f"{row['example_id']},{row['attempt']},{row['reward']}" for row in rows]
        path.write_text("\n".join(["example_id,attempt,reward", *lines]) + "\n")
    elif name.endswith(".parquet"):
        table = pa.Table.from_pylist([{**row, "attempt": float(row["attempt"])} for row in rows])
        pq.write_table(table, path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    else:
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert made.kbetl("synth", "score", name).status == 0
    assert dict(made.rows("select sample_hash, reward from scores")) == {
        each: number / 4 for number, (_, _, each) in enumerate(there)
    }


def test_a_file_that_cannot_be_read_is_named(made):
    missing = made.kbetl("synth", "score", "none.jsonl")
    assert (missing.status, missing.err) == (
        1,
        "kbetl: none.jsonl: it cannot be opened: No such file or directory\n",
    )
    (made.folder / "empty.jsonl").write_text("")
    empty = made.kbetl("synth", "score", "empty.jsonl")
    assert (empty.status, empty.err) == (1, "kbetl: empty.jsonl: no rows in it\n")


def test_the_newest_score_is_looked_up_by_an_index(made):
    plan = made.rows(
        "explain query plan select reward from rollouts where sample_hash = 'x'",
    )
    looks = [row[3] for row in plan if "scores" in row[3]]
    assert looks
    assert all("COVERING INDEX scores_by_sample" in look for look in looks)
