"""What an export must never replace."""

from __future__ import annotations

from pathlib import Path

import pytest
from evals_rows import evals_rows, store_with

from kbetl.cli import run


@pytest.mark.parametrize(
    ("store", "output"),
    [
        ("kbetl.jsonl", "kbetl.jsonl"),
        ("kbetl.parquet", "./sub/../kbetl.parquet"),
        ("kbetl-train.jsonl", "kbetl.jsonl"),
        ("out/kbetl.db", "out"),
        ("out/deep/kbetl.db", "out/"),
    ],
)
def test_the_store_is_never_replaced(tmp_path, monkeypatch, capfd, store, output):
    """Whatever it is called and wherever it lies: all paid answers are in it."""
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    if output.startswith("out"):
        store_with(Path("kbetl.db"), evals=evals_rows()).store.close()
        assert run(["export", "filtered", "-o", output]) == 0
    Path(store).parent.mkdir(exist_ok=True)
    store_with(Path(store), evals=evals_rows()).store.close()
    before = Path(store).read_bytes()
    capfd.readouterr()
    for words in (["filtered", "--splits"], ["--sql", "select 1 as a"]):
        assert run(["export", *words, "-d", store, "-o", output]) == 2
        assert f"-o {Path(output)} " in capfd.readouterr().err
    assert Path(store).read_bytes() == before


def test_a_folder_of_ours_with_something_added_is_left_alone(tmp_path, monkeypatch, capfd):
    """A folder is replaced as a whole, and a checkpoint in it would be gone."""
    monkeypatch.chdir(tmp_path)
    store_with(Path("kbetl.db"), evals=evals_rows()).store.close()
    assert run(["export", "filtered", "-o", "sft"]) == 0
    Path("sft/checkpoint-100").mkdir()
    Path("sft/checkpoint-100/model").write_text("trained")
    capfd.readouterr()
    assert run(["export", "filtered", "-o", "sft"]) == 2
    assert "no export wrote: checkpoint-100" in capfd.readouterr().err
    assert Path("sft/checkpoint-100/model").read_text() == "trained"
