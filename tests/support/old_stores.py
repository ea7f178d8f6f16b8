"""Stores of released schemas, a migration that only tests have, and what a store holds."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from kbetl import resources
from kbetl.store.connection import APPLICATION_ID, PAGE_SIZE_BYTES

STORES = Path(__file__).parents[1] / "data" / "stores"
RELEASED = sorted(int(path.stem.removeprefix("schema")) for path in STORES.glob("schema*.sql"))
"""Schemas of which `stores/` holds a store as its own kbetl filled it, as SQL."""
LATER = 99
LATER_MIGRATION = """-- Schema 99: for tests alone.
create table later (
  id integer primary key,  -- a column
  name text not null  -- another
) strict;
alter table runs add column host text;
insert into later (id, name) select runs.id, runs.command from runs;
update runs set host = 'here';
"""
MIGRATES = """
import sys
from pathlib import Path
from kbetl import resources
from kbetl.store import Store
resources.SQL = Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with Store.open(Path(sys.argv[1])) as store:
    store.end_run(store.begin_run("ingest", {}), 0, {})
"""


def old_store(path: Path, schema: int = RELEASED[0]) -> Path:
    """A store as the kbetl of that schema left it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma page_size = {PAGE_SIZE_BYTES}")
        connection.executescript((STORES / f"schema{schema}.sql").read_text(encoding="utf-8"))
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {schema}")
        connection.execute("pragma journal_mode = wal")
    return path


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def content(path: Path, shape: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables and columns that a store of an older schema, `shape`, has."""
    held = {}
    for (table,) in rows(shape, "select name from sqlite_schema where type = 'table' order by name"):
        columns = ", ".join(
            f'"{name}"' for (name,) in rows(shape, f"select name from pragma_table_info('{table}')")
        )
        held[str(table)] = rows(path, f'select {columns} from "{table}" order by {columns}')
    return held


def version(path: Path) -> int:
    ((number,),) = rows(path, "pragma user_version")
    assert isinstance(number, int)
    return number


@pytest.fixture
def later_sql(tmp_path: Path) -> Path:
    """The SQL of a kbetl to come, with one more migration."""
    folder = tmp_path / "sql"
    shutil.copytree(resources.SQL, folder)
    (folder / "migrations" / f"00{LATER}_later.sql").write_text(LATER_MIGRATION)
    (folder / "views" / "split_leaks.sql").write_text(
        "-- changed\ncreate view split_leaks as\nselect 1 as one;\n"
    )
    return folder
