"""`kbetl check`: a store that agrees with itself, or the places where it does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from fill_disk import Filling, digest

from kbetl.check import SHOWN_PROBLEMS, check_store
from kbetl.cli import run
from kbetl.json_codec import read_json
from kbetl.records import content_hash, sample_hash
from kbetl.samples.parse import parse_row
from kbetl.samples.rollout_facts import rollout_facts
from kbetl.store.samples import facts_columns

ROW = {"completion": [{"role": "assistant", "content": ""}], "reward": 0.9, "module_name": "A"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filling]:
    """A rollout, a module, a task in use with one rating, all as they would be stored."""
    monkeypatch.chdir(tmp_path)
    with Filling(Path("kbetl.db")) as filling:
        rollout, module = filling.rollout("A", 0.9), filling.module("M", "x = 1\n")
        filling.add("rollout_facts", **facts_columns(rollout, rollout_facts(ROW)))
        filling.source("rows.jsonl", rollout, module, rollout)
        task = filling.task(reader='{"tag":"difficulty"}')
        filling.outcome(rollout, task, value="low")
        content = {"name": "difficulty", "template": "{{ completion }}", "system": None, "model": "m"}
        right = content_hash("t1", {**content, "parameters": {}})
        change(filling, f"update tasks set hash = '{right}'", f"update outcomes set task_hash = '{right}'")
        yield filling


def change(store: Filling, *statements: str) -> None:
    """Damage that no command of ours would do."""
    for statement in ("pragma foreign_keys = off", "pragma ignore_check_constraints = on", *statements):
        store.rows(statement)


def problems(store: Filling) -> list[str]:
    report = check_store(store.path)
    assert report.exit_status == (1 if report.problems else 0)
    return report.problems


def test_a_store_that_agrees_with_itself(store, capfd):
    """Says what was looked at, with counts; writes nothing."""
    store.rows("pragma wal_checkpoint(truncate)")
    before = store.path.read_bytes()
    assert run(["check"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("pages and indexes: ")
    views = len(store.rows("select name from sqlite_schema where type = 'view'"))
    assert lines[1:] == [
        "references of memberships: 3 rows",
        "references of outcomes: 1 rows",
        "references of scores: 0 rows",
        "references of lengths: 0 rows",
        "references of generations: 0 rows",
        "references of batch files: 0 rows",
        "references of batch results: 0 rows",
        "references of reservations: 0 rows",
        "references of solutions: 0 rows",
        "references of contamination pairs: 0 rows",
        "maps of fields: 0 rows",
        "hashes, names, rewards and points of samples: 2 rows",
        "facts of rollouts: 1 rows",
        "hashes of original lines: 0 rows",
        "request hashes of answers: 1 rows",
        "request hashes of batch files: 0 rows",
        "hashes and readers of tasks: 1 rows",
        "code hashes of problems of benchmarks: 0 rows",
        f"views: {views}",
        "all is well",
    ]
    assert store.path.read_bytes() == before


PROBLEM = "insert into problems select 1, 0, 'p', code_hash, 'x = 2' from samples where kind = 'module'"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            "update samples set row = replace(row, '0.9', '0.8') where kind = 'rollout'",
            "reward is 0.9, its row says 0.8",
        ),
        ("update samples set row = replace(row, '0.9', '0.8') where kind = 'rollout'", ": hash is s1:"),
        ("update samples set module_name = 'B' where kind = 'rollout'", "module_name is B, its row says A"),
        (
            "update samples set module_name = null where kind = 'rollout'",
            "module_name is None, its row says A",
        ),
        ("update samples set kind = 'rollout'", "kind is rollout, its row says module"),
        (
            "update samples set code_hash = 'c1:0' where kind = 'module'",
            "code_hash is c1:0, its row says c1:",
        ),
        ("update samples set code_point = code_point + 1 where kind = 'module'", "code_point is "),
        ("update samples set name_point = 5 where kind = 'module'", "name_point is 5"),
        ("update samples set row = '{}' where kind = 'module'", "its row is no sample"),
        ("update samples set row = '{' where kind = 'module'", "its row is no sample: not JSON"),
        ("update answers set request = replace(request, '\"m\"', '\"n\"')", "its request has the hash r1:"),
        ("update tasks set parameters = '{\"temperature\":1}'", "its columns have the hash t1:"),
        ("update tasks set system = 'be brief'", "its columns have the hash t1:"),
        ("update tasks set reader = '{\"oracle\":1}'", "stored reader"),
        ("update tasks set in_use = 0", "task difficulty: 0 are in use"),
        ("delete from answers", "its answer r1:"),
        ("update outcomes set try = 1", "its answer r1:"),
        ("update outcomes set failures = 2", "it is ok and counts 2 failures"),
        ("delete from rollout_facts", "no facts are kept of it"),
        ("update rollout_facts set is_empty = 0", "is_empty is 0, its row says True"),
        ("update rollout_facts set model = 'x'", "model is 'x', its row says None"),
        ("update rollout_facts set prompt_tokens = 5", "prompt_tokens is 5, its row says None"),
        (
            "insert into other_reasoning select hash, 'so' from samples where kind = 'rollout'",
            "other_reasoning is 'so', its row says None",
        ),
        ("update outcomes set request_hash = null, try = null", "though it is ok"),
        ("delete from samples where kind = 'module'", "source_samples row"),
        ("delete from tasks", "outcomes row"),
        ("insert into solutions values ('s1:0', '0')", "solutions row"),
        ("insert into mapped_samples values ('s1:0', 9)", "mapped_samples row"),
        ("insert into contamination_pairs values (1, 0, 'c1:0', 'code', 1, 0)", "contamination_pairs row"),
        ("""insert into field_maps (map, reward) values ('{"reward":"a"}', '$.b')""", "its paths are [None,"),
        ("insert into field_maps (map) values ('[1]')", "'[1]' is no map"),
        ("""update sources set field_map = '{"a":1}'""", "source rows.jsonl: "),
        (PROBLEM, "problems row"),
        (PROBLEM, "problem p of benchmark 1: its code has the hash c1:"),
        ("drop view costs", "view costs is not what its file says"),
    ],
)
def test_what_does_not_agree_is_named(store, capfd, damage, words):
    change(store, damage)
    assert run(["check"]) == 1
    out = capfd.readouterr().out.splitlines()
    assert [line for line in out if line.startswith("problem: ") and words in line]
    assert out[-1].endswith("problems")


BATCH = (
    "insert into batches (id, run_id, task_hash, model, file, file_hash, size_bytes, requests)"
    " select 1, 1, hash, 'm', 'f', '" + "0" * 64 + "', 1, 2 from tasks"
)
OUT = (
    "insert into handed_out (id, batch_id, request_hash, attempt, custom_id, request)"
    " select {0}, 1, request_hash, {0}, 'c', {1} from answers"
)
RESULT = "insert into batch_results values (zeroblob(32), 1, null, {}, null, 1, 'now')"
RESERVED = (
    "insert into reservations (run_id, request_hash, attempt, try, model, tokens, reserved_at)"
    " select 1, request_hash, 0, {}, 'm', 1, 'now' from answers"
)
GENERATED = (
    "insert into generations select 1, {}, tasks.hash, sample_hash, 0, outcomes.request_hash, {}"
    " from outcomes, tasks"
)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([BATCH, OUT.format(0, "request")], "batch 1: it has 1 requests, not the 2 of its file"),
        ([BATCH, OUT.format(0, "'{}'")], "its body has the hash r1:44136fa355b3678a1146ad16f7e8649e94fb4fc2"),
        ([BATCH, OUT.format(1, "null")], "of batch 1: neither its body nor an answer is there"),
        (
            [BATCH, OUT.format(0, "request").replace("select 0", "select 1"), RESULT.format(3)],
            "its answer, try 3,",
        ),
        ([RESERVED.format(3)], "its answer, try 3 of r1:"),
        ([GENERATED.format(0, 3)], "its answer, try 3 of r1:"),
        ([GENERATED.format(9, 0)], "generated rollout 9 of source 1: no sample is at that place"),
        (["insert into original_lines values (zeroblob(32), 'a line')"], "original line 00000000"),
        (["insert into prices values (77, 'm', 1, 1, 1, null, 'kbetl.toml')"], "prices row"),
        (
            ["insert into originals select hash, 0, zeroblob(32) from samples where reward > 0"],
            "originals row",
        ),
    ],
)
def test_what_batches_budgets_and_runs_left_is_checked_too(store, capfd, rows, words):
    change(store, *rows)
    assert run(["check"]) == 1
    out = capfd.readouterr().out.splitlines()
    assert [line for line in out if line.startswith("problem: ") and words in line], out


def test_batches_and_budgets_that_agree_are_well(store, capfd):
    whole = [
        BATCH.replace(", 2 from", ", 1 from"),
        OUT.format(0, "request").replace("select 0", "select 1"),
        RESULT.format(0),
        RESERVED.format(0),
        RESERVED.format("null"),
        GENERATED.format(0, 0),
        "insert into original_lines values (x'" + sha256(b"a line").hexdigest() + "', 'a line')",
    ]
    change(store, *whole)
    assert run(["check"]) == 0, capfd.readouterr().out
    assert "request hashes of batch files: 1 rows" in capfd.readouterr().out


def test_a_row_that_was_not_finite_is_well(store):
    """Its NaN is null in the row, and its hash is that of the row as stored."""
    line = (
        b'{"completion": "c", "reward": NaN, "info": {"module_name": "N"}, "big": 123456789012345678901234}'
    )
    sample = parse_row(read_json(line))
    store.add("samples", **{name: getattr(sample, name) for name in sample.__slots__})
    store.add("rollout_facts", **facts_columns(sample.hash, rollout_facts(read_json(line).value)))
    assert store.rows("select nonfinite from samples where module_name = 'N'") == [
        (json.dumps(["$.reward"]),)
    ]
    assert problems(store) == []


def test_many_problems_are_counted(store, capfd):
    """The first are named, the rest counted."""
    for number in range(SHOWN_PROBLEMS + 5):
        row = {"hash": digest("s1", number), "kind": "rollout", "code_point": 0, "name_point": 0}
        store.add("samples", row="[]", **row)
        store.add("rollout_facts", sample_hash=row["hash"], is_empty=1)
    assert run(["check"]) == 1
    out = capfd.readouterr().out.splitlines()
    assert len([line for line in out if line.startswith("problem: ")]) == SHOWN_PROBLEMS
    assert "... and 5 more problems" in out
    assert out[-1] == "25 problems"


def test_a_broken_index_is_found(store, capfd):
    """A row that its index does not have."""
    change(
        store,
        "pragma writable_schema = on",
        "create table copy as select name, sql from sqlite_schema where name = 'samples_by_reward'",
        "delete from sqlite_schema where name = 'samples_by_reward'",
    )
    root = store.rows("select max(rootpage) from sqlite_schema where name = 'samples_by_hash'")[0][0]
    store.rows("drop table if exists copy")
    store.rows("pragma wal_checkpoint(truncate)")
    with store.path.open("r+b") as file:
        file.seek((root - 1) * 16384 + 3)
        file.write(b"\x00\x00")  # the page's number of cells
    assert run(["check"]) == 1
    out = capfd.readouterr().out
    assert "problem: integrity: " in out
    assert "nothing else: the file itself is damaged" in out


def test_a_missing_store_is_not_made(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(["check"]) == 1
    assert "no store at" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_sample_of_the_time_when_pandas_index_was_content_is_well(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    row = {"module_name": "A", "python_code": "class A: pass", "__index_level_0__": 5}
    Path("rows.jsonl").write_text(json.dumps(row))
    assert run(["ingest", "rows.jsonl"]) == 0
    before = sample_hash(row, counts_index=True)
    assert before != sample_hash(row)
    with sqlite3.connect("kbetl.db") as store:
        store.execute("update samples set hash = ?", [before])
        store.execute("update source_samples set sample_hash = ?", [before])
        store.execute("update known_lines set sample_hash = ?", [before])
    store.close()
    assert run(["check"]) == 0, capfd.readouterr().out
