"""`kbetl run`: every stage in order, each doing only what is missing."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import pytest
from conftest import ROOT, Run
from fake_llm import FakeLlm

TOML = """
[ingest]
sources = ["rollouts.jsonl"]
[enrich]
model = "offline"
[prompts]
model = "offline"
[lengths]
tokenizer = "{tokenizer}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with rows and a configuration that needs no network."""
    shutil.copy(ROOT / "data" / "sample.jsonl", tmp_path / "rollouts.jsonl")
    (tmp_path / "kbetl.toml").write_text(TOML.format(tokenizer=ROOT / "data" / "tokenizer"))
    return tmp_path


def count(folder: Path, statement: str) -> object:
    with sqlite3.connect(folder / "kbetl.db") as connection:
        return connection.execute(statement).fetchone()[0]


def test_run_does_every_stage_and_the_second_finds_nothing_to_do(run: Run, folder: Path) -> None:
    first = run("run")

    assert first.returncode in (0, 3), first.stderr
    stages = [line.removeprefix("== kbetl ") for line in first.stdout.splitlines() if line.startswith("== ")]
    exports = ["export filtered", "export unique", "export synthetic"]
    assert stages == ["ingest", "enrich", "prompts", "dedupe", "lengths", *exports]
    assert count(folder, "select count(*) from filtered") == 12
    assert count(folder, "select count(*) from synthetic") == 12
    assert count(folder, "select count(*) from lengths") == 18
    outputs = {path.name: path.read_bytes() for path in (folder / "outputs").iterdir()}
    assert len(outputs) == 3
    assert len(outputs["filtered_dataset-filtered.jsonl"].splitlines()) == 10
    assert "nothing was missing" not in first.stdout

    second = run("run")

    assert second.returncode == first.returncode
    assert second.stdout.splitlines()[-1] == "nothing was missing: no new row, no new answer, no new count"
    assert {path.name: path.read_bytes() for path in (folder / "outputs").iterdir()} == outputs


def test_a_stage_asks_a_task_by_its_name_in_the_store(run: Run, folder: Path) -> None:
    """Its file is gone; what its labels choose is known before it is asked again."""
    text = (ROOT / "data" / "tasks" / "difficulty.md").read_text()
    (folder / "mine.md").write_text(text.replace('name = "difficulty"', 'name = "mine"'))
    toml = folder / "kbetl.toml"
    with FakeLlm() as llm:
        server = f'task = "mine"\nmodel = "m"\nbase-url = "{llm.url}"\n'
        assert run("ingest", "-q").returncode == 0
        asked = run("enrich", "--task", "./mine.md", "-m", "m", "-b", llm.url, "-q")
        assert asked.returncode == 0, asked.stderr
        (folder / "mine.md").unlink()
        toml.write_text(toml.read_text().replace('[enrich]\nmodel = "offline"\n', f"[enrich]\n{server}"))
        requests = len(llm.requests)
        result = run("run")
    assert result.returncode in (0, 3), result.stderr
    assert len(llm.requests) == requests > 0


def test_test_mode_asks_about_five_samples_and_pushes_nothing(run: Run, folder: Path) -> None:
    with (folder / "kbetl.toml").open("a") as file:
        file.write('[push]\nowner = "nobody"\n')

    result = run("run", env={"TEST_MODE": "true"})

    assert result.returncode in (0, 3), result.stderr
    assert count(folder, "select count(*) from outcomes") == 10
    assert "TEST_MODE: nothing is pushed" in result.stderr
    assert "== kbetl push" not in result.stdout


def test_without_a_table_push_nothing_is_pushed(run: Run, folder: Path) -> None:
    assert "== kbetl push" not in run("run").stdout


def test_a_stage_that_fails_ends_the_run_and_says_what_was_done(run: Run, folder: Path) -> None:
    """Here the disk does not take an export: its folder is a file."""
    (folder / "outputs").write_text("")

    result = run("run")

    assert result.returncode == 1
    assert "cannot be written" in result.stderr
    said = result.stdout.splitlines()[-2:]
    assert said[0].startswith("stopped at export filtered: ")
    assert "cannot be written" in said[0]
    assert said[1] == "done: ingest, enrich, prompts, dedupe, lengths"
    again = run("run")
    assert again.returncode == 1
    assert again.stdout.splitlines()[-2:] == said
    assert count(folder, "select count(*) from filtered") == 12


@pytest.mark.parametrize(
    ("more", "words", "status"),
    [
        ("[export]\ndatasets = ['evals']", "say where to write evals with -o", 2),
        ("[export.unique]\noutput = 'outputs/filtered_dataset.jsonl'", "would both write to", 2),
        ("[export.unique]\noutput = 'rows.xml'", "-o rows.xml: not one of", 2),
        ("[export.synthetic]\nformat = 'messages'", "synthetic has prompts and no completions", 2),
        ("[export.filtered]\nby = 'code'", "--by code is for unique alone", 2),
        ("[export]\nwhere = '1) or (1'", "where '1) or (1'", 2),
        ("[export]\nsources = ['nobody']", "--source 'nobody': no such source", 2),
        ("[push]\ndatasets = ['best']", "push: no dataset 'best'", 2),
        ("[push]\nrepo = 'a/b'", "--repo is for one dataset; 5 are named", 2),
        ("[push]\nowner = 'a b'", "cannot be a dataset on the Hub", 2),
        ("[push]\nowner = 'me'", "no token for the Hub", 1),
        ("[dedupe]\nsource = ['nobody']", "--source 'nobody': no such source", 2),
    ],
)
def test_all_that_a_run_will_use_is_checked_before_anything_is_asked(
    run: Run, folder: Path, more: str, words: str, status: int
) -> None:
    with (folder / "kbetl.toml").open("a") as file:
        file.write(more)

    result = run("run")

    assert (result.returncode, words in result.stderr) == (status, True), result.stderr
    assert "== kbetl enrich" not in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "words", "status"),
    [
        ('[prompts]\nmodel = "offline"', "", "no key: PRIME_API_KEY is not set", 1),
        ('[prompts]\nmodel = "offline"', '[prompts]\nwhere = "colour"', "no such column: colour", 2),
        ('[enrich]\nmodel = "offline"', '[enrich]\ntask = "no.md"', "no.md", 2),
        ('model = "offline"', 'model = "offline"\nretry = ["ok"]', "--retry 'ok'", 2),
        ('model = "offline"', 'model = "offline"\nheader = ["X: y"]', "--header 'X'", 2),
        ('tokenizer = "', 'tokenizer = "/nowhere', "is neither a folder nor a name on the Hub", 2),
    ],
)
def test_what_a_paying_stage_needs_is_checked_too(
    run: Run, folder: Path, old: str, new: str, words: str, status: int
) -> None:
    path = folder / "kbetl.toml"
    text = path.read_text().replace(old, new)
    path.write_text(text if "header" not in new else text.replace('"offline"', '"m"'))

    result = run("run", env={"PRIME_API_KEY": "k"} if "header" in new else None)

    assert (result.returncode, words in result.stderr) == (status, True), result.stderr
    assert "== kbetl enrich" not in result.stdout


def test_sources_that_would_mix_are_found_before_anything_is_asked(run: Run, folder: Path) -> None:
    lines = (folder / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    rollouts = [line for line in lines if b'"completion"' in line]
    (folder / "rollouts.jsonl").write_bytes(b"".join(lines).replace(rollouts[0], b""))
    (folder / "more.jsonl").write_bytes(b"".join(rollouts[:5]))
    path = folder / "kbetl.toml"
    path.write_text(path.read_text().replace('["rollouts.jsonl"]', '["rollouts.jsonl", "more.jsonl"]'))

    result = run("run")

    assert result.returncode == 2
    assert "rollouts of 2 sources" in result.stderr
    assert count(folder, "select count(*) from answers") == 0
    assert result.stdout.splitlines()[-1] == "done: ingest"


def test_a_format_is_for_the_datasets_that_can_have_it(run: Run, folder: Path) -> None:
    """Also outside a run; a dataset's own table wins; said on the command line it is a mistake."""
    with (folder / "kbetl.toml").open("a") as file:
        file.write(
            "[export]\nformat = 'messages'\nby = 'code'\ndatasets = ['unique', 'synthetic', 'filtered']\n"
            "[export.filtered]\nformat = 'prompt-completion'\noutput = 'sft'\n"
        )

    result = run("run")

    assert result.returncode in (0, 3), result.stderr
    exports = [line for line in result.stdout.splitlines() if line.startswith("== kbetl export")]
    assert [line.split()[-1] for line in exports] == ["unique", "synthetic", "filtered"]
    unique = (folder / "outputs" / "filtered_dataset-filtered.jsonl").read_text().splitlines()
    assert len(unique) == 11
    assert "messages" in json.loads(unique[0])
    synthetic = (folder / "outputs" / "synthetic_prompts.jsonl").read_text().splitlines()
    assert "prompt" in json.loads(synthetic[0])
    assert (folder / "sft" / "sft.toml").exists()
    assert run("export", "synthetic").returncode == 0
    refused = run("export", "synthetic", "--format", "messages")
    assert (refused.returncode, "synthetic has prompts" in refused.stderr) == (2, True)


def test_an_export_without_rows_does_not_stop_the_others(run: Run, folder: Path) -> None:
    with (folder / "kbetl.toml").open("a") as file:
        file.write("[export.filtered]\nwhere = 'reward > 100'\n")

    result = run("run")

    assert result.returncode == 3
    assert "the dataset filtered is empty" in result.stderr
    assert "something is left over of:" in result.stdout
    assert sorted(path.name for path in (folder / "outputs").iterdir()) == [
        "filtered_dataset-filtered.jsonl",
        "synthetic_prompts.jsonl",
    ]


def test_rows_that_are_rejected_are_left_over_and_the_rest_goes_on(run: Run, folder: Path) -> None:
    with (folder / "rollouts.jsonl").open("a") as file:
        file.write("{broken\n")

    result = run("run")

    assert result.returncode == 3
    assert "something is left over of: ingest" in result.stdout
    assert count(folder, "select count(*) from filtered") == 12


def test_a_source_that_cannot_be_read_ends_the_run_before_anything_is_paid(run: Run, folder: Path) -> None:
    """Else datasets would go out that lack it, and nothing would say so."""
    text = (folder / "kbetl.toml").read_text()
    (folder / "kbetl.toml").write_text(text.replace('"]', '", "missing.jsonl"]', 1))

    ended = run("run")

    assert ended.returncode == 1
    assert "missing.jsonl: no such file or folder" in ended.stderr
    assert ended.stdout.splitlines()[-2:] == [
        "stopped at ingest: it ended with status 1, see above; what comes after it was not done",
        "done: nothing",
    ]
    assert count(folder, "select count(*) from samples") == 30
    assert count(folder, "select count(*) from answers") == 0
    assert not (folder / "outputs").exists()


def test_a_stage_has_the_options_of_its_table_and_of_the_store_named(run: Run, folder: Path) -> None:
    with (folder / "kbetl.toml").open("a") as file:
        file.write('[export]\nformat = "rows"\n')
    text = (folder / "kbetl.toml").read_text()
    (folder / "kbetl.toml").write_text(
        text.replace('[prompts]\nmodel = "offline"', '[prompts]\nmodel = "offline"\nlimit = 2')
    )

    run("run", "-d", "other.db")

    found = json.loads(run("query", "-d", "other.db", "select count(*) as n from synthetic").stdout)
    assert found == [{"n": 2}]
    assert not (folder / "kbetl.db").exists()


def test_commands_that_are_named_work_as_pasted(run: Run, folder: Path) -> None:
    """With the store where it is not the usual one; each is run as it was printed."""
    with (folder / "kbetl.toml").open("a") as file:
        file.write("[export.filtered]\nwhere = 'reward > 100'\n")

    result = run("run", "-d", "a b.db")

    said = (result.stdout + result.stderr).splitlines()
    named = [line.partition("see: ")[2] for line in said if "see: kbetl " in line]
    assert named == ["kbetl status -d 'a b.db'"]
    assert run(*shlex.split(named[0])[1:]).returncode == 0
