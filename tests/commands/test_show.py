"""`kbetl show`: one sample with everything known of it, and text from outside that stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kbetl.cli import run
from kbetl.resources import data_path
from kbetl.store import Store

CODE = "class {name}(nn.Module):\n    def forward(self, x):\n        return x + 1\n"


def rollout(name: str, reward: float | None, text: str = "x", **more: Any) -> dict[str, Any]:
    info = {"module_name": name, "python_code": CODE.format(name="Any"), "triton_code": "import triton"}
    return {
        "prompt": [{"role": "user", "content": "Write it."}],
        "completion": [{"role": "assistant", "content": text, "reasoning": f"why {reward}\n" * 9}],
        "info": info,
        "reward": reward,
        **more,
    }


PLANTED = "<b>\x1b]0;owned\x07 \u202egnp.exe\u2066 nul\0 [red]no markup[/red] {}".format("w" * 500)
ROWS = [
    rollout("Twice", 0.97),
    rollout("Twice", 1.21),
    rollout("Low", 0.5),
    rollout("Unscored", None),
    rollout("Best", 0.9, f"Said.\n```python\nimport os\n```\n{PLANTED}", rewards={"speed": 2.5}),
    rollout(PLANTED, 0.99),
    {"module_name": "Low", "python_code": CODE.format(name="Low"), "triton_code": "import triton\n"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of these rows, of which those that are good are rated."""
    folder = tmp_path_factory.mktemp("show")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    database = str(folder / "kbetl.db")
    assert run(["ingest", str(rows), "-q", "-d", database]) == 0
    assert run(["enrich", "-m", "offline", "-q", "-d", database]) == 0
    return folder


@pytest.fixture
def show(folder, monkeypatch, capfd):
    """Runs `kbetl show`; returns what it printed, and on stderr."""
    monkeypatch.chdir(folder)

    def shown(*arguments: str, status: int = 0) -> str:
        capfd.readouterr()
        assert run(["show", *arguments]) == status, arguments
        captured = capfd.readouterr()
        return captured.err if status else captured.out

    return shown


def hash_of(folder: Path, place: int) -> str:
    with Store.read(folder / "kbetl.db") as store:
        statement = "select sample_hash from source_samples where position = ?"
        return str(store.connection.execute(statement, (place,)).fetchone()[0])


@pytest.mark.parametrize(
    ("place", "filtered", "unique"),
    [
        (0, "no, because 1.21 of {1} beats 0.97", None),
        (1, "yes", "yes"),
        (2, "no, because its reward 0.5 is not above 0.85", "no, because it is not in filtered"),
        (3, "no, because it has no reward", "no, because it is not in filtered"),
    ],
)
def test_it_says_why_a_rollout_is_in_a_dataset_or_not(show, folder, place, filtered, unique):
    if unique is None:
        filtered, unique = "yes", filtered.replace("{1}", hash_of(folder, 1)[3:11])
    facts = dict(re.findall(r"^(in \w+) +(.*)$", show(hash_of(folder, place)), re.MULTILINE))
    assert facts == {"in filtered": filtered, "in unique": unique}


def test_a_sample_is_found_by_hash_its_beginning_and_its_name(show, folder):
    """Of a name the rollout with the highest reward, and the others below it."""
    sample_hash = hash_of(folder, 1)
    by_name = show("Twice")
    assert {by_name, show(sample_hash), show(sample_hash[3:11]), show(sample_hash[:11])} == {by_name}
    assert f"sample       rollout {sample_hash}\nreward       1.21\n" in by_name
    assert by_name.endswith(
        f"── of the same name ──\n{hash_of(folder, 0)[3:11]}  rollout  reward 0.97  Twice\n"
    )
    assert "reference kernel ──\nimport triton\n" in show(hash_of(folder, 6))


def test_labels_problem_reasoning_and_answer_are_there(show):
    text = show("Best")
    assert "in filtered  yes\n" in text
    assert "\nparts        speed 2.5\n" in text
    assert re.search(r"── labels ──\ndifficulty: \w+\n    by offline/\d+ \(t1:\w{8}, in use\) at 2", text)
    assert "── problem ──\nclass Any(nn.Module):\n    def forward" in text
    assert "why 0.9\n" * 5 + "... 4 more lines; --raw and --json have them\n" in text
    assert "── answer ──\nSaid.\nimport os\n<b>" in text


def test_the_row_comes_back_as_it_was_and_json_has_everything(show, folder):
    sample_hash = hash_of(folder, 4)
    assert json.loads(show(sample_hash, "--raw")) == ROWS[4]
    found = json.loads(show(sample_hash, "--json"))
    assert (found["row"], found["hash"], found["completion"]) == (
        ROWS[4],
        sample_hash,
        ROWS[4]["completion"][0]["content"],
    )
    (label,) = found["labels"]
    assert (label["task"], label["status"], label["in_use"]) == ("difficulty", "ok", 1)
    assert "Best" in json.dumps(label["request"]["messages"])
    assert label["cost_usd"] == 0


def test_text_from_outside_is_shown_and_does_nothing(show, folder):
    """Escape codes, marks that turn text around, NUL and rich's markup are characters to read."""
    for text in (show("Best"), show(hash_of(folder, 5))):
        assert r"<b>\x1b]0;owned\x07 \u202egnp.exe\u2066 nul\x00 [red]no markup[/red] www" in text
        assert "w" * 500 in text
        assert not set(text) & set("\x1b\x07\0\u202e\u2066")


def test_next_goes_through_all_of_a_kind_and_where_chooses(show, folder):
    places = [show("--raw"), *(show(hash_of(folder, place), "--next", "--raw") for place in range(5))]
    assert [json.loads(text) for text in places] == ROWS[:6]
    assert "no sample comes after" in show(hash_of(folder, 5), "--next", status=2)
    where = ("--where", "reward > :min_reward and module_name = 'Twice'")
    assert json.loads(show("--raw", *where)) == ROWS[0]
    assert json.loads(show("--raw", hash_of(folder, 0), "--next", *where)) == ROWS[1]
    assert json.loads(show("--raw", "--random", *where)) in ROWS[:2]
    assert json.loads(show("--raw", "--random")) in ROWS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nope",), "no sample has the hash or the module name 'nope'"),
        (("s1:00000000000000000000",), "no sample has the hash"),
        (("--where", "reward > 9"), "satisfies where 'reward > 9'"),
        (("--where", "nope = 1"), "no such column"),
        (("--where", "1) or (1"), "where '1) or (1'"),
        (("--next",), "--next needs"),
        (("--random", "Twice"), "--random chooses"),
        (("--where", "1", "Twice"), "needs --next"),
        (("--raw", "--json"), "two forms"),
    ],
)
def test_what_cannot_be_shown_is_one_line(show, arguments, words):
    said = show(*arguments, status=2)
    assert words in said
    assert "Traceback" not in said


def test_an_ambiguous_hash_lists_those_that_begin_alike(folder, show, monkeypatch):
    """Two samples whose hashes agree in four digits are there to be found in any larger store."""
    with Store.open(folder / "alike.db") as store:
        for end in "ab":
            store.connection.execute(
                "insert into samples (hash, kind, code_point, name_point, row) "
                "values (?, 'module', 1, 1, '{}')",
                (f"s1:12345678{end * 56}",),
            )
    said = show("12345678", "-d", "alike.db", status=2)
    assert "several hashes begin with 12345678; give more of it:" in said
    assert said.count("\n  12345678") == 2
    assert show("12345678a", "-d", "alike.db", "--raw") == "{}\n"


def test_empty_old_and_missing_stores_are_one_line(show, folder, monkeypatch):
    with Store.open(folder / "empty.db"):
        pass
    assert "holds no sample; `kbetl ingest -d empty.db` reads some" in show("-d", "empty.db", status=2)
    assert "no store at" in show("-d", "none.db", status=1)
    assert not (folder / "none.db").exists()


def test_the_shipped_rows_are_shown(show, folder):
    assert run(["ingest", "-q", str(data_path("sample.jsonl")), "-d", "sample.db"]) == 0
    with Store.read(folder / "sample.db") as store:
        hashes = [row[0] for row in store.connection.execute("select hash from samples")]
    assert len(hashes) == 30
    assert all(f" {each}\n" in show(each, "-d", "sample.db") for each in hashes)
