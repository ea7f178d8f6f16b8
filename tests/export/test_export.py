"""`kbetl export`: rows as they came, whole files or none, the same bytes twice."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import clean_environment
from evals_rows import Row, evals_row, evals_rows, store_with
from fill_disk import Filling

from kbetl.cli import run
from kbetl.errors import ConfigError
from kbetl.export.formats import UNREAD_REASONING
from kbetl.export.target import target_of

ROWS = evals_rows()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filling:
    monkeypatch.chdir(tmp_path)
    return store_with(Path("kbetl.db"), evals=ROWS)


def lines(path: str | Path) -> list[Row]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def load(path: str, split: str) -> list[Row]:
    """What `load_dataset` reads, in a process of its own: it keeps caches and settings."""
    code = (
        "import sys, json, datasets; print(json.dumps(datasets.load_dataset(sys.argv[1], split=sys.argv[2],"
        "cache_dir='cache').to_list()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path, split],
        env=clean_environment(HOME=str(Path.cwd())),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Row] = json.loads(result.stdout)
    return found


# rows


def test_rows_are_the_stored_text_with_ours_at_the_end(store, capfd):
    """Byte for byte, in source order."""
    assert run(["export", "filtered", "-o", "f.jsonl"]) == 0
    expected = store.rows(
        "select samples.row, filtered.difficulty, filtered.evaluation_raw from filtered"
        " join samples on samples.hash = filtered.sample_hash join source_samples using (sample_hash)"
        " order by position"
    )
    assert Path("f.jsonl").read_text(encoding="utf-8") == "".join(
        f'{row[:-1]}, "difficulty": "{difficulty}", "evaluation_raw": "{raw}"}}\n'
        for row, difficulty, raw in expected
    )
    out, err = capfd.readouterr()
    size = Path("f.jsonl").stat().st_size
    assert out == f"filtered: wrote 9 rows, left out 0, to f.jsonl ({size:,} bytes)\n"
    assert err == f"{UNREAD_REASONING}\n"


def test_spelling_of_a_row_is_kept(tmp_path, monkeypatch):
    """1.0 stays 1.0, 1e3 stays 1e3, escapes, blanks and long numbers stay; NaN is null, and that is said."""
    monkeypatch.chdir(tmp_path)
    text = (
        '{ "completion" :[{"role": "assistant","content":"\\u00e9 \\ud83d\\ude00 \u2028"}], "reward": 1.0,'
        ' "n": 1e3, "big": 123456789012345678901234567890, "f": 0.10000000000000000555, "z": %s}'
    )
    Path("rows.jsonl").write_text(text % "NaN" + "\n", encoding="utf-8")
    assert run(["ingest", "rows.jsonl"]) == 0
    assert run(["export", "evals", "-o", "e.jsonl"]) == 0
    assert Path("e.jsonl").read_text(encoding="utf-8") == text % "null" + "\n"


def test_nan_is_said_to_be_null(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"completion": "x", "z": Infinity}\n{"completion": "y"}\n')
    run(["ingest", "rows.jsonl"])
    capfd.readouterr()
    run(["export", "evals", "-o", "e.jsonl"])
    assert capfd.readouterr().err == "1 rows had NaN or infinite numbers, which are null\n"


def test_a_column_of_the_same_name_gets_our_value_and_that_is_said(tmp_path, monkeypatch, capfd):
    """A row of an earlier filtered dataset: its old label does not go out as ours."""
    monkeypatch.chdir(tmp_path)
    old = evals_row(0, "A", 1.0, "class A: pass", difficulty="high", evaluation_raw=None)
    store_with(Path("kbetl.db"), evals=[old])
    assert run(["export", "filtered", "-o", "f.jsonl"]) == 0
    assert lines("f.jsonl") == [{**old, "difficulty": "low", "evaluation_raw": "low"}]
    assert list(lines("f.jsonl")[0]) == list(old)
    assert capfd.readouterr().err.splitlines() == [
        "rows had a column difficulty of their own; ours stands in its place",
        "rows had a column evaluation_raw of their own; ours stands in its place",
        UNREAD_REASONING,
    ]


def test_columns_of_the_same_name_are_found_when_rows_come_in(tmp_path, monkeypatch, capfd):
    """However they are spelled; a row without them is not searched for them when it goes out."""
    monkeypatch.chdir(tmp_path)
    texts = [
        f'{{"completion": "a", "reward": 1.0{own}}}'
        for own in (
            ', "difficulty": null',
            ', "\\u0064ifficulty": "high", "n": 1',
            "",
            ', "n": {"difficulty": "x"}',
        )
    ]
    Path("rows.jsonl").write_text("\n".join(texts), encoding="utf-8")
    assert run(["ingest", "rows.jsonl"]) == 0
    with Filling(Path("kbetl.db")) as store:
        task = store.task()
        for (sample,) in store.rows("select sample_hash from source_samples group by sample_hash"):
            store.outcome(sample, task, value="low")
        known = store.rows("select has_labels, count(*) from rollout_facts group by has_labels")
    assert known == [(0, 1), (1, 2)]  # the row without the key is the sample of the row with null
    capfd.readouterr()
    assert run(["export", "filtered", "-o", "f.jsonl", "--no-splits"]) == 0
    ours = '"difficulty": "low", "evaluation_raw": "low"'
    assert Path("f.jsonl").read_text(encoding="utf-8").splitlines() == [
        f'{{"completion": "a", "reward": 1.0, {ours}}}',
        '{"completion": "a", "reward": 1.0, "\\u0064ifficulty": "low", "n": 1, "evaluation_raw": "low"}',
        f'{{"completion": "a", "reward": 1.0, "n": {{"difficulty": "x"}}, {ours}}}',
    ]
    assert "a column difficulty of their own" in capfd.readouterr().err


def test_a_later_score_is_the_reward_that_goes_out(store, capfd):
    sample = store.rows("select hash from samples where module_name = 'NoReward'")[0][0]
    store.add("scores", sample_hash=sample, reward=0.5, scored_at="2027", run_id=store.run_id)
    assert run(["export", "evals", "-o", "e.jsonl", "--where", "module_name = 'NoReward'"]) == 0
    assert [row["reward"] for row in lines("e.jsonl")] == [0.5]
    assert (
        capfd.readouterr().err == f"1 rows have a reward that came later than the row\n{UNREAD_REASONING}\n"
    )


def test_a_repeat_goes_out_once_and_that_is_said(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    store_with(Path("kbetl.db"), evals=[ROWS[0], ROWS[1], ROWS[0]])
    run(["export", "evals", "-o", "e.jsonl"])
    assert lines("e.jsonl") == ROWS[:2]
    assert capfd.readouterr().err == (
        f"1 repeats in a source: a row is in the dataset once\n{UNREAD_REASONING}\n"
    )


# kinds of files


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "csv"])
def test_the_same_store_gives_the_same_bytes(store, kind):
    for name in ("one", "two"):
        assert run(["export", "filtered", "-o", f"{name}.{kind}"]) == 0
    assert Path(f"one.{kind}").read_bytes() == Path(f"two.{kind}").read_bytes()


def test_gzip_holds_what_the_plain_file_holds(store):
    run(["export", "evals", "-o", "e.jsonl"])
    run(["export", "evals", "-o", "e.jsonl.gz"])
    assert gzip.decompress(Path("e.jsonl.gz").read_bytes()) == Path("e.jsonl").read_bytes()


def without_nulls(value: Any) -> Any:
    """Arrow gives every row the keys of all rows."""
    if isinstance(value, dict):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    return [without_nulls(child) for child in value] if isinstance(value, list) else value


def test_parquet_holds_the_rows_in_their_types(store):
    """An integral float stays a float, an integer an integer; what is null everywhere is null."""
    import pyarrow.parquet as pq

    run(["export", "filtered", "-o", "f.jsonl"])
    run(["export", "filtered", "-o", "f.parquet"])
    table = pq.read_table("f.parquet")
    assert without_nulls(table.to_pylist()) == without_nulls(lines("f.jsonl"))
    types = {field.name: str(field.type) for field in table.schema}
    assert table.schema.names == [*ROWS[0], "difficulty", "evaluation_raw"]
    assert types["num_turns"] == "double"
    assert types["example_id"] == "int64"
    assert types["reward"] == "double"
    assert types["oai_tools"] == "null"
    assert types["info"] == "struct<module_name: string, python_code: string, triton_code: string>"


def test_parquet_types_come_from_all_rows_also_from_late_ones(tmp_path, monkeypatch):
    """A key, a float and an object that only rows far behind the first ones have, on either side."""
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    rows: list[Row] = [{"completion": "x", "n": number, "o": {"a": 1}, "t": "x"} for number in range(1200)]
    late = ({"n": 0.5}, {"o": {"a": 1, "b": "late"}}, {"t": {"c": 1}}, {"more": [1]})
    for number, change in enumerate(late):
        rows = [*rows, {"completion": "late", "n": -number, **change}]
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert run(["ingest", "rows.jsonl"]) == 0
        for arguments in (["-o", "e.parquet"], ["-o", "s.parquet", "--splits"]):
            assert run(["export", "evals", *arguments]) == 0
        found = pq.read_table("e.parquet").to_pylist()
        expected = rows
        if number >= 2:  # text and an object in one column: JSON text
            texts = [json.dumps(row["t"], separators=(",", ":")) if "t" in row else None for row in rows]
            expected = [{**row, "t": text} for row, text in zip(rows, texts, strict=True)]
        assert without_nulls(found) == without_nulls(expected)
        sides = [pq.read_table(f"s-{side}.parquet") for side in ("train", "validation")]
        assert sides[0].schema == sides[1].schema == pq.read_schema("e.parquet")


def test_csv_holds_every_column_and_runs_no_formula(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"completion": "=1+1", "reward": -0.5, "a": None},
        {"completion": '@x, "y"\nz', "b": [1, {"c": "-"}], "a": True, "n": 10**30},
        {"completion": "\t=x", "a": "", "b": "-3"},
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(["ingest", "rows.jsonl"])
    assert run(["export", "evals", "-o", "e.csv"]) == 0
    with Path("e.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["completion", "reward", "a", "b", "n"],
            ["'=1+1", "-0.5", "", "", ""],
            ['\'@x, "y"\nz', "", "true", '[1,{"c":"-"}]', str(10**30)],
            ["'\t=x", "", "", "-3", ""],
        ]


def test_a_folder_is_read_by_load_dataset_with_its_splits(store):
    assert run(["export", "filtered", "-o", "sft/"]) == 0
    assert run(["export", "filtered", "-o", "f.jsonl", "--splits"]) == 0
    for split in ("train", "validation"):
        assert without_nulls(load("sft", split)) == without_nulls(lines(f"f-{split}.jsonl"))
    assert sum(len(lines(f"f-{split}.jsonl")) for split in ("train", "validation")) == 9


def test_a_side_without_rows_is_not_in_a_folder(tmp_path, monkeypatch, capfd):
    """`load_dataset` fails where a split has no rows."""
    monkeypatch.chdir(tmp_path)
    store_with(Path("kbetl.db"), evals=ROWS[:1])
    assert run(["export", "filtered", "-o", "sft"]) == 0
    (path,) = Path("sft/data").iterdir()
    side, other = ("train", "validation")[:: 1 if path.name.startswith("train") else -1]
    assert capfd.readouterr().err == (
        f"there is no row in {other}, so the folder has no such side\n{UNREAD_REASONING}\n"
    )
    assert len(load("sft", side)) == 1


def test_evals_and_synthetic_are_train_alone_unless_told(store):
    assert run(["export", "evals", "-o", "all"]) == 0
    assert sorted(path.name for path in Path("all/data").iterdir()) == ["train-00000-of-00001.parquet"]
    assert run(["export", "evals", "-o", "all", "--splits"]) == 0
    assert len(list(Path("all/data").iterdir())) == 2


def test_synthetic_has_its_five_columns_and_the_uuid_as_the_source_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Filling(Path("kbetl.db")) as store:
        task = store.task("prompts", about="module", restriction=None, closing="\n\nEND\n")
        rows = [{"module_name": "A", "python_code": "a", "triton_code": "t", "uuid": 7, "stars": 1}]
        rows.append({"module_name": "B", "python_code": "b", "uuid": "x-1"})
        for row in rows:
            store.outcome(store.sample(row, "module"), task, value=f"do {row['module_name']}")
        store.source(
            "kernelbook", *(hash_ for (hash_,) in store.rows("select hash from samples order by rowid"))
        )
        store.source("rollouts", store.rollout("R", 1.0))
        store.source("more", store.rollout("S", 1.0))
    assert run(["export", "synthetic"]) == 0
    assert lines("outputs/synthetic_prompts.jsonl") == [
        {"prompt": "do A\n\nEND\n", "module_name": "A", "python_code": "a", "triton_code": "t", "uuid": 7},
        {
            "prompt": "do B\n\nEND\n",
            "module_name": "B",
            "python_code": "b",
            "triton_code": None,
            "uuid": "x-1",
        },
    ]


def test_outputs_have_the_names_of_the_original_unless_the_environment_says_otherwise(store, monkeypatch):
    for dataset in ("filtered", "unique"):
        assert run(["export", dataset]) == 0
    assert len(lines("outputs/filtered_dataset.jsonl")) == 9
    assert len(lines("outputs/filtered_dataset-filtered.jsonl")) == 6
    monkeypatch.setenv("UNIQUE_DATASET_PATH", "mine/u.jsonl")
    assert run(["export", "unique"]) == 0
    assert len(lines("mine/u.jsonl")) == 6
    assert run(["export", "evals"]) == 2


# SQL


def test_a_query_is_exported_like_a_dataset(store):
    import pyarrow.parquet as pq

    query = "select module_name, reward, null as empty from rollouts where reward > 0.98 order by 2, 1"
    assert run(["export", "--sql", query, "-o", "q.jsonl"]) == 0
    assert run(["export", "--sql", query, "-o", "q.parquet"]) == 0
    assert run(["export", "--sql", query, "-o", "q"]) == 0
    expected = [
        {"module_name": name, "reward": reward, "empty": None}
        for name, reward in (("Nothing", 0.99), ("Unread", 0.99), ("Attention", 1.0), ("Attention", 1.0))
    ]
    expected.append({"module_name": "Plain", "reward": 1.0, "empty": None})
    assert lines("q.jsonl") == expected
    assert pq.read_table("q.parquet").to_pylist() == expected
    assert load("q", "train") == expected


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("delete from samples", 2, "a query can only read this store"),
        ("select 1 as a, 2 as a", 2, "two columns are called 'a'"),
        ("select x'00' as a", 2, "holds a BLOB"),
        ("select 9e999 as a", 2, "an infinite number"),
        ("select 1 where 0", 1, "no rows, so nothing was written"),
        ("selec", 2, "syntax error"),
        (" ", 2, "--sql holds no statement"),
    ],
)
def test_a_query_that_cannot_be_exported_leaves_no_file(store, capfd, query, status, message):
    assert run(["export", "--sql", query, "-o", "q.jsonl"]) == status
    assert message in capfd.readouterr().err
    assert [path.name for path in Path.cwd().iterdir() if "q." in path.name] == []


# what is refused


@pytest.mark.parametrize("where", ["1) or (1", "1 limit 1", "select 1", "1; select 1", "1 /*", ""])
def test_a_condition_is_one_whole_expression(store, capfd, where):
    """None that closes the bracket around it, or opens what it does not close."""
    assert run(["export", "evals", "-o", "x.jsonl", "--where", where]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"kbetl: where {where!r}: ")
    assert err.count("\n") == 1
    assert not Path("x.jsonl").exists()


def test_a_side_without_rows_is_said(store, capfd):
    """Its file is there all the same: who reads both sides finds both."""
    store.source("one", store.rollout("A", 1.0))
    assert run(["export", "evals", "-o", "x.jsonl", "--source", "one", "--splits"]) == 0
    sides = {side: Path(f"x-{side}.jsonl") for side in ("train", "validation")}
    empty = [side for side, path in sides.items() if not path.read_bytes()]
    assert len(empty) == 1
    assert f"there is no row in {empty[0]}, so {sides[empty[0]]} is empty" in capfd.readouterr().err


def test_rows_of_two_sources_do_not_mix_unless_told(store, capfd):
    store.source("more", store.rollout("D", 1.0))
    for dataset in ("filtered", "unique", "evals"):
        assert run(["export", dataset, "-o", "x.jsonl"]) == 2
        assert "rollouts of 2 sources: evals, more" in capfd.readouterr().err
    assert not Path("x.jsonl").exists()
    assert run(["export", "evals", "-o", "x.jsonl", "--source", "evals"]) == 0
    assert lines("x.jsonl") == ROWS
    assert run(["export", "evals", "-o", "x.jsonl", "--all-sources"]) == 0
    assert len(lines("x.jsonl")) == len(ROWS) + 1


def test_an_empty_dataset_says_why_and_leaves_the_old_file(store, capfd):
    Path("old.jsonl").write_text("old")
    assert run(["export", "synthetic", "-o", "old.jsonl"]) == 1
    assert "there is no module in kbetl.db; run: kbetl ingest" in capfd.readouterr().err
    store.module("M")
    assert run(["export", "synthetic", "-o", "old.jsonl"]) == 1
    assert "none of 1 modules has a specification; run: kbetl prompts" in capfd.readouterr().err
    assert run(["export", "unique", "-o", "old.jsonl", "--where", "reward > 9"]) == 1
    assert "no row satisfies 'reward > 9'" in capfd.readouterr().err
    store.rows("update tasks set in_use = 0")
    store.outcome(store.rollout("Elsewhere", 0.1), store.task(model="other"), value="low")
    assert run(["export", "filtered", "-o", "old.jsonl", "--source", "evals"]) == 1
    assert (
        "none of 10 rollouts of evals with a good reward is rated by the task in use; 9 are labelled by m"
        in capfd.readouterr().err
    )
    store.store.change_setting("min_reward", 5.0)
    assert run(["export", "filtered", "-o", "old.jsonl"]) == 1
    assert "none of 13 rollouts has a reward above 5.0" in capfd.readouterr().err
    assert Path("old.jsonl").read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filtered", "-o", "x.txt"], "not one of .jsonl, .jsonl.gz, .parquet, .csv, or a folder"),
        (["filtered", "-o", "pipe"], "-o pipe is a device or pipe"),
        (["filtered", "-o", "pipe.jsonl"], "-o pipe.jsonl is a device or pipe"),
        (["filtered", "-o", "plain"], "-o plain is a file of another kind"),
        (["filtered", "-o", "full"], "full is a folder with other files in it"),
        (["filtered", "-o", "x.jsonl", "--by", "code"], "--by code is for unique alone"),
        (["synthetic", "-o", "x.jsonl", "--format", "messages"], "synthetic has prompts and no completions"),
        (["evals", "-o", "x.jsonl", "--sql", "select 1"], "leave out evals"),
        (["--sql", "select 1", "-o", "x.jsonl", "--no-splits"], "leave out --splits"),
        (["--sql", "select 1"], "say where to write it with -o"),
        ([], "name a dataset"),
        (["filtered", "-o", "x.jsonl", "--random-split", "--no-splits"], "--random-split makes splits"),
        (["filtered", "-o", "x.jsonl", "--where", "nonsense = 1"], "no such column: nonsense"),
    ],
)
def test_wrong_usage_ends_with_2(store, capfd, arguments, message):
    Path("full").mkdir()
    Path("full/mine.txt").touch()
    Path("plain").touch()
    os.mkfifo("pipe")
    os.mkfifo("pipe.jsonl")
    assert run(["export", *arguments]) == 2
    assert message in capfd.readouterr().err
    assert Path("pipe").is_fifo()
    assert Path("pipe.jsonl").is_fifo()
    assert Path("plain").is_file()
    assert Path("full/mine.txt").is_file()
    assert not Path("x.jsonl").exists()


def test_no_store_is_an_error_and_makes_none(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(["export", "filtered", "-o", "x.jsonl"]) == 1
    assert "no store at kbetl.db" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


# whole or not at all


def test_a_full_disk_leaves_the_old_file(store):
    """A limit on the size of files fails the write as a full disk does."""
    Path("f.jsonl").write_text("old")
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
    limited += "from kbetl.cli import main; main(sys.argv[1:])"
    for output in ("f.jsonl", "folder"):
        result = subprocess.run(
            [sys.executable, "-c", limited, "export", "evals", "-o", output],
            env=clean_environment(PYTHONDONTWRITEBYTECODE="1"),  # it would be cut off as well
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert result.stderr.startswith("kbetl: ")
        assert "cannot be written: File too large" in result.stderr
    assert Path("f.jsonl").read_text() == "old"
    assert [path.name for path in Path.cwd().iterdir() if ".part" in path.name or path.name == "folder"] == []


def test_a_killed_export_leaves_the_old_file(tmp_path, monkeypatch):
    """Whenever it is killed, the file is the old one or the new one."""
    monkeypatch.chdir(tmp_path)
    store_with(Path("kbetl.db"), evals=[{**row, "answer": "x" * 200_000} for row in ROWS])
    Path("f.jsonl").write_text("old")
    command = [sys.executable, "-m", "kbetl", "export", "evals", "-o", "f.jsonl"]
    process = subprocess.Popen(command, env=clean_environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".f.jsonl.*")) and process.poll() is None and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    content = Path("f.jsonl").read_text()
    assert content == "old" or len(content.splitlines()) == len(ROWS)


def test_a_folder_of_ours_is_replaced_whole(store):
    """Nothing of the old export stays in the new one."""
    assert run(["export", "filtered", "-o", "sft"]) == 0
    assert run(["export", "filtered", "-o", "sft", "--no-splits", "--format", "messages"]) == 3
    names = sorted(str(path.relative_to("sft")) for path in Path("sft").rglob("*") if path.is_file())
    assert names == ["README.md", "data/train-00000-of-00001.parquet", "sft.toml"]
    assert [path.name for path in Path.cwd().iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("output", ["-", "", " "])
def test_an_output_that_names_nothing_is_refused(output):
    """`-` is standard input for ingest; here it would be a folder of that name."""
    with pytest.raises(ConfigError, match="names no file or folder"):
        target_of(output)
