"""kbetl synth record: every shape of every tool, each rollout once, nothing lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kbetl.cli import run as kbetl

RUNS = Path(__file__).parent / "rollouts"
"""A few real lines of each tool and version."""

Query = Callable[..., list[Any]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, with a copy of the runs in `runs`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUNS, tmp_path / "runs")
    return tmp_path


@pytest.fixture
def query(home: Path) -> Query:
    def rows(sql: str, *values: Any) -> list[Any]:
        with sqlite3.connect(home / "kbetl.db") as plain:
            found = plain.execute(sql, values).fetchall()
        plain.close()
        return found

    return rows


def record(*arguments: object) -> int:
    return kbetl(["synth", "record", *map(str, arguments), "-q"])


def the_file(folder: str) -> Path:
    (file,) = Path("runs").glob(f"{folder}/*.jsonl")
    return file


def change(file: Path, number: int, edit: Callable[[dict[str, Any]], Any]) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[number])
    edit(row)
    lines[number] = json.dumps(row)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


# what the real files hold, read with plain json


class Told(NamedTuple):
    """What an independent reading finds in one rollout."""

    module_name: str | None
    model: str | None
    example_id: Any
    reward: float | None
    completion: str | None
    reasoning: str | None
    error: str | None


def joined(parts: list[str | None]) -> str | None:
    return "\n\n".join(part for part in parts if part) or None


def last(messages: list[dict[str, Any]]) -> str | None:
    texts = [each.get("content") for each in messages if each["role"] == "assistant" and each.get("content")]
    return texts[-1] if texts else None


def told_by_rows(file: Path) -> Iterator[Told]:
    metadata = file.parent / "metadata.json"
    if metadata.exists():
        model = json.loads(metadata.read_text())["model"]
    else:
        model = file.parent.parent.name.partition("--")[2].replace("--", "/")
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        reasoning = [each.get("reasoning") or each.get("reasoning_content") for each in row["completion"]]
        if not any(reasoning):
            responses = [step["response"] for step in row.get("trajectory") or []]
            said = [
                each["choices"][0]["message"] if "choices" in each else each["message"] for each in responses
            ]
            reasoning = [each.get("reasoning") or each.get("reasoning_content") for each in said]
        error = row.get("error")
        kind = error["error"] if isinstance(error, dict) else (error or "").partition("(")[0] or None
        yield Told(
            row["info"]["module_name"],
            model,
            row["example_id"],
            row["reward"],
            last(row["completion"]),
            joined(reasoning),
            kind,
        )


def told_by_episodes(file: Path) -> Iterator[Told]:
    for line in file.read_text(encoding="utf-8").splitlines():
        for trace in json.loads(line)["traces"]:
            sampled = [node["message"] for node in trace["nodes"] if node["sampled"]]
            scores = [
                part["score"] * part["weight"]
                for part in trace["rewards"].values()
                if part["score"] is not None
            ]
            yield Told(
                trace["task"]["data"]["module_name"],
                trace["calls"][0]["model"],
                trace["task"]["data"]["idx"],
                sum(scores) if scores else None,
                last(sampled),
                joined([each.get("reasoning_content") for each in sampled]),
                trace["errors"][0]["type"] if trace["errors"] else None,
            )


def told_by_batch(file: Path) -> Iterator[Told]:
    asked = [
        json.loads(line)["body"]["model"] for line in (file.parent / "batch_in.jsonl").open(encoding="utf-8")
    ]
    for model, line in zip(asked, file.open(encoding="utf-8"), strict=True):
        answer = json.loads(line)
        body = answer["response"]["body"]
        error = answer["error"]
        if error is not None:
            kind = error["error"]["type"] if isinstance(error, dict) else "status 400"
            yield Told(None, model, answer["custom_id"], None, None, None, kind)
        for choice in body["choices"] if body else []:
            said = choice["message"]
            yield Told(
                None,
                model,
                answer["custom_id"],
                None,
                said["content"] or None,
                said["reasoning"] or None,
                None,
            )


def told_by(file: Path) -> list[Told]:
    reader = {"batch_out.jsonl": told_by_batch, "results.jsonl": told_by_rows}.get(
        file.name, told_by_episodes
    )
    return list(reader(file))


STORED = """
select rollouts.module_name, model, example_id, rollouts.reward, completion, reasoning, error
from source_samples join rollouts using (sample_hash)
order by position
"""


def check_file(file: Path, database: Path) -> str:
    """Records one file in a store of its own and compares it, place by place; gives a line of the table."""
    assert kbetl(["synth", "record", str(file), "-q", "-d", str(database)]) == 0
    with sqlite3.connect(database) as plain:
        stored = [Told(*row) for row in plain.execute(STORED)]
    plain.close()
    told = told_by(file)
    assert stored == told
    characters = sum(len(each.reasoning or "") for each in told)
    rewards = sum(each.reward is not None for each in told)
    errors = sum(each.error is not None for each in told)
    return f"{len(told)} rollouts, {errors} errors, {characters} characters of reasoning, {rewards} rewards"


OURS = sorted(path for path in RUNS.rglob("*.jsonl") if path.name != "batch_in.jsonl")


@pytest.mark.parametrize("file", OURS, ids=lambda path: str(path.relative_to(RUNS).parent))
def test_a_run_is_recorded_as_its_file_tells(home, file):
    check_file(file, home / "one.db")


def test_every_real_file_is_recorded_as_it_tells(home, shared):
    """All of them, also those that are not copied here."""
    files = sorted((shared / "data" / "rollouts").rglob("*.jsonl"))
    files = [path for path in files if not path.name.startswith(("batch_in", "batch_bad"))]
    assert len(files) == 19
    table = {
        str(file.relative_to(shared / "data" / "rollouts")): check_file(file, home / f"{number}.db")
        for number, file in enumerate(files)
    }
    print("\n".join(f"{name}: {line}" for name, line in table.items()))
    assert not any(line.startswith("0 rollouts") for line in table.values())


# once each


def test_recording_again_adds_nothing(home, query):
    """The same runs, a copy of them elsewhere, and one file of them by its own name."""
    assert record("runs") == 0
    before = query("select hash, row from samples order by hash")
    assert len(before) == 36
    shutil.copytree("runs/synthesize/kernelbook--mock--glm-think/52279e7f", "copy")
    assert record("runs") == 0
    assert record("copy", "--model", "mock/glm-think") == 0
    assert record("runs/verifiers-0.4.0/kb-tiny--mock--glm-think--null--30aed7c1/traces.jsonl") == 0
    assert query("select hash, row from samples order by hash") == before


def test_ingest_and_record_are_the_same_door(home, query):
    file = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-err500/*")
    assert kbetl(["ingest", str(file), "-q"]) == 0
    before = query("select * from samples")
    assert query("select distinct model from rollouts") == [(None,), ("mock/glm-err500",)]
    assert record(file.parent) == 0
    assert query("select * from samples") == before
    assert query("select distinct model, environment from rollouts") == [
        ("mock/glm-err500", "kernelbook-env")
    ]
