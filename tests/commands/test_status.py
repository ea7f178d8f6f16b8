"""`kbetl status`: what is there, what is missing, what failed, what it cost, what to run next."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fill_disk import TIME, Filling

from kbetl import resources
from kbetl.cli import run as run_command
from kbetl.status import read_status, status_lines
from kbetl.store import COMMAND_LINE, Store

HEAVY = ("pandas", "datasets", "transformers", "aiohttp", "sqlite_utils", "pyarrow", "numpy", "rich")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filling]:
    monkeypatch.chdir(tmp_path)
    with Filling(Path("kbetl.db")) as filling:
        filling.store.end_run(filling.run_id, 0, {})
        yield filling


def fill(store: Filling) -> dict[str, str]:
    """Six rollouts, a module, two tasks, one interrupted run; gives the samples by name."""
    rollouts = {name: store.rollout(name, 0.9) for name in ("A", "B", "C", "D", "E")}
    rollouts["poor"] = store.rollout("poor", 0.2)
    source = store.source("rows.jsonl", *rollouts.values(), rollouts["A"], store.module("M"))
    store.add(
        "rejected_rows",
        source_id=source,
        position=8,
        location="rows.jsonl:9",
        reason="no",
        run_id=store.run_id,
    )
    task, other = store.task(), store.task(model="other", in_use=False)
    run = store.store.begin_run("enrich", {}, task="difficulty")
    store.outcome(
        rollouts["A"], task, value="low", request_hash=store.answer("A", "low", run_id=run, cost_usd=0.25)
    )
    store.outcome(rollouts["B"], task, value="high", request_hash=store.answer("B", "high", run_id=run))
    store.outcome(rollouts["C"], task, "unparsed", request_hash=None, reason="no \x1b[31m tag")
    store.outcome(rollouts["D"], task, "failed", request_hash=None, reason="500")
    store.outcome(rollouts["E"], other, value="low", request_hash=None)
    store.store.end_run(run, 130, {})
    return rollouts


def test_everything_is_said(store):
    fill(store)
    found = read_status(store.path).as_json()
    size = found.pop("size_bytes")
    task, other = (row[0] for row in store.rows("select hash from tasks order by in_use desc"))

    assert size == store.path.stat().st_size
    assert found == {
        "database": "kbetl.db",
        "pending": [
            {"task": "difficulty", "why": "new", "samples": 1},
            {"task": "difficulty", "why": "failed", "samples": 1},
        ],
        "handed_out": [],
        "failures": [
            {"task": "difficulty", "status": "failed", "reason": "500", "samples": 1},
            {"task": "difficulty", "status": "unparsed", "reason": "no \x1b[31m tag", "samples": 1},
        ],
        "parked": [],
        "unfinished": [
            {
                "run_id": 2,
                "command": "enrich",
                "task": "difficulty",
                "started_at": store.rows("select started_at from runs where id = 2")[0][0],
                "status": 130,
                "pid": os.getpid(),
                "is_running": False,
                "resume": "kbetl enrich --resume",
            }
        ],
        "sources": [
            {
                "name": "rows.jsonl",
                "rows": 8,
                "samples": 7,
                "modules": 1,
                "rollouts": 6,
                "records": 0,
                "rejected": 1,
                "ingested_at": TIME,
            }
        ],
        "models": [],
        "samples": [
            {"kind": "module", "samples": 1, "good": 0},
            {"kind": "rollout", "samples": 6, "good": 5},
        ],
        "labels": [
            {
                "task": "difficulty",
                "task_hash": task,
                "model": "m",
                "in_use": True,
                "outcomes": {"failed": 1, "ok": 2, "unparsed": 1},
            },
            {
                "task": "difficulty",
                "task_hash": other,
                "model": "other",
                "in_use": False,
                "outcomes": {"ok": 1},
            },
        ],
        "difficulties": [
            {"difficulty": "high", "samples": 1, "good": 1},
            {"difficulty": "low", "samples": 1, "good": 1},
        ],
        "costs": [
            {
                "task": "difficulty",
                "model": "m",
                "answers": 2,
                "cost_usd": 0.25,
                "answers_without_cost": 1,
                "prompt_tokens": None,
                "completion_tokens": None,
                "computed_usd": None,
                "uncounted": 1,
                "reserved": 0,
                "reserved_usd": None,
            }
        ],
        "served": [],
        "reserved": [],
        "settings": {"min_reward": 0.85, "split_by": "code", "split_seed": 42, "split_share": 0.1},
        "next": "kbetl enrich -m m",
    }


def test_lines_for_people(store, capfd):
    """What is left over comes before what is there; escape codes are shown."""
    fill(store)
    assert run_command(["status"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    started = store.rows("select started_at from runs where id = 2")[0][0]
    tasks = [row[0][:11] for row in store.rows("select hash from tasks order by in_use desc")]
    assert lines[1:] == [
        "missing       difficulty: 1 to be asked",
        "              difficulty: 1 failed, to be asked again",
        "failed        difficulty: 1 failed: 500",
        "              difficulty: 1 unparsed: no \\x1b[31m tag",
        f"not finished  run 2, enrich of difficulty, {started}: interrupted; kbetl enrich --resume",
        "sources       rows.jsonl: 8 rows, 7 samples (1 modules, 6 rollouts, 1 rejected)",
        "rewards       5 of 6 rollouts above 0.85",
        f"labels        difficulty by m ({tasks[0]}), in use: 1 failed, 2 ok, 1 unparsed",
        "                high 1 (50%), low 1 (50%)",
        f"              difficulty by other ({tasks[1]}), not in use: 1 ok",
        "cost          difficulty by m: 2 answers, $0.2500 (1 did not tell theirs)",
        "settings      min_reward 0.85, split_by code, split_seed 42, split_share 0.1",
        "next          kbetl enrich -m m",
    ]


def test_json_is_the_same(store, capfd):
    fill(store)
    assert run_command(["status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == read_status(store.path).as_json()


def test_rare_reasons_are_added_up(store):
    task = store.task()
    for number in range(12):
        store.outcome(
            store.rollout(str(number), 1.0), task, "refused", request_hash=None, reason=f"r{number:02}"
        )
    lines = status_lines(read_status(store.path))
    again = "kbetl query 'select * from failures'"
    assert f"              4 more for 4 other reasons: {again}" in lines


def next_of(store: Filling) -> str:
    return read_status(store.path).next


def test_next_follows_what_is_there(store):
    """One concrete command at each stage."""
    assert next_of(store) == "kbetl ingest"
    module = store.module("M")
    assert next_of(store) == "kbetl prompts"
    prompts = store.task("prompts", about="module", restriction=None)
    assert next_of(store) == "kbetl prompts -m m"
    store.outcome(module, prompts, value="spec")
    assert next_of(store) == "kbetl export synthetic -o outputs/synthetic_prompts.jsonl"
    rollout = store.rollout("A", 0.9)
    assert next_of(store) == "kbetl enrich"
    task = store.task()
    store.outcome(rollout, task, "failed", request_hash=None)
    assert next_of(store) == "kbetl enrich -m m"
    store.rows("update outcomes set status = 'truncated' where status = 'failed'")
    assert next_of(store) == "kbetl enrich -m m --retry truncated"
    store.rows("update outcomes set status = 'ok', reason = null, value = 'low'")
    assert next_of(store) == "kbetl lengths"
    store.add(
        "lengths",
        sample_hash=rollout,
        tokenizer="t",
        template_hash="x",
        prompt_tokens=1,
        completion_tokens=1,
        total_tokens=2,
    )
    assert next_of(store) == "kbetl export filtered -o outputs/filtered_dataset.jsonl"
    store.source("one", rollout)
    store.source("two", rollout)
    assert next_of(store) == "kbetl export filtered -o outputs/filtered_dataset.jsonl"
    store.source("three", store.rollout("B", 0.1))
    assert next_of(store) == "kbetl export filtered --all-sources -o outputs/filtered_dataset.jsonl"


def test_next_settles_something_while_no_rating_is_ok(store):
    """By the newest task, as it was asked; what a plain run passes by is asked again by its status."""
    one, two = store.rollout("A", 0.9), store.rollout("B", 0.9)
    store.task(model="first", in_use=False)
    task = store.task(model="second", in_use=False)
    store.rows("update tasks set created_at = '2099' where model = 'second'")
    store.outcome(one, task, "unparsed")
    assert next_of(store) == "kbetl enrich -m second"
    store.outcome(two, task, "failed", request_hash=None, failures=1)
    assert next_of(store) == "kbetl enrich -m second"
    store.rows("update outcomes set failures = 3 where status = 'failed'")
    found = read_status(store.path)
    assert found.next in ("kbetl enrich -m second --retry unparsed", "kbetl enrich -m second --retry failed")
    assert found.pending == []
    assert [(row.task, row.samples) for row in found.parked] == [("difficulty", 1)]
    assert sorted(row.status for row in found.failures) == ["failed", "unparsed"]


def test_commands_name_another_store(tmp_path):
    path = tmp_path / "with blank.db"
    with Filling(path) as store:
        store.store.end_run(store.run_id, 1, {})
        store.store.begin_run("enrich", {}, task="./own.md")
        found = read_status(path)
    assert found.next == f"kbetl ingest -d '{path}'"
    assert [run.resume for run in found.unfinished] == [
        None,
        f"kbetl enrich --task ./own.md --resume -d '{path}'",
    ]


HOLDER = """
import sys
from pathlib import Path
from kbetl.store import task_lock
with task_lock(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_without_an_end_is_running_where_its_lock_is_held(store):
    """A process of that number alone proves nothing; looking makes no lock file."""
    store.store.begin_run("enrich", {}, task="difficulty")
    found = read_status(store.path)
    assert [run.is_running for run in found.unfinished] == [False]
    assert any("killed; kbetl enrich --resume" in line for line in status_lines(found))
    assert not Path("kbetl.db-lock").exists()

    for task, expected in (("other", False), ("difficulty", True)):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, "kbetl.db", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        with holder:
            assert holder.stdout.readline() == b"held\n"
            assert [run.is_running for run in read_status(store.path).unfinished] == [expected]
            holder.stdin.close()
    assert [run.is_running for run in read_status(store.path).unfinished] == [False]


OWN = "enrich --task './my tasks/style.md' -m my/model -b http://127.0.0.1:8000/v1 -k KEY -o stop '\"x\"'"


def test_commands_ask_as_the_newest_run_of_the_task_did(store):
    """By its command line; a retry and a resumed run stay with the task, and are not asked like."""
    task = store.task()
    style = store.task("style", model="my/model")
    store.outcome(store.rollout("A", 0.9), task, value="low")
    ended(store, "enrich", {}, 0, typed="enrich", task="difficulty", task_hash=task)
    run = ended(store, "enrich", {}, 130, typed=OWN, task="style", task_hash=style)
    found = read_status(store.path)
    assert [each.resume for each in found.unfinished] == [f"kbetl {OWN} --resume"]
    assert found.next == f"kbetl {OWN}"

    retry = {"retry": ["truncated"]}
    ended(store, "enrich", retry, 3, typed=f"{OWN} -o max_tokens 99", task="style", task_hash=style)
    ended(store, "enrich", {}, 0, typed="enrich --task style --resume", task="style", task_hash=style)
    assert next_of(store) == f"kbetl {OWN}"
    ended(store, "enrich", {}, 0, typed="enrich --task style", task="style", task_hash=style)
    assert next_of(store) == "kbetl enrich --task style"
    assert store.rows(f"select command_line from runs where id = {run}") == [(f"kbetl {OWN}",)]


def test_what_was_typed_is_recorded(store):
    """Less the store, what is shown, and the choice of samples; nothing of a stage of another command."""
    rows = resources.data_path("sample.jsonl")
    for typed in (
        ["ingest", str(rows), "--as", "a b", "--limit", "30", "-d", "kbetl.db", "-q"],
        ["enrich", "-m", "offline", "-n", "1", "--where", "reward > 0.9", "-o", "top_p", "1"],
        ["enrich", "--resume", "-c", "2"],
        ["use", "--min-reward", "0.5"],
    ):
        assert run_command(typed) in (0, 3)
    assert [row[0] for row in store.rows("select command_line from runs where id > 1 order by id")] == [
        f"kbetl ingest {rows} --as 'a b' -n 30",
        "kbetl enrich -m offline -o top_p 1",
        "kbetl enrich --resume -c 2",
        "kbetl use --min-reward 0.5",
    ]
    assert run_command(["demo", "-d", "demo.db"]) == 0
    with Store.read(Path("demo.db")) as demo:
        found = demo.named_rows("status/asking_runs")
    assert {(row["command"], row["command_line"]) for row in found} == {("demo", None)}


def test_a_run_of_an_older_kbetl_is_gone_on_with_by_its_task(store):
    """It has no command line; --resume knows the rest, and an older one is asked by its model."""
    one, two = store.task(model="one"), store.task(model="two", in_use=False)
    store.outcome(store.rollout("A", 0.9), one, "failed", request_hash=None)
    for model, task_hash in (("one", one), ("two", two)):
        ended(store, "enrich", {"model": model}, 130, task="difficulty", task_hash=task_hash)
    ended(store, "synth run", {"task": "./own.md", "model": "m"}, 130, task="own")
    assert [run.resume for run in read_status(store.path).unfinished] == [
        "kbetl enrich -m one",
        "kbetl enrich --resume",
        "kbetl synth run --task ./own.md --resume",
    ]
    assert next_of(store) == "kbetl enrich -m one"
    ended(store, "enrich", {"model": "one"}, 3, task="difficulty", task_hash=one)
    assert next_of(store) == "kbetl enrich --resume"


def ended(
    store: Filling, command: str, options: dict[str, object], status: int, typed: str = "", **task: str
) -> int:
    """A run that was begun by the command line `typed`, or by an older kbetl, and its end."""
    before = COMMAND_LINE.set(tuple(shlex.split(typed)))
    run = store.store.begin_run(command, options, **task)
    COMMAND_LINE.reset(before)
    store.store.end_run(run, status, {})
    return run


def test_a_run_is_made_good_by_one_of_the_same_question(store):
    """`--resume` would take the newest of a name: an older one of another model goes on as a plain run."""
    one, two = store.task(model="one"), store.task(model="two", in_use=False)
    asked = {"task": "difficulty", "typed": "enrich -m one"}
    first = ended(store, "enrich", {}, 130, **asked, task_hash=one)
    second = ended(store, "enrich", {}, 3, **{**asked, "typed": "enrich -m two"}, task_hash=two)
    ended(store, "prompts", {}, 0, task="prompts")
    assert [(run.run_id, run.resume) for run in read_status(store.path).unfinished] == [
        (first, "kbetl enrich -m one"),
        (second, "kbetl enrich -m two --resume"),
    ]
    ended(store, "enrich", {}, 0, task="difficulty", task_hash=two)
    assert [run.run_id for run in read_status(store.path).unfinished] == [first]


def test_a_mistaken_run_is_no_unfinished_business(store):
    """It ended with 2, or brought nothing before one of its kind was done; what brought something stays."""
    wrong, right = store.task(model="wrong"), store.task(model="right", in_use=False)
    paid = store.task(model="paid", in_use=False)
    ended(store, "enrich", {}, 2, task="difficulty", task_hash=right)
    ended(store, "synth record", {"paths": ["typo"]}, 2)
    assert read_status(store.path).unfinished == []

    mistakes = [ended(store, "enrich", {}, status, task="difficulty", task_hash=wrong) for status in (1, 3)]
    mistakes.append(ended(store, "synth record", {"paths": ["typo"]}, 1))
    partly = ended(store, "enrich", {}, 1, task="difficulty", task_hash=paid)
    store.answer("asked", "low", run_id=partly)
    assert [run.run_id for run in read_status(store.path).unfinished] == [*mistakes[1:], partly]
    ended(store, "enrich", {}, 0, task="difficulty", task_hash=right)
    ended(store, "synth record", {"paths": ["right"]}, 0)
    assert [run.run_id for run in read_status(store.path).unfinished] == [partly]


def test_an_ingest_is_made_good_by_one_of_the_same_sources(store):
    both = ended(store, "ingest", {"sources": ["a", "b"]}, 1)
    ended(store, "ingest", {"sources": ["c"]}, 0)
    ended(store, "ingest", {"sources": ["a"]}, 0)
    assert [(run.run_id, run.resume) for run in read_status(store.path).unfinished] == [(both, None)]
    ended(store, "ingest", {"sources": ["b"]}, 0)
    assert read_status(store.path).unfinished == []


def test_rejected_rows_are_shown_not_read_again(store):
    ended(store, "ingest", {"sources": ["a"]}, 3)
    again = ended(store, "ingest", {"sources": ["a"]}, 3)
    assert [(run.run_id, run.resume) for run in read_status(store.path).unfinished] == [
        (again, "kbetl query 'select * from rejected_rows'")
    ]


def test_a_run_that_was_made_good_is_not_named(store):
    first = store.store.begin_run("enrich", {}, task="difficulty")
    store.store.end_run(first, 130, {})
    second = store.store.begin_run("enrich", {}, task="difficulty")
    store.store.end_run(second, 0, {})
    assert read_status(store.path).unfinished == []


def test_a_missing_store_is_not_made(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run_command(["status"]) == 1
    assert "no store at kbetl.db" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["query", "select 1"]])
def test_nothing_heavy_is_imported(store, arguments):
    code = (
        "import sys; from kbetl.cli import run; status = run(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_no_wide_row_is_read(store):
    """Every statement of `status` looks at `samples` through an index that covers what it asks."""
    from kbetl.resources import queries

    for name in ("pending_by_task", "failures_by_reason", "sample_counts", "sources_by_name", "difficulties"):
        plan = [row[3] for row in store.rows(f"explain query plan {queries('status')[name]}")]
        assert [step for step in plan if " samples " in step and "COVERING INDEX" not in step] == [], name
