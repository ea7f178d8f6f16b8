"""Splits: stable, with the rows of a module together, alike in every export; and the old way to draw them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment
from evals_rows import code, evals_row, evals_rows, store_with
from fill_disk import TIME, Filling

from kbetl.cli import run
from kbetl.dataset.dataset import Dataset, open_dataset
from kbetl.records import hash_point
from kbetl.store import Store

MANY = 18_162
MODULES = 7_000


def fill(store: Filling, numbers: range) -> None:
    """Narrow rated rollouts, straight into the tables: as many as the real data, over as many modules.

    Of every 7 modules 3 share a name with others.
    """
    task = store.tasks.get("difficulty") or store.task()
    store.tasks["difficulty"] = task
    samples, outcomes = [], []
    for number in numbers:
        module = number * 7919 % MODULES
        name = f"Common{module % 50}" if module % 7 < 3 else f"Module{module}"
        sample, code_hash = f"s1:{number:064x}", f"c1:{module:064x}"
        row = json.dumps({"completion": "x", "prompt": f"Write {module}.", "module_name": name, "n": number})
        samples.append(
            (sample, "rollout", name, code_hash, hash_point(code_hash), hash_point(name), 0.9, row)
        )
        outcomes.append((sample, task, 0, "ok", "low", "1", TIME))
    connection = store.store.connection
    with store.store.transaction():
        connection.executemany(
            "insert into samples (hash, kind, module_name, code_hash, code_point, name_point, reward, row)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            samples,
        )
        connection.executemany(
            "insert into outcomes"
            " (sample_hash, task_hash, attempt, status, value, parser_version, decided_at)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            outcomes,
        )


def sides(store: Filling) -> dict[str, str]:
    return dict(store.rows("select sample_hash, split from splits"))


@pytest.mark.parametrize("by", ["code", "name"])
def test_adding_a_row_moves_no_row_and_a_module_is_on_one_side(tmp_path, by):
    """18,162 rows; the original's way moves hundreds of them."""
    store = Filling(tmp_path / "kbetl.db")
    store.store.change_setting("split_by", by)
    fill(store, range(MANY))
    before = sides(store)
    assert len(before) == MANY
    assert store.rows(f"select * from split_leaks where kind = '{by}'") == []
    column = {"code": "code_hash", "name": "module_name"}[by]
    both = f"select {column} from samples join splits on hash = sample_hash group by 1"
    assert store.rows(f"{both} having min(split) <> max(split)") == []
    share = list(before.values()).count("validation") / MANY
    assert 0.08 < share < 0.12

    fill(store, range(MANY, MANY + 1))

    after = sides(store)
    assert len(after) == MANY + 1
    assert {sample: after[sample] for sample in before} == before


def test_every_export_of_a_store_agrees_with_the_view(tmp_path):
    """`filtered` and `unique`, from one source or all: a row is where `splits` has it."""
    store = Filling(tmp_path / "kbetl.db")
    fill(store, range(2_000))
    expected = sides(store)
    for name in ("filtered", "unique"):
        with Store.read(store.path) as reading, open_dataset(reading, Dataset(name)) as rows:
            found = {row.sample_hash: split for split in rows.counts for row in rows.rows(split)}
            counts = dict(rows.counts)
        assert found == {sample: expected[sample] for sample in found}
        assert counts == {side: list(found.values()).count(side) for side in ("train", "validation")}
        assert counts["validation"] > 0


def test_splits_are_those_of_a_plain_computation(tmp_path):
    """The arithmetic of the view, written out: a point times an odd factor of the seed, in 31 bits."""
    store = store_with(tmp_path / "kbetl.db", evals=evals_rows())
    factor = (42 * 2654435761) % 2**31 | 1
    for sample, code_hash, name, side in store.rows(
        "select hash, code_hash, module_name, split from samples join splits on hash = sample_hash"
    ):
        assert code_hash is not None, name
        permuted = hash_point(code_hash) * factor % 2**31
        assert side == ("validation" if permuted / 2**31 < 0.1 else "train"), sample


def test_split_leaks_names_what_is_on_both_sides(tmp_path):
    """Of rows in `filtered` alone, by code, name and prompt, with counts of both sides."""
    store = Filling(tmp_path / "kbetl.db")
    sources = {}
    for number in range(1000):
        source = code("Same", f"x + {number}")
        sources[point_side(source)] = source
        if len(sources) == 2:
            break
    task = store.task()
    prompts = {"train": "one prompt", "validation": "one prompt", "other": "its own"}
    rows = [
        evals_row(number, "Same", 1.0, sources[side], prompt=prompts[side])
        for number, side in enumerate(("train", "validation", "train"))
    ]
    rows.append(evals_row(3, "Same", 0.1, sources["validation"], prompt="not in filtered"))
    for row in rows:
        store.outcome(store.sample(row), task, value="low")

    assert store.rows("select * from split_leaks") == [("name", "Same", 2, 1), ("prompt", "one prompt", 2, 1)]
    store.store.change_setting("split_by", "name")
    assert store.rows("select * from split_leaks") == []


def point_side(source: str) -> str:
    """The side on which code is, by the default settings."""
    from kbetl.records import code_hash

    permuted = hash_point(code_hash(source)) * ((42 * 2654435761) % 2**31 | 1) % 2**31
    return "validation" if permuted < 0.1 * 2**31 else "train"


def test_split_leaks_by_code_where_the_split_is_by_name(tmp_path):
    """One code under two names that fall on different sides."""
    store = Filling(tmp_path / "kbetl.db")
    fill(store, range(MODULES))
    leaks = "select count(*) from split_leaks where kind = "
    assert store.rows(f"{leaks}'name'")[0][0] > 0
    store.store.change_setting("split_by", "name")
    fill_other_names(store)
    assert store.rows(f"{leaks}'code'")[0][0] > 0
    assert store.rows(f"{leaks}'name'") == [(0,)]


def fill_other_names(store: Filling) -> None:
    store.rows(
        "update samples set module_name = 'Other' || rowid, name_point = (rowid * 7919) % 2147483648,"
        " code_hash = 'c1:' || substr('0000' || (rowid % 9), -4) where rowid < 500"
    )


# the old way


SPLITS = """
import datasets, json, sys
for count in sys.argv[1:]:
    made = datasets.Dataset.from_dict({"n": list(range(int(count)))}).train_test_split(test_size=0.1, seed=42)
    print(json.dumps({"train": made["train"]["n"][:], "validation": made["test"]["n"][:]}))
"""


def splits_by_datasets(home: Path, *counts: int) -> list[dict[str, list[int]]]:
    """What `train_test_split(test_size=0.1, seed=42)` of the real `datasets` makes of so many rows."""
    result = subprocess.run(
        [sys.executable, "-c", SPLITS, *map(str, counts)],
        env=clean_environment(HOME=str(home)),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def split_by_datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, list[int]]]:
    counts = (2, 11, 7_181)
    return dict(zip(counts, splits_by_datasets(tmp_path_factory.mktemp("home"), *counts), strict=True))


@pytest.mark.parametrize("count", [2, 11, 7_181])
def test_a_random_split_is_that_of_datasets(tmp_path, monkeypatch, split_by_datasets, count):
    """The same rows on the same sides, in the same order."""
    monkeypatch.chdir(tmp_path)
    store = Filling(Path("kbetl.db"))
    fill(store, range(count))
    order = [number for (number,) in store.rows("select row ->> 'n' from samples order by hash")]
    assert run(["export", "filtered", "-o", "f.jsonl", "--random-split"]) == 0
    expected = split_by_datasets[count]
    for side in ("train", "validation"):
        exported = Path(f"f-{side}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["n"] for line in exported] == [order[index] for index in expected[side]]
    assert len(expected["validation"]) == math.ceil(count / 10)


def test_a_random_split_follows_the_order_of_unique(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store_with(Path("kbetl.db"), evals=evals_rows())
    assert run(["export", "unique", "-o", "u.jsonl"]) == 0
    assert run(["export", "unique", "-o", "u.jsonl", "--random-split"]) == 0
    whole = Path("u.jsonl").read_text(encoding="utf-8").splitlines()
    (expected,) = splits_by_datasets(tmp_path, len(whole))
    for side in ("train", "validation"):
        split = Path(f"u-{side}.jsonl").read_text(encoding="utf-8").splitlines()
        assert split == [whole[index] for index in expected[side]]
