"""`kbetl enrich`: what is asked, what is asked again, and what is never paid twice."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment
from enrich_case import Case, module_of, rollout, rollouts
from fake_llm import FakeLlm, refuse_parameter

from kbetl.resources import data_path
from kbetl.store import connection

pytest_plugins = ["enrich_fixtures"]

LABELS = "select sample_hash, difficulty, evaluation_raw from {} order by sample_hash"


def labels(case: Case, view: str = "filtered") -> list[tuple[str, str, str]]:
    return case.rows(LABELS.format(view))


def edited_difficulty(case: Case, *replaced: tuple[str, str]) -> str:
    """A file with the built-in task, changed; gives its name."""
    text = data_path("tasks/difficulty.md").read_text(encoding="utf-8")
    for old, new in replaced:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (case.folder / "edited.md").write_text(text, encoding="utf-8")
    return "./edited.md"


# one more row costs one more request


def test_the_shipped_rows_are_rated_once(case):
    """The twelve rollouts above 0.85, each with the label that the server gave, and nothing twice."""
    sample = ROOT / "data" / "sample.jsonl"
    assert case.kbetl("ingest", sample).status == 0
    first = case.enrich()
    assert (first.status, first.requests) == (0, 12)
    assert "asked 12: ok 12, unparsed 0, refused 0, truncated 0, failed 0" in first.out
    rows = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    good = [row for row in rows if (row.get("reward") or 0) > 0.85]
    assert case.rows("select count(*) from filtered") == [(len(good),)]
    for asked, answered in zip(case.llm.requests, case.llm.answered, strict=True):
        content = json.loads(answered.body)["choices"][0]["message"]["content"]
        found = case.rows("select request, content, response from answers where request like ?", "%")
        assert (content, answered.body.decode()) in [(text, raw) for _, text, raw in found]
        assert asked.body in [json.loads(request) for request, _, _ in found]
    second = case.enrich()
    assert (second.status, second.requests) == (0, 0)


def test_one_more_row_costs_one_request(rated):
    grown = rated.ingest(rollouts(7))
    assert "new 1, known 6" in grown.out
    assert rated.enrich().requests == 1
    assert module_of(rated.llm.requests[-1]) == 6
    assert rated.rows("select count(*) from filtered") == [(7,)]


def test_what_the_model_does_not_see_costs_nothing(rated):
    """Rows shuffled, the file renamed, another source, other limits: no request, the same labels."""
    before = labels(rated)
    rows = rollouts(6)
    random.Random(1).shuffle(rows)
    rated.ingest(rows)
    (rated.folder / "rows.jsonl").rename(rated.folder / "renamed.jsonl")
    assert "new 0, known 6" in rated.kbetl("ingest", "renamed.jsonl", "--as", "other").out
    for options in ((), ("-c", 1), ("--rpm", 6000), ("--tpm", 10**6), ("--give-up-after", 1), ("-T", 0.1)):
        assert rated.enrich(*options).requests == 0, options
    assert rated.enrich("--source", "other").requests == 0
    assert rated.enrich("-o", "max_tokens", "256", "-o", "seed", "null").requests == 0
    assert labels(rated) == before
    assert rated.rows("select count(*) from tasks") == [(1,)]


# another model, template, system prompt or parameter


@pytest.mark.parametrize(
    "options",
    [("--model", "other"), ("-o", "seed", "7"), ("-t", "300"), ("-T", "0.7"), ("-o", "temperature", "null")],
    ids=" ".join,
)
def test_another_model_or_parameter_asks_anew_and_changes_no_dataset(rated, options):
    before = labels(rated)
    rated.llm.seed = 1
    model = None if "--model" in options else "m"
    run = rated.enrich(*options, model=model)
    assert (run.status, run.requests) == (0, 6)
    assert "the datasets still use the labels of m" in run.out
    assert labels(rated) == before
    assert labels(rated, "ratings") == before
    (task_hash,) = rated.rows("select hash from tasks where in_use = 0")[0]
    assert f"kbetl use difficulty --task-hash {task_hash[:15]}" in run.out
    assert rated.enrich(*options, model=model).requests == 0
    assert rated.kbetl("use", "difficulty", "--task-hash", task_hash[:15]).status == 0
    after = labels(rated)
    assert after != before
    assert after == rated.rows(
        "select sample_hash, value, content from outcomes join answers using (request_hash, attempt, try)"
        " where task_hash = ? order by sample_hash",
        task_hash,
    )


@pytest.mark.parametrize(
    "replaced",
    [
        ("Choose the one level that fits best.", "Choose one level."),
        ('about = "rollout"', 'about = "rollout"\nsystem = "You are terse."'),
        ("max_tokens = 256", "max_tokens = 255"),
    ],
    ids=["template", "system prompt", "parameter"],
)
def test_an_edited_task_asks_anew(rated, replaced):
    before = labels(rated)
    task = edited_difficulty(rated, replaced)
    assert rated.enrich("--task", task).requests == 6
    assert labels(rated) == before
    assert rated.enrich("--task", task).requests == 0
    assert rated.enrich().requests == 0


def test_how_an_answer_is_read_and_what_it_is_about_ask_nothing_anew(rated):
    """`where`, the reader and the path are no part of the question."""
    task = edited_difficulty(
        rated, ("reward > :min_reward", "reward > 0.1"), ('"high"] }', '"high", "absurd"] }')
    )
    assert rated.enrich("--task", task).requests == 0


def test_the_first_task_of_a_name_is_in_use_and_that_is_said(case):
    case.ingest(rollouts(2))
    first = case.enrich()
    (task_hash,) = case.rows("select hash from tasks where in_use = 1")[0]
    assert f"difficulty: the datasets use the labels of m ({task_hash[:15]}) from now on\n" in first.err
    again = case.enrich()
    assert "from now on" not in again.text
    assert "still use" not in again.text


# the same question twice


@pytest.mark.parametrize("concurrency", [1, 256])
def test_samples_that_ask_the_same_are_asked_once(case, concurrency):
    """Two rollouts that differ in their reward alone: one request, one answer, two outcomes."""
    case.ingest([rollout(number, reward=reward) for number in range(4) for reward in (0.9, 1.0)])
    case.llm.latency_s = 0.02
    run = case.enrich("-c", concurrency)
    assert run.requests == 4
    assert "asked 8: ok 8" in run.out
    assert "reused 4" in run.out
    assert case.rows("select count(*), count(distinct request_hash) from answers") == [(4, 4)]
    assert case.rows("select count(*), count(distinct request_hash), min(try) from outcomes") == [(8, 4, 0)]
    assert case.enrich().requests == 0


def test_a_sample_that_asks_what_was_asked_before_costs_nothing(rated):
    rated.ingest([rollout(3, reward=0.99)], "more.jsonl")
    run = rated.enrich()
    assert run.requests == 0
    assert "asked 1: ok 1" in run.out
    assert rated.rows("select count(*) from filtered where module_name = 'Module3'") == [(2,)]


def test_samples_that_wait_for_the_same_answer_share_its_failure(case):
    """The leader fails: nobody asks behind its back, and all say why. Then they are asked once more."""
    case.ingest([rollout(1, reward=reward) for reward in (0.9, 0.95, 1.0)])
    case.llm.faults = lambda _: "400"
    run = case.enrich()
    assert (run.status, run.requests) == (3, 1)
    assert "asked 3: ok 0, unparsed 0, refused 0, truncated 0, failed 3" in run.out
    reasons = case.rows("select distinct status, reason, try from outcomes")
    assert len(reasons) == 1
    assert "400" in reasons[0][1]
    assert case.kbetl("check").status == 0
    case.llm.faults = lambda _: None
    again = case.enrich()
    assert (again.status, again.requests) == (0, 1)
    assert "asking 3 samples: failed before" in again.err
    assert case.statuses() == {"ok": 3}


NAMES = '+++\nname = "names"\nabout = "rollout"\nanswer = { tag = "difficulty" }\n+++\nRate {{ module_name }}'


def test_the_same_question_all_over_a_long_run_is_asked_once(case):
    """Also where it was looked up while its answer was on its way to the disk."""
    (case.folder / "names.md").write_text(NAMES)
    names = [number % 900 for number in range(3000)]
    random.Random(0).shuffle(names)
    case.ingest([rollout(name, serial=serial) for serial, name in enumerate(names)])
    run = case.enrich("--task", "names.md")
    assert (run.status, run.requests) == (0, 900)
    assert case.rows("select count(*), count(distinct request_hash) from outcomes") == [(3000, 900)]


def test_many_samples_and_an_instant_server(case):
    """Each of 2,000 is done once; the loop neither hangs nor spins where a lookup ends at once."""
    case.llm.keep = False
    case.ingest(rollouts(2000))
    run = case.enrich("-c", 256)
    assert run.status == 0
    assert "asked 2000: ok 2000" in run.out
    assert case.llm.counts["requests"] == 2000
    assert case.rows("select count(*), count(distinct sample_hash) from outcomes") == [(2000, 2000)]
    assert case.rows("select count(*), max(try) from answers") == [(2000, 0)]


def test_an_answer_of_another_host_is_reused_and_that_is_said(rated):
    with FakeLlm() as other:
        rated.ingest([*rollouts(6), rollout(2, reward=0.9), rollout(6)])
        run = rated.kbetl("enrich", "-b", other.url, "-m", "m")
        assert [module_of(asked) for asked in other.requests] == [6]
        assert "1 answers were reused that another host gave" in run.out
        assert rated.kbetl("enrich", "-b", other.url, "-m", "m").status == 0
        assert len(other.requests) == 1
        hosts = rated.rows("select host, count(*) from answers group by host order by count(*)")
        assert hosts == [(f"127.0.0.1:{other.port}", 1), (f"127.0.0.1:{rated.llm.port}", 6)]


# what is asked again

FAULT_OF = {0: None, 1: "no tag", 2: "length", 3: "refusal", 4: "400", 5: None}
STATUS_OF = {"no tag": "unparsed", "length": "truncated", "refusal": "refused", "400": "failed"}


@pytest.fixture
def mixed(case: Case) -> Case:
    """Six rollouts with every status; the server has recovered since."""
    case.ingest(rollouts(6))
    case.llm.faults = lambda asked: FAULT_OF[module_of(asked)]
    run = case.enrich()
    assert (run.status, run.requests) == (3, 6)
    assert "asked 6: ok 2, unparsed 1, refused 1, truncated 1, failed 1" in run.out
    case.llm.faults = lambda _: None
    return case


def test_every_status_has_its_reason_and_its_answer(mixed):
    found = mixed.rows("select module_name, status, reason from failures order by module_name")
    assert [(name, status) for name, status, _ in found] == [
        (f"Module{number}", STATUS_OF[fault]) for number, fault in FAULT_OF.items() if fault
    ]
    assert all(reason for _, _, reason in found)
    assert mixed.rows("select count(*) from answers") == [(5,)]
    assert mixed.rows("select difficulty is null, count(*) from ratings group by 1") == [(0, 2), (1, 4)]


def test_a_plain_run_asks_again_what_failed_alone(mixed):
    run = mixed.enrich()
    assert (run.status, run.requests) == (0, 1)
    assert module_of(mixed.llm.requests[-1]) == 4
    assert mixed.statuses() == {"ok": 3, "unparsed": 1, "truncated": 1, "refused": 1}
    left = mixed.enrich()
    assert (left.status, left.requests) == (0, 0)
    assert "left over: refused 1, truncated 1, unparsed 1" in left.out


@pytest.mark.parametrize(("status", "number"), [("unparsed", 1), ("truncated", 2), ("refused", 3)])
def test_retry_asks_one_status_again(mixed, status, number):
    run = mixed.enrich("--retry", status)
    assert run.requests == 1
    assert module_of(mixed.llm.requests[-1]) == number
    assert mixed.statuses()["ok"] == 3
    assert status not in mixed.statuses()
    tries = mixed.rows(
        "select answers.try, outcomes.try = answers.try from answers join outcomes using (request_hash)"
        " join samples on samples.hash = sample_hash where module_name = ? order by 1",
        f"Module{number}",
    )
    assert tries == [(0, 0), (1, 1)]


def test_several_statuses_are_asked_again_together(mixed):
    run = mixed.enrich("--retry", "unparsed", "--retry", "truncated", "--retry", "refused")
    assert run.requests == 3
    assert mixed.statuses() == {"ok": 5, "failed": 1}


def test_a_retry_with_other_parameters_stays_with_its_task(mixed):
    """The first answer stays, the outcome names the new request, and no new task is made."""
    (before,) = mixed.rows("select request_hash, task_hash from outcomes where status = 'truncated'")
    run = mixed.enrich("--retry", "truncated", "-o", "max_tokens", "1024")
    assert run.requests == 1
    assert mixed.llm.requests[-1].body["max_tokens"] == 1024
    (after,) = mixed.rows(
        "select outcomes.request_hash, task_hash, outcomes.status from outcomes"
        " join samples on hash = sample_hash where module_name = 'Module2'"
    )
    assert after[1:] == (before[1], "ok")
    assert after[0] != before[0]
    (request,) = mixed.rows(
        "select json_extract(request, '$.max_tokens') from answers where request_hash = ?", after[0]
    )
    assert request == (1024,)
    assert mixed.rows("select count(*) from answers where request_hash = ?", before[0]) == [(1,)]
    assert mixed.rows("select count(*) from tasks") == [(1,)]
    assert mixed.rows("select count(*) from filtered where module_name = 'Module2'") == [(1,)]


def test_what_stays_truncated_is_asked_again_each_time(mixed):
    """A retry is a new try of its request; neither its own old answer nor an older one is served again."""
    mixed.llm.faults = lambda _: "length"
    longer = ("-o", "max_tokens", "1024")
    tries = "select request ->> 'max_tokens', try from answers where request like '%Module2%' order by 1, 2"
    for options, expected in (
        (longer, [(256, 0), (1024, 0)]),
        ((), [(256, 0), (256, 1), (1024, 0)]),
        (longer, [(256, 0), (256, 1), (1024, 0), (1024, 1)]),
    ):
        run = mixed.enrich("--retry", "truncated", *options)
        assert (run.status, run.requests) == (3, 1), options
        assert mixed.rows(tries) == expected
        newest = mixed.rows(
            "select json_extract(request, '$.max_tokens'), answers.try from answers"
            " join outcomes using (request_hash, try) where outcomes.status = 'truncated'"
        )
        assert newest == [
            (1024, max(number for size, number in expected if size == 1024)) if options else (256, 1)
        ]


def test_samples_that_ask_the_same_are_retried_once(case):
    case.ingest([rollout(1, reward=reward) for reward in (0.9, 0.95, 1.0)])
    case.llm.faults = lambda _: "length"
    case.enrich()
    assert case.enrich("--retry", "truncated", "-c", 1).requests == 1
    assert case.rows("select try from outcomes") == [(1,)] * 3


# what was paid for is kept


def test_every_try_that_was_paid_for_is_kept(case):
    """Spoilt answers are rows with their fault, raw and whole; then the good one settles it."""
    case.ingest([rollout(0)])
    case.llm.faults.extend(["empty choices", "cut json"])
    run = case.enrich()
    assert (run.status, run.requests) == (0, 3)
    assert "answers received 3" in run.out
    kept = case.rows("select try, fault is null, response from answers order by try")
    assert [row[:2] for row in kept] == [(0, 0), (1, 0), (2, 1)]
    assert [row[2].encode() for row in kept] == [each.body for each in case.llm.answered]
    assert case.rows("select status, try from outcomes") == [("ok", 2)]


def test_tries_that_brought_nothing_are_kept_too(case):
    case.ingest([rollout(0)])
    case.llm.faults = lambda _: "empty choices"
    run = case.enrich()
    assert (run.status, run.requests) == (3, 3)
    assert case.rows("select try, fault is null from answers order by try") == [(0, 0), (1, 0), (2, 0)]
    assert case.rows("select status, try from outcomes") == [("failed", None)]
    assert case.kbetl("check").status == 0
    case.llm.faults = lambda _: None
    assert case.enrich().requests == 1
    assert case.rows("select status, try from outcomes") == [("ok", 3)]


@pytest.mark.parametrize("fault", ["lone surrogates", "not utf-8", "nul", "escape codes"])
def test_an_answer_of_odd_bytes_neither_stops_nor_hangs_the_run(case, fault):
    case.ingest(rollouts(3))
    case.llm.faults = lambda asked: fault if module_of(asked) == 1 else None
    run = case.enrich()
    assert run.status in (0, 3)
    assert run.requests >= 3
    assert case.rows("select count(*) from outcomes") == [(3,)]
    assert "\x1b" not in run.text


def test_a_refused_parameter_is_learned_once_and_what_was_sent_is_kept(case):
    case.ingest(rollouts(5))
    case.llm.faults = lambda _: refuse_parameter("max_tokens", "max_completion_tokens")
    run = case.enrich()
    assert (run.status, run.requests) == (0, 6)
    assert "the model refused the parameter max_tokens; max_completion_tokens was sent" in run.out
    sent = case.rows("select sent ->> 'max_completion_tokens', request ->> 'max_tokens' from answers")
    assert sent == [(256, 256)] * 5
    assert case.enrich().requests == 0


# nothing vanishes


def test_a_missing_field_fails_that_sample_alone(case):
    case.ingest([rollout(0), rollout(1, python_code=None), rollout(2)])
    run = case.enrich()
    assert (run.status, run.requests) == (3, 2)
    assert "asked 3: ok 2, unparsed 0, refused 0, truncated 0, failed 1" in run.out
    found = case.rows("select status, reason, request_hash, try from outcomes where status <> 'ok'")
    assert [row[0] for row in found] == ["failed"]
    assert "'python_code'" in found[0][1]
    assert found[0][2:] == (None, None)
    again = case.enrich()
    assert (again.status, again.requests) == (3, 0)
    assert case.kbetl("check").status == 0


def test_what_was_asked_adds_up_in_the_run_as_well(mixed):
    (counts, status, ended) = mixed.rows(
        "select counts, status, ended_at from runs where command = 'enrich'"
    )[0]
    counts = json.loads(counts)
    assert counts["asked"] == sum(counts.get(each, 0) for each in ("ok", *STATUS_OF.values())) == 6
    assert (counts["answers"], status, ended is None) == (5, 3, False)


# statuses of the command


def test_without_a_key_nothing_is_asked(case):
    case.ingest(rollouts(1))
    run = case.kbetl("enrich")
    assert run.status == 1
    assert "PRIME_API_KEY" in run.err
    assert len(run.err.splitlines()) == 1
    assert case.rows("select count(*) from runs where command = 'enrich'") == [(0,)]


def test_without_a_store_nothing_is_made(case):
    run = case.enrich("-d", "absent.db")
    assert run.status == 1
    assert "absent.db" in run.err
    assert list(case.folder.iterdir()) == []


@pytest.mark.parametrize("fault", ["401", "402", "404"])
def test_what_would_hit_every_sample_stops_the_run(case, fault):
    case.ingest(rollouts(50))
    case.llm.faults = lambda _: fault
    run = case.enrich("-c", 4)
    assert run.status == 1
    assert run.requests <= 4
    assert len([line for line in run.err.splitlines() if line.startswith("kbetl: ")]) == 1
    assert "Traceback" not in run.err
    assert case.statuses() == {}
    case.llm.faults = lambda _: None
    assert case.enrich().requests == 50


HEAVY = ("aiohttp", "pandas", "rich", "datasets", "pyarrow", "tenacity", "jsonschema", "sqlite_utils")


def test_a_run_with_nothing_to_do_imports_no_http_client(rated):
    """Nor anything else that is heavy."""
    code = (
        "import sys; from kbetl.cli import run; status = run(sys.argv[1:]); "
        f"print(sorted(set({HEAVY}) & set(sys.modules)), status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "enrich", "-b", rated.llm.url, "-m", "m"],
        cwd=rated.folder,
        env=clean_environment(HOME=str(rated.folder)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert rated.rows("select count(*) from runs where command = 'enrich' and status = 0") == [(2,)]


@pytest.mark.parametrize(
    ("table", "options"),
    [("outcomes", ()), ("outcomes", ("--dry-run",)), ("source_samples", ("--source", "rows.jsonl"))],
)
def test_a_damaged_page_is_one_line(rated, monkeypatch, table, options):
    """Damage of a store too large to be checked when it is opened: choosing the samples meets it."""
    monkeypatch.setattr(connection, "QUICK_CHECK_BYTES", 0)
    damage(rated.folder / "kbetl.db", table)
    run = rated.enrich(*options)
    assert (run.status, run.requests) == (1, 0)
    assert "Traceback" not in run.err
    assert "kbetl.db" in run.err.splitlines()[-1]
    assert "damaged" in run.err.splitlines()[-1]


def damage(path: Path, table: str) -> None:
    """Writes over the first page of a table and of each of its indexes."""
    with closing(sqlite3.connect(path)) as store:
        store.execute("pragma wal_checkpoint(truncate)")
        pages = store.execute("select rootpage from sqlite_schema where tbl_name = ?", (table,)).fetchall()
    with path.open("r+b") as file:
        for (page,) in pages:
            if page:
                file.seek((page - 1) * connection.PAGE_SIZE_BYTES)
                file.write(b"\xff" * 200)
