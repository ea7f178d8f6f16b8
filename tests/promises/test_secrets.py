"""A planted key is found nowhere: not in the store, its WAL, what is said, exports, or the process list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enrich_case import Case, ended, rollouts, started, until
from fake_llm import Asked, Order, Reply, error_reply, json_reply
from secrets_case import ECHO, HEADER_VALUE, KEY, LOGIN, asking, check_sent, found_in, leaks, readable

pytest_plugins = ["enrich_fixtures"]


@pytest.fixture
def keyed(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Six rollouts; the key in the environment, a header's value beside it."""
    monkeypatch.setenv("PLANTED_KEY", KEY)
    monkeypatch.setenv("PLANTED_HEADER", HEADER_VALUE)
    case.ingest(rollouts(6))
    return case


ECHOES: dict[str, Order] = {
    "401": error_reply(401, ECHO, code="invalid_api_key"),
    "400": error_reply(400, ECHO),
    "403 html": Reply(f"<html><b>{ECHO}</b></html>".encode(), 403, content_type="text/html"),
    "500": error_reply(500, ECHO),
    "402": error_reply(402, ECHO, code="insufficient_quota"),
    "redirect": Reply(ECHO.encode(), 302, {"Location": f"http://127.0.0.1:9/?key={KEY}"}),
    "200 error": json_reply({"error": {"message": ECHO, "code": 400}}),
    "not json": Reply(ECHO.encode(), content_type="text/plain"),
    "escaped slash": Reply(json.dumps({"error": {"message": ECHO}}).replace("/", "\\/").encode(), 400),
    "escaped letters": Reply(
        json.dumps({"error": {"message": "@"}})
        .replace("@", "".join(f"\\u{ord(char):04x}" for char in ECHO))
        .encode(),
        400,
    ),
}


@pytest.mark.parametrize("echo", ECHOES)
def test_an_error_that_echoes_the_key_brings_it_nowhere(keyed, echo):
    keyed.llm.faults = lambda asked: ECHOES[echo]
    run = keyed.enrich(*asking("-n", 1))
    check_sent(keyed)
    assert run.status in (1, 3)
    assert found_in(run.text) == []
    assert "Traceback" not in run.text
    assert found_in(keyed.kbetl("status").text) == []
    assert leaks(keyed.folder) == []


@pytest.mark.parametrize(
    "echo", [ECHO, f"<difficulty>{KEY}</difficulty>", f"<difficulty>low</difficulty> {ECHO}"]
)
def test_an_answer_that_echoes_the_key_is_kept_without_it(keyed, echo):
    """Everything else of the answer is kept, in the store and in exports."""
    keyed.llm.content = lambda asked: echo
    run = keyed.enrich(*asking())
    check_sent(keyed)
    assert found_in(run.text) == []
    assert keyed.rows("select count(*) from answers where content like '%***%'") == [(6,)]
    for name in ("out.jsonl", "out.jsonl.gz", "out.csv", "dataset"):
        keyed.kbetl("export", "filtered", "-o", name)
    assert found_in(keyed.kbetl("query", "select * from answers").text) == []
    assert leaks(keyed.folder) == []


def test_a_key_of_dotenv_and_one_in_flight_at_a_kill_are_nowhere(case):
    """Neither in the WAL that a kill leaves, nor among the arguments of any process."""
    case.ingest(rollouts(20))
    (case.folder / ".env").write_text(f"PLANTED_KEY='{KEY}'\nPLANTED_HEADER={HEADER_VALUE}\n")
    case.llm.latency_s = lambda index: 0.0 if index < 10 else 600.0
    case.llm.content = lambda asked: ECHO
    arguments = ["enrich", "-b", case.llm.url, "-m", "m", "-c", 4, *asking()]
    # LD_PRELOAD: by exec, so that the process has a command line of its own
    with started(case.folder, *arguments, LD_PRELOAD="") as process:
        until(lambda: case.rows("select count(*) from answers") == [(10,)])
        command_lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
        assert any(b"PLANTED_KEY" in line for line in command_lines)
        process.kill()
        run = ended(process)
    check_sent(case)
    assert [line for line in command_lines if found_in(line)] == []
    assert found_in(run.text) == []
    assert (case.folder / "kbetl.db-wal").stat().st_size > 0
    assert leaks(case.folder) == []


@pytest.mark.parametrize(
    "typed",
    [
        ("-k", KEY),
        ("-k", "sk_planted_Key_0123456789"),
        ("--header", f"Authorization: Bearer {KEY}"),
        ("--header", f"Bearer {KEY}"),
        ("--header", HEADER_VALUE),
    ],
)
@pytest.mark.parametrize("more", [(), ("-m", "offline"), ("--dry-run",)])
def test_a_key_that_was_typed_in_is_neither_shown_nor_kept(case, typed, more):
    """Where a variable's name belongs; also by commands that need no key."""
    case.ingest(rollouts(1))
    run = case.kbetl("enrich", "-b", case.llm.url, *typed, *more)
    assert (run.status, run.requests) == (2, 0)
    assert found_in(run.text) == []
    assert leaks(case.folder) == []


@pytest.mark.parametrize("status", [407, 500])
def test_the_login_of_a_proxy_stays_between_us(keyed, status, monkeypatch):
    """Also where the proxy shows what it was sent."""

    def echo(asked: Asked) -> Reply:
        return error_reply(status, f"you sent {asked.headers['proxy-authorization']} and {LOGIN}")

    keyed.llm.faults = echo
    monkeypatch.setenv("http_proxy", f"http://user:{LOGIN}@127.0.0.1:{keyed.llm.port}")
    run = keyed.kbetl("enrich", "-b", "http://model.invalid/v1", "-m", "m", *asking("-n", 1))
    login = keyed.llm.requests[-1].headers["proxy-authorization"].split()[1]
    assert found_in(run.text) == []
    assert login not in run.text
    assert leaks(keyed.folder) == []
    assert not any(login.encode() in path.read_bytes() for path in keyed.folder.iterdir())


def test_a_proxy_that_is_not_there_is_named_without_its_login(keyed, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://user:{LOGIN}@127.0.0.1:9")
    run = keyed.kbetl("enrich", "-b", "http://model.invalid/v1", "-m", "m", *asking("-n", 1))
    assert run.status == 1
    assert found_in(run.text) == []
    assert leaks(keyed.folder) == []


def test_a_redirect_does_not_take_the_key_along(keyed):
    """No request reaches the place that the server points to; where all are redirected the run stops."""
    place = f"http://127.0.0.1:{keyed.llm.port}/elsewhere/chat/completions"
    keyed.llm.faults = lambda asked: Reply(b"", 307, {"Location": place})
    run = keyed.enrich(*asking())
    assert (run.status, keyed.statuses()) == (1, {})
    assert "a redirect is not followed, so that the key stays here" in run.err
    assert not any("elsewhere" in asked.path for asked in keyed.llm.requests)


def test_addresses_with_a_password_are_refused_without_showing_it(case):
    case.ingest(rollouts(1))
    for more in ((), ("-m", "offline"), ("--dry-run",)):
        run = case.kbetl("enrich", "-b", f"http://user:{LOGIN}@127.0.0.1:9/v1", "-m", "m", *more)
        assert run.status == 2
        assert found_in(run.text) == []
    assert leaks(case.folder) == []
