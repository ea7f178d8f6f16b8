"""Real answers of a real model, played back through the command line; what is expected is read from the
cassettes by means of their own. How they came about: record_cassettes.py."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml
from record_cassettes import (
    BASE_URL,
    FOLDER,
    PROPERTIES_FORMAT,
    RECORDINGS,
    command_line,
    make_store,
    tape,
)
from vcr.cassette import Cassette
from vcr.errors import CannotOverwriteExistingCassetteException
from vcr.record_mode import RecordMode

from kbetl.cli import run

RATINGS = {
    "difficulty": ("difficulty", "low|medium|high"),
    "difficulty-grammar": ("difficulty", "low|medium|high"),
    "level": ("level", "easy|medium|hard"),
    "level-grammar": ("level", "easy|medium|hard"),
}
"""Cassettes of a tag with one of some words."""
STATUSES = {
    "difficulty": {"unparsed"},
    "difficulty-grammar": {"ok"},
    "level": {"unparsed", "truncated"},
    "level-grammar": {"unparsed"},
}
OURS = re.compile(r"(KBETL|PRIME|OPENAI|HF)_|TEST_MODE|.*_proxy", re.IGNORECASE)
FORBIDDEN = re.compile(
    r"bearer|\bsk-|PRIME|\bhf_|api.?key|authorization|x-prime"
    r"|/(?:home|root|work|opt|tmp|usr|Users)/|\.gguf|https?://(?!127\.0\.0\.1:8080/v1/)",
    re.IGNORECASE,
)


class Exchange(NamedTuple):
    """A request of a cassette and the reply to it, as JSON."""

    asked: dict[str, Any]
    status: int
    text: str
    reply: dict[str, Any]

    @property
    def content(self) -> str:
        return self.reply["choices"][0]["message"]["content"]

    @property
    def finish_reason(self) -> str:
        return self.reply["choices"][0]["finish_reason"]


@cache
def exchanges(name: str) -> list[Exchange]:
    """What a cassette holds, read without the player."""
    interactions = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["interactions"]
    return [
        Exchange(
            json.loads(each["request"]["body"]),
            each["response"]["status"]["code"],
            each["response"]["body"]["string"],
            json.loads(each["response"]["body"]["string"]),
        )
        for each in interactions
    ]


def rating_in(name: str, exchange: Exchange) -> tuple[str, str | None]:
    """Status and value of a recorded answer: ok where every tag in it holds the same known word."""
    tag, words = RATINGS[name]
    if exchange.finish_reason == "length":
        return "truncated", None
    found = set(re.findall(rf"<{tag}>(.*?)</{tag}>", exchange.content, re.DOTALL))
    if len(found) == 1 and re.fullmatch(words, *found):
        return "ok", found.pop()
    return "unparsed", None


def spelled(body: dict[str, Any]) -> str:
    """A request as a key: 2.0 and 2 are the same number."""
    numbers = {
        key: int(value) if isinstance(value, float) and value % 1 == 0 else value
        for key, value in body.items()
    }
    return json.dumps(numbers, sort_keys=True)


class Player:
    """A store with the rows of one recording, and its commands to run while the cassette plays."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.recording = RECORDINGS[name]
        self.database = folder / "kbetl.db"
        make_store(self.database, self.recording)

    def play(self, number: int = 0, *more: str, concurrency: int = 8) -> int:
        """Runs a command of the recording, with `more` options; gives its exit status."""
        command = (*self.recording.commands[number], *more)
        return run(command_line(command, self.database, BASE_URL, concurrency))

    def cassette(self) -> Cassette:
        return tape(RecordMode.NONE).use_cassette(self.name)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.database)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def outcomes(self) -> list[tuple[str, str, str | None]]:
        """The request as sent, status and value of each sample, sorted."""
        rows = self.rows(
            "select answers.request, outcomes.status, outcomes.value from outcomes"
            " join answers using (request_hash, attempt, try)"
        )
        return sorted(
            ((spelled(json.loads(request)), *rest) for request, *rest in rows),
            key=lambda row: (row[0], row[1]),
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder and an environment without settings; the signal handlers are put back."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if OURS.match(name)]:
        monkeypatch.delenv(name)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


# Ratings


@pytest.mark.parametrize("name", RATINGS)
def test_every_sample_gets_what_its_answer_says(name, folder):
    """Statuses and values are those of a plain search in the recorded texts, one row per sample."""
    player = Player(name, folder)
    with player.cassette():
        status = player.play()

    said = {spelled(each.asked): rating_in(name, each) for each in exchanges(name)}
    outcomes = player.outcomes()
    assert len(outcomes) == 12
    assert outcomes == [(request, *said[request]) for request, *_ in outcomes]
    assert {request for request, *_ in outcomes} == set(said)
    assert {status for _, status, _ in outcomes} == STATUSES[name]
    assert status == (0 if STATUSES[name] == {"ok"} else 3)


def test_several_ratings_are_among_the_recorded_answers():
    """Else the test above could not tell one sample's answer from another's."""
    assert {rating_in("difficulty-grammar", each)[1] for each in exchanges("difficulty-grammar")} >= {
        "low",
        "high",
    }


@pytest.mark.parametrize("name", ["difficulty", "difficulty-grammar"])
def test_each_sample_was_asked_about_itself(name, folder):
    """The request that settles a rollout holds its module and its completion."""
    player = Player(name, folder)
    with player.cassette():
        player.play()

    asked = player.rows(
        "select answers.request, rollouts.module_name, rollouts.completion from outcomes"
        " join answers using (request_hash, attempt, try) join rollouts using (sample_hash)"
    )
    assert len(asked) == 12
    for request, module_name, completion in asked:
        prompt = json.loads(request)["messages"][0]["content"]
        assert f"----- BEGIN MODULE NAME -----\n{module_name}\n" in prompt
        assert completion.strip() in prompt


def test_samples_that_ask_the_same_share_one_answer(folder):
    """Two rollouts of one module ask the same where the question leaves the completion out."""
    player = Player("level", folder)
    with player.cassette() as cassette:
        player.play()
        assert cassette.play_count == len(exchanges("level")) == 11
    assert player.rows("select count(*), count(distinct request_hash) from outcomes") == [(12, 11)]


# What is kept


@pytest.mark.parametrize("name", RATINGS)
def test_answers_are_kept_as_they_came(name, folder):
    player = Player(name, folder)
    with player.cassette():
        player.play()

    kept = player.rows(
        "select request, response, content, finish_reason, prompt_tokens, cached_tokens, completion_tokens,"
        " reasoning, fault, sent, model, host from answers"
    )
    expected = [
        (
            each.text,
            each.content,
            each.finish_reason,
            each.reply["usage"]["prompt_tokens"],
            each.reply["usage"]["prompt_tokens_details"]["cached_tokens"],
            each.reply["usage"]["completion_tokens"],
            *(None, None, None, "smollm2", "127.0.0.1:8080"),
        )
        for each in exchanges(name)
    ]
    by_request = {spelled(json.loads(request)): tuple(rest) for request, *rest in kept}
    assert by_request == dict(zip([spelled(each.asked) for each in exchanges(name)], expected, strict=True))
    assert player.rows("select count(*) from answers where latency_ms > 0") == [(len(expected),)]


@pytest.mark.parametrize("name", RATINGS)
def test_second_run_asks_nothing(name, folder):
    player = Player(name, folder)
    with player.cassette() as cassette:
        player.play()
        played = cassette.play_count
        before = player.outcomes()

        assert player.play() == 0, "nothing is left over by a run that asks nothing"
        assert cassette.play_count == played == len(exchanges(name))
        assert cassette.all_played
    assert player.outcomes() == before
    assert player.rows("select count(*) from answers") == [(played,)]


@pytest.mark.parametrize("name", ["difficulty-grammar", "level"])
def test_concurrency_changes_no_row(name, folder):
    tables = []
    for concurrency in (1, 8):
        place = folder / str(concurrency)
        place.mkdir()
        player = Player(name, place)
        with player.cassette():
            player.play(concurrency=concurrency)
        outcomes = "select sample_hash, task_hash, attempt, status, try, request_hash, reason, value"
        answers = "select request_hash, attempt, try, content, finish_reason, request, response"
        tables.append(
            (
                player.rows(f"{outcomes} from outcomes order by sample_hash"),
                player.rows(f"{answers} from answers order by request_hash"),
            )
        )
    assert tables[0] == tables[1]


def test_request_that_was_not_recorded_gets_no_answer(folder):
    """The cassette gives an answer to the same bytes alone, so that no test passes on a wrong one."""
    player = Player("difficulty", folder)
    with player.cassette() as cassette:
        with pytest.raises(CannotOverwriteExistingCassetteException):
            player.play(0, "-T", "0.2")
        assert cassette.play_count == 0
    assert player.rows("select count(*) from answers") == [(0,)]


# Cut off, by a schema, refused


def test_truncated_answers_are_truncated_until_asked_for_more(folder):
    """With --retry and a higher limit the same samples are asked again, for the same task."""
    player = Player("prompts", folder)
    with player.cassette() as cassette:
        assert player.play(0) == 3
        assert player.rows("select status, value, count(*) from outcomes group by 1, 2") == [
            ("truncated", None, 3)
        ]
        assert player.play(1) == 3
        assert cassette.all_played

    later = {
        spelled(each.asked): "truncated" if each.finish_reason == "length" else "unparsed"
        for each in exchanges("prompts")
        if each.asked["max_tokens"] == 240
    }
    assert [row[:2] for row in player.outcomes()] == sorted(later.items())
    assert set(later.values()) == {"truncated", "unparsed"}
    assert not any("<specification>" in each.content for each in exchanges("prompts"))
    assert player.rows("select count(distinct task_hash) from outcomes") == [(1,)]
    assert player.rows("select finish_reason, count(*) from answers group by 1") == [
        ("length", 4),
        ("stop", 2),
    ]


def test_answers_by_a_schema_are_kept_as_json(folder):
    player = Player("properties", folder)
    with player.cassette():
        player.play()

    outcomes = player.outcomes()
    contents = {spelled(each.asked): each for each in exchanges("properties")}
    schema = PROPERTIES_FORMAT["json_schema"]["schema"]
    assert len(outcomes) == len(contents) == 6
    assert {status for _, status, _ in outcomes} == {"ok", "truncated"}
    for request, status, value in outcomes:
        assert json.loads(request)["response_format"] == PROPERTIES_FORMAT
        assert status == ("truncated" if contents[request].finish_reason == "length" else "ok")
        if value is not None:
            jsonschema.validate(json.loads(value), schema)
            assert json.loads(value) == json.loads(contents[request].content)


def test_prompt_beyond_the_context_fails_alone(folder):
    """The server's own words say why; the other sample is asked all the same."""
    player = Player("too-long", folder)
    with player.cassette() as cassette:
        assert player.play() == 3
        assert cassette.play_count == 2

    (refused,) = [each for each in exchanges("too-long") if each.status == 400]
    (reason,) = player.rows("select reason from outcomes where status = 'failed'")[0]
    assert refused.reply["error"]["message"] in reason
    assert player.rows("select status, count(*) from outcomes group by 1") == [
        ("failed", 1),
        ("truncated", 1),
    ]
    assert player.rows("select content from answers") == [
        (each.content,) for each in exchanges("too-long") if each.status == 200
    ]


# The cassettes themselves


def texts(value: Any) -> Iterator[str]:
    """Every text in a YAML value, keys too."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from (str(key), *texts(child))
    elif isinstance(value, list):
        for child in value:
            yield from texts(child)
    else:
        yield str(value)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_nothing_private_is_in_a_cassette(path):
    """Neither in the file's bytes nor in its texts, which YAML breaks into lines."""
    raw = path.read_text(encoding="utf-8")
    found = [*texts(yaml.safe_load(raw))] if path.suffix == ".yaml" else []
    hits = [match[0] for text in (raw, *found) for match in FORBIDDEN.finditer(text)]
    assert hits == []


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: x",
        "Bearer x",
        "key sk-abc",
        "X-Prime-Team-ID",
        "hf_abc",
        "/home/someone/model",
        "a.gguf",
        "https://example.org/",
        "http://127.0.0.1:8090/v1/",
    ],
)
def test_search_for_private_things_finds_them(text):
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize("name", RECORDINGS)
def test_cassettes_keep_one_address_and_one_header(name):
    for each in yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["interactions"]:
        assert each["request"]["uri"] == f"{BASE_URL}/chat/completions"
        assert [header.lower() for header in each["request"]["headers"]] == ["content-type"]
        assert [header.lower() for header in each["response"]["headers"]] == ["content-type"]


def test_cassettes_are_those_of_the_recordings_and_small():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(RECORDINGS)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000
