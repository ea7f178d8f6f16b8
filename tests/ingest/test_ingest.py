"""`kbetl ingest`: what comes in, what is counted, what a source holds afterwards."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import zstandard
from conftest import Run, clean_environment


def module(number: int, **more: Any) -> dict[str, Any]:
    return {"module_name": f"M{number}", "python_code": f"class M{number}(nn.Module): pass", **more}


def rollout(number: int, **more: Any) -> dict[str, Any]:
    return {
        "example_id": number,
        "prompt": [{"role": "user", "content": "Write a kernel"}],
        "completion": [{"role": "assistant", "content": f"kernel {number}", "reasoning": "so"}],
        "reward": number / 10,
        "generation_ms": 12.5,
        "info": {"module_name": f"M{number}", "python_code": f"class M{number}: pass"},
        **more,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def fetch(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "kbetl.db") as store:
        return store.execute(query).fetchall()


def members(folder: Path, source: str) -> list[tuple[int, str]]:
    """Position and name of the module of each sample of a source."""
    return fetch(
        folder,
        "select position, module_name from source_samples join samples on hash = sample_hash"
        f" join sources on sources.id = source_id where sources.name = '{source}' order by position",
    )


def test_modules_and_rollouts_are_told_apart_by_content(run: Run, tmp_path: Path) -> None:
    """Names and order of the fields do not matter; every column of `samples` says what the row says."""
    rows = [
        module(1),
        {"name": "1_Matmul", "code": "class Model: pass", "level": 1, "problem_id": 1},
        rollout(3),
        {"completion": "text", "module_name": "Top", "reward": 1},
        {"completion": [{"role": "assistant", "content": None, "reasoning_content": "r"}], "reward": None},
    ]
    write(tmp_path / "rows.jsonl", rows)

    result = run("ingest", "rows.jsonl")

    assert (result.returncode, result.stderr) == (0, "rows.jsonl: 1 new rollout has no reward\n")
    assert result.stdout == "rows.jsonl: read 5, new 5, known 0, rejected 0 (modules 2, rollouts 3)\n"
    assert fetch(
        tmp_path,
        "select kind, module_name, code_hash is not null, reward, nonfinite, row from source_samples"
        " join samples on hash = sample_hash order by position",
    ) == [
        ("module", "M1", 1, None, None, json.dumps(rows[0])),
        ("module", "1_Matmul", 1, None, None, json.dumps(rows[1])),
        ("rollout", "M3", 1, 0.3, None, json.dumps(rows[2])),
        ("rollout", "Top", 0, 1.0, None, json.dumps(rows[3])),
        ("rollout", None, 0, None, None, json.dumps(rows[4])),
    ]
    assert fetch(tmp_path, "select name, uri, kind, revision, split, features from sources") == [
        ("rows.jsonl", "rows.jsonl", "file", None, None, None)
    ]


def test_places_in_a_split_hang_on_code_then_name_then_content(run: Run, tmp_path: Path) -> None:
    same = "class M: pass"
    rows = [
        {"completion": "a", "info": {"module_name": "A", "python_code": same}},
        {"completion": "b", "info": {"module_name": "B", "python_code": same + "  # more"}},
        {"completion": "c", "info": {"module_name": "B"}},
        {"completion": "d", "info": {"module_name": "B"}},
        {"completion": "e"},
        {"completion": "f"},
    ]
    write(tmp_path / "rows.jsonl", rows)

    run("ingest", "rows.jsonl")

    points = fetch(
        tmp_path,
        "select code_point, name_point from source_samples join samples on hash = sample_hash"
        " order by position",
    )
    code, name = zip(*points, strict=True)
    assert code[0] == code[1]
    assert name[1] == name[2] == name[3]
    assert code[2] == code[3] == name[2]
    assert len({*code}) == len({*name}) == 4


def test_rows_again_are_known_and_change_nothing(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [module(1), rollout(2), {"completion": 1}])
    run("ingest", "rows.jsonl")
    tables = ("samples", "source_samples", "rejected_rows", "known_lines")
    before = [fetch(tmp_path, f"select * from {table}") for table in tables]

    result = run("ingest", "rows.jsonl")

    said = "rows.jsonl: 1 rejected row was rejected before; the table rejected_rows says why\n"
    assert (result.returncode, result.stderr) == (0, said)
    assert result.stdout == "rows.jsonl: read 3, new 0, known 2, rejected 1 (modules 1, rollouts 1)\n"
    assert [fetch(tmp_path, f"select * from {table}") for table in tables] == before


def test_one_more_row_is_one_new_sample(run: Run, tmp_path: Path) -> None:
    rows = [rollout(number) for number in range(5)]
    write(tmp_path / "rows.jsonl", rows)
    run("ingest", "rows.jsonl")
    write(tmp_path / "rows.jsonl", [rollout(9), *rows])

    result = run("ingest", "rows.jsonl")

    assert result.stdout.startswith("rows.jsonl: read 6, new 1, known 5, rejected 0")
    assert [name for _, name in members(tmp_path, "rows.jsonl")] == ["M9", "M0", "M1", "M2", "M3", "M4"]


@pytest.mark.parametrize("name", ["rows.jsonl", "other"])
def test_shuffled_and_renamed_rows_are_known(run: Run, tmp_path: Path, name: str) -> None:
    rows = [rollout(number) for number in range(20)]
    write(tmp_path / "rows.jsonl", rows)
    run("ingest", "rows.jsonl")
    shuffled = [dict(reversed(row.items())) for row in random.Random(1).sample(rows, 20)]
    write(tmp_path / "moved.jsonl", shuffled)

    result = run("ingest", "moved.jsonl", "--as", name)

    assert result.stdout.startswith(f"{name}: read 20, new 0, known 20, rejected 0")
    assert [found for _, found in members(tmp_path, name)] == [row["info"]["module_name"] for row in shuffled]
    assert fetch(tmp_path, "select count(*) from samples") == [(20,)]


def test_row_that_is_gone_leaves_the_source_and_stays_stored(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [module(1), {"completion": 1}, module(2)])
    run("ingest", "rows.jsonl")
    write(tmp_path / "rows.jsonl", [module(2)])

    result = run("ingest", "rows.jsonl")

    assert result.returncode == 0
    assert members(tmp_path, "rows.jsonl") == [(0, "M2")]
    assert fetch(tmp_path, "select count(*) from samples") == [(2,)]
    assert fetch(tmp_path, "select count(*) from rejected_rows") == [(0,)]


def test_repeats_are_stored_once_and_belong_twice(run: Run, tmp_path: Path) -> None:
    """Also where only timings, key order or nulls differ."""
    again = {"oai_tools": None, **dict(reversed(rollout(1, generation_ms=99.0).items()))}
    write(tmp_path / "rows.jsonl", [rollout(1), rollout(1), again, rollout(2)])

    result = run("ingest", "rows.jsonl")

    assert result.stdout.startswith("rows.jsonl: read 4, new 2, known 2, rejected 0")
    assert members(tmp_path, "rows.jsonl") == [(0, "M1"), (1, "M1"), (2, "M1"), (3, "M2")]
    assert json.loads(fetch(tmp_path, "select row from samples order by module_name")[0][0]) == rollout(1)


def test_same_rows_in_two_sources_are_stored_once(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [module(1), module(2)])
    write(tmp_path / "b.jsonl", [module(2), module(3)])

    result = run("ingest", "a.jsonl", "b.jsonl")

    assert result.stdout.splitlines() == [
        "a.jsonl: read 2, new 2, known 0, rejected 0 (modules 2)",
        "b.jsonl: read 2, new 1, known 1, rejected 0 (modules 2)",
    ]
    assert members(tmp_path, "a.jsonl") == [(0, "M1"), (1, "M2")]
    assert members(tmp_path, "b.jsonl") == [(0, "M2"), (1, "M3")]


def test_limit_reads_the_first_rows_and_adds_only(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [module(number) for number in range(6)])

    first = run("ingest", "rows.jsonl", "-n", 2)
    more = run("ingest", "rows.jsonl", "--limit", 4)
    run("ingest", "rows.jsonl")
    again = run("ingest", "rows.jsonl", "-n", 1)

    assert first.stdout.startswith("rows.jsonl: read 2, new 2, known 0, rejected 0")
    assert more.stdout.startswith("rows.jsonl: read 4, new 2, known 2, rejected 0")
    assert again.stdout.startswith("rows.jsonl: read 1, new 0, known 1, rejected 0")
    assert members(tmp_path, "rows.jsonl") == [(number, f"M{number}") for number in range(6)]


def test_standard_input_adds_what_the_source_lacks(run: Run, tmp_path: Path) -> None:
    first = "".join(json.dumps(row) + "\n" for row in (module(1), module(2)))
    second = "".join(json.dumps(row) + "\n" for row in (module(3), module(2), {"completion": 1}))

    run("ingest", "-", input=first)
    again = run("ingest", "-", input=first)
    result = run("ingest", "-", input=second)
    repeated = run("ingest", "-", input=second)

    assert again.stdout == "stdin: read 2, new 0, known 2, rejected 0 (modules 2)\n"
    assert result.returncode == 3
    assert result.stdout == "stdin: read 3, new 1, known 1, rejected 1 (modules 2)\n"
    assert result.stderr.startswith("stdin:3: ")
    said = "stdin: 1 rejected row was rejected before; the table rejected_rows says why\n"
    assert (repeated.returncode, repeated.stderr) == (0, said)
    assert members(tmp_path, "stdin") == [(0, "M1"), (1, "M2"), (2, "M3")]
    assert fetch(tmp_path, "select position, location from rejected_rows") == [(4, "stdin:3")]


@pytest.mark.parametrize("content", ["jsonl", "json", "gzip", "parquet"])
def test_standard_input_is_read_by_what_it_holds(tmp_path: Path, content: str) -> None:
    write(tmp_path / "rows.jsonl", [module(1), module(2)])
    plain = (tmp_path / "rows.jsonl").read_bytes()
    if content == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([module(1), module(2)]), tmp_path / "rows.parquet")
    given = {
        "jsonl": plain,
        "json": json.dumps([module(1), module(2)]).encode(),
        "gzip": gzip.compress(plain),
        "parquet": (tmp_path / "rows.parquet").read_bytes() if content == "parquet" else b"",
    }[content]

    result = subprocess.run(
        [sys.executable, "-m", "kbetl", "ingest", "-", "--as", "piped"],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path)),
        input=given,
        capture_output=True,
        check=False,
    )

    assert result.stdout == b"piped: read 2, new 2, known 0, rejected 0 (modules 2)\n"


def test_file_is_the_same_however_it_is_packed(run: Run, tmp_path: Path) -> None:
    rows = [rollout(number, note="é", empty=None) for number in range(5)]
    write(tmp_path / "rows.jsonl", rows)
    plain = (tmp_path / "rows.jsonl").read_bytes()
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "rows.jsonl.zst").write_bytes(zstandard.compress(plain))
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet.gz").write_bytes(gzip.compress((tmp_path / "rows.parquet").read_bytes()))
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        cells = csv.DictWriter(file, rows[0])
        cells.writeheader()
        for row in rows:
            cells.writerow(
                {
                    key: json.dumps(value) if isinstance(value, list | dict) else value
                    for key, value in row.items()
                }
            )

    result = run("ingest", *(f"rows.{kind}" for kind in KINDS))

    assert result.returncode == 0, result.stderr
    first, *others = result.stdout.splitlines()
    assert first == "rows.jsonl: read 5, new 5, known 0, rejected 0 (rollouts 5)"
    assert others == [f"rows.{kind}: read 5, new 0, known 5, rejected 0 (rollouts 5)" for kind in KINDS[1:]]
    ((features,),) = fetch(tmp_path, "select features from sources where name = 'rows.parquet'")
    assert json.loads(features)["reward"] == "double"


KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet", "parquet.gz", "csv")


def test_source_that_cannot_be_read_stops_no_other(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [module(1)])

    result = run("ingest", "gone.jsonl", "rows.jsonl")

    assert result.returncode == 1
    assert result.stdout == "rows.jsonl: read 1, new 1, known 0, rejected 0 (modules 1)\n"
    assert result.stderr.startswith("kbetl: gone.jsonl: no such file or folder")


def test_sources_of_the_configuration_are_the_default(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [module(1)])
    write(tmp_path / "b.jsonl", [module(2)])
    (tmp_path / "kbetl.toml").write_text('[ingest]\nsources = ["a.jsonl", "b.jsonl"]\n')

    result = run("ingest")

    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["a.jsonl", "b.jsonl"]


def test_local_path_wins_over_a_dataset_of_that_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "siro1" / "evals").mkdir(parents=True)
    write(tmp_path / "siro1" / "evals" / "rows.jsonl", [module(1)])

    result = run("ingest", "siro1/evals/")

    assert result.stdout == "siro1/evals: read 1, new 1, known 0, rejected 0 (modules 1)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.jsonl", "b.jsonl", "--as", "x"], "--as names one source; 2 are given"),
        (["a.jsonl", "--split", "train"], "--split is for datasets on the Hub; a.jsonl is none"),
        (["-", "--revision", "main"], "--revision is for datasets on the Hub; - is none"),
        (["a.jsonl", "-n", "0"], "0 is not in the range x>=1"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write(tmp_path / "a.jsonl", [module(1)])

    result = run("ingest", *arguments)

    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "kbetl.db").exists()


def test_quiet_says_only_the_counts(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [module(1), {"completion": 1}])

    result = run("ingest", "rows.jsonl", "-q")

    assert (result.returncode, result.stderr) == (3, "")
    assert result.stdout == "rows.jsonl: read 2, new 1, known 0, rejected 1 (modules 1)\n"


def test_each_ingest_is_a_run_with_its_counts(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [module(1), {"completion": 1}])

    run("ingest", "rows.jsonl", "-n", 2)

    ((command, options, status, counts),) = fetch(
        tmp_path, "select command, options, status, counts from runs where ended_at is not null"
    )
    assert (command, status) == ("ingest", 3)
    assert json.loads(options) == {"limit": 2, "sources": ["rows.jsonl"]}
    assert json.loads(counts) == {
        "rows.jsonl": {
            "read": 2,
            "new": 1,
            "known": 0,
            "rejected": 1,
            "rejected_before": 0,
            "modules": 1,
            "rollouts": 0,
            "records": 0,
            "read_anew": 0,
            "dropped_outcomes": 0,
            "dropped_lengths": 0,
        }
    }


def test_real_modules_of_kernelbench_are_modules(run: Run, tmp_path: Path, shared: Path) -> None:
    result = run("ingest", shared / "data" / "kernelbench" / "kernelbench.jsonl", "--as", "kernelbench")

    assert result.stdout == "kernelbench: read 150, new 150, known 0, rejected 0 (modules 150)\n"


def test_real_rollouts_are_rollouts(run: Run, shared: Path) -> None:
    """What prime-rl and verifiers wrote: results are evals rows, their metadata is no row."""
    folder = shared / "data" / "rollouts" / "verifiers-0.1.10"

    result = run("ingest", folder, "--as", "v")

    assert result.returncode == 0, result.stderr
    assert "metadata.json: skipped, one object without the fields of a row" in result.stderr
    assert ", rejected 0 (rollouts " in result.stdout


WIDE = 200_000
"""Bytes of a row of which a batch is some hundreds."""


@contextmanager
def half_done(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """An ingest of a pipe that waits for more, after its first batch was committed."""
    pipe = folder / "rows"
    os.mkfifo(pipe)
    running = subprocess.Popen(
        [sys.executable, "-m", "kbetl", "ingest", "rows"],
        cwd=folder,
        env=clean_environment(HOME=str(folder)),
        stderr=subprocess.PIPE,
    )
    with pipe.open("wb") as file:
        number = 100
        deadline_s = time.monotonic() + 60
        while not _stored(folder):
            assert time.monotonic() < deadline_s
            file.write(json.dumps(module(number, wide="x" * WIDE)).encode() + b"\n")
            file.flush()
            number += 1
        yield running, file


def _stored(folder: Path) -> int:
    try:
        return int(fetch(folder, "select count(*) from samples where module_name <> 'M1'")[0][0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_ingest_that_was_ended_keeps_batches_and_old_memberships(
    run: Run, tmp_path: Path, how: signal.Signals
) -> None:
    write(tmp_path / "before.jsonl", [module(1)])
    run("ingest", "before.jsonl", "--as", "rows")

    with half_done(tmp_path) as (running, _):
        running.send_signal(how)
        _, stderr = running.communicate(timeout=30)

    expected = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how]
    assert running.returncode == expected
    assert b"Traceback" not in stderr
    if how != signal.SIGKILL:
        assert b"what was committed is kept" in stderr
        assert fetch(tmp_path, "select status from runs order by id desc limit 1") == [(expected,)]
    assert fetch(tmp_path, "pragma integrity_check") == [("ok",)]
    kept = _stored(tmp_path)
    assert kept > 0
    assert members(tmp_path, "rows") == [(0, "M1")]

    (tmp_path / "rows").unlink()
    rows = [module(number, wide="x" * WIDE) for number in range(100, 100 + kept + 1)]
    write(tmp_path / "all.jsonl", rows)
    result = run("ingest", "all.jsonl", "--as", "rows")
    assert result.stdout.startswith(f"rows: read {kept + 1}, new 1, known {kept}, rejected 0")
    assert [name for _, name in members(tmp_path, "rows")] == [row["module_name"] for row in rows]


PEAK = """
import re, sys
from pathlib import Path
from kbetl.cli import run
status = run(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
sys.exit(status)
"""


def peak_mb(folder: Path, *arguments: str) -> int:
    """Peak memory of a command, in MB. `ru_maxrss` would be that of the test where it is more."""
    result = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments],
        cwd=folder,
        env=clean_environment(HOME=str(folder)),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stderr.split()[-1]) // 1024


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_memory_does_not_grow_with_rows(tmp_path: Path, kind: str) -> None:
    """Four times the rows, past the first batch and the first page of Parquet, take no more memory."""
    text = "tl.load(ptr + offs, mask=mask)  # é\n" * 750
    for name, count in (("few", 1100), ("many", 4400)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            rows = [module(number, text=f"{number} {text}") for number in range(count)]
            pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
            continue
        with path.open("w") as file:
            file.write("[" if kind == "json" else "")
            for number in range(count):
                file.write("," if kind == "json" and number else "")
                file.write(json.dumps(module(number, text=f"{number} {text}")) + "\n")
            file.write("]" if kind == "json" else "")

    few = peak_mb(tmp_path, "ingest", f"few.{kind}", "-d", "few.db")
    many = peak_mb(tmp_path, "ingest", f"many.{kind}", "-d", "many.db")

    limit = few * 1.1 + 5
    if many >= limit:  # threads of pyarrow may read a page ahead; what grows with rows shows in every run
        many = peak_mb(tmp_path, "ingest", f"many.{kind}", "-d", "again.db")
    assert many < limit, (few, many)
    assert many < (250 if kind == "parquet" else 150)
