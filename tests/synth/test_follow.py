"""kbetl synth record --follow: what a run writes is recorded at once, whatever happens to the file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from enrich_case import ended, query, started, until

from kbetl.status import read_status

RUNS = Path(__file__).parents[1] / "data" / "rollouts"
REAL = RUNS / "verifiers-0.1.14" / "kernelbook-env--mock--glm-err500" / "21e570b9"
TRACES = RUNS / "verifiers-0.4.0" / "kb-tiny--mock--glm-think--null--30aed7c1" / "traces.jsonl"


def lines(count: int, first: int = 0) -> list[bytes]:
    """Real lines, each with an example of its own."""
    row = json.loads((REAL / "results.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return [
        json.dumps({**row, "example_id": number}).encode() + b"\n" for number in range(first, first + count)
    ]


def append(file: Path, texts: Iterable[bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as stream:
        for text in texts:
            stream.write(text)


IN_ORDER = "select example_id from source_samples join rollout_facts using (sample_hash) order by position"


def examples(folder: Path) -> list[Any]:
    """The examples of the source, in order; none while there is no store, or one that is being made."""
    if not (folder / "kbetl.db").exists():
        return []
    try:
        return [row[0] for row in query(folder, IN_ORDER)]
    except sqlite3.OperationalError:
        return []


def following(folder: Path, *more: object):
    return started(folder, "synth", "record", "run", "--follow", *more)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "results.jsonl"


def test_lines_are_recorded_as_they_come(tmp_path, file):
    """From before the file is there, over a line that is written in two parts, to Ctrl-C."""
    with following(tmp_path) as process:
        append(file, lines(2))
        until(lambda: examples(tmp_path) == [0, 1])
        (whole,) = lines(1, 2)
        append(file, [whole[:100]])
        append(file, [whole[100:], *lines(1, 3)])
        until(lambda: examples(tmp_path) == [0, 1, 2, 3])
        process.send_signal(signal.SIGINT)
        done = ended(process)
    assert done.status == 130
    assert "interrupted: run: read 4, new 4, known 0, rejected 0 (rollouts 4)" in done.err
    assert query(tmp_path, "select status from runs") == [(130,)]
    (unfinished,) = read_status(tmp_path / "kbetl.db").unfinished
    assert unfinished.resume == f"kbetl synth record run --follow -d {tmp_path}/kbetl.db"


def test_a_killed_one_goes_on_where_it_was(tmp_path, file):
    append(file, lines(3))
    with following(tmp_path) as process:
        until(lambda: examples(tmp_path) == [0, 1, 2])
        process.kill()
        ended(process)
    append(file, lines(2, 3))
    with following(tmp_path) as process:
        until(lambda: examples(tmp_path) == [0, 1, 2, 3, 4])
        process.send_signal(signal.SIGTERM)
        done = ended(process)
    assert done.status == 143
    assert "read 5, new 2, known 3" in done.err


@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in place"])
def test_a_resume_may_rewrite_the_file(tmp_path, file, in_place):
    """Lines go, others come, in another order, and in place even with the same size."""
    append(file, lines(4))
    with following(tmp_path) as process:
        until(lambda: len(examples(tmp_path)) == 4)
        after = [*lines(2, 2), *lines(2, 6)]
        if in_place:
            file.write_bytes(b"".join(after))
        else:
            other = file.with_suffix(".tmp")
            other.write_bytes(b"".join(after))
            os.replace(other, file)
        until(lambda: sorted(examples(tmp_path)) == [0, 1, 2, 3, 6, 7])
        append(file, lines(1, 8))
        until(lambda: sorted(examples(tmp_path)) == [0, 1, 2, 3, 6, 7, 8])
        process.send_signal(signal.SIGINT)
        assert ended(process).status == 130


def test_it_ends_with_the_run(tmp_path, file):
    """As soon as the metadata that come last say that all is there."""
    metadata = json.loads((REAL / "metadata.json").read_text(encoding="utf-8"))
    with following(tmp_path) as process:
        append(file, lines(3))
        until(lambda: len(examples(tmp_path)) == 3)
        (file.parent / "metadata.json").write_text(
            json.dumps({**metadata, "num_examples": 2, "rollouts_per_example": 2})
        )
        append(file, lines(1, 3))
        done = ended(process)
    assert done.status == 0
    assert done.out == "run: read 4, new 4, known 0, rejected 0 (rollouts 4)\n"
    assert query(tmp_path, "select distinct model from rollouts") == [("mock/glm-err500",)]


def test_it_ends_when_nothing_comes(tmp_path, file):
    """A last line without an end is recorded then if it is whole, and is a note if not."""
    append(file, [*lines(1), b'{"broken"\n', *lines(1, 1), lines(1, 2)[0].rstrip(b"\n")])
    append(file.with_name("more.jsonl"), [*lines(1, 3), b'{"example_id": 4, "comp'])
    with following(tmp_path, "--idle-s", "0") as process:
        done = ended(process)
    assert done.status == 3
    assert sorted(examples(tmp_path)) == [0, 1, 2, 3]
    assert "run/results.jsonl:2: not JSON" in done.err
    assert "run/more.jsonl:2: cut; the line has no end yet" in done.err
    assert query(tmp_path, "select count(*), max(location) from rejected_rows") == [
        (1, "run/results.jsonl:2")
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "run cannot be read: No such file or directory"),
        (b"", "run/results.jsonl: empty so far"),
        (
            b'{"a": 1}\n',
            "run/results.jsonl: skipped, no rollouts in it (line 1: no rollout of a known shape; it has a)",
        ),
    ],
    ids=["nothing", "an empty file", "no rollouts"],
)
def test_nothing_to_follow_ends_with_the_reason(tmp_path, file, content, words):
    if content is not None:
        append(file, [content])
    with following(tmp_path, "--idle-s", "0") as process:
        done = ended(process)
    assert (done.status, done.out, done.err) == (1, "", f"kbetl: {words}\n")
    assert query(tmp_path, "select status from runs") == [(1,)]


def test_a_resumed_trace_adds_just_what_is_new(tmp_path):
    """verifiers 0.4 drops what failed, asks it again, and appends it under a new id."""
    before = TRACES.read_bytes().splitlines(keepends=True)
    failed = json.loads(before[-1])
    assert failed["ok"] is False
    good = json.loads(before[0])
    good["id"], good["traces"][0]["id"], good["traces"][0]["task"]["data"]["idx"] = "new", "newer", 1
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(TRACES, folder)
    with following(tmp_path) as process:
        until(lambda: len(examples(tmp_path)) == 3)
        other = folder / "traces.jsonl.tmp"
        other.write_bytes(b"".join([*before[:-1], json.dumps(good).encode() + b"\n"]))
        os.replace(other, folder / "traces.jsonl")
        until(lambda: len(examples(tmp_path)) == 4)
        process.send_signal(signal.SIGINT)
        done = ended(process)
    assert "new 4" in done.err
