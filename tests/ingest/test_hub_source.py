"""Ingest of datasets on the Hub, with the real clients against a Hub on this machine."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run, clean_environment
from fake_hub import TOKEN, FakeHub


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


def module(number: int) -> dict[str, Any]:
    return {
        "entry_point": f"M{number}",
        "module_name": f"M{number}",
        "python_code": f"class M{number}(nn.Module): pass",
        "triton_code": "tl.load()",
        "synthetic": False,
        "uuid": number,
        "licenses": ["MIT"],
        "stars": number * 10,
    }


def rollout(number: int) -> dict[str, Any]:
    return {
        "example_id": number,
        "prompt": [{"role": "user", "content": "é"}],
        "completion": [{"role": "assistant", "content": f"kernel {number}", "reasoning": "so"}],
        "task": "default",
        "reward": 1.0 if number % 2 else 0.5,
        "generation_ms": 1.5 * number,
        "info": {"module_name": f"M{number}", "python_code": "class M: pass", "triton_code": "tl"},
        "answer": "",
        "num_turns": 1.0,
        "oai_tools": None,
    }


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(folder: Path, rows: list[dict[str, Any]]) -> bytes:
    path = folder / "made.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path.read_bytes()


def fetch(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "kbetl.db") as store:
        return store.execute(query).fetchall()


def python(folder: Path, hub: FakeHub, code: str) -> None:
    """Runs the unmodified clients as a user's own script would."""
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean_environment(HOME=str(folder), **hub.environment),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_jsonl_dataset_gives_the_samples_of_the_file(run: Run, tmp_path: Path, hub: FakeHub) -> None:
    rows = [rollout(number) for number in range(5)]
    sha = hub.commit("siro1/evals", {"data/train.jsonl": jsonl(rows)})
    tmp_path.joinpath("local.jsonl").write_bytes(jsonl(rows))

    result = run("ingest", "local.jsonl", "siro1/evals", env=hub.environment)

    assert result.returncode == 0, result.stderr
    assert (
        result.stdout.splitlines()[1] == "siro1/evals:train: read 5, new 0, known 5, rejected 0 (rollouts 5)"
    )
    found = fetch(tmp_path, "select name, uri, kind, revision, split from sources where kind = 'hub'")
    assert found == [("siro1/evals:train", "siro1/evals", "hub", sha, "train")]


def test_pushed_dataset_gives_the_samples_of_the_file_it_was_made_from(
    run: Run, tmp_path: Path, hub: FakeHub
) -> None:
    """Arrow adds nulls and floats, and the identity does not mind."""
    rows: list[dict[str, Any]] = [rollout(number) for number in range(20)]
    rows[3]["completion"][0]["tool_calls"] = None
    rows[4]["info"]["extra"] = {"depth": 1}
    del rows[5]["answer"]
    tmp_path.joinpath("local.jsonl").write_bytes(jsonl(rows))
    python(
        tmp_path,
        hub,
        "import datasets\n"
        "made = datasets.load_dataset('json', data_files='local.jsonl', split='train')\n"
        "datasets.DatasetDict(train=made.select(range(15)), validation=made.select(range(15, 20)))"
        ".push_to_hub('siro1/evals')",
    )

    first = run("ingest", "local.jsonl", env=hub.environment)
    train = run("ingest", "siro1/evals", env=hub.environment)
    validation = run("ingest", "siro1/evals", "--split", "validation", env=hub.environment)

    assert first.stdout.startswith("local.jsonl: read 20, new 20")
    assert train.stdout == "siro1/evals:train: read 15, new 0, known 15, rejected 0 (rollouts 15)\n"
    assert validation.stdout == "siro1/evals:validation: read 5, new 0, known 5, rejected 0 (rollouts 5)\n", (
        validation.stderr
    )
    ((features,),) = fetch(tmp_path, "select features from sources where name = 'siro1/evals:train'")
    assert json.loads(features)["reward"]["dtype"] == "float64"


def test_dataset_that_holds_its_rows_twice_is_read_once(run: Run, tmp_path: Path, hub: FakeHub) -> None:
    """KernelBook holds its rows twice, as JSON and as Parquet."""
    rows = [module(number) for number in range(200)]
    hub.commit(
        "GPUMODE/KernelBook",
        {
            "dataset_permissive.json": json.dumps(rows, indent=1).encode(),
            "dataset_permissive.parquet": parquet(tmp_path, rows),
            "README.md": b"---\nlicense: mit\n---\n# KernelBook\n",
        },
    )
    tmp_path.joinpath("local.json").write_text(json.dumps(rows))

    result = run("ingest", "GPUMODE/KernelBook", "local.json", env=hub.environment)

    assert result.stdout.splitlines() == [
        "GPUMODE/KernelBook:train: read 200, new 200, known 0, rejected 0 (modules 200)",
        "local.json: read 200, new 0, known 200, rejected 0 (modules 200)",
    ]
    read = {request for request in hub.requests if request.startswith("GET /datasets/")}
    assert [path for path in read if path.endswith("permissive.parquet")]
    assert not [path for path in read if path.endswith("permissive.json")]


def test_revision_is_pinned_and_named(run: Run, tmp_path: Path, hub: FakeHub) -> None:
    old = hub.commit("siro1/evals", {"data/train.jsonl": jsonl([rollout(1), rollout(2)])})
    new = hub.commit("siro1/evals", {"data/train.jsonl": jsonl([rollout(2)])})

    run("ingest", "siro1/evals", "--revision", old, "--as", "old", env=hub.environment)
    run("ingest", "siro1/evals", env=hub.environment)

    found = fetch(
        tmp_path,
        "select name, revision, count(*) from sources join source_samples on source_id = id group by id",
    )
    assert found == [("old", old, 2), ("siro1/evals:train", new, 1)]


def test_files_of_a_split_are_read_in_order_and_rejected_by_name(
    run: Run, tmp_path: Path, hub: FakeHub
) -> None:
    hub.commit(
        "siro1/evals",
        {
            "data/train-00001-of-00002.jsonl": jsonl([rollout(3)]) + b"{}\n",
            "data/train-00000-of-00002.jsonl": jsonl([rollout(1), rollout(2)]),
            "data/test-00000-of-00001.jsonl": jsonl([rollout(4)]),
        },
    )

    result = run("ingest", "siro1/evals", env=hub.environment)

    assert result.returncode == 3
    assert result.stderr.startswith("siro1/evals/data/train-00001-of-00002.jsonl:2: an object without fields")
    names = fetch(
        tmp_path,
        "select module_name from source_samples join samples on hash = sample_hash order by position",
    )
    assert names == [("M1",), ("M2",), ("M3",)]


def test_files_that_the_card_names_are_the_split(run: Run, tmp_path: Path, hub: FakeHub) -> None:
    card = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: best\n    path: b.jsonl\n---\n"
    hub.commit(
        "siro1/evals", {"a.jsonl": jsonl([rollout(1)]), "b.jsonl": jsonl([rollout(2)]), "README.md": card}
    )

    result = run("ingest", "siro1/evals", "--split", "best", env=hub.environment)
    other = run("ingest", "siro1/evals", env=hub.environment)

    assert result.stdout.startswith("siro1/evals:best: read 1, new 1")
    assert other.returncode == 1
    assert other.stderr == "kbetl: siro1/evals has no split 'train'; it has best\n"


def test_private_dataset_needs_the_token(run: Run, hub: FakeHub) -> None:
    hub.commit("siro1/evals", {"train.jsonl": jsonl([rollout(1)])})
    hub.repos["siro1/evals"].is_private = True

    refused = run("ingest", "siro1/evals", env={**hub.environment, "HF_TOKEN": ""})
    let_in = run("ingest", "siro1/evals", env=hub.environment)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "kbetl: siro1/evals: no such file, and no such dataset on the Hub; if it is private, set HF_TOKEN\n"
    )
    assert let_in.returncode == 0
    assert TOKEN not in let_in.stderr + let_in.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["siro1/gone"], "siro1/gone: no such file, and no such dataset on the Hub"),
        (["siro1/evals", "--revision", "v9"], "siro1/evals: it has no revision 'v9'"),
        (["siro1/evals", "--split", "test"], "siro1/evals has no split 'test'; it has train"),
        (["siro1/gated"], "siro1/gated: it is gated; accept its terms on the Hub (http://127.0.0.1:"),
        (["siro1/pictures"], "siro1/pictures: a.png is not one of .jsonl, .json, .csv, .parquet and .arrow"),
        (["siro1/empty"], "siro1/empty: `datasets` cannot read it: "),
    ],
)
def test_dataset_that_cannot_be_read_is_one_line(
    run: Run, tmp_path: Path, hub: FakeHub, arguments: list[str], message: str
) -> None:
    hub.commit("siro1/evals", {"train.jsonl": jsonl([rollout(1)])})
    hub.commit("siro1/gated", {"train.jsonl": b"{}"})
    hub.repos["siro1/gated"].is_gated = True
    hub.commit("siro1/pictures", {"a.png": b"\x89PNG"})
    hub.commit("siro1/empty", {"notes.xyz": b"nothing"})

    result = run("ingest", *arguments, env=hub.environment)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"kbetl: {message}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "kbetl.db").exists()


def test_no_network_is_one_line(run: Run, hub: FakeHub) -> None:
    unreachable = {**hub.environment, "HF_ENDPOINT": "http://127.0.0.1:9"}

    result = run("ingest", "siro1/evals", env=unreachable)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("kbetl: siro1/evals: the Hub cannot be reached (")
    assert result.stderr.count("\n") == 1


def test_offline_is_respected(run: Run, hub: FakeHub) -> None:
    result = run("ingest", "siro1/evals", env={**hub.environment, "HF_HUB_OFFLINE": "1"})

    assert result.returncode == 1
    assert "HF_HUB_OFFLINE is set" in result.stderr
    assert hub.requests == []


def test_code_in_a_dataset_is_never_run(run: Run, tmp_path: Path, hub: FakeHub) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
    hub.commit("siro1/evals", {"evals.py": code, "train.jsonl": jsonl([rollout(1)])})

    result = run("ingest", "siro1/evals", env=hub.environment)

    assert not (tmp_path / "ran").exists()
    assert result.returncode in (0, 1)
    assert result.stderr.count("\n") <= 1


def test_conflict_on_a_commit_is_raised_and_changes_nothing(tmp_path: Path, hub: FakeHub) -> None:
    """What the pushing command has to bear: 409, 412 and 503, and blobs that are kept."""
    push = "import datasets; datasets.Dataset.from_list([{'a': 1}]).push_to_hub('siro1/kb')"
    for status in (409, 412, 503):
        hub.faults = [status]
        with pytest.raises(subprocess.CalledProcessError) as failed:
            python(tmp_path, hub, push)
        assert str(status) in failed.value.stderr
        assert "data/train-00000-of-00001.parquet" not in hub.files("siro1/kb")

    python(tmp_path, hub, push)

    assert "data/train-00000-of-00001.parquet" in hub.files("siro1/kb")
    sha = hub.repos["siro1/kb"].sha
    python(tmp_path, hub, push)
    assert hub.repos["siro1/kb"].sha == sha, "the same bytes again make no commit"
