"""`kbetl merge`: what another store has and this one lacks, rule by rule, each against whole tables."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import clean_environment
from enrich_case import forget_environment, rollouts, write_rows
from fill_disk import Filling, digest

from kbetl.check import check_store
from kbetl.cli import run
from kbetl.resources import queries
from kbetl.store.connection import empty_in_memory
from kbetl.store.field_maps import map_id
from kbetl.store.merge import MergeReport, merge

EARLY, LATE = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"


class Side(Filling):
    """A store that a test fills; its times say which of both it is."""

    def run(self, command: str, **columns: Any) -> int:
        row = {
            "options": "{}",
            "pid": 1,
            "kbetl_version": "0",
            "status": 0,
            "ended_at": LATE,
            "started_at": f"{self.path.stem} {len(self.rows('select 1 from runs'))}",
            **columns,
        }
        return self.add("runs", command=command, **row)

    def rated(self, sample: str, task: str, value: str | None, text: str, **columns: Any) -> str:
        """An outcome, and the reply that it was read from."""
        request = self.answer((sample, task), value, response=text, **columns)
        attempt = columns.get("attempt", 0)
        self.outcome(
            sample,
            task,
            "ok" if value else "refused",
            value,
            request_hash=request,
            attempt=attempt,
            **({"try": columns["try"]} if "try" in columns else {}),
        )
        return request


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    forget_environment(monkeypatch)
    return tmp_path


@pytest.fixture
def ours(folder: Path) -> Iterator[Side]:
    with Side(folder / "ours.db") as side:
        yield side


@pytest.fixture
def theirs(folder: Path) -> Iterator[Side]:
    with Side(folder / "theirs.db") as side:
        yield side


def merged(ours: Side, theirs: Side) -> MergeReport:
    """Merges; the counts add up, the other store is as it was, and merged again nothing is added."""
    before = whole(theirs)
    report = merge(ours.path, theirs.path)
    assert whole(theirs) == before
    there = {table: len(rows) for table, rows in before.items() if rows}
    assert {each.table: each.read for each in report.tables()} == there
    after = whole(ours)
    again = merge(ours.path, theirs.path)
    assert again.added == dict.fromkeys(again.added, 0)
    assert whole(ours) == after
    assert again.disagreeing == {
        table: count for table, count in report.disagreeing.items() if table != "outcomes"
    } | {table: again.disagreeing[table] for table in again.disagreeing if table == "outcomes"}
    assert ours.rows("pragma foreign_key_check") == []
    references = ours.store.rows("check/broken_references")
    assert [row for row in references if "no facts" not in row[0]] == []
    assert ours.store.rows("check/outcomes_without_answer") == []
    return report


def whole(side: Side) -> dict[str, list[tuple[Any, ...]]]:
    tables = side.rows("select name from sqlite_schema where type = 'table' and name not glob 'sqlite_*'")
    return {name: side.rows(f"select * from {name} order by 1, 2") for (name,) in tables}


def test_samples_come_with_what_belongs_to_their_row(ours, theirs):
    """Rules 1 to 3: in their order; the row that is here stays, and so do its facts."""
    known = ours.rollout("known", 0.9)
    assert theirs.rollout("known", 0.9) == known
    ours.add("rollout_facts", sample_hash=known, is_empty=0, total_ms=1.0)
    theirs.add("rollout_facts", sample_hash=known, is_empty=0, total_ms=2.0)
    new = [theirs.rollout(f"new {number}", 0.9) for number in (2, 0, 1)]
    theirs.add("rollout_facts", sample_hash=new[0], is_empty=0, total_ms=3.0)
    theirs.add("other_reasoning", sample_hash=new[0], reasoning="because")
    line = hashlib.sha256(b"line").digest()
    theirs.add("original_lines", hash=line, line="line")
    theirs.add("originals", sample_hash=new[0], position=0, line_hash=line)
    theirs.add("known_lines", line_hash=line, sample_hash=new[0])
    report = merged(ours, theirs)
    assert [row[0] for row in ours.rows("select hash from samples order by rowid")] == [known, *new]
    facts = dict(ours.rows("select sample_hash, total_ms from rollout_facts"))
    assert facts == {known: 1.0, new[0]: 3.0}
    for table in ("other_reasoning", "original_lines", "originals", "known_lines"):
        assert ours.rows(f"select * from {table}") == theirs.rows(f"select * from {table}")
    assert (report.added["samples"], report.disagreements) == (3, [])


def test_maps_come_with_their_samples_and_findings_by_code(ours, theirs):
    """By the text of the map, whatever its id. What was derived by another map than ours is left there."""
    samples = {name: theirs.rollout(name, 0.9) for name in ("both", "unmapped", "mapped", "new")}
    for name in ("both", "unmapped", "mapped"):
        ours.rollout(name, 0.9)
    map_id(ours.store, '{"reward":"b"}')
    further = map_id(theirs.store, '{"reward":"e"}')
    theirs.rows("update field_maps set reward = '$.wrong' where id = 1")  # paths are derived, not believed
    same, there = (map_id(side.store, '{"reward":"d"}') for side in (ours, theirs))
    for side, field_map, names in (
        (ours, same, ("both", "mapped")),
        (theirs, there, ("both", "unmapped")),
        (theirs, further, ("new",)),
    ):
        for name in names:
            side.add("mapped_samples", sample_hash=samples[name], field_map_id=field_map)
    task = theirs.task()
    theirs.add("findings", solution_hash="0" * 64, version=1, findings="[]", launches=1)
    for sample in samples.values():
        theirs.add("solutions", sample_hash=sample, solution_hash="0" * 64)
        theirs.add("lengths", tokenizer="t", template_hash="l1:x", sample_hash=sample, refusal="no")
        theirs.outcome(sample, task, value="low")
    report = merged(ours, theirs)
    maps = (
        "select sample_hash, map, field_maps.reward from mapped_samples join field_maps on id = field_map_id"
    )
    assert {sample: paths for sample, *paths in ours.rows(maps)} == {
        samples["both"]: ['{"reward":"d"}', '$."d"'],
        samples["mapped"]: ['{"reward":"d"}', '$."d"'],
        samples["new"]: ['{"reward":"e"}', '$."e"'],
    }
    assert ours.rows("select * from findings") == theirs.rows("select * from findings")
    for table in ("solutions", "lengths", "outcomes"):
        found = {row[0] for row in ours.rows(f"select sample_hash from {table}")}
        assert found == {samples["both"], samples["new"]}, table
    assert len(ours.rows("select 1 from answers")) == 4
    assert report.disagreeing == {"samples": 2}


def test_facts_of_a_newer_reading_win(ours, theirs):
    """What `hacks` and `contamination` say of a code, whichever store has it; merged back the same."""
    samples = [ours.rollout(name, 0.9) for name in "abc"]
    codes = [digest("c1", name) for name in "abc"]
    for name in "abc":
        theirs.rollout(name, 0.9)
    for side, versions, text in ((ours, (2, 1, 1), "ours"), (theirs, (1, 2, 2), "theirs")):
        for sample, code, version in zip(samples, codes, versions, strict=True):
            # what a newer checker reads of the third is another solution
            solution = hashlib.sha256(f"{sample} {version * (sample == samples[2])}".encode()).hexdigest()
            flags = json.dumps([{"flag": text, "level": "hack"}])
            side.add("findings", solution_hash=solution, version=version, findings=flags, launches=1)
            side.add("solutions", sample_hash=sample, solution_hash=solution)
            side.add(
                "fingerprints",
                code_hash=code,
                version=version,
                dataflow_parts=0,
                parts=b"",
                renamed_hash=text,
                shape_hash=text,
                dataflow_hash=text,
                settings_hash=text,
                reason=text,
            )
    report = merged(ours, theirs)
    assert (report.added["findings"], report.added["solutions"], report.added["fingerprints"]) == (2, 1, 2)
    flags = dict(ours.rows("select sample_hash, flags from hacks"))
    assert flags == dict(zip(samples, ("ours", "theirs", "theirs"), strict=True))
    columns = "renamed_hash, shape_hash, dataflow_hash, settings_hash, reason"
    found = {row[0]: row[1:] for row in ours.rows(f"select code_hash, version, {columns} from fingerprints")}
    texts = ("ours", "theirs", "theirs")
    assert found == {code: (2, *[text] * 5) for code, text in zip(codes, texts, strict=True)}
    merge(theirs.path, ours.path)
    for table in ("findings", "solutions", "fingerprints"):
        assert whole(ours)[table] == whole(theirs)[table]


def test_benchmarks_come_by_name_and_revision(ours, theirs):
    """Problems and pairs of the revision that is here, by name and not by id; verdicts of ours stay."""
    module, *codes = (digest("c1", name) for name in ("module", "p", "q"))
    for side, benchmarks in (
        (ours, {"same": "r1", "other": "r1"}),
        (theirs, {"new": "r1", "other": "r2", "same": "r1"}),
    ):
        for code in (module, *codes):
            side.add("fingerprints", code_hash=code, version=1, dataflow_parts=0, parts=b"")
        for name, revision in benchmarks.items():
            benchmark = side.add("benchmarks", name=name, uri="u", revision=revision, read_at=EARLY)
            further = codes[:1] if revision == "r2" else []
            for position, code in enumerate([*codes, *further]):
                at = {"benchmark_id": benchmark, "position": position}
                side.add("problems", **at, problem=str(position), code_hash=code, code=revision)
                if side is theirs and position:
                    side.add(
                        "contamination_pairs", **at, code_hash=module, how="shape", parts=2, settings_differ=1
                    )
    for side, problem, verdict in (
        (ours, codes[0], "same"),
        (theirs, codes[0], "different"),
        (theirs, codes[1], "similar"),
    ):
        side.add(
            "verdicts",
            code_hash=module,
            problem_code_hash=problem,
            verdict=verdict,
            note=side.path.stem,
            decided_at=EARLY,
        )
    report = merged(ours, theirs)
    by_name = "join benchmarks on benchmarks.id = benchmark_id order by name, position"
    assert ours.rows(f"select name, revision, position, code_hash, code from problems {by_name}") == [
        (name, "r1", position, code, "r1")
        for name in ("new", "other", "same")
        for position, code in enumerate(codes)
    ]
    assert ours.rows(
        f"select name, position, code_hash, how, parts, settings_differ from contamination_pairs {by_name}"
    ) == [(name, 1, module, "shape", 2, 1) for name in ("new", "same")]
    assert set(ours.rows("select problem_code_hash, verdict, note from verdicts")) == {
        (codes[0], "same", "ours"),
        (codes[1], "similar", "theirs"),
    }
    assert report.disagreeing == {"benchmarks": 1, "verdicts": 1}
    assert "benchmark other" in report.disagreements[0]


def test_runs_keep_their_origin_and_are_left_out_of_what_goes_on(ours, theirs):
    """Rule 4: a run that was killed elsewhere is nobody's to resume; its end comes later; costs count it."""
    task = ours.task()
    assert theirs.task() == task
    ours.run("enrich", task="difficulty", task_hash=task, status=None, ended_at=None)
    sample = theirs.rollout("a", 0.9)
    killed = theirs.run("enrich", task="difficulty", task_hash=task, status=None, ended_at=None, pid=77)
    done = theirs.run("enrich", task="difficulty", task_hash=task)
    theirs.add("prices", run_id=done, model="m", input_usd=1, cached_input_usd=1, output_usd=1, source="x")
    theirs.outcome(sample, task, value="low")
    theirs.store.connection.execute("update answers set run_id = ?", (done,))
    merged(ours, theirs)
    assert ours.rows("select command, origin, status from runs order by id") == [
        ("ingest", None, None),
        ("enrich", None, None),
        ("ingest", "theirs", None),
        ("enrich", "theirs", None),
        ("enrich", "theirs", 0),
    ]
    assert [row[0] for row in ours.store.rows("status/unfinished_runs")] == [1, 2]
    assert [row[0] for row in ours.store.rows("status/asking_runs")] == [2]
    last = ours.store.last_run_left_over("difficulty")
    assert last is not None
    assert last.id == 2
    assert ours.store.rows("inference/run_of_process", {"pid": 77}) == []
    assert ours.rows("select task, sum(cost_usd) from costs group by task") == [("difficulty", 0.5)]
    assert ours.rows("select run_id, model from prices") == [(5, "m")]
    theirs.store.end_run(killed, 3, {"asked": 1})
    report = merged(ours, theirs)
    assert ours.rows("select status, counts from runs where pid = 77") == [(3, '{"asked": 1}')]
    assert report.added["runs"] == 0


def test_tasks_in_use_stay_in_use(ours, theirs):
    """Rule 5: theirs comes into use where none of its name is; how ours is read stays."""
    a = ours.rollout("a", 0.9)
    assert theirs.rollout("a", 0.9) == a
    shared, mine = ours.task(model="shared", in_use=False), ours.task(model="mine")
    ours.outcome(a, mine, value="low")
    theirs.task(model="shared")
    theirs.store.connection.execute("update tasks set closing = 'other'")
    theirs.outcome(a, shared, value="high")
    only = theirs.task("style", about="rollout")
    theirs.outcome(a, only, value="good")
    report = merged(ours, theirs)
    assert set(ours.rows("select hash, in_use, closing from tasks")) == {
        (shared, 0, None),
        (mine, 1, None),
        (only, 1, None),
    }
    assert report.disagreeing == {"tasks": 2}
    assert [note for note in report.notes if "style" in note]


def test_sources_of_one_name_do_not_mix(ours, theirs):
    """Rules 6 and 7: the longer wins if the rows agree; other rows get another name, the same again."""
    a, b, c = (ours.rollout(name, 0.9) for name in "abc")
    for name in "abc":
        theirs.rollout(name, 0.9)
    ours.source("grown", a)
    ours.source("shrunk", a, b, c)
    ours.source("other", a, b)
    theirs.source("grown", a, b)
    rejected = theirs.source("shrunk", a, b)
    other = theirs.source("other", c, b)
    theirs.source("new", c)
    theirs.add(
        "rejected_rows", source_id=other, position=2, location="f:3", reason="no", run_id=theirs.run_id
    )
    report = merged(ours, theirs)
    assert rejected
    assert places(ours) == {
        "grown": [a, b],
        "shrunk": [a, b, c],
        "other": [a, b],
        "other@theirs": [c, b],
        "new": [c],
    }
    assert ours.rows(
        "select name, position, location, command, origin from rejected_rows"
        " join sources on sources.id = source_id join runs on runs.id = run_id"
    ) == [("other@theirs", 2, "f:3", "ingest", "theirs")]
    assert report.disagreeing == {"sources": 1}
    theirs.add("source_samples", source_id=other, position=3, sample_hash=a)
    merged(ours, theirs)
    assert places(ours)["other@theirs"] == [c, b, a]


def places(side: Side) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, sample in side.rows(
        "select name, sample_hash from source_samples join sources on id = source_id order by id, position"
    ):
        found.setdefault(name, []).append(sample)
    return found


def test_sources_that_grow_are_appended(ours, theirs):
    """Rule 6: what is lacking goes behind the end, repeats counted; another model's rows do not mix."""
    a, b, c = (ours.rollout(name, 0.9) for name in "abc")
    for name in "abc":
        theirs.rollout(name, 0.9)
    for side, kind, samples in (
        (ours, "stdin", [a, b]),
        (theirs, "stdin", [b, c, b]),
        (ours, "run", [a]),
        (theirs, "run", [b]),
    ):
        source = side.source(kind, *samples)
        model = side.path.stem if kind == "run" else None
        side.store.connection.execute(
            "update sources set kind = name, model = ? where id = ?", (model, source)
        )
    report = merged(ours, theirs)
    assert places(ours) == {"stdin": [a, b, c, b], "run": [a], "run@theirs": [b]}
    assert report.disagreeing == {"sources": 1}


def test_the_newest_score_by_time_counts(ours, theirs):
    """Rule 8: whoever came first into this store; nothing twice."""
    a = ours.rollout("a", 0.1)
    theirs.rollout("a", 0.1)
    for side, reward, at in ((ours, 0.99, LATE), (theirs, 0.11, EARLY), (theirs, 0.99, LATE)):
        side.add("scores", sample_hash=a, reward=reward, scored_at=at, run_id=side.run_id)
    merged(ours, theirs)
    assert ours.rows("select id, reward, scored_at from scores order by id") == [
        (1, 0.11, EARLY),
        (2, 0.99, LATE),
    ]
    assert ours.rows("select reward from rollouts") == [(0.99,)]


def test_an_answer_is_one_and_the_one_that_counts_stays_the_newest(ours, theirs):
    """Rules 9, 10, 13, 16: other replies are tries below ours, and all that names a try follows."""
    samples = {name: ours.rollout(name, 0.9) for name in ("same", "other", "worse", "better", "new")}
    task = ours.task()
    for name in samples:
        theirs.rollout(name, 0.9)
    theirs.task()
    for side in (ours, theirs):
        side.rated(samples["same"], task, "low", "one reply")
    request = ours.rated(samples["other"], task, "low", "ours")
    theirs.rated(samples["other"], task, "high", "theirs")
    ours.rated(samples["worse"], task, "low", "ours")
    theirs.rated(samples["worse"], task, None, "theirs")
    better = ours.rated(samples["better"], task, None, "ours")
    theirs.rated(samples["better"], task, "high", "theirs")
    theirs.rated(samples["new"], task, "high", "theirs")
    reserved = {"request_hash": request, "attempt": 0, "try": 0, "model": "m", "tokens": 9}
    ours.add("reservations", run_id=ours.run_id, reserved_at=EARLY, **reserved)
    theirs.add("reservations", run_id=theirs.run_id, reserved_at=LATE, **reserved)
    report = merged(ours, theirs)
    found = ours.rows(
        "select sample_hash, outcomes.status, value, response from outcomes"
        " join answers using (request_hash, attempt, try)"
    )
    assert {sample: row for sample, *row in found} == {
        samples["same"]: ["ok", "low", "one reply"],
        samples["other"]: ["ok", "low", "ours"],
        samples["worse"]: ["ok", "low", "ours"],
        samples["better"]: ["ok", "high", "theirs"],
        samples["new"]: ["ok", "high", "theirs"],
    }
    tries = "select response from answers where request_hash = ? order by try"
    newest = {
        each: [row[0] for row in ours.store.connection.execute(tries, (each,))] for each in (request, better)
    }
    assert newest == {request: ["theirs", "ours"], better: ["ours", "theirs"]}
    assert ours.rows("select try, reserved_at from reservations order by reserved_at") == [
        (1, EARLY),
        (0, LATE),
    ]
    assert report.disagreeing == {"outcomes": 1}
    assert "kbetl query" in report.disagreements[0]
    (listed,) = re.findall('kbetl query "(.*)"', report.disagreements[0])
    assert (samples["other"], "low", "localhost", "high") in ours.rows(listed)
    theirs.store.connection.execute("delete from reservations")
    merged(ours, theirs)
    assert ours.rows("select try from reservations") == [(1,)]


def test_lengths_are_by_content(ours, theirs):
    """Rule 11: a tokenizer known here keeps the name it has here; other counts are a fault, named."""
    a, b = (ours.rollout(name, 0.9) for name in "ab")
    for name in "ab":
        theirs.rollout(name, 0.9)

    def measure(side: Side, tokenizer: str, sample: str, tokens: int, template: str = "l1:x") -> None:
        counts = {"prompt_tokens": 1, "completion_tokens": tokens - 1, "total_tokens": tokens}
        side.add("lengths", tokenizer=tokenizer, template_hash=template, sample_hash=sample, **counts)

    measure(ours, "tok", a, 10)
    measure(theirs, "/path/of/tok", a, 11)
    measure(theirs, "/path/of/tok", b, 12)
    measure(theirs, "new", b, 13, "l1:y")
    report = merged(ours, theirs)
    assert ours.rows("select tokenizer, sample_hash, total_tokens from lengths order by 1, 3") == [
        ("new", b, 13),
        ("tok", a, 10),
        ("tok", b, 12),
    ]
    assert report.disagreeing == {"lengths": 1}


def test_a_request_that_is_out_in_both_stays_out_once(ours, theirs):
    """Rules 12 and 13: all lines of a file come; theirs is released; endings that came later follow."""
    task = ours.task()
    theirs.task()
    bodies = {name: f'{{"m":"{name}"}}' for name in ("both", "alone", "later")}
    hashes = {name: "r1:" + hashlib.sha256(body.encode()).hexdigest() for name, body in bodies.items()}

    def write(side: Side, *names: str) -> list[int]:
        batch = side.add(
            "batches",
            run_id=side.run_id,
            task_hash=task,
            model="m",
            file=f"/{side.path.stem}.jsonl",
            file_hash=hashlib.sha256(side.path.stem.encode()).hexdigest(),
            size_bytes=1,
            requests=len(names),
        )
        return [
            side.add(
                "handed_out",
                batch_id=batch,
                request_hash=hashes[name],
                attempt=0,
                custom_id=name,
                request=bodies[name],
            )
            for name in names
        ]

    write(ours, "both")
    lines = write(theirs, "both", "alone", "later")
    report = merged(ours, theirs)
    states = (
        "select custom_id, file, ending from handed_out join batches on batches.id = batch_id order by 1, 2"
    )
    assert ours.rows(states) == [
        ("alone", "/theirs.jsonl", None),
        ("both", "/ours.jsonl", None),
        ("both", "/theirs.jsonl", "released"),
        ("later", "/theirs.jsonl", None),
    ]
    assert report.disagreeing == {"handed_out": 1}
    assert report.disagreements[0].startswith("do not send /theirs.jsonl")
    theirs.add(
        "answers",
        request_hash=hashes["later"],
        attempt=0,
        model="m",
        host="h",
        latency_ms=1.0,
        run_id=theirs.run_id,
        answered_at=LATE,
        request=bodies["later"],
        response="{}",
        content="low",
        **{"try": 0},
    )
    theirs.store.connection.execute(
        "update handed_out set ending = 'answered', ended_at = ?, request = null where id = ?",
        (LATE, lines[2]),
    )
    theirs.add(
        "batch_results",
        result_hash=bytes(32),
        handed_out_id=lines[2],
        run_id=theirs.run_id,
        read_at=LATE,
        **{"try": 0},
    )
    theirs.store.connection.execute("update batches set server_status = 'completed', checked_at = ?", (LATE,))
    merged(ours, theirs)
    assert ours.rows(states)[-1] == ("later", "/theirs.jsonl", "answered")
    assert ours.rows("select server_status from batches order by id") == [(None,), ("completed",)]
    assert ours.rows("select custom_id from batch_results join handed_out on id = handed_out_id") == [
        ("later",)
    ]


def test_further_rollouts_are_further_attempts(ours, theirs):
    """Rule 14: so that `--rollouts N` counts them; the same reply is one; merged again all is known."""
    task = ours.task("kernels", about="module")
    theirs.task("kernels", about="module")
    problem = ours.module("p")
    theirs.module("p")
    for side, replies in ((ours, ["same", "mine"]), (theirs, ["other", "same", "third"])):
        source = side.source("run")
        side.store.connection.execute("update sources set kind = 'run'")
        for attempt, reply in enumerate(replies):
            request = side.rated(problem, task, reply, reply, attempt=attempt)
            rollout = side.rollout(None, None, reply)
            side.add("source_samples", source_id=source, position=attempt, sample_hash=rollout)
            side.add(
                "generations",
                source_id=source,
                position=attempt,
                task_hash=task,
                problem_hash=problem,
                attempt=attempt,
                request_hash=request,
                **{"try": 0},
            )
    report = merged(ours, theirs)
    assert ours.rows(
        "select attempt, try, content, value, position from generations"
        " join answers using (request_hash, attempt, try)"
        " join outcomes using (task_hash, request_hash, attempt, try) order by attempt"
    ) == [
        (0, 0, "same", "same", 0),
        (1, 0, "mine", "mine", 1),
        (2, 0, "third", "third", 3),
        (3, 0, "other", "other", 2),
    ]
    assert len(places(ours)["run"]) == 4
    assert report.disagreements == []


def test_settings_stay_and_budgets_that_are_used_up_are_said(ours, theirs):
    """Rules 15 to 17."""
    theirs.store.change_setting("split_seed", 7)
    task = ours.task()
    theirs.task()
    ours.run("enrich", task="difficulty", task_hash=task, options='{"max_cost_usd": 0.4}')
    paid = theirs.run("enrich", task="difficulty", task_hash=task)
    theirs.answer("question", "low", run_id=paid, cost_usd=0.5)
    report = merged(ours, theirs)
    assert ours.store.setting("split_seed") == 42
    assert report.disagreeing == {"settings": 1}
    assert report.notes == ["the budget of difficulty is used up: $0.5000 in both stores, --max-cost was 0.4"]


def test_every_column_is_merged():
    """A column that a migration adds must come along: each is named where its table is filled."""
    named = {
        table: {column.strip() for column in columns.split(",")}
        for text in queries("merge").values()
        for table, columns in re.findall(r"insert into main\.(\w+) \(([^)]*)\)", text)
    }
    connection = empty_in_memory()
    tables = "select name from sqlite_schema where type = 'table' and name not glob 'sqlite_*'"
    # ours alone, derived from the map, or of a running ingest
    kept_here = {"settings", "field_maps", "incoming_samples", "incoming_rejections"}
    for (table,) in connection.execute(tables).fetchall():
        if table in kept_here:
            continue
        columns = {row[1] for row in connection.execute(f"pragma table_info({table})")}
        assert columns - {"id"} == named[table] - {"id"}, table


CONTENT = (
    "select hash, kind, reward, row from samples order by 1",
    "select * from rollout_facts order by 1",
    "select * from known_lines order by 1",
    "select name, position, sample_hash from source_samples join sources on id = source_id order by 1, 2",
    "select hash, name, model, in_use from tasks order by 1",
    "select request_hash, attempt, try, host, content, response from answers order by 1, 2, 3",
    "select sample_hash, task_hash, attempt, status, try, value, failures from outcomes order by 1, 2, 3",
    "select key, value from settings order by 1",
)
"""What two stores have alike, whatever their ids, times and latencies."""


def content(path: Path) -> list[list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(statement).fetchall() for statement in CONTENT]


def checked(path: Path) -> None:
    assert check_store(path).problems == []


def filled(path: Path, *files: Path) -> Path:
    """A store of these files, rated by the built-in model."""
    assert run(["ingest", *map(str, files), "-d", str(path), "-q"]) == 0
    assert run(["enrich", "-m", "offline", "-d", str(path), "-q"]) == 0
    return path


@pytest.fixture
def shards(folder: Path, capfd: pytest.CaptureFixture[str]) -> list[Path]:
    """Four files of which each shares a row with the next."""
    code = "class M{0}(nn.Module):\n    def forward(self, x):\n        return x + {0}\n"
    rows = [{**row, "python_code": code.format(number)} for number, row in enumerate(rollouts(9))]
    files = [folder / f"{number}.jsonl" for number in range(4)]
    for number, file in enumerate(files):
        write_rows(file, rows[2 * number : 2 * number + 3])
    return files


def test_shards_in_any_order_make_the_store_of_one_machine(folder, shards, capfd):
    """`ingest` and `enrich` on one machine give the same tables; so do merges of merges, and repeats."""
    one = content(filled(folder / "one.db", *shards))
    stores = [filled(folder / f"{file.stem}.db", file) for file in shards]
    for seed in range(3):
        order = random.Random(seed).sample(stores, len(stores))
        target = folder / f"merged{seed}.db"
        assert run(["merge", *map(str, order), str(order[0]), "-d", str(target), "-q"]) == 0
        assert content(target)[:3] + content(target)[4:] == one[:3] + one[4:]
        assert sorted(content(target)[3]) == sorted(one[3])
        checked(target)
    left, right = (folder / f"{name}.db" for name in ("left", "right"))
    shutil.copy(stores[0], left)
    shutil.copy(stores[1], right)
    assert run(["merge", str(stores[1]), "-d", str(left), "-q"]) == 0
    assert run(["merge", str(stores[0]), "-d", str(right), "-q"]) == 0
    assert content(left) == content(right)
    assert run(["merge", str(left), "-d", str(right), "-q"]) == 0
    assert content(left) == content(right)
    checked(right)


KILLED = """
import os, signal, sys
from pathlib import Path
from kbetl.store import Store, merge
merge.BATCH_ROWS = 2
execute, point, times = Store.execute, sys.argv[1], int(sys.argv[2])
def counted(store, query, parameters=None):
    global times
    times -= query == point
    if times == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(store, query, parameters)
Store.execute = counted
merge.merge(Path("target.db"), Path("other.db"))
"""


def test_a_killed_merge_is_whole_and_goes_on(folder, shards, capfd):
    """Amid the samples, amid the answers and before the last commit."""
    filled(folder / "start.db", shards[0])
    other = filled(folder / "other.db", *shards[1:])
    before = content(other)
    shutil.copy(folder / "start.db", folder / "whole.db")
    merge(folder / "whole.db", other)
    counts = []
    for point, times in (
        ("merge/last_of_batch", 3),
        ("merge/add_their_answers", 1),
        ("merge/budgets_used_up", 1),
    ):
        for file in folder.glob("target.db*"):
            file.unlink()
        shutil.copy(folder / "start.db", folder / "target.db")
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, point, str(times)],
            cwd=folder,
            env=clean_environment(HOME=str(folder)),
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        checked(folder / "target.db")
        counts.append(len(content(folder / "target.db")[0]))
        merge(folder / "target.db", other)
        assert content(folder / "target.db") == content(folder / "whole.db")
        checked(folder / "target.db")
    assert counts == [6, 9, 9]
    assert content(other) == before


def test_what_cannot_be_merged_is_refused_in_a_line(folder, shards, capfd):
    """Foreign, older, newer, damaged, its own, none, crafted; no trigger or view of theirs is run."""
    store = filled(folder / "ours.db", shards[0])
    good = filled(folder / "good.db", shards[1])
    before = content(store)
    capfd.readouterr()

    def crafted(name: str, *statements: str) -> str:
        path = folder / f"{name}.db"
        shutil.copy(good, path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("pragma writable_schema = on")
            for statement in statements:
                connection.execute(statement)
        return str(path)

    (folder / "text.db").write_text("no database, but long enough to have a header" * 9)
    with closing(sqlite3.connect(folder / "foreign.db")) as connection, connection:
        connection.execute("create table a (b)")
    dangling = folder / "dangling.db"
    dangling.symlink_to("nowhere.db")
    damaged = folder / "damaged.db"
    damaged.write_bytes(good.read_bytes()[:40_000])
    refused = {
        str(folder / "text.db"): "not a kbetl store",
        str(folder / "foreign.db"): "of another program",
        str(damaged): "damaged",
        str(store): "is the one that it would be merged into",
        str(folder / "none.db"): "no store at",
        str(dangling): "is a symbolic link to",
        crafted("older", "pragma user_version = 2"): "Any writing command migrates it",
        crafted("newer", "pragma user_version = 99"): "Upgrade kbetl",
        crafted(
            "view", "drop table scores", "create view scores as select 1 as id"
        ): "its table scores is not",
    }
    for path, reason in refused.items():
        assert run(["merge", path, "-d", str(store)]) == 1, path
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1), path
        assert reason in err
        assert content(store) == before
    unreadable = {
        "tasks": "reader = '[1]'",
        "findings": "findings = '[1]'",
        "samples": "row = 'no JSON'",
        "rollout_facts": "completion_path = 'no path'",
        "field_maps": "map = '[1]'",
    }
    filling = (
        f"insert into findings values ('{'0' * 64}', 1, '[]', 1, 1)",
        """insert into field_maps (id, map) values (1, '{"model":"m"}')""",
        "insert into mapped_samples select hash, 1 from samples",
    )
    for table, change in unreadable.items():
        unread = crafted(table, *filling, f"update {table} set {change}")
        assert run(["merge", unread, "-d", str(store)]) == 1, table
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1), table
        assert content(store) == before
    broken = crafted("rule", "pragma foreign_keys = off", "update outcomes set task_hash = 't1:x'")
    assert run(["merge", broken, "-d", str(store)]) == 1
    assert "its rows break a rule" in capfd.readouterr().err
    assert content(store)[3:] == before[3:]
    checked(store)
    capfd.readouterr()
    shouting = crafted("shouting", "update sources set name = 'a' || char(10) || char(27) || '[31m'")
    assert run(["merge", shouting, "-d", str(store), "-q", "--label", "x\x1b\n"]) == 0
    said = capfd.readouterr()
    assert "\x1b" not in said.out + said.err
    harmless = crafted(
        "harmless",
        "create trigger hostile after insert on samples begin delete from samples; end",
        "create view hostile_view as select load_extension('x')",
        "create table extra (x)",
    )
    assert run(["merge", harmless, "-d", str(store), "-q"]) == 0
    checked(store)
    unprintable = os.fsdecode(b"\xff.db")
    shutil.copy(good, unprintable)
    assert run(["merge", unprintable, "-d", "new.db", "-q", "--label", unprintable]) == 2
    assert run(["merge", unprintable, "-d", "new.db", "-q"]) == 0
    with closing(sqlite3.connect("new.db")) as connection:
        assert set(connection.execute("select origin from runs").fetchall()) == {(None,), (r"\udcff",)}


def test_nobody_pays_while_it_merges(folder, shards, capfd):
    """It does not begin while somebody does, and names the process; a dry run changes nothing."""
    store, other = filled(folder / "ours.db", shards[0]), filled(folder / "other.db", *shards[1:])
    before = content(store)
    capfd.readouterr()
    assert run(["merge", str(other), "-d", str(store), "--dry-run", "-q"]) == 0
    shown = capfd.readouterr().out
    assert "samples: 7 read, 6 added, 1 known\n" in shown
    assert content(store) == before
    holder = (
        "from pathlib import Path; from kbetl.store import task_lock\n"
        "with task_lock(Path('ours.db'), 'difficulty'): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        cwd=folder,
        env=clean_environment(HOME=str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert run(["merge", str(other), "-d", str(store), "-q"]) == 1
        assert f"is asking in {store} (process {process.pid})" in capfd.readouterr().err
        process.communicate(b"\n")
    assert content(store) == before
    assert run(["merge", str(other), "-d", str(store), "-q"]) == 0
    assert capfd.readouterr().out == shown
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute(
            "select status, counts ->> ('$.\"' || ? || '\".samples') from runs where command = 'merge'",
            (str(other),),
        ).fetchall() == [(0, 6)]
