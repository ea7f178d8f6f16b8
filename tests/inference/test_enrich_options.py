"""The options of `kbetl enrich`: what they choose, what they refuse, and what --resume takes up."""

from __future__ import annotations

import hashlib
import json

import pytest
from enrich_case import Case, module_of, rollout, rollouts

from kbetl.cli import run as run_command
from kbetl.config import TEST_MODE_LIMIT

pytest_plugins = ["enrich_fixtures"]

EVERYTHING = (
    "select 'sample', count(*), group_concat(hash) from samples union all"
    " select 'answer', count(*), group_concat(request_hash || try) from answers union all"
    " select 'outcome', count(*), group_concat(sample_hash || status || decided_at) from outcomes union all"
    " select 'task', count(*), group_concat(hash || in_use) from tasks union all"
    " select 'run', count(*), group_concat(id || options) from runs"
)


def modules_asked(case: Case, requests: int) -> list[int]:
    return sorted(module_of(asked) for asked in case.llm.requests[len(case.llm.requests) - requests :])


# --dry-run


def test_a_dry_run_says_what_and_why_and_changes_nothing(case):
    case.ingest(rollouts(5))
    case.llm.faults = lambda asked: "400" if module_of(asked) == 2 else None
    case.enrich()
    case.llm.faults = lambda _: None
    case.ingest([*rollouts(5), rollout(7), rollout(8, python_code=None), rollout(3, reward=0.9)])
    before = case.rows(EVERYTHING)
    dry = case.enrich("--dry-run")
    assert (dry.status, dry.requests) == (0, 0)
    assert "would ask 4 of 8 samples" in dry.out
    assert "  1 failed before" in dry.out
    assert "  3 new" in dry.out
    assert "requests to send 2; settled by answers that are there 1; cannot be asked 1" in dry.out
    assert case.rows(EVERYTHING) == before
    assert case.enrich().requests == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-m", "other"), "changed model"),
        (("-T", 0.9), "changed parameter"),
        (("-m", "other", "-t", 9), "changed model and parameter"),
    ],
)
def test_a_dry_run_says_what_changed(rated, options, why):
    before = rated.rows(EVERYTHING)
    dry = rated.enrich("--dry-run", *options)
    assert (dry.status, dry.requests) == (0, 0)
    (task_hash,) = rated.rows("select hash from tasks")[0]
    assert f"  6 {why} (they have an outcome by m, {task_hash[:15]})" in dry.out
    assert "requests to send 6" in dry.out
    assert rated.rows(EVERYTHING) == before


def test_a_dry_run_needs_no_key_and_counts_a_retry(case):
    case.ingest(rollouts(3))
    case.llm.faults = lambda _: "length"
    case.enrich()
    dry = case.kbetl("enrich", "-m", "m", "--dry-run", "--retry", "truncated")
    assert dry.status == 0
    assert "  3 truncated before" in dry.out
    assert "requests to send 3; settled by answers that are there 0" in dry.out


def test_a_dry_run_estimates_tokens(rated):
    """At most so many as the output limit allows, and as this model counted before."""
    dry = rated.enrich("--dry-run", "-t", "100")
    (prompt_tokens,) = rated.rows("select sum(prompt_tokens) from answers")[0]
    assert f"about {prompt_tokens:,} prompt tokens (as this model counted before), at most 600" in dry.out
    unlimited = rated.enrich("--dry-run", "-o", "max_tokens", "null")
    assert "no limit completion tokens" in unlimited.out


# what is chosen


def test_a_limit_asks_the_first_and_says_what_is_left(case):
    case.ingest(rollouts(5))
    first = case.enrich("-n", 2)
    assert (first.status, modules_asked(case, first.requests)) == (0, [0, 1])
    assert "left for another run 3" in first.out
    assert modules_asked(case, case.enrich("--limit", 2).requests) == [2, 3]
    assert case.enrich("-n", 0).requests == 0
    assert modules_asked(case, case.enrich().requests) == [4]


def test_test_mode_asks_five_and_says_so(case, monkeypatch):
    monkeypatch.setenv("TEST_MODE", "true")
    case.ingest(rollouts(9))
    dry = case.enrich("--dry-run")
    assert f"TEST_MODE: asking at most {TEST_MODE_LIMIT} samples" in dry.err
    assert "requests to send 5;" in dry.out
    run = case.enrich()
    assert f"TEST_MODE: asking at most {TEST_MODE_LIMIT} samples" in run.err
    assert run.requests == 5
    assert case.enrich("-n", 1).requests == 1
    monkeypatch.setenv("TEST_MODE", "perhaps")
    assert case.enrich().status == 2
    monkeypatch.setenv("TEST_MODE", "false")
    assert case.enrich().requests == 3


def test_min_reward_holds_for_the_run_and_warns_below_the_setting(case):
    case.ingest([rollout(number, reward=number / 10) for number in range(11)])
    above = case.enrich("--min-reward", 0.9)
    assert "below the setting" not in above.err
    assert modules_asked(case, above.requests) == [10]
    assert modules_asked(case, case.enrich().requests) == [9]
    below = case.enrich("--min-reward", 0.65)
    assert "--min-reward 0.65 is below the setting 0.85" in below.err
    assert "kbetl use --min-reward 0.65" in below.err
    assert modules_asked(case, below.requests) == [7, 8]
    assert case.rows("select module_name from filtered order by reward") == [("Module9",), ("Module10",)]
    assert case.rows("select value from settings where key = 'min_reward'") == [(0.85,)]


def test_sources_restrict_what_is_asked(case):
    case.ingest(rollouts(2), "one.jsonl", "--as", "one")
    case.ingest([rollout(1), rollout(2), rollout(3)], "two.jsonl", "--as", "two")
    case.ingest([rollout(4)], "three.jsonl", "--as", "three")
    assert modules_asked(case, case.enrich("--source", "two").requests) == [1, 2, 3]
    assert modules_asked(case, case.enrich("--source", "one", "--source", "two").requests) == [0]
    unknown = case.enrich("--source", "four")
    assert (unknown.status, unknown.requests) == (2, 0)
    assert "'four': no such source; there are: one, two, three" in unknown.err


def test_where_restricts_what_is_asked(case):
    case.ingest(rollouts(6))
    run = case.enrich("--where", "module_name in ('Module2', 'Module4') or completion like '%kernel 5'")
    assert modules_asked(case, run.requests) == [2, 4, 5]
    assert modules_asked(case, case.enrich("--where", "difficulty is null").requests) == [0, 1, 3]


def test_brackets_in_a_condition_undo_no_other(case):
    """Rows of another kind or below the task's own reward stay out, however it is bracketed."""
    case.ingest([rollout(0), rollout(1, reward=0.1), {"module_name": "Alone", "python_code": "pass\n"}])
    run = case.enrich("--where", "0) or (1=1", "-c", 1)
    assert run.status in (0, 2)
    assert modules_asked(case, run.requests) in ([], [0])
    assert case.enrich().requests + run.requests == 1


HOSTILE = [
    "1; drop table samples",
    "1) ; drop table samples; --",
    "1)) or (samples.hash in (select hash from samples",
    "attach 'x.db' as x",
    "1 in (attach 'x.db' as x)",
    "exists (select load_extension('x'))",
    "writefile('x.db', 'y')",
    "1 /* never closed",
    "1)",
    "(1",
    "",
    "   ",
    "-- nothing",
    "no_such_column = 1",
    "reward > :other",
    "pragma_table_info('samples')",
    "'unclosed",
    "\ud800",
    "1 limit 1",
    "delete from samples",
]


@pytest.mark.parametrize("where", HOSTILE)
def test_a_hostile_condition_changes_nothing(case, where):
    """It is refused in one line, or it chooses among the samples; it asks about no others."""
    case.ingest([rollout(0), rollout(1, reward=0.1)])
    before = case.rows(EVERYTHING)
    files = {path.name for path in case.folder.iterdir()}
    run = case.enrich("--where", where)
    if run.status == 0:
        assert run.requests <= 1
    else:
        assert run.status == 2
        assert run.requests == 0
        assert len(run.err.splitlines()) == 1
        assert case.rows(EVERYTHING) == before
    assert case.rows("select count(*) from samples") == [(2,)]
    assert {path.name for path in case.folder.iterdir()} - files <= {"kbetl.db-lock"}


# tasks of the user's own

STYLE = """+++
name = "style"
about = "rollout"
answer = {answer}
system = "You judge style."
[parameters]
max_tokens = 64
+++
How good is {{{{ module_name }}}} with {{{{ completion }}}}?
"""


@pytest.mark.parametrize(
    ("answer", "content", "value"),
    [
        ('{ tag = "style" }', "<style> clear </style>", "clear"),
        ('{ tag = "style", min = 0, max = 10 }', "<style>7.5</style>", "7.5"),
        (
            '{ json = { required = ["score"], properties = { score = { type = "integer" } } } }',
            '```json\n{"score": 3, "why": "short"}\n```',
            '{"score":3,"why":"short"}',
        ),
    ],
    ids=["text", "number", "json"],
)
def test_a_task_file_asks_and_reads_in_its_own_way(rated, answer, content, value):
    before = rated.rows("select * from filtered order by sample_hash")
    (rated.folder / "style.md").write_text(STYLE.format(answer=answer))
    rated.llm.content = lambda asked: content
    run = rated.enrich("--task", "./style.md")
    assert (run.status, run.requests) == (0, 6)
    assert [message["role"] for message in rated.llm.requests[-1].body["messages"]] == ["system", "user"]
    found = rated.rows(
        "select distinct value from outcomes join tasks on hash = task_hash where name = 'style'"
    )
    assert [json.loads(text) if value.startswith("{") else text for (text,) in found] == [
        json.loads(value) if value.startswith("{") else value
    ]
    assert rated.rows("select * from filtered order by sample_hash") == before
    rated.llm.content = lambda asked: "not what was asked for"
    rated.ingest([rollout(9)], "more.jsonl")
    assert rated.enrich("--task", "./style.md").status == 3
    assert rated.statuses()["unparsed"] == 1


def test_parameters_are_json_where_they_are_json(case):
    case.ingest(rollouts(1))
    given = {"stop": '["a", "b"]', "seed": "7", "user": "me", "metadata": '{"k": null}', "logprobs": "true"}
    options = [word for key, value in given.items() for word in ("-o", key, value)]
    assert case.enrich(*options, "-o", "temperature", "null", "-t", "99").requests == 1
    body = case.llm.requests[-1].body
    assert {key: body.get(key) for key in given} == {
        "stop": ["a", "b"],
        "seed": 7,
        "user": "me",
        "metadata": body["metadata"],
        "logprobs": True,
    }
    assert body["max_tokens"] == 99
    assert "temperature" not in body


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "model", "x"),
        ("-o", "messages", "[]"),
        ("-o", "stream", "true"),
        ("-o", "x", "NaN"),
        ("-o", "x", "1e999"),
        ("-o", "x", "9" * 5000),
        ("-o", "x", "[" * 100_000),
        ("-o", "max_tokens", "1", "-t", "2"),
        ("-o", "x", "1", "-o", "x", "2"),
        ("--task", "nosuch"),
        ("--task", "./nosuch.md"),
        ("--retry", "wrong"),
        ("--retry", "ok"),
        ("--min-reward", "much"),
        ("-c", "0"),
        ("--limit", "-1"),
        ("--give-up-after", "0"),
        ("--give-up-after", "inf"),
        ("--timeout", "inf"),
        ("--timeout", "nan"),
        ("--header", "X-Key: typed-in-secret"),
        ("-b", "http://user:password@127.0.0.1:9/v1"),
        ("-b", "http://[::1"),
        ("-b", "ftp://127.0.0.1/v1"),
        ("-m", ""),
        ("-m", "\udcff"),
        ("-m", "offline", "-b", "http://user:password@127.0.0.1:9/v1"),
        ("-b", "http://127.0.0.1:9/v1?api_key=typed-in-secret"),
        ("-m", "offline", "-b", "http://127.0.0.1:9/v1?api_key=typed-in-secret"),
        ("--header", "Content-Length: $HOME"),
        ("--header", "Host: $HOME"),
        ("--min-reward", "nan"),
        ("--min-reward", "inf"),
        ("--min-reward", "-inf"),
        ("-m", "--dry-run"),
        ("-m", "-x"),
        ("-o", "max_tokens", "abc"),
        ("-o", "max_tokens", "-5"),
        ("-o", "max_completion_tokens", "1.5"),
        ("-o", "temperature", "warm"),
        ("-o", "top_p", "true"),
        ("-o", "response_format", '{"a":'),
        ("-o", "stop", "[a, b]"),
        ("--task", "./style.md", "-m", "offline"),
    ],
    ids=lambda options: " ".join(options)[:40].encode("ascii", "replace").decode(),
)
def test_wrong_usage_exits_2_and_records_nothing(rated, options):
    (rated.folder / "style.md").write_text(STYLE.format(answer='{ tag = "style" }'))
    before = rated.rows(EVERYTHING)
    for more in ((), ("--dry-run",)):
        if more and options[0] == "--header":
            continue
        run = rated.enrich(*options, *more)
        assert (run.status, run.requests) == (2, 0), run.err
        assert "Traceback" not in run.err
        assert "password" not in run.err or "holds a user name or a password" in run.err
        assert "typed-in-secret" not in run.err
        assert rated.rows(EVERYTHING) == before


# --resume


def interrupted(case: Case, *options: object, answers: int) -> None:
    """A run that a fault ended after so many answers."""
    case.llm.faults = lambda asked: "401" if case.llm.counts["answered 200"] >= answers else None
    case.llm.counts.clear()
    assert case.enrich(*options, "-c", 1).status == 1
    case.llm.faults = lambda _: None


def test_resume_takes_up_what_is_left_of_a_limited_run(case):
    case.ingest(rollouts(20))
    interrupted(case, "-n", 7, answers=3)
    run = case.kbetl("enrich", "--resume")
    assert (run.status, run.requests) == (0, 4)
    assert "--resume: taking up run" in run.err
    assert case.statuses() == {"ok": 7}
    assert case.kbetl("enrich", "--resume", "-b", case.llm.url, "-m", "m", "-n", 2).requests == 2


def test_resume_keeps_source_where_model_and_parameters(case):
    case.ingest(rollouts(9), "one.jsonl", "--as", "one")
    case.ingest([rollout(number) for number in range(20, 25)], "two.jsonl", "--as", "two")
    interrupted(case, "--source", "one", "--where", "module_name > 'Module4'", "-T", 0.5, answers=1)
    run = case.kbetl("enrich", "--resume")
    assert modules_asked(case, run.requests) == [6, 7, 8]
    assert {asked.body["temperature"] for asked in case.llm.requests} == {0.5}
    assert case.rows("select count(*) from tasks") == [(1,)]


def test_options_given_with_resume_win(case):
    case.ingest(rollouts(9))
    interrupted(case, "-n", 5, "-T", 0.5, answers=1)
    run = case.kbetl("enrich", "--resume", "-n", 1, "-T", "0.5", "--where", "module_name = 'Module8'")
    assert modules_asked(case, run.requests) == [8]


@pytest.mark.parametrize("options", [("-m", "other"), ("-T", 0.9), ("-t", 9), ("--task", "./difficulty.md")])
def test_resume_refuses_another_question(case, options):
    from kbetl.resources import data_path

    text = data_path("tasks/difficulty.md").read_text(encoding="utf-8")
    (case.folder / "difficulty.md").write_text(text + "Be quick.\n", encoding="utf-8")
    case.ingest(rollouts(3))
    interrupted(case, answers=1)
    run = case.kbetl("enrich", "--resume", *options)
    assert (run.status, run.requests) == (2, 0)
    assert "leave out --resume" in run.err


def test_resume_passes_over_runs_that_ended_well(case):
    """The last that did not end with 0, although a later one did."""
    case.ingest(rollouts(4), "one.jsonl", "--as", "one")
    case.ingest([rollout(8)], "two.jsonl", "--as", "two")
    interrupted(case, "--source", "one", "-n", 3, answers=1)
    assert case.enrich("--source", "two").requests == 1
    assert modules_asked(case, case.kbetl("enrich", "--resume").requests)[0] == 1


def test_resume_takes_up_an_older_run_once_the_newer_is_dealt_with(case):
    """Each left-over run once, by what it was told; then there is none left."""
    case.ingest(rollouts(9))
    interrupted(case, "-n", 5, "-T", 0.5, answers=2)
    interrupted(case, "-n", 4, "-T", 0.7, answers=1)
    for taken_up, requests, temperature in ((2, 3, 0.7), (1, 3, 0.5)):
        run = case.kbetl("enrich", "--resume")
        assert (run.status, run.requests) == (0, requests)
        runs = [each for (each,) in case.rows("select id from runs where task is not null order by id")]
        assert f"taking up run {runs[taken_up - 1]}," in run.err
        assert case.llm.requests[-1].body["temperature"] == temperature
    assert "no run of difficulty was left over" in case.enrich("--resume", "--dry-run").err


def test_a_run_that_was_resumed_twice_is_dealt_with(case):
    case.ingest(rollouts(9))
    interrupted(case, answers=2)
    case.llm.faults = lambda asked: "401" if module_of(asked) == 5 else None
    assert case.kbetl("enrich", "--resume", "-c", 1).status == 1
    case.llm.faults = lambda _: None
    assert case.kbetl("enrich", "--resume").status == 0
    assert "no run of difficulty was left over" in case.enrich("--resume", "--dry-run").err


def test_a_part_of_a_run_does_not_deal_with_it(case):
    case.ingest(rollouts(9))
    interrupted(case, answers=2)
    for options in (("--resume", "-n", 1), ("-n", 1), ("--where", "module_name = 'Module4'")):
        assert case.enrich(*options).requests == 1
    run = case.kbetl("enrich", "--resume")
    assert (run.requests, case.statuses()) == (4, {"ok": 9})


def test_a_whole_run_deals_with_what_was_left_over(case):
    case.ingest(rollouts(5))
    interrupted(case, "-n", 3, "--where", "reward > 0", answers=1)
    assert case.enrich().status == 0
    assert "no run of difficulty was left over" in case.enrich("--resume", "--dry-run").err


def test_a_limited_run_takes_up_its_own_failures(case):
    case.ingest(rollouts(9))
    case.llm.faults = lambda asked: "422" if module_of(asked) in (1, 2) else None
    assert case.enrich("-n", 4, "-c", 1).status == 3
    assert case.statuses() == {"ok": 2, "failed": 2}
    case.llm.faults = lambda _: None
    run = case.kbetl("enrich", "--resume")
    assert (run.status, modules_asked(case, run.requests)) == (0, [1, 2])
    assert case.statuses() == {"ok": 4}


def test_a_wrong_option_leaves_no_run_to_resume(case):
    case.ingest(rollouts(4))
    interrupted(case, answers=1)
    assert case.enrich("--where", "no_such = 1").status == 2
    assert case.enrich("--source", "nosuch").status == 2
    assert case.kbetl("enrich", "--resume").requests == 3


def test_resume_without_such_a_run_is_a_plain_run(rated):
    rated.ingest([rollout(8)], "more.jsonl")
    run = rated.enrich("--resume")
    assert (run.status, run.requests) == (0, 1)
    assert "no run of difficulty was left over" in run.err


def test_a_resumed_retry_asks_nothing_twice(case):
    """What it asked again before it was stopped, and is still truncated, is not asked a third time."""
    case.ingest(rollouts(6))
    case.llm.faults = lambda _: "length"
    case.enrich()
    case.llm.counts.clear()
    case.llm.faults = lambda _: "401" if case.llm.counts["answered 200"] >= 2 else "length"
    assert case.enrich("--retry", "truncated", "-c", 1).status == 1
    case.llm.faults = lambda _: "length"
    assert [case.kbetl("enrich", "--resume").status for _ in range(2)] == [3, 0]
    assert case.rows("select try, count(*) from answers group by try") == [(0, 6), (1, 6)]
    assert case.enrich("--retry", "truncated").requests == 6


# key, team, headers

KEY = "sk-planted-key-0123456789"


def test_the_key_goes_where_it_is_told_and_nowhere_else(case, monkeypatch):
    """The default key and team are for the default host; another key is the variable that -k names."""
    monkeypatch.setenv("PRIME_API_KEY", "prime-" + KEY)
    monkeypatch.setenv("PRIME_TEAM_ID", "team-secret-42")
    monkeypatch.setenv("MY_KEY", KEY)
    case.ingest(rollouts(3))
    case.enrich("-n", 1)
    assert "authorization" not in case.llm.requests[-1].headers
    assert "x-prime-team-id" not in case.llm.requests[-1].headers
    case.enrich("-n", 1, "-k", "MY_KEY", "--header", "X-Tenant: t-$MY_KEY")
    assert case.llm.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    assert case.llm.requests[-1].headers["x-tenant"] == f"t-{KEY}"
    missing = case.enrich("-k", "NO_SUCH_KEY")
    assert (missing.status, missing.requests) == (1, 0)
    assert "NO_SUCH_KEY" in missing.err


def test_a_planted_key_is_nowhere(case, monkeypatch):
    """Not in the store, its WAL or any other file, nor in what is said, though the server echoes it."""
    monkeypatch.setenv("MY_KEY", KEY)
    case.ingest(rollouts(4))
    case.llm.content = lambda asked: f"<difficulty>low</difficulty> {asked.headers['authorization']}"
    said = case.enrich("-n", 2, "-k", "MY_KEY", "-v").text
    case.llm.faults = lambda asked: "401"
    said += case.enrich("-k", "MY_KEY", "--header", "X-Secret-Token: $MY_KEY").text
    said += case.kbetl("status", "--json").text
    assert KEY not in said
    for path in case.folder.iterdir():
        assert KEY.encode() not in path.read_bytes(), path.name
    assert case.rows("select count(*) from answers") == [(2,)]


def test_prompts_is_enrich_of_that_task(case):
    """Two modules, their specifications bought once, by either command."""
    modules = [{"module_name": f"Module{number}", "python_code": f"x = {number}\n"} for number in range(2)]
    case.ingest(modules)
    case.llm.content = lambda asked: f"<specification>Adds {module_of(asked)}.</specification>"
    run = case.enrich(command="prompts")
    assert (run.status, run.requests) == (0, 2)
    assert case.enrich("--task", "prompts").requests == 0
    found = case.rows("select module_name, prompt from synthetic order by module_name")
    assert [name for name, _ in found] == ["Module0", "Module1"]
    assert all(prompt.startswith(f"Adds {number}.") for number, (_, prompt) in enumerate(found))
    assert case.enrich("--resume", command="prompts").requests == 0


def test_the_offline_model_needs_neither_key_nor_server(case):
    code = "import torch\n\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return x + {0}\n"
    case.ingest([rollout(number, python_code=code.format(number)) for number in range(40)])
    run = case.kbetl("enrich", "-m", "offline")
    assert (run.status, run.requests) == (0, 0)
    assert case.rows("select distinct model, host from answers") == [("offline/2", "offline")]
    assert case.rows("select count(*) from filtered") == [(40,)]
    assert "asked 0" in case.kbetl("enrich", "-m", "offline").out


def test_request_hashes_are_of_the_stored_request(rated):
    for stored, request in rated.rows("select request_hash, request from answers"):
        assert stored == "r1:" + hashlib.sha256(request.encode()).hexdigest()
    assert run_command(["check", "-d", str(rated.folder / "kbetl.db")]) == 0
