"""`kbetl reparse`: stored answers, read again, for nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from conftest import ROOT, Run
from fake_llm import FakeLlm

TASK = """+++
name = "style"
about = "rollout"
where = "reward > :min_reward"
answer = {answer}
[parameters]
max_tokens = 16
+++
Rate the style of {{{{ module_name }}}}: {{{{ completion }}}}
"""
ONE_OF_THREE = '{ tag = "style", one_of = ["good", "fair", "poor"] }'
ONE_OF_FOUR = '{ tag = "style", one_of = ["good", "fair", "poor", "odd"] }'
NEVER_ODD = '{ tag = "style", one_of = ["fair", "poor", "odd"] }'


def write_task(folder: Path, answer: str) -> None:
    (folder / "style.md").write_text(TASK.format(answer=answer))


def outcomes(folder: Path) -> list[tuple[str, str | None, str | None, str]]:
    with sqlite3.connect(folder / "kbetl.db") as connection:
        return connection.execute(
            "select status, value, reason, parser_version from outcomes order by sample_hash"
        ).fetchall()


@pytest.fixture
def rated(run: Run, tmp_path: Path) -> Path:
    """A store whose rollouts were rated `<style>odd</style>` (Attention) or `<style>good</style>`."""
    write_task(tmp_path, ONE_OF_THREE)
    assert run("ingest", ROOT / "data" / "sample.jsonl").returncode == 0
    with FakeLlm(content=lambda asked: style_of(asked.prompt)) as llm:
        result = run("enrich", "--task", "./style.md", "-b", llm.url, "-m", "judge")
    assert result.returncode == 3, result.stderr
    return tmp_path


def style_of(prompt: str) -> str:
    return "<style>odd</style>" if "Attention" in prompt.splitlines()[0] else "<style>good</style>"


def test_edited_reader_changes_labels_without_a_request(run: Run, rated: Path) -> None:
    """What was unparsed becomes a label, and both are shown; no server is there to ask."""
    before = outcomes(rated)
    assert [row[0] for row in before].count("unparsed") == 2

    write_task(rated, ONE_OF_FOUR)
    result = run("reparse", "./style.md")

    assert result.returncode == 0, result.stderr
    assert "2 labels change" in result.stdout
    assert "2 x unparsed -> odd" in result.stdout
    after = outcomes(rated)
    assert [row[:3] for row in after if row[1] == "odd"] == [("ok", "odd", None)] * 2
    assert {row[3] for row in after}.isdisjoint(row[3] for row in before)
    assert "0 labels change" in run("reparse", "./style.md").stdout


def test_dry_run_shows_and_changes_nothing(run: Run, rated: Path) -> None:
    write_task(rated, NEVER_ODD)
    before = outcomes(rated)

    result = run("reparse", "--dry-run", "./style.md")

    assert result.returncode == 0
    assert "10 x good -> unparsed" in result.stdout
    assert outcomes(rated) == before


def test_labels_that_no_longer_parse_keep_the_raw_answer(run: Run, rated: Path) -> None:
    """Reading again and back again loses nothing: the answer is kept for ever."""
    before = [row[:3] for row in outcomes(rated)]
    for answer, status in ((NEVER_ODD, 3), (ONE_OF_THREE, 3)):
        write_task(rated, answer)
        assert run("reparse", "./style.md").returncode == status
    assert [row[:3] for row in outcomes(rated)] == before


def test_new_answers_are_read_by_the_reader_of_the_file_and_the_store_says_so(run: Run, rated: Path) -> None:
    write_task(rated, ONE_OF_FOUR)
    run("reparse", "./style.md")
    found = json.loads(run("query", "select reader from tasks").stdout)
    assert json.loads(found[0]["reader"])["one_of"] == ["good", "fair", "poor", "odd"]


def test_a_task_without_outcomes_is_named(run: Run, rated: Path) -> None:
    result = run("reparse", "difficulty")
    assert result.returncode == 2
    assert "nothing to read again for difficulty" in result.stderr
    assert "style" in result.stderr


def test_no_store_is_made(run: Run, tmp_path: Path) -> None:
    result = run("reparse")
    assert result.returncode == 1
    assert "no store at kbetl.db" in result.stderr
    assert list(tmp_path.glob("*.db")) == []
