"""`kbetl batch submit`, `fetch` and `status` against a service: each file is begun once, whatever happens."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from batch_case import completion, openai_expired, openai_result, rated
from enrich_case import Case, ended, rollouts, started
from fake_batches import KEY, FakeBatches

pytest_plugins = ["enrich_fixtures"]


@pytest.fixture
def service() -> Iterator[FakeBatches]:
    with FakeBatches() as service:
        yield service


@pytest.fixture
def written(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Six rollouts whose requests stand in two files, and a key."""
    monkeypatch.setenv("BATCH_KEY", KEY)
    case.ingest(rollouts(6))
    assert case.kbetl("batch", "write", "enrich", "out", "-m", "m", "--max-requests", 4).status == 0
    return case


def where(service: FakeBatches) -> list[object]:
    return ["-b", service.url, "-k", "BATCH_KEY"]


def submit(case: Case, service: FakeBatches, *arguments: object):
    return case.kbetl("batch", "submit", *where(service), "--settle", 0, *arguments)


def killed(case: Case, service: FakeBatches, step: str, *arguments: object) -> None:
    """Runs a batch command until the service holds it at a step, and kills it there."""
    service.hold(step)
    with started(case.folder, "batch", *arguments, BATCH_KEY=KEY) as process:
        service.wait_until_held()
        process.kill()
        process.wait()
    service.release()


def test_files_go_to_the_service_and_answers_come_back(written, service):
    """Each file is uploaded as it is and begun once; the answers are read as those of files are."""
    case = written
    done = submit(case, service)
    assert done.status == 0, done.text
    host = service.url.split("/")[2]
    assert f"out/enrich-2-1.jsonl: batch_1 at {host}, validating" in done.out
    files = sorted((case.folder / "out").glob("*.jsonl"))
    assert [content for _, content in service.files.values()] == [file.read_bytes() for file in files]
    assert [each["endpoint"] for each in service.batches.values()] == ["/v1/chat/completions"] * 2
    assert [each["metadata"]["kbetl"] for each in service.batches.values()] == [
        found for (found,) in case.rows("select file_hash from batches order by id")
    ]
    service.batches["batch_1"]["request_counts"] = {"total": 4, "completed": 1, "failed": 0}
    waiting = case.kbetl("batch", "fetch")
    assert waiting.status == 3
    assert "batch_1 is validating, 1 of 4 done, 0 failed" in waiting.out
    service.finish("batch_1", rated)
    assert case.kbetl("batch", "fetch").status == 3
    service.finish("batch_2", rated)
    assert case.kbetl("batch", "fetch").status == 0
    assert case.statuses() == {"ok": 6}
    assert case.rows("select distinct host from answers") == [(f"batch:{host}",)]
    assert case.enrich().requests == 0
    again = case.kbetl("batch", "fetch")
    assert (again.status, again.out) == (0, "no batch waits to be fetched; see: kbetl batch status\n")
    assert "no batch file waits to be submitted" in submit(case, service).out


def test_errors_and_what_was_never_run_are_failed_and_asked_again(written, service):
    """From the error file, and where no file has a line for a request at all."""
    case = written
    submit(case, service)
    refused = {"error": {"message": "x"}}
    results = [
        make(asked)
        for make, asked in zip(
            (rated, openai_expired, lambda asked: openai_result(asked, refused, 400)),
            service.asked("batch_1"),
            strict=False,
        )
    ]
    by_name = {each["custom_id"]: each for each in results}
    service.finish("batch_1", lambda asked: by_name.get(asked["custom_id"]), "expired")
    service.batches["batch_2"] |= {
        "status": "failed",
        "errors": {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]},
    }
    done = case.kbetl("batch", "fetch")
    assert done.status == 3
    host = "batch:" + service.url.split("/")[2]
    reasons = dict(case.rows("select reason, count(*) from outcomes where status = 'failed' group by 1"))
    assert reasons == {
        f"{host}: This request could not be executed before the window ended. (batch_expired)": 1,
        f'{host} answered 400 Bad Request: "x"': 1,
        f"{host}: the batch is expired without a result for it": 1,
        f"{host}: the batch is failed without a result for it: Enqueued token limit reached": 2,
    }
    assert case.rows("select count(*) from handed_out where ending is null") == [(0,)]
    assert case.enrich().requests == 5
    assert case.statuses() == {"ok": 6}


def test_the_same_requests_can_be_submitted_again_after_a_failure(written, service):
    """The new file is byte for byte the old one: its batch is another all the same."""
    case = written
    submit(case, service)
    for batch in service.batches.values():
        batch["status"] = "failed"
    assert case.kbetl("batch", "fetch").status == 3
    assert case.kbetl("batch", "write", "enrich", "out", "-m", "m", "--max-requests", 4).status == 0
    assert submit(case, service).status == 0
    assert len(service.batches) == 4
    assert case.rows("select count(distinct file_hash), count(distinct server_id) from batches") == [(2, 4)]


@pytest.mark.parametrize("step", ["listed", "upload received", "uploaded", "create received", "created"])
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_submit_killed_at_any_step_begins_each_file_once(written, service, step, keeps_metadata):
    """What the killed command began is found, by metadata or by the uploaded file."""
    case = written
    service.keeps_metadata = keeps_metadata
    killed(case, service, step, "submit", *where(service))
    done = submit(case, service, "--settle", 60 if step == "create received" else 0)
    assert done.status == 0, done.text
    assert sorted(each["status"] for each in service.batches.values()) == ["validating"] * 2
    assert case.rows("select server_id from batches order by id") == [("batch_1",), ("batch_2",)]


def test_a_clock_that_was_set_on_begins_nothing_twice(written, service):
    """What a killed command began is waited for as long as ever, however long ago that seems."""
    case = written
    service.listed_after_pages = 3
    killed(case, service, "created", "submit", *where(service))
    case.change(
        "update batches set create_began_at = '2001-01-01T00:00:00Z' where create_began_at is not null"
    )
    service.hides = 1
    done = submit(case, service, "--settle", 60)
    assert done.status == 0, done.text
    assert "a command that was stopped asked" in done.err
    assert sorted(each["status"] for each in service.batches.values()) == ["validating"] * 2


@pytest.mark.parametrize("step", ["asked", "half a file"])
def test_a_killed_fetch_is_made_good_by_the_next(written, service, step):
    case = written
    submit(case, service)
    for batch_id in service.batches:
        service.finish(batch_id, rated)
    killed(case, service, step, "fetch")
    assert not list((case.folder / "out").glob("*.output.jsonl"))
    assert case.kbetl("batch", "fetch").status == 0
    assert case.statuses() == {"ok": 6}
    assert case.rows("select count(*), max(try) from answers") == [(6, 0)]


@pytest.mark.parametrize("step", ["uploaded", "create received", "created"])
@pytest.mark.parametrize("status", [500, 429])
def test_an_error_of_the_service_is_said_and_submitting_again_goes_on(written, service, step, status):
    """Also where it did what it was asked to do, and failed only to say so."""
    case = written
    service.failures[step] = [status]
    first = submit(case, service)
    assert first.status == 1
    assert f"failed at {step}" in first.err
    assert submit(case, service).status == 0
    ended_ = [each for each in service.batches.values() if each["status"] == "cancelled"]
    assert len(service.batches) - len(ended_) == 2


def test_what_only_asks_is_asked_again(written, service):
    """Listing, state and files, also where a file breaks off half way."""
    case = written
    service.failures = {"listed": [503, 429], "asked": [500], "half a file": [0]}
    assert submit(case, service).status == 0
    for batch_id in service.batches:
        service.finish(batch_id, rated)
    assert case.kbetl("batch", "fetch").status == 0
    assert case.statuses() == {"ok": 6}


def test_batches_are_found_on_any_page(written, service):
    service.page = 1
    killed(case := written, service, "created", "submit", *where(service))
    for _ in range(3):
        service.add_batch({"endpoint": "x", "input_file_id": "file-9", "completion_window": "24h"})
    assert submit(case, service).status == 0
    assert case.rows("select server_id from batches order by id") == [("batch_1",), ("batch_5",)]


def test_a_second_batch_of_a_file_is_cancelled(written, service):
    """Should a service have listed the first too late."""
    case = written
    submit(case, service, "out/enrich-2-1.jsonl")
    body = {
        "endpoint": "x",
        "completion_window": "24h",
        "input_file_id": "file-1",
        "metadata": {"kbetl": service.batches["batch_1"]["metadata"]["kbetl"]},
    }
    service.add_batch(body)
    case.change("update batches set server_id = null where id = 1")
    done = submit(case, service, "out/enrich-2-1.jsonl")
    assert "batch_2 holds the same file as batch_1: cancelling it" in done.err
    assert case.rows("select server_id from batches where id = 1") == [("batch_1",)]
    assert service.batches["batch_2"]["status"] == "cancelled"


def test_what_would_be_paid_twice_is_refused(written, service):
    """A file that was submitted, changed, taken back in part, or belongs to another service."""
    case = written
    first, second = "out/enrich-2-1.jsonl", "out/enrich-2-2.jsonl"
    assert submit(case, service, first).status == 0
    assert "was submitted before, as batch_1" in submit(case, service, first).err
    whole = (case.folder / second).read_bytes()
    (case.folder / second).write_bytes(whole + b"\n")
    assert "is not as it was written" in submit(case, service).err
    (case.folder / second).unlink()
    assert "it is not where it was written" in submit(case, service).err
    (case.folder / second).write_bytes(whole)
    case.change("update batches set base_url = 'http://127.0.0.1:9/v1' where id = 2")
    assert "was being submitted to http://127.0.0.1:9/v1" in submit(case, service).err
    assert "was not written by" in submit(case, service, "rows.jsonl").err
    assert case.enrich("--also-handed-out", "-n", 6).requests == 6
    refused = submit(case, service, second)
    assert (refused.status, len(service.batches)) == (2, 1)
    assert "2 of its 2 requests are answered or taken back" in refused.err


def test_taking_back_from_a_service_says_that_it_is_paid_there_too(written, service):
    case = written
    submit(case, service, "out/enrich-2-1.jsonl")
    online = case.enrich("--also-handed-out", "-n", 2)
    assert "2 requests; 2 of them are at a service, and paid for there too" in online.err
    again = case.kbetl("batch", "write", "enrich", "again", "-m", "m", "--again")
    assert "4 requests; 2 of them are at a service, and paid for there too" in again.out


def test_no_key_is_kept(written, service, monkeypatch):
    """Only the name of its variable; without the variable nothing is sent, and status says so."""
    case = written
    monkeypatch.setenv("TEAM", "team-0123456789")
    assert submit(case, service, "--header", "X-Team: $TEAM").status == 0
    assert case.rows("select distinct api_key_var, headers from batches") == [
        ("BATCH_KEY", '["X-Team: $TEAM"]')
    ]
    for file in case.folder.glob("kbetl.db*"):
        assert KEY.encode() not in file.read_bytes()
        assert b"team-0123456789" not in file.read_bytes()
    monkeypatch.delenv("BATCH_KEY")
    before = service.requests.total()
    assert "BATCH_KEY is not set" in case.kbetl("batch", "fetch").err
    said = case.kbetl("batch", "status")
    assert said.status == 0
    assert "BATCH_KEY is not set" in said.err
    assert service.requests.total() == before
    monkeypatch.setenv("BATCH_KEY", "wrong")
    assert "check the key" in case.kbetl("batch", "fetch").err


def test_status_lists_what_is_out(written, service):
    """First what is out; where a service has it, what that says now."""
    case = written
    assert case.kbetl("batch", "status").out.splitlines() == [
        "out/enrich-2-1.jsonl: difficulty by m, 4 requests: out 4",
        "out/enrich-2-2.jsonl: difficulty by m, 2 requests: out 2",
    ]
    submit(case, service, "out/enrich-2-1.jsonl")
    service.finish("batch_1", rated)
    assert (
        case.kbetl("batch", "status", "--offline")
        .out.splitlines()[0]
        .endswith("batch_1 validating, not fetched")
    )
    assert case.kbetl("batch", "status").out.splitlines()[0].endswith("batch_1 completed, not fetched")
    case.kbetl("batch", "fetch", "batch_1", "--to", "results")
    assert [path.name for path in (case.folder / "results").iterdir()] == ["enrich-2-1.output.jsonl"]
    found = json.loads(case.kbetl("batch", "status", "--json").out)
    assert [(each["still_out"], each["answered"], each["server_id"]) for each in found] == [
        (0, 4, "batch_1"),
        (2, 0, None),
    ]
    Path(case.folder / "out" / "enrich-2-2.jsonl").unlink()
    assert "(not there)" in case.kbetl("batch", "status").out


def test_a_line_that_cannot_be_read_leaves_the_batch_to_be_fetched_again(written, service):
    """Nothing is concluded from files that are not whole."""
    case = written
    submit(case, service, "out/enrich-2-1.jsonl")
    service.finish("batch_1", rated)
    file_id = service.batches["batch_1"]["output_file_id"]
    name, content = service.files[file_id]
    service.files[file_id] = (name, content[:-30])
    assert case.kbetl("batch", "fetch").status == 3
    assert case.statuses() == {"ok": 3}
    assert case.rows("select fetched_at from batches where id = 1") == [(None,)]
    service.files[file_id] = (name, content)
    assert case.kbetl("batch", "fetch").status == 0
    assert case.statuses() == {"ok": 4}


def test_two_submits_at_once_begin_each_file_once(written, service):
    case = written
    service.hold("create received")
    arguments = ["batch", "submit", *where(service)]
    with started(case.folder, *arguments, BATCH_KEY=KEY) as first:
        service.wait_until_held()
        with started(case.folder, *arguments, BATCH_KEY=KEY) as second:
            refused = ended(second)
        service.release()
        assert ended(first).status == 0
    assert refused.status == 1
    assert "another process submits or fetches batches" in refused.err
    assert len(service.batches) == 2


def test_strange_answers_of_a_service_are_said_in_one_line(written, service):
    """No traceback, and an id that is no plain word goes into no address."""
    case = written
    submit(case, service)
    service.batches["batch_1"]["id"] = "../files/file-1/content?x="
    done = case.kbetl("batch", "fetch")
    assert done.status == 1
    assert "the service told no id" in done.err
    service.batches["batch_1"] = {"id": "batch_1", "status": "completed", "errors": "x", "request_counts": 3}
    service.finish("batch_2", lambda asked: openai_result(asked, completion(None)))
    assert case.kbetl("batch", "fetch").status == 3
    assert case.statuses() == {"failed": 6}


def test_batches_of_a_merged_store_are_its_own_to_submit_and_fetch(written, service):
    """Where its files lie, were submitted and with which key is that store's word; answers come by merge."""
    case, here = written, ("-d", "here.db")
    first, second = sorted((case.folder / "out").glob("*.jsonl"))
    submit(case, service, first)
    assert case.kbetl("merge", "kbetl.db", *here).status == 0
    with closing(sqlite3.connect(case.folder / "here.db")) as connection, connection:
        connection.execute("update batches set written_at = null")
    before = service.requests.copy()
    for words, status in (
        (("fetch",), 0),
        (("status",), 0),
        (("submit", *where(service)), 0),
        (("fetch", "batch_1"), 2),
        (("submit", *where(service), second), 2),
    ):
        done = case.kbetl("batch", *words, *here)
        assert (done.status, "Traceback" in done.text) == (status, False), done.text
    assert service.requests == before
    with closing(sqlite3.connect(case.folder / "here.db")) as connection:
        assert connection.execute("select count(written_at) from batches").fetchone() == (0,)
    service.finish("batch_1", rated)
    assert case.kbetl("batch", "fetch").status == 0
    assert case.kbetl("merge", "kbetl.db", *here).status == 0
    with closing(sqlite3.connect(case.folder / "here.db")) as connection:
        assert connection.execute("select status, count(*) from outcomes").fetchall() == [("ok", 4)]
