"""`kbetl batch read`: results in any order and shape, each once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from batch_case import (
    Line,
    answer_file,
    completion,
    lines_of,
    openai_expired,
    openai_result,
    rated,
    vllm_result,
    write_lines,
)
from enrich_case import Case, ended, rollout, rollouts, started, until

from kbetl.batch.files import custom_id

pytest_plugins = ["enrich_fixtures"]

BAD_REQUEST = {"message": "too long", "type": "BadRequestError", "param": "input_tokens", "code": 400}


def handed_out(case: Case, count: int, *arguments: object) -> list[Line]:
    """So many rollouts whose requests are in one file; gives its lines."""
    case.ingest(rollouts(count))
    assert case.kbetl("batch", "write", "enrich", "out", "-m", "m", *arguments).status == 0
    return lines_of(*sorted((case.folder / "out").iterdir()))


def read(case: Case, *names: object):
    return case.kbetl("batch", "read", *names)


def outcome_of(case: Case, asked: Line) -> tuple[Any, ...]:
    from kbetl.batch.files import key_of

    [row] = case.rows(
        "select status, value, reason from outcomes where request_hash = ?",
        key_of(asked["custom_id"]).request_hash,
    )
    return row


SHAPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "OpenAI, an answer": (rated, ("ok", "low", None)),
    "vLLM, an answer": (
        lambda asked: vllm_result(asked, completion("<difficulty>high</difficulty>")),
        ("ok", "high", None),
    ),
    "truncated, no content": (
        lambda asked: vllm_result(
            asked, completion(None, finish_reason="length", message={"reasoning": "hmm"})
        ),
        ("truncated", None, "cut off at the limit of output tokens (finish_reason length)"),
    ),
    "refused": (
        lambda asked: openai_result(asked, completion(None, message={"refusal": "I cannot."})),
        ("refused", None, "the model declined: I cannot."),
    ),
    "unparsed": (
        lambda asked: openai_result(asked, completion("It is hard.")),
        ("unparsed", None, None),
    ),
    "no choices": (
        lambda asked: openai_result(asked, {"choices": []}),
        ("failed", None, "it has no choices"),
    ),
    "vLLM, an error in an error": (
        lambda asked: vllm_result(asked, None, {"error": BAD_REQUEST}, 400),
        ("failed", None, 'batch answered 400 Bad Request: "too long" (BadRequestError)'),
    ),
    "vLLM, an error as an object": (
        lambda asked: vllm_result(asked, None, BAD_REQUEST, 400),
        ("failed", None, 'batch answered 400 Bad Request: "too long" (BadRequestError)'),
    ),
    "vLLM, an error as a text": (
        lambda asked: vllm_result(asked, None, "Unsupported URL /v2", 400),
        ("failed", None, 'batch answered 400 Bad Request: "Unsupported URL /v2"'),
    ),
    "OpenAI, an error in the body": (
        lambda asked: openai_result(asked, {"error": {**BAD_REQUEST, "code": "too_long"}}, 400),
        ("failed", None, 'batch answered 400 Bad Request: "too long" (too_long, BadRequestError)'),
    ),
    "Azure, a content filter": (
        lambda asked: openai_result(asked, {"error": {"message": "No.", "code": "content_filter"}}, 400),
        ("refused", None, 'batch answered 400 Bad Request: "No." (content_filter)'),
    ),
    "OpenAI, expired": (
        openai_expired,
        (
            "failed",
            None,
            "batch: This request could not be executed before the window ended. (batch_expired)",
        ),
    ),
    "neither answer nor error": (
        lambda asked: {"id": "x", "custom_id": asked["custom_id"], "response": None, "error": None},
        ("failed", None, "batch: the result has neither an answer nor an error"),
    ),
    "an error object in a 200": (
        lambda asked: openai_result(asked, {"error": {"message": "no", "code": "server_error"}}),
        ("failed", None, 'batch answered 200 OK: "no" (server_error)'),
    ),
}


def test_every_shape_of_result_is_read(case):
    """Answers as online; errors are failed outcomes, with the reason, and are asked again."""
    asked = handed_out(case, len(SHAPES))
    results = [make(line) for line, (make, _) in zip(asked, SHAPES.values(), strict=True)]
    write_lines(case.folder / "results.jsonl", reversed(results))
    done = read(case, "results.jsonl")
    assert done.status == 3, done.text
    for line, (name, (_, wanted)) in zip(asked, SHAPES.items(), strict=True):
        status, value, reason = outcome_of(case, line)
        assert (status, value) == wanted[:2], name
        assert wanted[2] in (reason, None), name
    assert case.rows("select count(*), count(distinct host) from answers where host = 'batch'") == [(6, 1)]
    assert case.rows("select ending, count(*) from handed_out group by 1 order by 1") == [
        ("answered", 5),
        ("expired", 1),
        ("failed", 8),
    ]
    assert case.rows("select answers, prompt_tokens, task from costs") == [(6, 50, "difficulty")]
    assert case.enrich().requests == 8
    assert case.rows("select count(*) from outcomes where status = 'failed'") == [(0,)]


def test_answers_are_kept_raw_and_read_as_online(case):
    """Reasoning, usage, finish reason and the body as it stands in the line."""
    [asked] = handed_out(case, 1)
    body = (
        '{"id": "chatcmpl-1",  "choices": [{"message": {"content": "<difficulty>low</difficulty>",'
        ' "reasoning": "It copies. \\ud83d"}, "finish_reason": "stop", "logprobs": [NaN]}],'
        ' "usage": {"prompt_tokens": 53, "completion_tokens": 9, "cost": 0.25,'
        ' "prompt_tokens_details": {"cached_tokens": 16},'
        ' "completion_tokens_details": {"reasoning_tokens": 5}}}'
    )
    line = '{"id": "v-1", "response": {"body": %s, "status_code": 200}, "custom_id": "%s", "error": null}'
    (case.folder / "results.jsonl").write_text(line % (body, asked["custom_id"]) + "\n")
    assert read(case, "results.jsonl").status == 0
    [row] = case.rows(
        "select content, reasoning, finish_reason, prompt_tokens, cached_tokens, completion_tokens,"
        " reasoning_tokens, cost_usd, response, host, model from answers"
    )
    assert row == (
        "<difficulty>low</difficulty>",
        "It copies. \N{REPLACEMENT CHARACTER}",
        "stop",
        53,
        16,
        9,
        5,
        0.25,
        body,
        "batch",
        "m",
    )
    [(request,)] = case.rows("select request from answers")
    assert json.loads(request) == asked["body"]
    assert case.rows("select result_id from batch_results") == [("v-1",)]


def test_the_same_results_again_add_nothing(case):
    """Whatever the file is called, packed in, and however its lines are spelled and ordered."""
    asked = handed_out(case, 6)
    results = [rated(line) for line in asked[:4]] + [openai_expired(line) for line in asked[4:]]
    write_lines(case.folder / "results.jsonl", results)
    first = read(case, "results.jsonl")
    assert "results.jsonl: read 6, new 6, known 0, rejected 0" in first.out
    before = case.rows("select * from answers"), case.rows("select * from outcomes")
    spelled = "\n".join(json.dumps(line, indent=None, sort_keys=True) for line in reversed(results))
    (case.folder / "again.jsonl.gz").write_bytes(gzip.compress(spelled.encode()))
    for name in ("results.jsonl", "again.jsonl.gz"):
        again = read(case, name)
        assert again.status == 0, again.text
        assert f"{name}: read 6, new 0, known 6, rejected 0" in again.out
        assert (case.rows("select * from answers"), case.rows("select * from outcomes")) == before


def test_an_old_error_does_not_undo_what_came_later(case):
    """Read again after the sample was asked online, and after its request was handed out anew."""
    [asked] = handed_out(case, 1)
    write_lines(case.folder / "errors.jsonl", [openai_expired(asked)])
    assert read(case, "errors.jsonl").status == 3
    assert case.kbetl("batch", "write", "enrich", "out", "-m", "m").status == 0
    assert read(case, "errors.jsonl").status == 0
    assert case.rows("select ending from handed_out order by id") == [("expired",), (None,)]
    assert case.enrich("--also-handed-out").requests == 1
    assert read(case, "errors.jsonl").status == 0
    assert case.statuses() == {"ok": 1}


def test_one_result_and_an_error_for_the_same_request(case):
    """In either order the answer counts; a second answer is kept beside the first."""
    first, second = handed_out(case, 2)
    write_lines(
        case.folder / "results.jsonl",
        [
            openai_expired(first),
            rated(first),
            rated(second),
            openai_expired(second),
            openai_result(second, completion("<difficulty>high</difficulty>")),
        ],
    )
    done = read(case, "results.jsonl")
    assert "read 5, new 5, known 0, rejected 0" in done.out
    assert case.rows("select value, count(*) from outcomes group by 1") == [("low", 2)]
    assert case.rows("select count(*), max(try) from answers") == [(3, 1)]
    assert case.rows("select distinct ending from handed_out") == [("answered",)]


def test_a_cut_file_leaves_the_rest_missing_and_is_named(case):
    """What is missing can be read from the whole file later, or asked online."""
    asked = handed_out(case, 4)
    answer_file(next((case.folder / "out").iterdir()), case.folder / "results.jsonl")
    whole = (case.folder / "results.jsonl").read_bytes()
    (case.folder / "cut.jsonl").write_bytes(whole[: whole.rindex(b"<difficulty>") + 5])
    done = read(case, "cut.jsonl")
    assert done.status == 3
    assert "cut.jsonl:4: it is not JSON: Unterminated string" in done.out
    assert "enrich-2-1.jsonl: 1 requests are still out" in done.out
    assert case.statuses() == {"ok": 3}
    assert case.enrich().requests == 0
    packed = gzip.compress(whole)
    (case.folder / "cut.jsonl.gz").write_bytes(packed[:-20])
    assert "the gzip data is cut" in read(case, "cut.jsonl.gz").out
    assert case.enrich("--also-handed-out").requests == 1
    assert case.statuses() == {"ok": 4}
    late = read(case, "results.jsonl")
    assert "read 4, new 1, known 3, rejected 0" in late.out
    assert len(asked) == 4


def test_lines_that_are_no_results_of_this_store_are_named(case):
    """Each with its place; the good ones are taken."""
    [asked] = handed_out(case, 1)
    unknown = {**rated(asked), "custom_id": asked["custom_id"][:-1] + "1"}
    lines = [
        json.dumps({**rated(asked), "custom_id": "request-1"}),
        json.dumps(unknown),
        "[1]",
        "not json",
        json.dumps(asked),
        json.dumps({"example_id": 1}),
        "",
        json.dumps(rated(asked)),
    ]
    (case.folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    done = read(case, "results.jsonl")
    assert done.status == 3
    said = [line for line in done.out.splitlines() if line.startswith("results.jsonl:")]
    assert [line.split(": ", 1)[0] for line in said[:6]] == [f"results.jsonl:{n}" for n in (1, 3, 4, 5, 6, 2)]
    assert "custom_id 'request-1' was not given by kbetl" in said[0]
    assert "it is JSON but no object" in said[1]
    assert "a line of an input file, not of its results" in said[3]
    assert "was not handed out by kbetl.db" in said[5]
    assert "read 7, new 1, known 0, rejected 6" in done.out
    assert case.statuses() == {"ok": 1}


def test_lines_rejected_for_one_reason_are_one_line(case):
    """With their number and the first places, however their ids differ."""
    [asked] = handed_out(case, 1)
    other = [{**rated(asked), "custom_id": custom_id(f"r1:{n * 7919 << 220:064x}", 0)} for n in range(40)]
    (case.folder / "results.jsonl").write_text("\n".join(map(json.dumps, [*other, rated(asked)])) + "\n")
    done = read(case, "results.jsonl")
    [line] = [line for line in done.out.splitlines() if "was not handed out" in line]
    assert line.startswith("40 rows: its request ")
    assert line.endswith("(results.jsonl:1, results.jsonl:2, results.jsonl:3 and 37 more)")
    assert (done.status, case.statuses()) == (3, {"ok": 1})


ODD = {
    "half a surrogate": '"\\ud83d"',
    "30 digits": "9" * 30,
    "5,000 digits": "9" * 5000,
    "beyond a double": "1e999",
    "NaN": "NaN",
    "900 levels": "[" * 900 + "]" * 900,
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
    "NUL": '"\\u0000"',
    "a list": "[1, null]",
    "a boolean": "true",
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_value_anywhere_in_a_line_costs_no_other_line(case, odd):
    """Each place of a line has it in turn; the last line is whole, and its answer is taken."""
    good, asked = handed_out(case, 2)
    places = [
        '{{"id": {0}, "custom_id": {1}, "response": null, "error": {{"code": "x", "message": "y"}}}}',
        '{{"id": "b", "custom_id": {0}, "response": null, "error": {{"code": "x", "message": "y"}}}}',
        '{{"id": "b", "custom_id": {1}, "response": {0}, "error": null}}',
        '{{"id": "b", "custom_id": {1}, "response": null, "error": {0}}}',
        '{{"id": "b", "custom_id": {1}, "response": null, "error": {{"code": {0}, "message": {0}}}}}',
        '{{"id": "b", "custom_id": {1}, "response": {{"status_code": {0}, "body": {{}}}}, "error": null}}',
        '{{"id": "b", "custom_id": {1}, "response": {{"status_code": 200, "body": {0}}}, "error": null}}',
        '{{"id": "b", "custom_id": {1}, "response": {{"status_code": 200, "body": {{"choices": {0}}}}}}}',
        '{{"id": "b", "custom_id": {1}, "response": {{"status_code": 200, "body":'
        ' {{"usage": {0}, "model": {0},'
        ' "choices": [{{"message": {{"content": {0}}}, "finish_reason": {0}}}]}}}}}}',
    ]
    lines = [place.format(ODD[odd], json.dumps(asked["custom_id"])) for place in places]
    (case.folder / "results.jsonl").write_text("\n".join([*lines, json.dumps(rated(good))]) + "\n")
    done = read(case, "results.jsonl")
    assert "Traceback" not in done.text
    assert done.status == 3
    assert outcome_of(case, good)[:2] == ("ok", "low")
    assert f"read {len(lines) + 1}, " in done.out


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_opened_stops_before_anything_is_taken(case, name):
    handed_out(case, 1)
    answer_file(next((case.folder / "out").iterdir()), case.folder / "results.jsonl")
    done = read(case, "results.jsonl", name)
    assert done.status == 1
    assert "cannot be read" in done.err
    assert case.statuses() == {}


@pytest.mark.parametrize(
    "content", [b"", b"\n \n", gzip.compress(b"", mtime=0)], ids=["empty", "blank", "gzip"]
)
def test_a_file_without_results_is_named_and_the_others_count(case, content):
    """An empty file is a mistake of the runner or of the path, not a batch that is done."""
    handed_out(case, 1)
    answer_file(next((case.folder / "out").iterdir()), case.folder / "results.jsonl")
    (case.folder / "empty.jsonl.gz").write_bytes(content)
    done = read(case, "results.jsonl", "empty.jsonl.gz")
    assert (done.status, case.statuses()) == (1, {"ok": 1})
    assert "empty.jsonl.gz holds no results" in done.out + done.err


def test_there_must_be_a_store(case):
    (case.folder / "results.jsonl").write_text("{}\n")
    assert read(case, "results.jsonl").status == 1
    assert not (case.folder / "kbetl.db").exists()


def test_a_file_task_is_read_as_its_file_said(case):
    """Another reader, and several samples by one request."""
    (case.folder / "style.md").write_text(
        '+++\nname = "style"\nabout = "rollout"\nanswer = { tag = "style", min = 0, max = 10 }\n+++\n'
        "{{ python_code }}\n"
    )
    case.ingest([rollout(1), rollout(1, reward=0.5)])
    task = ["--task", "style.md"]
    assert case.kbetl("batch", "write", "enrich", "out", "-m", "m", *task).status == 0
    file = next((case.folder / "out").iterdir())
    answer_file(
        file,
        case.folder / "r.jsonl",
        lambda asked: openai_result(asked, completion("<style>7</style>")),
    )
    done = read(case, "r.jsonl")
    assert done.status == 0
    assert "style: the datasets use the labels of m (t1:" in done.err
    assert case.rows("select status, value, count(*) from outcomes group by 1, 2") == [("ok", "7", 2)]
    assert case.kbetl("reparse", "style.md", "--yes").status == 0


def test_resume_and_status_do_not_mistake_batches_for_runs_that_were_stopped(case):
    handed_out(case, 2)
    answer_file(
        next((case.folder / "out").iterdir()),
        case.folder / "r.jsonl",
        lambda asked: openai_result(asked, completion("no idea")),
    )
    assert read(case, "r.jsonl").status == 3
    resumed = case.enrich("--resume")
    assert "no run of difficulty was left over" in resumed.err
    status = json.loads(case.kbetl("status", "--json").out)
    assert [run["command"] for run in status["unfinished"] if run["command"].startswith("batch")] == []


@pytest.mark.parametrize("after", [1, 600])
def test_a_killed_read_is_made_good_by_reading_again(case, after):
    """Nothing is there twice, and nothing is missing."""
    handed_out(case, 1600)
    answer_file(next((case.folder / "out").iterdir()), case.folder / "results.jsonl")
    with started(case.folder, "batch", "read", "results.jsonl") as process:
        until(lambda: case.rows("select count(*) >= ? from answers", after) == [(1,)])
        process.kill()
        process.wait()
    [(kept,)] = case.rows("select count(*) from answers")
    assert case.rows("select count(*) from outcomes") == [(kept,)]
    with started(case.folder, "batch", "read", "results.jsonl") as process:
        done = ended(process)
    assert done.status == 0
    assert f"read 1600, new {1600 - kept}, known {kept}" in done.out
    assert case.rows("select count(*), max(try) from answers") == [(1600, 0)]
    assert case.statuses() == {"ok": 1600}


def test_two_readers_at_once_take_each_result_once(case):
    handed_out(case, 800)
    answer_file(next((case.folder / "out").iterdir()), case.folder / "results.jsonl")
    arguments = ["batch", "read", "results.jsonl"]
    with started(case.folder, *arguments) as first, started(case.folder, *arguments) as second:
        assert [ended(first).status, ended(second).status] == [0, 0]
    assert case.rows("select count(*), max(try) from answers") == [(800, 0)]
    assert case.rows("select count(*) from batch_results") == [(800,)]
    assert Path(case.folder / "results.jsonl").exists()


def test_status_names_what_waits_for_batch_files(case):
    """It is not missing, and what to do next is to look after it."""
    handed_out(case, 3, "--max-requests", 2)
    said = case.kbetl("status").out
    assert "handed out    difficulty: 3 samples wait for 2 batch files" in said
    assert "missing" not in said
    assert "next          kbetl batch status" in said
    assert json.loads(case.kbetl("status", "--json").out)["handed_out"] == [
        {"task": "difficulty", "samples": 3, "files": 2}
    ]
