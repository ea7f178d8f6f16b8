"""What is written is whole, as open as the store, or not there; what killed commands left is cleared away."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment
from enrich_case import Case, rollouts

from kbetl import atomic_files

pytest_plugins = ["enrich_fixtures"]

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from kbetl import atomic_files
path, kind = Path(sys.argv[1]), sys.argv[2]
if kind == "old":
    atomic_files._rename_atomically = lambda *_: False
    rename = Path.rename
    Path.rename = lambda self, target: (rename(self, target), os.kill(os.getpid(), signal.SIGKILL))
if kind == "exchanged":
    exchange = atomic_files._rename_atomically
    atomic_files._rename_atomically = lambda *each: (exchange(*each), os.kill(os.getpid(), signal.SIGKILL))
whole = atomic_files.atomic_file if kind == "file" else atomic_files.atomic_folder
with whole(path) as place:
    if kind == "file":
        place.write(b"half")
        place.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    (place / "new").write_text("new")
    if kind == "folder":
        os.kill(os.getpid(), signal.SIGKILL)
"""
KINDS = {"file": None, "folder": "was", "exchanged": "new", "old": None}
"""Where the writer is killed, and what stands at the place then."""


def killed(path: Path, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, path, kind], env=clean_environment(), check=False
    )
    assert done.returncode == -9


def folder_of(path: Path, name: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / name).write_text(name)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_writer_left_is_named_and_cleared_by_the_next(tmp_path, kind):
    """The old folder is put back where nothing stands; a whole export follows and leaves nothing hidden."""
    path = tmp_path / "place"
    if kind != "file":
        folder_of(path, "was")
    killed(path, kind)
    assert len(atomic_files.left_behind(tmp_path)) == (2 if kind == "old" else 1)
    assert [each.name for each in path.iterdir()] == [KINDS[kind]] if path.is_dir() else True
    atomic_files.clear_left_behind(path)
    assert atomic_files.left_behind(tmp_path) == []
    assert {each.name for each in tmp_path.iterdir()} == (set() if kind == "file" else {"place"})
    if kind == "old":
        assert [each.name for each in path.iterdir()] == ["was"]


def test_what_is_being_written_is_left_alone(tmp_path):
    """Its writer lives, in this process or in another; parts of other places are none of ours."""
    (tmp_path / ".other.12345.part").write_text("")
    with atomic_files.atomic_file(tmp_path / "a.jsonl") as file, atomic_files.atomic_folder(tmp_path / "b"):
        file.write(b"row")
        atomic_files.clear_left_behind(tmp_path / "a.jsonl")
        atomic_files.clear_left_behind(tmp_path / "b")
        assert [each.name for each in atomic_files.left_behind(tmp_path)] == [".other.12345.part"]
    assert (tmp_path / "a.jsonl").read_bytes() == b"row"
    assert (tmp_path / "b").is_dir()


def test_a_folder_is_the_old_or_the_new_where_two_cannot_be_exchanged(tmp_path, monkeypatch):
    """As on file systems without that: the old one is gone in the end, and nothing is left."""
    monkeypatch.setattr(atomic_files, "_rename_atomically", lambda *_: False)
    path = folder_of(tmp_path / "place", "was")
    with atomic_files.atomic_folder(path) as folder:
        (folder / "new").write_text("")
    assert [each.name for each in path.iterdir()] == ["new"]
    assert [each.name for each in tmp_path.iterdir()] == ["place"]


EXPORTS = ("e.jsonl", "e.jsonl.gz", "e.parquet", "e.csv", "folder/")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_all_that_comes_out_of_a_store_is_as_open_as_the_store(case: Case, mode):
    """Exports of every kind, batch files, the lock file and what SQLite keeps beside it."""
    case.ingest(rollouts(3))
    os.chmod(case.folder / "kbetl.db", mode)
    before = os.umask(0o022)
    try:
        for target in EXPORTS:
            assert case.kbetl("export", "evals", "-o", f"out/{target}").status == 0
        assert case.kbetl("export", "--sql", "select 1 as one", "-o", "out/q.jsonl").status == 0
        assert case.kbetl("batch", "write", "enrich", "batches", "-m", "m").status == 0
    finally:
        os.umask(before)
    files = [
        each
        for each in case.folder.rglob("*")
        if each.is_file() and not each.name.endswith(("rows.jsonl", "-wal", "-shm"))
    ]
    assert len(files) >= len(EXPORTS) + 4
    modes = {str(each.relative_to(case.folder)): oct(stat.S_IMODE(each.stat().st_mode)) for each in files}
    assert set(modes.values()) == {oct(mode)}, modes
    assert stat.S_IMODE((case.folder / "out" / "folder").stat().st_mode) == mode | (mode & 0o444) >> 2


def test_check_names_what_killed_commands_left(case: Case):
    """It is no fault of the store: the exit status is 0."""
    case.ingest(rollouts(3))
    assert "left behind" not in case.kbetl("check").text
    (case.folder / "out").mkdir()
    killed(case.folder / "out" / "e.parquet", "file")
    (part,) = atomic_files.left_behind(case.folder / "out")
    done = case.kbetl("check")
    assert done.status == 0
    assert f"left behind by a killed command: {part}; " in done.out
    assert case.kbetl("export", "evals", "-o", "out/e.parquet").status == 0
    assert "left behind" not in case.kbetl("check").text
