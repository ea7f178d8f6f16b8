"""A store is read where nothing can be written, and reading leaves nothing beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment
from filling import Filling

from kbetl.store import Store

NO_RIGHTS = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
"""What makes root heed the rights of files; anybody else does."""


def read_only(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `kbetl` in a folder in which nothing can be written, and gives its rights back."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root writes everywhere, and there is no setpriv")
    before = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    for path, mode in before.items():
        path.chmod(mode & 0o555)
    try:
        return subprocess.run(
            [*(NO_RIGHTS if os.geteuid() == 0 else []), sys.executable, "-m", "kbetl", *arguments],
            cwd=folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        for path, mode in before.items():
            path.chmod(mode)


@pytest.mark.parametrize("words", [["status"], ["query", "select 1"], ["check"], ["enrich", "--dry-run"]])
def test_a_store_in_a_folder_that_cannot_be_written_can_be_read(tmp_path, words):
    Filling(tmp_path / "kbetl.db").store.close()
    done = read_only(tmp_path, *words, *(["-m", "offline"] if "enrich" in words else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["kbetl.db"]


def test_changes_that_cannot_be_read_there_are_no_guess(tmp_path):
    """A WAL with changes and nothing that says where they are: to leave it out would be an older store."""
    with Store.open(tmp_path / "kbetl.db") as store:
        store.change_setting("min_reward", 0.5)
        (tmp_path / "there").mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"kbetl.db{suffix}", tmp_path / "there" / f"kbetl.db{suffix}")
    done = read_only(tmp_path / "there", "status")
    assert done.returncode == 1
    assert "has changes in kbetl.db-wal" in done.stderr
    with Store.read(tmp_path / "there" / "kbetl.db") as store:
        assert store.setting("min_reward") == 0.5


def test_reading_leaves_nothing_beside_the_store(tmp_path):
    """Also where a user's own SQL runs beside, and the store itself is as it was."""
    path = tmp_path / "kbetl.db"
    Filling(path).store.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    with Store.read(path) as store, store.guarded() as guarded:
        assert guarded.execute("select count(*) from samples").fetchone() == (0,)
        assert (tmp_path / "kbetl.db-wal").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["kbetl.db"]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_reader_leaves_the_wal_of_a_writer(tmp_path):
    path = tmp_path / "kbetl.db"
    with Store.open(path) as writer:
        writer.change_setting("min_reward", 0.5)
        done = subprocess.run(
            [sys.executable, "-m", "kbetl", "status"], cwd=tmp_path, env=clean_environment(), check=False
        )
        assert done.returncode == 0
        assert (tmp_path / "kbetl.db-wal").stat().st_size > 0
        writer.change_setting("min_reward", 0.6)
    with Store.read(path) as store:
        assert store.setting("min_reward") == 0.6
