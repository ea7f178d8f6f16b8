"""Keys of the Hub, of batch services and of servers of rollouts; and keys that stand in the wrong place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_case import openai_result, rated
from conftest import Run
from enrich_case import Case, ended, rollouts, started, until
from fake_batches import KEY, FakeBatches
from fake_hub import TOKEN, FakeHub
from secrets_case import ECHO, MARKERS, asking, check_sent, found_in, leaks, readable
from secrets_case import KEY as PLANTED

pytest_plugins = ["enrich_fixtures"]

SERVICE_MARKERS = (KEY, "".join(f"\\u{ord(char):04x}" for char in KEY), *MARKERS)


# the Hub


def test_the_hubs_token_is_in_no_card_and_no_message(run: Run, tmp_path: Path):
    """Neither in what is pushed, nor in the store, nor in what is said, also where the Hub says it back."""
    run("demo")
    database = tmp_path / "kbetl-demo.db"
    assert database.exists()
    with FakeHub() as hub:
        pushing = ["push", "filtered", "-d", database, "-v", "--all-sources", "--first-wait-s", "0.001"]
        hub.said = f"Bearer {TOKEN} may not write here"
        for fault in (403, 400, 500, (429, 0)):
            hub.faults = [fault] * 9
            done = run(*pushing, env=hub.environment)
            assert done.returncode == 1, done.stderr
            assert "may not write here" in done.stderr
            assert found_in(done.stdout + done.stderr, (TOKEN,)) == []
        hub.faults = []
        done = run(*pushing, env=hub.environment)
        assert done.returncode == 0, done.stderr
        assert found_in(done.stdout + done.stderr, (TOKEN,)) == []
        [name] = hub.repos
        files = hub.files(name)
        assert "README.md" in files
        assert [path for path, content in files.items() if found_in(content, (TOKEN,))] == []
    assert leaks(tmp_path, (TOKEN,)) == []


# batches


@pytest.fixture
def service() -> Iterator[FakeBatches]:
    with FakeBatches() as service:
        yield service


@pytest.fixture
def written(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Four rollouts whose requests stand in a file, and a key."""
    monkeypatch.setenv("BATCH_KEY", KEY)
    case.ingest(rollouts(4))
    assert case.kbetl("batch", "write", "enrich", "out", "-m", "m").status == 0
    return case


def silent(case: Case, *arguments: object) -> None:
    """The command says no key, and leaves none in a file."""
    done = case.kbetl(*arguments, "-v")
    assert found_in(done.text, SERVICE_MARKERS) == []
    assert "Traceback" not in done.text
    assert leaks(case.folder, SERVICE_MARKERS) == []


@pytest.mark.parametrize("step", ["upload received", "uploaded", "listed", "create received", "created"])
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_batch_service_that_says_the_key_back_is_not_quoted(written, service, step, status):
    service.said = f": you sent Bearer {KEY}"
    service.failures[step] = [status] * 9
    submit = ["batch", "submit", "-b", service.url, "-k", "BATCH_KEY", "--settle", 0]
    silent(written, *submit)
    service.failures = {}
    silent(written, *submit)
    service.failures["asked"] = [status] * 9
    for command in ("fetch", "status"):
        silent(written, "batch", command)
    assert written.rows("select api_key_var from batches") == [("BATCH_KEY",)]


def test_results_that_hold_the_key_are_kept_without_it(written, service):
    """Those of the output file and of the error file, however JSON spells it, and the reason of a batch."""
    case = written
    case.kbetl("batch", "submit", "-b", service.url, "-k", "BATCH_KEY", "--settle", 0)
    spelled = "".join(f"\\u{ord(char):04x}" for char in KEY)
    echoes = iter([KEY, "@", KEY, "@"])

    def echo(asked: dict[str, object]) -> dict[str, object]:
        said = next(echoes)
        if "@" in said:
            return openai_result(asked, {"error": {"message": f"wrong key {said}"}}, 401)
        result = rated(asked)
        result["response"]["body"]["choices"][0]["message"]["content"] += said
        return result

    service.finish("batch_1", echo)
    service.batches["batch_1"]["errors"] = {"data": [{"message": f"wrong key {KEY}"}]}
    service.files = {
        key: (name, content.replace(b"@", spelled.encode())) for key, (name, content) in service.files.items()
    }
    silent(case, "batch", "fetch")
    assert case.rows("select status, count(*) from outcomes group by status") == [("failed", 2), ("ok", 2)]
    assert case.rows("select count(*) from answers where content like '%***%'") == [(2,)]
    assert case.rows("select count(*) from outcomes where reason like '%***%'") == [(2,)]
    silent(case, "batch", "status")
    silent(case, "status")


@pytest.mark.parametrize(
    "typed", [("-k", PLANTED), ("-k", "sk_planted_Key_0123456789"), ("--header", f"Authorization: {PLANTED}")]
)
def test_a_key_that_is_typed_at_submit_is_neither_shown_nor_kept(written, service, typed):
    run = written.kbetl("batch", "submit", "-b", service.url, *typed)
    assert run.status == 2
    assert found_in(run.text) == []
    assert leaks(written.folder) == []
    assert service.requests.total() == 0


# servers of rollouts


def test_a_key_in_a_run_that_makes_rollouts_is_nowhere(case, monkeypatch):
    """An answer that echoes it becomes a rollout without it; what the run tells of servers has none."""
    monkeypatch.setenv("PLANTED_KEY", PLANTED)
    monkeypatch.setenv("PLANTED_HEADER", "planted-header-9876543210")
    case.ingest([{"module_name": f"Module{n}", "python_code": f"x = {n}\n"} for n in range(4)])
    case.llm.content = lambda asked: f"```python\nx = 1  # {ECHO}\n```"
    run = case.kbetl("synth", "run", "-b", case.llm.url, "-m", "m", *asking())
    check_sent(case)
    assert found_in(run.text) == []
    assert case.rows("select count(*) > 0 from samples where row like '%***%'") == [(1,)]
    case.kbetl("export", "evals", "-o", "evals.jsonl", "--all-sources")
    assert leaks(case.folder) == []


def test_a_key_is_among_the_arguments_of_no_process_of_synth(case):
    case.ingest([{"module_name": f"Module{n}", "python_code": f"x = {n}\n"} for n in range(4)])
    (case.folder / ".env").write_text(f"PLANTED_KEY='{PLANTED}'\nPLANTED_HEADER=planted-header-9876543210\n")
    case.llm.latency_s = 600.0
    # LD_PRELOAD: by exec, so that the process has a command line of its own
    arguments = ("synth", "run", "-b", case.llm.url, "-m", "m", *asking())
    with started(case.folder, *arguments, LD_PRELOAD="") as process:
        until(lambda: case.llm.requests)
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
        process.kill()
        run = ended(process)
    assert any(b"PLANTED_KEY" in line for line in lines)
    assert [line for line in lines if found_in(line)] == []
    assert found_in(run.text) == []
    assert leaks(case.folder) == []


# keys in the wrong place


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('PRIME_API_KEY = "@"', "No key belongs into this file"),
        ('[enrich]\napi-key = "@"', "No key belongs into this file"),
        ('[enrich]\napi-key-var = "@"', "takes the name of an environment variable, not the key"),
        ('[enrich]\napi-key-var = ["@"]', "it must be text in quotes"),
        ('[enrich]\nheader = "Authorization: Bearer @"', "it must be a list"),
        ('[enrich]\nheader = ["Authorization: Bearer @"]', "give its value by a variable"),
        ('[enrich]\nbase-url = "http://user:@@127.0.0.1:9/v1"', "user name or a password"),
        ("[enrich]\napi-key-var = @", "kbetl.toml:2: it cannot be read"),
        ('[batch.submit]\napi_key = "@"', "No key belongs into this file"),
        ('[push]\ntoken = "@"', "No key belongs into this file"),
    ],
)
def test_a_key_in_kbetl_toml_is_named_and_not_shown(case, toml, words):
    case.ingest(rollouts(1))
    (case.folder / "kbetl.toml").write_text(toml.replace("@", "sk-planted-Key0123456789", 1))
    run = case.kbetl("enrich", "-m", "m", "-v")
    assert run.status == 2
    assert words in run.err
    assert "sk-planted-Key0123456789" not in run.text
    assert not any(b"planted-Key" in path.read_bytes() for path in case.folder.glob("kbetl.db*"))


def test_a_key_alone_on_a_line_of_dotenv_is_not_shown(case):
    (case.folder / ".env").write_text("# keys\nsk-planted-Key0123456789\n")
    run = case.kbetl("status", "-v")
    assert run.status == 2
    assert ".env:2" in run.err
    assert "sk-planted-Key0123456789" not in run.text


# what is committed

KEY_LIKE = re.compile(
    r"sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|pit_[A-Za-z0-9]{20,}"
    r"|eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
SECRET_WORDS = ("authorization", "x-prime", "bearer ", "api-key", "api_key", "set-cookie", "cookie:")


def test_no_cassette_holds_what_looks_like_a_key():
    """Neither a header that carries one, nor a value of the shape of a known provider's keys."""
    cassettes = [
        path for path in (Path(__file__).parents[1] / "data" / "cassettes").rglob("*") if path.is_file()
    ]
    assert cassettes
    for path in cassettes:
        text = path.read_text(encoding="utf-8")
        assert [word for word in SECRET_WORDS if word in text.lower()] == [], path.name
        assert KEY_LIKE.findall(text) == [], path.name


def test_what_looks_like_a_key_would_be_found():
    made_up = json.dumps(["sk-proj-" + "a1B2" * 5, "hf_" + "a1B2c3" * 5, "ghp_" + "a1B2c3" * 6])
    assert len(KEY_LIKE.findall(made_up)) == 3
