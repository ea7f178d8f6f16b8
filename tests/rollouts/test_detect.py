"""What goes where: the facts of a rollout, as each tool and version writes them."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kbetl.cli import run as kbetl
from kbetl.json_codec import read_json
from kbetl.records import sample_hash
from kbetl.resources import sql
from kbetl.rollouts import rows_of, run_of_names, shape_of
from kbetl.rollouts.detect import SHAPES
from kbetl.samples import fields
from kbetl.samples.rollout_facts import rollout_facts
from kbetl.store.connection import APPLICATION_ID
from kbetl.store.migrations import statements

RUNS = Path(__file__).parents[1] / "data" / "rollouts"
TRACES = RUNS / "verifiers-0.4.0" / "kb-tiny--mock--glm-think--null--30aed7c1" / "traces.jsonl"

FACTS = (
    "example_id, finish_reason, stop_condition, is_truncated, is_empty, error, "
    "prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens"
)

Query = Callable[[str], list[Any]]


@pytest.fixture
def query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Query:
    monkeypatch.chdir(tmp_path)

    def rows(sql: str) -> list[Any]:
        with sqlite3.connect("kbetl.db") as plain:
            found = plain.execute(sql).fetchall()
        plain.close()
        return found

    return rows


def record(*arguments: object) -> int:
    return kbetl(["synth", "record", *map(str, arguments), "-q"])


def write(name: str, *values: object) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


def first_line(path: Path, number: int = 0) -> Any:
    return json.loads(path.read_text(encoding="utf-8").splitlines()[number])


# facts


@pytest.mark.parametrize(
    ("run", "facts"),
    [
        (
            "synthesize/kernelbook--mock--glm-think",
            [
                (0, None, None, None, 0, None, None, None, None, None),
                (0, None, None, None, 0, None, None, None, None, None),
                (1, None, None, None, 1, None, None, None, None, None),
                (2, None, None, None, 1, None, None, None, None, None),
            ],
        ),
        (
            "verifiers-0.1.9/kernelbook-env--mock--glm-err500",
            [
                (0, None, None, None, 0, None, None, None, None, None),
                (1, None, None, None, 1, "ModelError", None, None, None, None),
            ],
        ),
        (
            "verifiers-0.1.10/kernelbook-env--mock--glm-think",
            [
                (0, "stop", "max_turns_reached", 0, 0, None, 53, 16, 57, 21),
                (1, None, "prompt_too_long", 1, 1, None, None, None, None, None),
                (2, None, "has_error", 0, 1, "EmptyModelResponseError", 51, None, 57, None),
            ],
        ),
        (
            "verifiers-0.1.10/kernelbook-env--mock--glm-tool",
            [(0, "stop", "no_tools_called", 0, 0, None, 108, 32, 114, 42)],
        ),
        (
            "verifiers-0.1.14",
            [
                (0, "stop", "max_turns_reached", 0, 0, None, 49, None, 57, None),
                (1, None, "has_error", 0, 1, "ModelError", None, None, None, None),
                (2, None, "prompt_too_long", 1, 1, None, None, None, None, None),
                (0, "stop", "no_tools_called", 0, 0, None, 108, None, 114, None),
            ],
        ),
        (
            "verifiers-0.4.0/kb-tiny--mock--glm-think--null--30aed7c1",
            [
                (0, "stop", "agent_completed", 0, 0, None, 53, 16, 57, 21),
                (2, "length", "agent_completed", 1, 1, None, 51, 16, 57, 21),
                (1, None, "provider_error", 0, 1, "ProviderError", None, None, None, None),
            ],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_facts_are_read_from_where_each_version_keeps_them(query, run, facts):
    assert record(RUNS / run) == 0
    order = "from source_samples join rollout_facts using (sample_hash) order by source_id, position"
    assert query(f"select {FACTS} {order}") == facts


@pytest.mark.parametrize(
    ("run", "generation_ms", "scoring_ms", "total_ms"),
    [
        ("synthesize/kernelbook--mock--glm-new", 52.94227600097656, 0.23412704467773438, 56.115150451660156),
        ("verifiers-0.1.9/kernelbook-env--mock--glm-tool", 99.2829799652, 0.1044273376, 99.6088981628),
        (
            "verifiers-0.1.10/kernelbook-env--mock--glm-tool",
            132.71260261535645,
            0.15234947204589844,
            133.12673568725586,
        ),
        (
            "verifiers-0.1.14/kernelbook-env--mock--glm-tool",
            117.74444580078125,
            0.40531158447265625,
            118.1786060333252,
        ),
    ],
)
def test_times_are_milliseconds(query, run, generation_ms, scoring_ms, total_ms):
    assert record(RUNS / run) == 0
    assert query("select generation_ms, scoring_ms, total_ms from rollout_facts") == [
        (generation_ms, scoring_ms, total_ms)
    ]


def test_times_of_a_trace_are_its_spans(query):
    assert record(TRACES) == 0
    times = query(
        "select generation_ms, scoring_ms, total_ms from rollout_facts join source_samples "
        "using (sample_hash) order by position"
    )
    span = first_line(TRACES)["traces"][0]["timing"]
    assert times[0] == (
        (span["agent"]["end"] - span["agent"]["start"]) * 1000,
        (span["scoring"]["end"] - span["scoring"]["start"]) * 1000,
        (span["scoring"]["end"] - span["start"]) * 1000,
    )
    assert times[2][1] is None


def test_parts_of_the_reward_and_metrics_are_kept(query):
    assert record(TRACES) == 0
    assert record(RUNS / "synthesize/kernelbook--mock--glm-new") == 0
    assert query(
        "select distinct rewards, metrics from rollout_facts join samples on hash = sample_hash "
        "where reward > 0 order by rewards"
    ) == [
        (None, '{"speedup_reward": 0.9, "compiled": 1.0, "num_turns": 1.0}'),
        ('{"speedup_reward": {"score": 0.9, "weight": 1.0}}', '{"compiled": 1.0}'),
    ]


# the graph of a trace


def node(parent: int | None, role: str, content: str, **more: Any) -> dict[str, Any]:
    message = {"role": role, "content": content, **{key: more[key] for key in more}}
    found = {"message": message, "sampled": role == "assistant", "timestamp": 1.0}
    return found if parent is None else {**found, "parent": parent}


def test_each_branch_and_each_trace_of_an_episode_is_a_rollout(query):
    """Two agents; the first went two ways from its tool's answer on, and a third was never answered."""
    episode = first_line(TRACES)
    (trace,) = episode["traces"]
    call = {"id": "c", "type": "function", "name": "count", "arguments": '{"n": 3}'}
    branched = copy.deepcopy(trace)
    branched["nodes"] = [
        node(None, "system", "Be brief."),
        node(0, "user", "Go."),
        node(1, "assistant", "", reasoning_content="Count first.", tool_calls=[call]),
        node(2, "tool", "0 1 2", tool_call_id="c"),
        node(3, "assistant", "left", reasoning_content="Left then."),
        node(3, "assistant", "right"),
        node(1, "user", "Never answered."),
    ]
    usage = {"prompt_tokens": 5, "cached_input_tokens": 2, "completion_tokens": 4}
    branched["calls"] = [
        {"node": number, "model": "m", "finish_reason": reason, "usage": usage}
        for number, reason in ((2, "tool_calls"), (4, "stop"), (5, "length"))
    ]
    branched["rewards"] = {"a": {"score": 1.0, "weight": 0.5}, "b": {"score": 2.0, "weight": 2.0}}
    trace["agent"]["name"] = "critic"
    write("run/traces.jsonl", {**episode, "traces": [branched, trace]})
    assert record("run") == 0
    assert record("run") == 0
    places = "from source_samples join rollouts using (sample_hash) join rollout_facts using (sample_hash)"
    assert query(
        "select position, rollouts.model, completion, reasoning, reward, rollouts.finish_reason, "
        f"is_truncated, prompt_tokens, completion_tokens {places} "
        "where completion in ('left', 'right') order by position"
    ) == [
        (0, "m", "left", "Count first.\n\nLeft then.", 4.5, "stop", 0, 14, 8),
        (1, "m", "right", "Count first.", 4.5, "length", 1, 14, 8),
    ]
    assert query("select position from originals order by position") == [(0,), (1,), (2,)]
    assert query("select count(*) from original_lines") == [(1,)]
    row = json.loads(query("select row from samples where row like '%right%'")[0][0])
    assert [each["role"] for each in row["prompt"]] == ["system", "user"]
    assert [each["role"] for each in row["completion"]] == ["assistant", "tool", "assistant"]
    assert row["completion"][0]["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "count", "arguments": '{"n": 3}'}}
    ]


def test_a_bare_trace_is_recorded_too(query):
    """As verifiers 0.2 wrote them."""
    episode = first_line(TRACES)
    write("run/traces.jsonl", episode["traces"][0])
    assert record("run", "--env", "kb") == 0
    assert query("select module_name, model, environment, reward, length(reasoning) from rollouts") == [
        ("LayerNorm", "mock/glm-think", "kb", 0.9, 84)
    ]


def test_an_episode_that_never_began_keeps_its_error(query):
    episode = first_line(TRACES)
    error = {"type": "SetupError", "message": "no runtime", "traceback": "..."}
    write("run/traces.jsonl", {**episode, "ok": False, "traces": [], "errors": [error]})
    assert record("run") == 0
    assert query("select module_name, error, completion, reward from rollouts") == [
        ("LayerNorm", "SetupError", None, None)
    ]
    row = json.loads(query("select row from samples")[0][0])
    assert row["prompt"] == [{"role": "user", "content": episode["task"]["data"]["prompt"]}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nodes": [{"parent": 0, "message": {"role": "user", "content": ""}}]}, "'nodes[0].parent' is 0"),
        ({"nodes": ["x"]}, "'nodes[0]' holds no message"),
        ({"rewards": {"a": {"score": "high", "weight": 1}}}, "'rewards.a' is no score and weight"),
        ({"calls": {}}, "'calls' is an object, not a list"),
    ],
)
def test_a_trace_that_is_none_is_rejected(query, change, words):
    trace = first_line(TRACES)["traces"][0]
    write("run/traces.jsonl", trace, {**trace, **change})
    assert record("run") == 3
    ((location, reason),) = query("select location, reason from rejected_rows")
    assert location == "run/traces.jsonl:2"
    assert words in reason


# batches


def answer(custom_id: str, text: str) -> dict[str, Any]:
    body = {
        "id": "chatcmpl-1",
        "created": 1,
        "model": "gpt-5.2-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    return {
        "id": f"batch_req_{text}",
        "custom_id": custom_id,
        "error": None,
        "response": {"status_code": 200, "request_id": text, "body": body},
    }


def question(custom_id: str, text: str) -> dict[str, Any]:
    body = {"model": "gpt-5.2", "messages": [{"role": "user", "content": text}], "temperature": 1.0}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


JOINED = """
select example_id, row ->> '$.prompt[0].content', completion, error
from rollouts join samples on hash = sample_hash
order by 1, 2
"""


def test_batches_come_in_any_order_with_errors_and_expired_lines(query):
    """An output and an error file of OpenAI, and the input elsewhere."""
    write("elsewhere/in.jsonl", *(question(name, f"q{name}") for name in "abcd"))
    failed = answer("c", "")
    failed["response"] = {
        "status_code": 400,
        "request_id": "r",
        "body": {"error": {"message": "no", "code": "bad"}},
    }
    expired = {
        "id": "x",
        "custom_id": "d",
        "response": None,
        "error": {"code": "batch_expired", "message": "late"},
    }
    write("out/output.jsonl", answer("b", "B"), answer("a", "A"))
    write("out/errors.jsonl", expired, failed)
    assert record("out") == 3
    assert query("select distinct reason from rejected_rows order by 1")[0] == (
        "no input file has the request 'a'; name that file with --input",
    )
    assert record("out", "--input", "elsewhere/in.jsonl") == 0
    assert query(JOINED) == [
        ("a", "qa", "A", None),
        ("b", "qb", "B", None),
        ("c", "qc", None, "bad"),
        ("d", "qd", None, "batch_expired"),
    ]
    assert query("select count(*) from rejected_rows") == [(0,)]
    assert query("select run ->> '$.tool' from sources") == [("OpenAI Batch",)]


def test_an_id_that_stands_twice_is_answered_in_order(query):
    """vLLM takes such input, and answers line by line; also where only a part was recorded before."""
    write("run/in.jsonl", question("a", "first"), question("b", "other"), question("a", "second"))
    write("run/out.jsonl", answer("a", "1"))
    assert record("run") == 0
    write("run/out.jsonl", answer("a", "1"), answer("b", "2"), answer("a", "3"), answer("a", "4"))
    assert record("run") == 3
    assert query(JOINED) == [
        ("a", "first", "1", None),
        ("a", "second", "3", None),
        ("b", "other", "2", None),
    ]
    assert query("select reason from rejected_rows") == [("'a' is answered more often than it was asked",)]


def test_every_choice_is_a_rollout_and_shared_counts_are_of_none(query):
    assert record(RUNS / "vllm-0.32.0") == 0
    assert query(
        "select prompt_tokens, completion_tokens, is_truncated from rollout_facts "
        "where example_id = 'rate:0003'"
    ) == [(33, None, 1), (33, None, 1)]
    assert query(
        "select prompt_tokens, completion_tokens, reasoning_tokens, finish_reason from rollout_facts "
        "where example_id = 'rate:0012'"
    ) == [(33, 14, 6, "stop")]


# shapes, names


@pytest.mark.parametrize(
    ("names", "model", "environment"),
    [
        (["evals", "kb--glm", "52279e7f"], "glm", "kb"),
        (["evals", "kb--zai--glm", "52279e7f"], "zai/glm", "kb"),
        (["evals", "kb--zai--glm"], "zai/glm", "kb"),
        (["evals", "owner--kb--zai--glm", "52279e7f"], None, None),
        (["a--b", "evals", "results"], None, None),
        (["evals", "--glm"], None, None),
    ],
)
def test_names_of_folders_are_read_where_they_are_clear(names, model, environment):
    run = run_of_names(names)
    assert (run.model, run.environment) == (model, environment)


def test_every_line_of_every_tool_has_its_shape():
    shapes = {
        path.relative_to(RUNS).parts[0] + "/" + path.name: {
            shape_of(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()
        }
        for path in RUNS.rglob("*.jsonl")
    }
    assert shapes == {
        "synthesize/results.jsonl": {"row"},
        "verifiers-0.1.9/results.jsonl": {"row"},
        "verifiers-0.1.10/results.jsonl": {"row"},
        "verifiers-0.1.14/results.jsonl": {"row"},
        "verifiers-0.4.0/traces.jsonl": {"episode"},
        "vllm-0.32.0/batch_in.jsonl": {"batch input"},
        "vllm-0.32.0/batch_out.jsonl": {"batch"},
    }


def test_reasoning_of_a_step_goes_to_no_other_message():
    """Where the texts differ, or the numbers, nobody can tell whose it was."""
    path = next((RUNS / "verifiers-0.1.10").glob("*tool/*/results.jsonl"))
    row = first_line(path)
    assert len(fields.reasoning(row)) == 169
    row["completion"][-1]["content"] = "changed"
    assert len(fields.reasoning(row)) == 84
    row["completion"].append({"role": "assistant", "content": "more"})
    assert fields.reasoning(row) is None


def test_a_row_keeps_its_line():
    line = next((RUNS / "verifiers-0.1.14").glob("*tool/*/results.jsonl")).read_bytes().rstrip(b"\n")
    (row,) = rows_of(read_json(line))
    assert row.text.encode() == line


# from there on it is all one


def test_recorded_rollouts_go_all_the_way(query, tmp_path):
    """Rated, measured, deduplicated, exported: from every tool."""
    shutil.copytree(RUNS, "runs")
    shutil.copytree(RUNS.parents[2] / "data" / "tokenizer", "tokenizer")
    assert record("runs") == 0
    assert kbetl(["enrich", "-m", "offline", "-q"]) == 0
    assert query("select count(*), min(reward) from filtered") == [(11, 0.9)]
    assert kbetl(["lengths", "--tokenizer", "tokenizer", "-q"]) in (0, 3)
    assert query("select distinct refusal from lengths where total_tokens is null") == [
        ("no assistant message with text or tool calls in 'completion'",)
    ]
    assert query("select count(*) from lengths where unreached is not null") == [(0,)]
    for dataset, count in (("filtered", 11), ("unique", 2)):
        file = tmp_path / f"{dataset}.jsonl"
        assert kbetl(["export", dataset, "--all-sources", "--format", "messages", "-o", str(file), "-q"]) == 0
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert len(rows) == count
        for row in rows:
            for message in row["messages"]:
                for call in message.get("tool_calls") or []:
                    assert json.loads(call["function"]["arguments"]) == {"n": 3}
    assert kbetl(["check"]) == 0


def test_an_old_store_gets_its_facts(query):
    """Rows of schema 1 read as if they had come in today, as far as their JSON says it at once."""
    rows = [
        {
            "example_id": 1,
            "completion": [{"role": "assistant", "content": "code"}],
            "reward": 1.0,
            "model": "m",
        },
        {"example_id": "a", "completion": [{"role": "assistant", "content": " \n"}], "error": "no server"},
        {"completion": [], "env_id": "kernels", "finish_reason": "stop"},
        {"completion": "text", "example_id": 2},
    ]
    with closing(sqlite3.connect("kbetl.db", isolation_level=None)) as old:
        for statement in statements(sql("migrations/0001_initial")):
            old.execute(statement)
        old.execute(f"pragma application_id = {APPLICATION_ID}")
        old.execute("pragma user_version = 1")
        for row in rows:
            old.execute(
                "insert into samples (hash, kind, code_point, name_point, row) "
                "values (?, 'rollout', 0, 0, ?)",
                (sample_hash(row), json.dumps(row)),
            )
    assert kbetl(["use", "--min-reward", "0.85"]) == 0
    stored = query(
        "select sample_hash, is_empty, example_id, model, environment, finish_reason, error "
        "from rollout_facts"
    )
    assert sorted(stored) == sorted(
        (
            sample_hash(row),
            facts.is_empty,
            facts.example_id,
            facts.model,
            facts.environment,
            facts.finish_reason,
            facts.error,
        )
        for row in rows
        for facts in [rollout_facts(row)]
    )
    assert query("select count(*) from rollouts where completion is null") == [(1,)]


def test_a_recorded_trace_is_the_same_rollout_by_parquet(query):
    """What the store made of a trace goes out as a row, and comes back as what it is."""
    assert record(TRACES) == 0
    for name in ("rows.jsonl", "rows.parquet"):
        assert kbetl(["export", "evals", "--all-sources", "-o", name, "-q"]) == 0
        assert kbetl(["ingest", name, "-q"]) == 0
    assert query("select count(*) from samples") == [(3,)]
    assert query("select count(distinct source_id) from source_samples") == [(3,)]


@pytest.mark.parametrize(
    ("error", "told"),
    [(5, "5"), (["late"], '["late"]'), (True, "true"), (False, None), ({}, None), ("", None)],
)
def test_an_error_of_any_kind_is_one(error, told):
    """What no tool is known to write is shown as it stands; what is empty is none."""
    facts = rollout_facts({"completion": [], "error": error})
    assert (facts.error, facts.error_text) == (told, None)


SHAPE_LINES = {
    "episode": {"traces": [{"nodes": []}]},
    "trace": {"nodes": [], "task": {}},
    "batch": {"custom_id": "1", "response": {}},
    "batch input": {"custom_id": "1", "body": {}},
    "row": {"example_id": 1, "completion": "c"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_line_has_the_shape_of_its_entry(shape):
    """Every entry has a line here; none is taken by an entry above it."""
    assert shape_of(SHAPE_LINES[shape]) == shape
    assert SHAPES[shape].is_joined == (shape == "batch")


@pytest.mark.parametrize("line", [{"custom_id": "1", "example_id": 1, "completion": "c"}, {"nodes": []}, []])
def test_a_line_between_shapes_has_none(line):
    assert shape_of(line) is None
