"""`kbetl push --format`: the columns that `export` writes, said on the card, and named where they replace."""

from __future__ import annotations

import itertools
import json
import re

import pyarrow.parquet as pq
import pytest
import yaml
from fill_disk import Filling
from push_case import FILTERED, SYNTHETIC, TRAIN, commits, hub, push, rollout, runs, store, writes

from kbetl.export.formats import FORMATS, UNREAD_REASONING

__all__ = ["hub", "push", "store"]


def exported(run, store, format_, dataset="filtered"):
    folder = store.parent / f"{dataset}-{format_}"
    result = run("export", dataset, "-o", str(folder), "--format", format_)
    assert result.returncode == 0, result.stderr
    return {path.name: pq.read_table(path).to_pylist() for path in (folder / "data").iterdir()}


def pushed(hub, repo, tmp_path):
    files = {path: text for path, text in hub.files(repo).items() if path.startswith("data/")}
    found = {}
    for path, content in files.items():
        local = tmp_path / path.replace("/", "-")
        local.write_bytes(content)
        found[path.removeprefix("data/")] = pq.read_table(local).to_pylist()
    return found


@pytest.mark.parametrize("format_", FORMATS)
def test_a_push_holds_what_an_export_writes_and_is_made_once(run, push, store, hub, tmp_path, format_):
    """The card says who reads it, with the entry that LLaMA-Factory wants, whose columns are the rows'."""
    first = push("filtered", "--format", format_)
    second = push("filtered", "--format", format_)

    assert (first.returncode, second.returncode, commits(hub)) == (0, 0, 1)
    assert second.stdout.endswith(": unchanged\n")
    assert pushed(hub, FILTERED, tmp_path) == exported(run, store, format_)
    assert [json.loads(row[3])["format"] for row in runs(store)] == [format_, format_]
    assert first.stderr == (f"{UNREAD_REASONING}\n" if format_ == "rows" else "")

    card = hub.files(FILTERED)["README.md"].decode()

    assert f"`{format_}`: {FORMATS[format_].read_by}." in card
    columns = [each["name"] for each in yaml.safe_load(card.split("---\n")[1])["dataset_info"]["features"]]
    entries = [json.loads(found) for found in re.findall(r"```json\n(.*?)```", card, re.DOTALL)]
    assert [entry["formatting"] for entry in entries] == [format_] * (format_ in ("sharegpt", "alpaca"))
    assert all(set(entry["columns"].values()) <= set(columns) for entry in entries)


@pytest.mark.parametrize(("there", "here"), list(itertools.pairwise((*FORMATS, "rows"))))
def test_another_format_over_the_same_dataset_is_named(push, store, hub, there, here):
    """And replaces it only where it is forced to, which is said too."""
    assert push("filtered", "--format", there).returncode == 0
    before = len(writes(hub))

    refused = push("filtered", "--format", here)

    named = f"{FILTERED} holds rows in the format {there}, not {here}"
    assert (refused.returncode, len(writes(hub))) == (1, before)
    assert f"{named}; it differs in its schema" in refused.stderr
    forced = push("filtered", "--format", here, "--force")
    assert (forced.returncode, f"{named}; --force replaces them" in forced.stderr) == (0, True)


def test_rows_that_a_format_cannot_carry_are_named_and_exit_3(push, hub, tmp_path, run):
    """On the card too; a dataset of which nothing is left is not pushed."""
    two_turns = rollout(3) | {"completion": [{"role": "assistant", "content": "a"}] * 2}
    with Filling(tmp_path / "kbetl.db") as filling:
        odd = filling.sample(two_turns)
        filling.source("evals", filling.sample(rollout(1)), odd)
        filling.source("odd", odd)
    result = push("evals", "--format", "messages", "--repo", "me/sft", "--source", "evals")

    assert result.returncode == 3
    assert ", rows train 1, left out 1: commit" in result.stdout
    assert "two turns of the assistant in a row" in result.stderr
    assert "two turns of the assistant in a row" in hub.files("me/sft")["README.md"].decode()
    again = push("evals", "--format", "messages", "--repo", "me/sft", "--source", "evals")
    assert (again.returncode, commits(hub)) == (3, 1)
    assert [row[1] for row in runs(tmp_path / "kbetl.db")] == [3, 3]

    nothing = push("evals", "--format", "alpaca", "--repo", "me/none", "--source", "odd")
    assert (nothing.returncode, "me/none" in hub.repos) == (1, False)
    assert "nothing is left of the dataset evals to push as alpaca: 1 rows: " in nothing.stderr


def test_synthetic_goes_as_rows_with_all_and_is_refused_by_name(push, store, hub):
    assert push("all", "--format", "messages").returncode == 0
    assert "python_code" in pq.read_schema(_file(store, hub)).names
    refused = push("synthetic", "--format", "messages")
    assert (refused.returncode, "synthetic has prompts and no completions" in refused.stderr) == (2, True)


def _file(store, hub):
    local = store.parent / "synthetic.parquet"
    local.write_bytes(hub.files(SYNTHETIC)[TRAIN])
    return local


THOUGHTS = {
    "reasoning": ({"reasoning": "so"}, True),
    "reasoning_details": ({"reasoning_details": [{"type": "reasoning.text", "text": "so"}]}, True),
    "thinking part": (
        {"content": [{"type": "thinking", "thinking": "so"}, {"type": "text", "text": "k"}]},
        True,
    ),
    "reasoning_content": ({"reasoning_content": "so"}, False),
    "both": ({"reasoning_content": "so", "reasoning": "so"}, False),
    "null": ({"reasoning": None}, False),
    "empty": ({"reasoning": ""}, False),
    "word in the text": ({"content": 'the "reasoning": "so" of a model'}, False),
}


@pytest.mark.parametrize("case", THOUGHTS)
def test_reasoning_that_prime_rl_does_not_read_is_said_once(run, tmp_path, case):
    fields, is_said = THOUGHTS[case]
    completion = [{"role": "assistant", "content": "k", **fields}]
    with Filling(tmp_path / "kbetl.db") as filling:
        rows = [filling.sample(rollout(number) | {"completion": completion}) for number in range(3)]
        filling.source("evals", *rows)

    as_rows = run("export", "evals", "-o", "out.parquet")
    as_messages = run("export", "evals", "-o", "messages.jsonl", "--format", "messages")

    assert (as_rows.returncode, as_messages.returncode) == (0, 0)
    assert as_rows.stderr.count(UNREAD_REASONING) == is_said
    assert as_messages.stderr == ""


def test_labels_are_columns_of_a_push_and_said_on_the_card(push, store, hub, tmp_path):
    """A task that is not in use is refused before anything is sent."""
    assert push("evals", "--with", "style").returncode == 2
    assert commits(hub) == 0
    done = push("evals", "--with", "difficulty")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^evals: column difficulty has the labels of .*; \d+ rows have none$", done.stderr, re.MULTILINE
    )
    repo = done.stdout.split(": ")[1].split(",")[0]
    rows = [row for table in pushed(hub, repo, tmp_path).values() for row in table]
    assert {row["difficulty"] for row in rows} >= {"low", None}
    assert "column difficulty has the labels of" in hub.files(repo)["README.md"].decode()
