"""`kbetl dedupe`, and the dataset `unique` against what the original script would have kept."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from evals_rows import UNREAD, Row, code, evals_row, evals_rows, store_with
from fill_disk import Filling

from kbetl.cli import run
from kbetl.dataset.dataset import Dataset, open_dataset
from kbetl.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filling:
    monkeypatch.chdir(tmp_path)
    return store_with(Path("kbetl.db"), evals=evals_rows())


def original_unique(rows: list[Row]) -> list[Row]:
    """`filter_unique_best`: the first of the highest reward per `info.module_name`, sorted by reward."""
    best: dict[str, Row] = {}
    for row in rows:
        name = row["info"]["module_name"]
        if name not in best or row["reward"] > best[name]["reward"]:
            best[name] = row
    return sorted(best.values(), key=lambda row: row["reward"], reverse=True)


def without_ours(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("difficulty", "evaluation_raw")}


def exported(name: Any, **options: Any) -> list[Row]:
    with (
        Store.read(Path("kbetl.db")) as store,
        open_dataset(store, Dataset(name, splits=False, **options)) as rows,
    ):
        return [json.loads(row.text) for row in rows.rows()]


def test_filtered_is_what_the_original_kept_less_what_could_not_be_rated(store):
    """The original kept a row with an unreadable rating as null; here it is `unparsed` and not in."""
    rows = evals_rows()
    good = [row for row in rows if row["reward"] is not None and row["reward"] > 0.85]
    expected = [row for row in good if row["example_id"] != UNREAD]
    assert [without_ours(row) for row in exported("filtered")] == expected


def test_unique_is_what_the_original_kept_in_its_order(store):
    """Same rows, same order, ties to the first of the file, of the same rows of `filtered`."""
    filtered = exported("filtered")
    assert exported("unique") == original_unique(filtered)
    assert [row["example_id"] for row in exported("unique")] == [2, 6, 10, 1, 5, 9]


@pytest.mark.parametrize("by", ["name", "code"])
def test_equal_rewards_come_in_the_order_in_which_their_modules_first_appear(tmp_path, monkeypatch, by):
    """Whichever row of a module is the best: the original's sort leaves names as they came."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(5)
    rows = []
    for number in range(80):
        name = f"M{draw.randrange(12)}"
        reward = draw.choice((0.9, 0.95, 1.0))
        rows.append(evals_row(number, name, reward, code(name)))
    store = store_with(Path("kbetl.db"), evals=[row for row in rows if row["example_id"] != UNREAD])
    expected = [row["example_id"] for row in original_unique(exported("filtered"))]
    assert [row["example_id"] for row in exported("unique", by=by)] == expected
    view = "select (select row ->> '$.example_id' from samples where hash = sample_hash) from unique_best"
    assert [number for (number,) in store.rows(view)] == expected


def test_the_first_version_would_have_kept_one_row_of_all(store):
    """It looked for the name at the top of the row, where evals rows have none; we look where it stands."""
    assert {row.get("module_name", "Unknown") for row in exported("filtered")} == {"Unknown"}
    assert len(exported("unique")) == 6


def test_unique_by_code_keeps_one_row_of_each_code(store):
    assert [row["example_id"] for row in exported("unique", by="code")] == [2, 6, 10, 1, 5, 9]
    # rows 0 and 9 have one code; under 9's name it scored higher, so the name Act has gelu alone
    assert len({row["info"]["python_code"] for row in exported("unique", by="code")}) == 6


def test_a_source_alone_gives_what_a_store_with_it_alone_would_give(tmp_path, monkeypatch):
    """Also where the other source has better rows under the same names, and rows in common."""
    monkeypatch.chdir(tmp_path)
    better = [{**row, "reward": 2.0, "answer": "other model"} for row in evals_rows()[:4]]
    alone = store_with(Path("alone.db"), evals=evals_rows())
    store_with(Path("kbetl.db"), other=[*better, evals_rows()[5]], evals=evals_rows())
    for name in ("filtered", "unique", "evals"):
        for splits in (False, True):
            dataset = Dataset(name, splits=splits)
            with Store.read(alone.path) as one, open_dataset(one, dataset) as rows:
                expected = [(row.text, rows.counts) for row in rows.every_row()]
            both = Dataset(name, splits=splits, sources=("evals",))
            with Store.read(Path("kbetl.db")) as two, open_dataset(two, both) as rows:
                assert [(row.text, rows.counts) for row in rows.every_row()] == expected
    assert [row["reward"] for row in exported("unique", all_sources=True)][:2] == [2.0, 2.0]


def test_the_report_says_what_is_kept_and_what_is_hidden(store, capfd):
    assert run(["dedupe"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[:2] == [
        "unique by name: 6 of 9 rows of filtered kept, reduction 33.3 %",
        "reward from 0.9700 to 1.0000",
    ]
    assert lines[3:10] == [
        "the first 6:",
        "  1.0000  high    Attention",
        "  1.0000  low     Plain",
        "  0.9900  medium  Nothing",
        "  0.9700  medium  Act",
        "  0.9700  high    Turns",
        "  0.9700  low     Act2",
    ]
    code = store.rows("select code_hash from samples where module_name = 'Act2'")[0][0]
    assert lines[11:] == [
        "by name: keeps 6 rows, drops 3; with them 0 of 6 different codes and 0 of 6 names",
        "by code: keeps 6 rows, drops 3; with them 0 of 6 different codes and 0 of 6 names",
        "names that hide different code: 1",
        "  Act: 2 codes in 3 rows",
        "codes under several names: 1",
        f"  {code[:11]}: Act, Act2 in 2 rows",
    ]


def test_what_a_choice_loses_is_counted(tmp_path, monkeypatch, capfd):
    """By name, the code of the worse row; by code, the name of the worse row."""
    monkeypatch.chdir(tmp_path)
    rows = evals_rows()
    store_with(Path("kbetl.db"), evals=[rows[0], rows[1]], other=[rows[9], {**rows[0], "reward": 1.5}])

    assert run(["dedupe", "--source", "evals", "--json"]) == 0
    by_name = json.loads(capfd.readouterr().out)
    assert (by_name["rows"], by_name["kept"], by_name["reduction_percent"]) == (2, 1, 50.0)
    assert by_name["choices"]["name"]["lost_codes"] == 1
    assert by_name["choices"]["code"]["lost_codes"] == 0

    assert run(["dedupe", "--source", "other", "--by", "code", "--json"]) == 0
    by_code = json.loads(capfd.readouterr().out)
    assert [row["module_name"] for row in by_code["top"]] == ["Act"]
    assert by_code["choices"]["code"]["lost_names"] == 1
    assert by_code["first_codes_under_several_names"][0]["names"] == ["Act", "Act2"]


def test_several_sources_are_named_and_an_empty_store_says_so(store, capfd):
    store.source("more", store.rollout("D", 1.0))
    assert run(["dedupe"]) == 0
    assert capfd.readouterr().err == "kbetl: rows of 2 sources together: evals, more\n"
    assert run(["dedupe", "--source", "more"]) == 0
    assert capfd.readouterr().out.splitlines()[0] == (
        "unique by name: 0 of 0 rows of filtered kept, reduction 0.0 %"
    )
    assert run(["dedupe", "--source", "x"]) == 2


def test_a_report_on_nothing_says_why(tmp_path, monkeypatch, capfd):
    """As an export would."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"completion": "x", "reward": 1.0}\n')
    assert run(["ingest", "rows.jsonl"]) == 0
    capfd.readouterr()
    assert run(["dedupe"]) == 0
    shown = capfd.readouterr().out.splitlines()[1]
    assert shown == (
        "the dataset unique is empty: none of 1 rollouts with a good reward is rated; run: kbetl enrich"
    )


def test_long_names_and_huge_rewards_stay_on_their_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rows = [evals_row(1, "N" * 5000, 1e308, "a = 1"), evals_row(2, "N" * 5000, 1.25, "a = 2")]
    store_with(Path("kbetl.db"), evals=rows)
    assert run(["dedupe"]) == 0
    shown = capfd.readouterr().out
    assert max(map(len, shown.splitlines())) < 120
    assert f"  1.0000e+308  medium  {'N' * 80}...\n" in shown
    assert "reward from 1.0000e+308 to 1.0000e+308\n" in shown


def test_a_source_that_is_named_twice_is_one(store, capfd):
    assert run(["dedupe", "--source", "evals", "--source", "evals", "--json"]) == 0
    out, err = capfd.readouterr()
    assert (json.loads(out)["sources"], err) == (["evals"], "")
