"""By whatever link a store is named, it is the one file that the link leads to."""

from __future__ import annotations

from pathlib import Path

import pytest
from enrich_case import rollout, rollouts

from kbetl.store import Store

pytest_plugins = ["enrich_fixtures"]


def link_file(folder: Path) -> Path:
    (folder / "link.db").symlink_to("real/kbetl.db")
    return Path("link.db")


def link_folder(folder: Path) -> Path:
    (folder / "linked").symlink_to("real")
    return Path("linked/kbetl.db")


def link_chain(folder: Path) -> Path:
    (folder / "linked").symlink_to(folder / "real")
    (folder / "second.db").symlink_to("linked/kbetl.db")
    (folder / "first.db").symlink_to(folder / "second.db")
    return Path("first.db")


def link_up_and_down(folder: Path) -> Path:
    (folder / "real" / "below").mkdir()
    (folder / "below").symlink_to("real/below")
    return Path("below/../kbetl.db")


LINKS = {each.__name__: each for each in (link_file, link_folder, link_chain, link_up_and_down)}


@pytest.mark.parametrize("made", LINKS)
def test_a_store_named_by_a_link_is_the_file_that_it_leads_to(case, made):
    """Also one that a command makes; each command works as by the file's own name, and leaves no copy."""
    real = case.folder / "real"
    real.mkdir()
    case.ingest(rollouts(4), "first.jsonl", "-d", "real/kbetl.db")
    path = LINKS[made](case.folder)
    assert case.ingest([rollout(8)], "rows.jsonl", "-d", path).status == 0
    assert case.enrich("-d", path).requests == 5
    assert case.enrich("-d", path, "--resume").requests == 0
    assert case.kbetl("use", "-d", path, "--min-reward", "0.5").status == 0
    assert case.kbetl("export", "filtered", "-d", path, "-o", "out.jsonl", "--all-sources").status == 0
    assert case.kbetl("check", "-d", path).status == 0
    with Store.read(case.folder / path) as store:
        assert store.path == real / "kbetl.db"
        assert store.connection.execute("select count(*) from answers").fetchone() == (5,)
    everything = {each.name for each in (*case.folder.iterdir(), *real.iterdir())}
    assert not [name for name in everything if "rescued" in name or name.startswith("link.db-")]


def test_a_link_that_leads_nowhere_is_no_store_and_makes_none(case):
    """Also one that leads to itself; no command makes a file at its end."""
    (case.folder / "away.db").symlink_to("elsewhere/kbetl.db")
    (case.folder / "self.db").symlink_to("self.db")
    for name, target in (("away.db", "elsewhere/kbetl.db"), ("self.db", "self.db")):
        for command in (("ingest", "rows.jsonl"), ("status",), ("demo",)):
            done = case.kbetl(*command, "-d", name)
            assert done.status == 1
            assert done.err == (
                f"kbetl: store {name} is a symbolic link to {target}, and no file is there: "
                "mend or remove the link, or name the file itself with -d\n"
            )
    assert not (case.folder / "elsewhere").exists()
