"""`kbetl batch write`: the missing requests as files, each handed out once."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from batch_case import answer_file, completion, lines_of, openai_result
from enrich_case import Case, ended, rollout, rollouts, started, until, write_rows

from kbetl.batch.files import custom_id, key_of

pytest_plugins = ["enrich_fixtures"]


def files_in(case: Case, folder: str = "out") -> list[Path]:
    return sorted((case.folder / folder).glob("*.jsonl"), key=lambda path: int(path.stem.split("-")[-1]))


def entries(case: Case) -> int:
    """Files in the folder, hidden ones too."""
    folder = case.folder / "out"
    return len(os.listdir(folder)) if folder.is_dir() else 0


def write(case: Case, *arguments: object, command: str = "enrich", folder: str = "out"):
    return case.kbetl("batch", "write", command, folder, "-m", "m", *arguments)


def test_a_file_holds_the_bodies_that_enrich_would_send(case):
    """One line for each request; samples that ask the same share it."""
    rows = [*rollouts(5), rollout(0, reward=0.9)]
    case.ingest(rows)
    assert write(case).status == 0
    assert case.enrich().requests == 0
    [file] = files_in(case)
    lines = lines_of(file)
    assert [sorted(line) for line in lines] == [["body", "custom_id", "method", "url"]] * 5
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    assert case.enrich("--also-handed-out").requests == 5
    sent = {each.body["messages"][0]["content"]: each.body for each in case.llm.requests}
    assert [line["body"] for line in lines] == [
        sent[line["body"]["messages"][0]["content"]] for line in lines
    ]
    named = {key_of(line["custom_id"]) for line in lines}
    assert named == set(case.rows("select request_hash, attempt from answers"))


def test_a_custom_id_is_short_and_can_be_turned_back():
    """Some services take 64 characters at most."""
    request_hash = "r1:" + "f0e1" * 16
    name = custom_id(request_hash, 123456)
    assert len(name) <= 64
    assert key_of(name) == (request_hash, 123456)
    assert key_of(name.replace("-", "_", 1)) is None
    for other in ("", "request-1", name + "x", name[:-1] + "-1", "r1-" + "=" * 43 + "-0"):
        assert key_of(other) is None


def test_what_is_handed_out_is_neither_written_nor_asked_again(case):
    case.ingest(rollouts(4))
    write(case)
    again = write(case)
    assert (again.status, len(files_in(case))) == (0, 1)
    assert "4 samples wait for other files" in again.out
    online = case.enrich()
    assert (online.status, online.requests) == (3, 0)
    assert "left to batch files: 4" in online.out
    assert case.rows("select count(*) from pending") == [(0,)]
    assert case.rows("select count(*), count(distinct batch_id) from waiting_for_batch") == [(4, 1)]
    dry = case.enrich("--dry-run")
    assert "requests to send 0;" in dry.out
    assert "left to batch files 4" in dry.out


def test_a_new_sample_that_asks_what_is_handed_out_waits_with_it(case):
    """It is neither asked nor written, and the answer settles it too."""
    case.ingest(rollouts(2))
    write(case)
    case.ingest([rollout(1, reward=0.95)], "more.jsonl")
    assert case.enrich().requests == 0
    second = write(case)
    assert "1 samples wait" not in second.out
    assert "3 samples wait for other files" in second.out
    assert len(files_in(case)) == 1
    answer_file(files_in(case)[0], case.folder / "results.jsonl")
    assert case.kbetl("batch", "read", "results.jsonl").status == 0
    assert case.statuses() == {"ok": 3}


def test_limits_split_files(case):
    case.ingest(rollouts(7))
    assert write(case, "--max-requests", 3).status == 0
    assert [len(lines_of(file)) for file in files_in(case)] == [3, 3, 1]
    size = max(file.stat().st_size for file in files_in(case))
    assert write(case, "--again", "--max-mb", (size + 10) / 1e6, folder="by-size").status == 0
    assert all(file.stat().st_size <= size + 10 for file in files_in(case, "by-size"))
    assert sum(len(lines_of(file)) for file in files_in(case, "by-size")) == 7
    assert case.rows("select ending, count(*) from handed_out group by ending order by 1") == [
        (None, 7),
        ("released", 7),
    ]


def test_a_request_that_no_file_may_hold_is_left_and_named(case):
    case.ingest([*rollouts(2), rollout(9, python_code="x = 1\n" * 4000)])
    done = write(case, "--max-mb", 0.01)
    assert done.status == 3
    assert "1 requests are larger than a file may be: ask them online" in done.out
    assert [len(lines_of(file)) for file in files_in(case)] == [2]
    assert case.enrich().requests == 1


def test_options_choose_as_in_enrich(case):
    """Sources, rewards, a limit, and statuses that are asked again with other parameters."""
    case.ingest([rollout(number, reward=number / 10) for number in range(10)], "a.jsonl")
    case.ingest([rollout(number) for number in range(20, 24)], "b.jsonl")
    assert write(case, "--source", "a.jsonl", "--min-reward", 0.45, "-n", 3, "-T", 0.5).status == 0
    lines = lines_of(*files_in(case))
    assert len(lines) == 3
    assert {line["body"]["temperature"] for line in lines} == {0.5}
    answer_file(
        files_in(case)[0],
        case.folder / "results.jsonl",
        lambda asked: openai_result(asked, completion("<diff", finish_reason="length")),
    )
    assert case.kbetl("batch", "read", "results.jsonl").status == 3
    assert case.statuses() == {"truncated": 3}
    again = ["--min-reward", 0.45, "--retry", "truncated", "-T", 0.5, "-t", 1024]
    assert write(case, *again, folder="again").status == 0
    answer_file(files_in(case, "again")[0], case.folder / "longer.jsonl")
    assert {line["body"]["max_tokens"] for line in lines_of(*files_in(case, "again"))} == {1024}
    assert case.kbetl("batch", "read", "longer.jsonl").status == 0
    assert case.rows("select status, count(*), count(distinct task_hash) from outcomes") == [("ok", 3, 1)]


def test_test_mode_writes_five(case, monkeypatch):
    case.ingest(rollouts(8))
    monkeypatch.setenv("TEST_MODE", "true")
    write(case)
    assert len(lines_of(*files_in(case))) == 5


def test_what_needs_no_request_is_settled_at_once(case):
    """By an answer that is there, or because a field is lacking."""
    case.ingest(rollouts(3))
    assert case.enrich("-n", 2).requests == 2
    case.ingest([rollout(1, reward=0.99), rollout(8, python_code=None)], "more.jsonl")
    done = write(case)
    assert done.status == 3
    assert "settled without a request: failed 1, ok 1" in done.out
    assert len(lines_of(*files_in(case))) == 1
    assert case.statuses() == {"ok": 3, "failed": 1}


def test_prompts_are_written_too(case):
    row = {"module_name": "A", "python_code": "class A: pass", "triton_code": "k", "uuid": "1"}
    write_rows(case.folder / "modules.jsonl", [row])
    case.kbetl("ingest", "modules.jsonl")
    assert write(case, command="prompts").status == 0
    [file] = files_in(case)
    assert file.name.startswith("prompts-")
    answer_file(
        file,
        case.folder / "results.jsonl",
        lambda asked: openai_result(asked, completion("<specification>Do it.</specification>")),
    )
    assert case.kbetl("batch", "read", "results.jsonl").status == 0
    assert len(case.rows("select prompt from synthetic")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "offline"], "reads no batch files"),
        (["-o", "stream", "true"], "kbetl sets it"),
        (["--retry", "ok"], "choose from"),
    ],
)
def test_what_no_batch_takes_is_refused(case, arguments, said):
    case.ingest(rollouts(1))
    done = case.kbetl("batch", "write", "enrich", "out", *arguments)
    assert done.status == 2
    assert said in done.err
    assert not (case.folder / "out").exists()


def test_batch_write_says_what_limits_it_as_enrich_does(case, monkeypatch):
    """The same lines on stderr, whoever asks: TEST_MODE, a condition that nothing satisfies."""
    case.ingest(rollouts(7))
    monkeypatch.setenv("TEST_MODE", "true")
    nothing = ["--where", "reward > 2", "--min-reward", "0.1"]
    written, asked = write(case, *nothing), case.enrich("-m", "m", *nothing)
    assert written.err.splitlines() == asked.err.splitlines()
    assert [line.partition(" ")[0] for line in written.err.splitlines()] == [
        "TEST_MODE:",
        "--min-reward",
        "no",
    ]
    assert write(case).status == 0
    assert case.rows("select count(*) from handed_out") == [(5,)]


def test_an_older_file_of_that_name_is_left_alone(case):
    """Of another store, say: nothing is handed out."""
    case.ingest(rollouts(1))
    (case.folder / "out").mkdir()
    other = case.folder / "out" / "enrich-2-1.jsonl"
    other.write_text("of another store")
    assert write(case).status == 2
    assert other.read_text() == "of another store"
    assert case.rows("select count(*) from handed_out") == [(0,)]


def test_taking_back_asks_online_and_keeps_what_comes_late(case):
    """An answer to a request that was taken back is kept; the outcome of the later answer stays."""
    case.ingest(rollouts(3))
    write(case)
    online = case.enrich("--also-handed-out", "-n", 2)
    assert online.requests == 2
    assert "taken back from batch files: 2 requests" in online.err
    before = case.rows("select sample_hash, value from outcomes order by 1")
    answer_file(
        files_in(case)[0],
        case.folder / "late.jsonl",
        lambda asked: openai_result(asked, completion("<difficulty>high</difficulty>")),
    )
    assert case.kbetl("batch", "read", "late.jsonl").status == 0
    assert case.statuses() == {"ok": 3}
    assert set(before) <= set(case.rows("select sample_hash, value from outcomes"))
    assert case.rows("select count(*), count(distinct request_hash) from answers") == [(5, 3)]


def test_a_file_that_did_not_get_its_name_gets_it(case):
    """A stop between the record and the name: the next command makes it good, and hands nothing out twice."""
    case.ingest(rollouts(3))
    write(case)
    [file] = files_in(case)
    content = file.read_bytes()
    os.replace(file, file.with_name(f".{file.name}.part"))
    case.change("update batches set written_at = null")
    assert case.enrich().requests == 0
    assert write(case).status == 0
    assert file.read_bytes() == content
    assert case.rows("select count(*) from handed_out") == [(3,)]
    assert case.rows("select written_at is not null from batches") == [(1,)]


@pytest.mark.parametrize("moments", [[0], [1, 3], [2, 4, 6]])
def test_a_killed_write_hands_nothing_out_twice_and_loses_nothing(case, moments):
    """After kills whenever so many files are there, all files together hold each request once."""
    case.ingest(rollouts(160))
    arguments = ["batch", "write", "enrich", "out", "-m", "m", "--max-requests", 10]
    for there in moments:
        with started(case.folder, *arguments) as process:
            until(lambda: process.poll() is not None or entries(case) > there)  # noqa: B023
            process.kill()
            process.wait()
        visible = Counter(line["custom_id"] for line in lines_of(*files_in(case)))
        recorded = {name for (name,) in case.rows("select custom_id from handed_out")}
        assert set(visible) <= recorded
    with started(case.folder, *arguments) as process:
        assert ended(process).status == 0
    visible = Counter(line["custom_id"] for line in lines_of(*files_in(case)))
    assert len(visible) == 160
    assert set(visible.values()) == {1}
    assert case.rows("select count(*) from handed_out") == [(160,)]


def test_two_writers_do_not_hand_out_the_same(case):
    """The second is refused, or finds everything handed out."""
    case.ingest(rollouts(120))
    arguments = ["batch", "write", "enrich", "out", "-m", "m", "--max-requests", 30]
    with started(case.folder, *arguments) as first, started(case.folder, *arguments) as second:
        results = [ended(first), ended(second)]
    assert sorted(result.status for result in results) in ([0, 0], [0, 1])
    assert case.rows("select count(*), count(distinct custom_id) from handed_out") == [(120, 120)]
    assert len(lines_of(*files_in(case))) == 120


def test_kbetl_toml_reaches_the_commands_of_batch(case):
    """The store for all of them, and a table for each."""
    case.ingest(rollouts(3), "rows.jsonl", "-d", "other.db")
    (case.folder / "kbetl.toml").write_text(
        'database = "other.db"\n[batch.write.enrich]\nmodel = "from-toml"\nmax-requests = 2\n'
    )
    assert case.kbetl("batch", "write", "enrich", "out").status == 0
    assert [line["body"]["model"] for line in lines_of(*files_in(case))] == ["from-toml"] * 3
    assert len(files_in(case)) == 2
    assert "by from-toml, 2 requests: out 2" in case.kbetl("batch", "status").out
    (case.folder / "kbetl.toml").write_text("[batch.write.enrich]\nmaximum = 2\n")
    assert "[batch.write.enrich] has no option 'maximum'" in case.kbetl("batch", "status").err
