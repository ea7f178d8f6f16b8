"""kbetl synth record: every shape of every tool, each rollout once, nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kbetl.cli import run as kbetl
from kbetl.row_writer import ReadProgress
from kbetl.synth import RecordOptions
from kbetl.synth import record as record_runs

RUNS = Path(__file__).parents[1] / "data" / "rollouts"
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


def test_ingest_and_record_store_the_same(home, query):
    file = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-err500/*")
    assert kbetl(["ingest", str(file), "-q"]) == 0
    before = query("select * from samples")
    assert query("select distinct model from rollouts") == [(None,), ("mock/glm-err500",)]
    assert record(file.parent) == 0
    assert query("select * from samples") == before
    assert query("select distinct model, environment from rollouts") == [
        ("mock/glm-err500", "kernelbook-env")
    ]


def test_a_changed_rollout_is_another_one(home, query):
    """Each real difference adds one; times, drawn ids and the order of lines and keys add nothing."""
    folder = Path("runs/verifiers-0.4.0/kb-tiny--mock--glm-think--null--30aed7c1")
    assert record("runs/synthesize/kernelbook--mock--glm-think", folder) == 0
    assert query("select count(*) from samples") == [(7,)]

    def redraw(row: dict[str, Any]) -> None:
        row["id"] = row["run"]["id"] = "0" * 32
        (trace,) = row["traces"]
        trace["id"], trace["timing"], trace["agent"]["runtime"] = "1" * 32, {}, {"id": "elsewhere"}
        for timed in trace["nodes"]:
            timed["timestamp"] = 1.0
        for call in trace["calls"]:
            call["time"] = {"start": 1.0, "end": 2.0}

    def retime(row: dict[str, Any]) -> None:
        row.update(generation_ms=1.0, scoring_ms=2.0, total_ms=3.0, task=row.pop("task"))

    for number in range(3):
        change(folder / "traces.jsonl", number, redraw)
    results = the_file("synthesize/kernelbook--mock--glm-think/*")
    change(results, 0, retime)
    results.write_bytes(b"".join(reversed(results.read_bytes().splitlines(keepends=True))))
    assert record("runs/synthesize/kernelbook--mock--glm-think", folder) == 0
    assert query("select count(*) from samples") == [(7,)]

    change(
        folder / "traces.jsonl",
        0,
        lambda row: row["traces"][0]["rewards"]["speedup_reward"].update(score=0.8),
    )
    change(results, 0, lambda row: row["completion"][0].update(reasoning_content="Otherwise."))
    assert record("runs/synthesize/kernelbook--mock--glm-think", folder) == 0
    assert query("select count(*) from samples") == [(9,)]


def test_a_run_after_its_resume_adds_just_the_new_ones(home, shared, query):
    """verifiers 0.4 asked the two that failed again: they failed alike, which is not new."""
    real = shared / "data" / "rollouts"
    for file, samples in (
        ("verifiers-0.4.0/traces-before-resume.jsonl", 7),
        ("verifiers-0.4.0/outputs/kb-tiny--mock--glm-think--null--30aed7c1/traces.jsonl", 7),
        ("verifiers-0.1.14/err500-before-resume/results.jsonl", 11),
        ("verifiers-0.1.14/outputs/evals/kernelbook-env--mock--glm-err500/21e570b9/results.jsonl", 13),
    ):
        assert record(real / file) == 0
        assert query("select count(*) from samples") == [(samples,)]


# what is wrong with files and options


def test_a_broken_line_is_named_and_a_cut_one_is_a_note(home, query, capfd):
    file = the_file("synthesize/kernelbook--mock--glm-think/*")
    first, second, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([first, second[:80] + b"\n", b'{"traces": 5}\n', *rest, second[:200]]))
    assert kbetl(["synth", "record", str(file)]) == 3
    out, err = capfd.readouterr()
    assert out == f"{file}: read 5, new 3, known 0, rejected 2 (rollouts 3)\n"
    assert f"{file}:2: not JSON" in err
    assert f"{file}:3: no rollout of a known shape; it has traces" in err
    assert f"{file}:6: cut; the line has no end yet" in err
    assert query("select location from rejected_rows") == [(f"{file}:2",), (f"{file}:3",)]
    with file.open("ab") as stream:
        stream.write(second[200:])
    assert record(file) == 0
    assert query("select count(*) from samples") == [(4,)]


def test_rewards_that_are_no_number_are_null_and_said(home, query):
    """As verifiers 0.1.10 to 0.3 write them; the line is kept as it was."""
    file = the_file("verifiers-0.1.10/kernelbook-env--mock--glm-think/*")
    line = file.read_text(encoding="utf-8").splitlines()[0].replace('"reward": 1.37', '"reward": NaN', 1)
    file.write_text(
        line.replace('"speedup_reward": 1.37', '"speedup_reward": Infinity') + "\n", encoding="utf-8"
    )
    assert record(file) == 0
    ((reward, nonfinite, original),) = query(
        "select reward, nonfinite, line from samples join originals on sample_hash = samples.hash "
        "join original_lines on original_lines.hash = line_hash"
    )
    assert reward is None
    assert json.loads(nonfinite)[0] == "$.reward"
    assert original == line.replace('"speedup_reward": 1.37', '"speedup_reward": Infinity')


def test_a_score_that_is_null_was_no_number(home, query):
    assert record("runs/verifiers-0.4.0/kb-nan--mock--glm-new--null--ab5ee8d1") == 0
    assert query("select reward, nonfinite from samples") == [(None, '["$.rewards.speedup_reward.score"]')]


@pytest.mark.parametrize(
    ("run", "option", "value", "said"),
    [
        ("verifiers-0.1.14/kernelbook-env--mock--glm-tool", "--model", "other", "mock/glm-tool"),
        ("verifiers-0.1.14/kernelbook-env--mock--glm-tool", "--env", "other", "kernelbook-env"),
        ("verifiers-0.4.0", "--model", "mock/glm-think", "mock/glm-new"),
        ("verifiers-0.4.0/kb-nan--mock--glm-new--null--ab5ee8d1", "--env", "other", "kb-nan"),
    ],
)
def test_an_option_that_the_files_deny_is_refused(home, capfd, run, option, value, said):
    assert record(f"runs/{run}", option, value) == 2
    assert f"{option} {value}: the files of runs/{run}" in capfd.readouterr().err.replace("/c7b587b9", "")
    assert not Path("kbetl.db").exists()
    assert said


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"example_id": 1, "completion": [', "line 1: not JSON: "),
        (b'{"example_id": 1, "completion": null}', "line 1: field 'completion' is null"),
        (b'{"example_id": 1, "completion": [], "a": "\\ud800"}', "line 1: a lone surrogate at $.a"),
        (b'\n{"\x1b[31m": 1}', "line 2: not JSON"),
        (b'\n{"\\u001b[31m": 1}', "line 2: no rollout of a known shape; it has \\x1b[31m"),
        (gzip.compress(b'{"example_id": 1}' * 99, mtime=0)[:40], "line 1: the gzip data is cut"),
    ],
)
def test_a_file_without_rollouts_says_why_its_first_line_is_none(home, capfd, line, reason):
    """By its own name, and in a folder."""
    Path("odd").mkdir()
    Path("odd/results.jsonl").write_bytes(line + b"\n" * (line[:1] != b"\x1f"))
    assert record("odd/results.jsonl") == 1
    assert f"kbetl: odd/results.jsonl holds no rollouts of a run ({reason}" in capfd.readouterr().err
    assert record("odd") == 1
    assert f"kbetl: odd/results.jsonl: skipped, no rollouts in it ({reason}" in capfd.readouterr().err


def test_a_file_that_goes_while_others_are_recorded_is_named(home, query):
    """Renamed by a resume, say; its source keeps the rows it had."""
    for name in ("a", "b", "c"):
        shutil.copytree(the_file("synthesize/kernelbook--mock--glm-think/*").parent, f"some/{name}")
        change(Path("some", name, "results.jsonl"), 0, lambda row, name=name: row.update(answer=name))
    assert record("some") == 0

    class Removing(ReadProgress):
        def start(self, source: str, size_bytes: int | None) -> None:
            if source == "some/b":
                os.remove("some/b/results.jsonl")
            super().start(source, size_bytes)

    reports = record_runs(Path("kbetl.db"), ["some"], RecordOptions(), Removing())
    assert [report.as_text() for report in reports] == [
        "some/a: read 4, new 0, known 4, rejected 0 (rollouts 4)",
        "some/b: read 1, new 0, known 0, rejected 1",
        "some/c: read 4, new 0, known 4, rejected 0 (rollouts 4)",
    ]
    assert reports[1].rejections.lines() == [
        "some/b/results.jsonl:1: it cannot be opened: No such file or directory"
    ]
    assert query("select source, rows, rejected from source_counts order by source") == [
        ("some/a", 4, 0),
        ("some/b", 4, 1),
        ("some/c", 4, 0),
    ]


def test_settings_that_cannot_be_read_or_deny_the_rollouts_are_said(home, capfd):
    run = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-err500/*").parent
    settings = json.loads((run / "metadata.json").read_text())
    (run / "metadata.json").write_text(json.dumps({**settings, "model": "other"}))
    assert kbetl(["synth", "record", str(run)]) == 0
    said = f"{run}: its settings say model other, its first rollout mock/glm-err500; the settings hold\n"
    assert capfd.readouterr().err == said
    (run / "metadata.json").write_text('{"model": ')
    assert kbetl(["synth", "record", str(run)]) == 0
    said = f"{run}/metadata.json: no JSON object, so it does not say the model\n"
    assert capfd.readouterr().err.startswith(said)


def test_links_to_folders_elsewhere_are_said(home, capfd, query):
    """Those within what is read, such as `logs/latest`, lead to nothing new."""
    Path("some").mkdir()
    shutil.copytree("runs/synthesize/kernelbook--mock--glm-new", "some/run")
    Path("some/latest").symlink_to("run")
    Path("some/more").symlink_to("../runs/vllm-0.32.0")
    assert kbetl(["synth", "record", "some"]) == 0
    assert "some/more: skipped, a link to a folder elsewhere\n" in (err := capfd.readouterr().err)
    assert "latest" not in err
    assert record("some/more", "some/latest", "--model", "m") == 3
    assert query("select count(*) from sources") == [(3,)]


def test_options_say_what_files_do_not(home, query, capfd):
    shutil.copy(the_file("synthesize/kernelbook--mock--glm-new/*"), "loose.jsonl")
    assert kbetl(["synth", "record", "loose.jsonl"]) == 0
    assert "its files do not say the model; --model does" in capfd.readouterr().err
    assert query("select model, environment from rollouts") == [(None, None)]
    assert record("loose.jsonl", "--model", "zai-org/GLM", "--env", "kernels") == 0
    assert query("select model, environment from rollouts") == [("zai-org/GLM", "kernels")]
    assert query("select name, kind, json_extract(run, '$.shape') from sources") == [
        ("loose.jsonl", "run", "prime-rl synthesize or verifiers 0.1 to 0.3 results")
    ]


def test_a_line_of_another_model_is_rejected(home, query, capfd):
    """A batch of several models, recorded as one of them."""
    assert kbetl(["synth", "record", "runs/vllm-0.32.0", "--model", "tiny-kernel"]) == 3
    assert "batch_out.jsonl:10: --model tiny-kernel: this rollout says other-model" in capfd.readouterr().err
    assert query("select distinct model from rollouts") == [("tiny-kernel",)]


def test_a_line_of_another_model_is_rejected_when_it_is_known_too(home, query, capfd):
    """Recorded before without a word on whose it is, it does not become the other model's."""
    file = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-err500/*")
    (file.parent / "metadata.json").unlink()
    first = file.read_text(encoding="utf-8").splitlines()[0]
    second = first.replace("mock/glm-err500", "second")
    file.write_text(f"{first}\n{second}\n{first}\n", encoding="utf-8")
    assert record(file) == 0
    models = query("select sample_hash, model from rollouts order by model")
    assert [model for _, model in models] == ["mock/glm-err500", "second"]
    said = f"{file}:2: --model mock/glm-err500: this rollout says second"
    for status, words in ((3, said), (0, f"{file}: 1 rejected row was rejected before")):
        assert kbetl(["synth", "record", str(file), "--model", "mock/glm-err500"]) == status
        out, err = capfd.readouterr()
        assert "read 3, new 0, known 2, rejected 1" in out
        assert words in err
        assert query("select sample_hash, model from rollouts order by model") == models


def test_one_name_is_for_runs_of_one_model(home, query, capfd):
    assert record("runs/synthesize", "--as", "all") == 2
    assert "--as names one source; these are runs of different models" in capfd.readouterr().err
    assert record("runs/verifiers-0.1.14/kernelbook-env--mock--glm-tool", "--as", "tools") == 0
    assert query("select name from sources") == [("tools",)]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", "", "empty.jsonl is empty; with --follow it is waited for"),
        ("rows.jsonl", '{"module_name": "A", "python_code": "x"}\n', "`kbetl ingest` reads modules"),
        ("in.jsonl", '{"custom_id": "a", "body": {"model": "m"}}\n', "holds the requests of a batch"),
        ("gone.jsonl", None, "gone.jsonl cannot be read: No such file"),
        ("folder", None, "no file with rollouts in this folder"),
    ],
)
def test_what_is_no_run_is_said(home, capfd, name, content, words):
    Path("folder").mkdir()
    if content is not None:
        Path(name).write_text(content)
    assert record(name) == 1
    assert words in capfd.readouterr().err
    assert not Path("kbetl.db").exists()


def test_metadata_win_over_what_a_server_calls_itself(home, query):
    """An option that agrees with them does too: only what no file says is checked line by line."""
    file = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-tool/*")
    change(file, 0, lambda row: row["trajectory"][0]["response"].update(model="served-as"))
    assert record(file.parent, "--model", "mock/glm-tool") == 0
    assert query(
        "select rollouts.model, rollout_facts.model from rollouts join rollout_facts using (sample_hash)"
    ) == [("mock/glm-tool", "served-as")]


def test_files_beside_the_rollouts_are_left_alone(home, query, capfd):
    """Logs and settings without a word; what is named like rows and holds none is said."""
    folder = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-tool/*").parent
    (folder / "eval.log").write_text("started\n" * 1000)
    (folder / "model.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "requests.jsonl").write_text('{"what": 1}\n')
    (folder / ".hidden.jsonl").write_bytes((folder / "results.jsonl").read_bytes())
    assert kbetl(["synth", "record", str(folder)]) == 0
    out, err = capfd.readouterr()
    assert out == f"{folder}: read 1, new 1, known 0, rejected 0 (rollouts 1)\n"
    words = "no rollout of a known shape; it has what"
    assert err == f"{folder}/requests.jsonl: skipped, no rollouts in it (line 1: {words})\n"


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("compleiton", "completion"),
        ("Completion", "completion"),
        ("exampleId", "example_id"),
        ("example-id", "example_id"),
        ("trace", "traces"),
        ("node", "nodes"),
        ("customId", "custom_id"),
    ],
)
def test_a_field_that_is_nearly_one_of_a_shape_is_named(home, query, capfd, misspelt, meant):
    """Beside a good row: each name of which a shape is known."""
    file = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-tool/*")
    shaped = json.loads(file.read_text("utf-8").splitlines()[0])
    kept = {"example_id": 1} if meant == "completion" else {"completion": []} if meant == "example_id" else {}
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps({**kept, misspelt: shaped["completion"]}) + "\n")
    assert kbetl(["synth", "record", str(file)]) == 3
    assert f"'{misspelt}': did you mean '{meant}'?" in capfd.readouterr()[1]


def test_packed_files_are_read_too(home, query):
    file = the_file("verifiers-0.1.14/kernelbook-env--mock--glm-err500/*")
    content = file.read_bytes()
    file.unlink()
    file.with_suffix(".jsonl.gz").write_bytes(gzip.compress(content))
    assert record(file.parent) == 0
    assert record(file.parent, "--follow", "--idle-s", "0") == 0
    assert query("select count(*), count(distinct model) from rollouts") == [(3, 1)]


def test_options_of_a_group_stand_in_their_table(home, query, capfd):
    Path("kbetl.toml").write_text('database = "other.db"\n[synth.record]\nenv = "from the file"\n')
    shutil.copy(the_file("synthesize/kernelbook--mock--glm-new/*"), "loose.jsonl")
    assert record("loose.jsonl") == 0
    with sqlite3.connect("other.db") as plain:
        assert plain.execute("select environment from sources").fetchall() == [("from the file",)]
    plain.close()
    Path("kbetl.toml").write_text("[synth]\nenv = 5\n")
    assert record("loose.jsonl") == 2
    assert "[synth] has no key 'env': it knows the tables [synth.record]" in capfd.readouterr().err


def test_both_models_of_the_same_rollout_are_counted(home, query):
    """Two models failed alike: one rollout, of which nobody can say whose it is; each run has it."""
    for run in ("one", "two"):
        shutil.copytree(the_file("synthesize/kernelbook--mock--glm-think/*").parent, run)
        assert record(run, "--model", run) == 0
    assert query("select count(*), count(model) from rollouts") == [(4, 0)]
    assert query("select model, rollouts from model_counts order by model") == [("one", 4), ("two", 4)]


def test_names_that_are_no_text_are_shown_and_stored_spelled_out(home, query, capfd):
    """Escape codes and bytes that are no UTF-8, in names of folders and in what lines say."""
    name = b"kb--\x1b[31m\xff"
    os.makedirs(name + b"/52279e7f")
    shutil.copy(the_file("synthesize/kernelbook--mock--glm-new/*"), os.fsdecode(name) + "/52279e7f")
    assert kbetl(["synth", "record", os.fsdecode(name)]) == 0
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    ((model, source),) = query("select model, name from sources")
    assert (model, source) == ("\\x1b[31m\\xff", "kb--\\x1b[31m\\xff/52279e7f")
    change(
        the_file("verifiers-0.4.0/kb-nan*"),
        0,
        lambda row: row["traces"][0]["calls"][0].update(model="\x1b[31m"),
    )
    (Path("runs/verifiers-0.4.0/kb-nan--mock--glm-new--null--ab5ee8d1/configs/resolved/eval.json")).unlink()
    assert kbetl(["synth", "record", "runs/verifiers-0.4.0", "--model", "x"]) == 2
    assert "\x1b" not in capfd.readouterr().err
    assert kbetl(["synth", "record", "runs", "--model", os.fsdecode(b"\xff")]) == 2
