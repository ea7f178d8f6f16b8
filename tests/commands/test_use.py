"""`kbetl use`: which labels and settings the datasets are made with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fill_disk import Filling

from kbetl.cli import run
from kbetl.offline import MODEL


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filling]:
    """Three rated rollouts: by `old`, in use, and by `new`; and a second task of `new`."""
    monkeypatch.chdir(tmp_path)
    with Filling(Path("kbetl.db")) as filling:
        a, b, c = (filling.rollout(name, 0.9) for name in "abc")
        old, new = filling.task(model="old"), filling.task(model="new", in_use=False)
        filling.task(model="new", in_use=False, parameters='{"temperature":1}')
        filling.outcome(a, old, value="low")
        filling.outcome(b, old, value="low")
        filling.outcome(a, new, value="high")
        filling.outcome(b, new, "refused")
        filling.outcome(c, new, value="medium")
        yield filling


def hash_of(store: Filling, model: str, parameters: str = "{}") -> str:
    return store.rows(f"select hash from tasks where model = '{model}' and parameters = '{parameters}'")[0][0]


def in_use(store: Filling) -> list[tuple[str]]:
    return store.rows("select hash from tasks where in_use = 1")


def test_other_labels_are_used_and_what_changes_is_said(store, capfd):
    """One hash prefix names one task; the views follow; it is a run."""
    old, new = hash_of(store, "old"), hash_of(store, "new")
    assert run(["use", "difficulty", "--task-hash", new[3:12]]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"difficulty: 2 labels of new ({new[:11]}) in use now, before: 2 of old ({old[:11]})",
        "1 labels differ, 1 samples have a label only now, 1 only before",
    ]
    assert store.rows("select module_name, difficulty from filtered order by 1") == [
        ("a", "high"),
        ("c", "medium"),
    ]
    command, options, status, task_hash = store.rows(
        "select command, options, status, task_hash from runs order by id desc limit 1"
    )[0]
    assert (command, status, task_hash) == ("use", 0, new)
    assert json.loads(options)["task"] == "difficulty"


def test_a_model_that_names_one_task_is_enough(store, capfd):
    old = hash_of(store, "old")
    assert run(["use", "difficulty", "-m", "old"]) == 0
    assert capfd.readouterr().out == f"difficulty: 2 labels of old ({old[:11]}) in use now, as before\n"
    assert in_use(store) == [(old,)]


def test_offline_is_the_model_of_this_version(store, capfd):
    """As in `enrich -m offline`."""
    rollout = store.rollout("d", 0.9)
    for model in ("offline/0", MODEL):
        store.outcome(rollout, store.task(model=model, in_use=False), value="low")
    assert run(["use", "difficulty", "-m", "offline"]) == 0
    assert f"labels of {MODEL} " in capfd.readouterr().out
    assert in_use(store) == [(hash_of(store, MODEL),)]
    assert run(["use", "difficulty", "-m", "offline/0"]) == 0
    assert in_use(store) == [(hash_of(store, "offline/0"),)]


def test_a_task_without_a_label_is_not_put_in_use(store, capfd):
    """It would take away the labels that there are; exit 2, nothing changes."""
    task = store.task(model="broken", in_use=False)
    store.outcome(store.rollout("d", 0.9), task, "unparsed")
    assert run(["use", "difficulty", "-m", "broken"]) == 2
    assert capfd.readouterr().err.splitlines() == [
        "kbetl: no outcome of this task is ok, so it has no labels to use:",
        f"  {task[:15]}  broken  {{}}  1 unparsed",
    ]
    assert in_use(store) == [(hash_of(store, "old"),)]


def test_several_matches_are_listed(store, capfd):
    """With hash, model, parameters and outcomes; nothing changes, no run is recorded."""
    runs = store.rows("select count(*) from runs")
    assert run(["use", "difficulty", "--model", "new"]) == 2
    err = capfd.readouterr().err.splitlines()
    assert err[0].endswith("2 tasks named difficulty match; say which with --task-hash:")
    hot = '{"temperature":1}'
    assert sorted(err[1:]) == sorted(
        [
            f"  {hash_of(store, 'new')[:15]}  new  {{}}  2 ok, 1 refused",
            f"  {hash_of(store, 'new', hot)[:15]}  new  {hot}  no outcome",
        ]
    )
    assert in_use(store) == [(hash_of(store, "old"),)]
    assert store.rows("select count(*) from runs") == runs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["difficulty", "-m", "nobody"], "no task named difficulty matches"),
        (["difficulty", "--task-hash", "zz"], "no task named difficulty matches"),
        (["style"], "no task named style in kbetl.db; there are: difficulty"),
        (["--min-reward", "nan"], "no finite number"),
        (["--min-reward", "inf"], "no finite number"),
        (["--min-reward", "much"], "not a valid float"),
        (["--split-by", "size"], "is not one of"),
        (["-m", "old"], "name it"),
        ([], "name a TASK"),
    ],
)
def test_what_cannot_be_used_changes_nothing(store, capfd, arguments, words):
    before = store.rows("select * from settings"), in_use(store)
    assert run(["use", *arguments]) == 2
    assert words in capfd.readouterr().err
    assert (store.rows("select * from settings"), in_use(store)) == before


def test_min_reward_and_split_by(store, capfd):
    assert run(["use", "--min-reward", "0.5", "--split-by", "name"]) == 0
    out, err = capfd.readouterr()
    assert (out, err) == (
        "min_reward: 0.5 now, before: 0.85\nfiltered: 2 rows now, before: 2\n"
        "split_by: name now, before: code\n",
        "",
    )
    assert store.rows("select value from settings where key in ('min_reward', 'split_by') order by key") == [
        (0.5,),
        ("name",),
    ]


def test_an_empty_dataset_is_warned_of(store, capfd):
    assert run(["use", "--min-reward", "0.9"]) == 0
    out, err = capfd.readouterr()
    assert out == "min_reward: 0.9 now, before: 0.85\nfiltered: 0 rows now, before: 2\n"
    assert "filtered is empty now" in err


def test_a_missing_store_is_not_made(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(["use", "difficulty"]) == 1
    assert "no store at" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
