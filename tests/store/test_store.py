"""The store file: how it is made, opened, and refused untouched."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fill_disk import Filling

from kbetl.cli import run
from kbetl.errors import Busy, ConfigError, Interrupted, StoreError
from kbetl.resources import sql, sql_names
from kbetl.store import Store, task_lock
from kbetl.store.connection import APPLICATION_ID, PAGE_SIZE_BYTES
from kbetl.store.migrations import latest_schema, statements


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one sample, closed, all in its one file."""
    path = tmp_path / "kbetl.db"
    with Filling(path) as store:
        store.rollout("A", 0.9)
    return path


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"pragma {name}").fetchone()[0]


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and the time of its last change."""
    return {entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in folder.iterdir()}


# how it is made


def test_a_new_store_is_as_promised(tmp_path):
    path = tmp_path / "new.db"
    with Store.open(path) as store:
        assert pragma(store.connection, "journal_mode") == "wal"
        assert pragma(store.connection, "synchronous") == 2
        assert pragma(store.connection, "page_size") == PAGE_SIZE_BYTES == 16384
        assert pragma(store.connection, "foreign_keys") == 1
        assert pragma(store.connection, "application_id") == APPLICATION_ID
        assert pragma(store.connection, "user_version") == latest_schema()
        tables = store.connection.execute("select name, strict from pragma_table_list where type = 'table'")
        loose = [name for name, strict in tables if not strict and not name.startswith("sqlite_")]
        assert loose == []
        assert store.changed_views() == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.db"]


def test_an_open_store_stays_as_promised(path):
    """Also the second time, and for a second connection."""
    with Store.open(path) as store, store.another() as another:
        for connection in (store.connection, another.connection):
            assert pragma(connection, "synchronous") == 2
            assert pragma(connection, "foreign_keys") == 1
            assert pragma(connection, "journal_mode") == "wal"


def test_opening_again_writes_nothing(path):
    before = state(path.parent)
    Store.open(path).close()
    assert state(path.parent) == before


def test_a_copy_that_is_not_in_wal_is_put_back(path):
    """`vacuum into` writes a copy with a rollback journal, in which a reader would block the writer."""
    copy = path.with_name("copy.db")
    with sqlite3.connect(path) as connection:
        connection.execute("vacuum into ?", [str(copy)])
    with sqlite3.connect(copy) as connection:
        assert pragma(connection, "journal_mode") == "delete"
    with Store.open(copy) as store:
        assert pragma(store.connection, "journal_mode") == "wal"


def test_an_empty_file_becomes_a_store(tmp_path):
    """As `mktemp` makes one."""
    path = tmp_path / "empty.db"
    path.touch()
    with Store.open(path) as store:
        assert store.setting("min_reward") == 0.85


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"the folder .*nowhere does not exist; make it first"):
        Store.open(tmp_path / "nowhere" / "kbetl.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["with blank.db", "per%20cent.db", "question?mode=memory.db", "hash#.db", "ü.db"]
)
def test_any_file_name_is_a_name(tmp_path, name):
    """It is never read as part of an address."""
    Store.open(tmp_path / name).close()
    Store.read(tmp_path / name).close()
    assert name in {entry.name for entry in tmp_path.iterdir()}


@pytest.mark.parametrize("steps", range(0, 60, 4))
def test_a_killed_creation_leaves_nothing_or_a_store(tmp_path, steps):
    """Killed after so many statements; the next command makes it whole."""
    path = tmp_path / "kbetl.db"
    code = f"""
        import os, sqlite3, signal
        from pathlib import Path
        from kbetl.store import Store
        import kbetl.store.migrations as migrations
        real = migrations.statements
        seen = 0
        def counted(script):
            global seen
            for statement in real(script):
                seen += 1
                if seen > {steps}:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield statement
        migrations.statements = counted
        Store.open(Path({str(path)!r})).close()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL)
    with Store.open(path) as store:
        assert store.setting("split_by") == "code"
        assert store.changed_views() == []
        assert pragma(store.connection, "integrity_check") == "ok"


def test_a_making_that_was_cut_short_is_taken_back_and_done_again(tmp_path, capfd):
    """Killed with half of its pages in the file: a reader says so, a writing command makes it whole."""
    path = tmp_path / "kbetl.db"
    code = """
        import os, signal, sqlite3, sys
        from kbetl.store.migrations import apply_migrations
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("pragma cache_size = 1")
        connection.execute("begin exclusive")
        apply_migrations(connection)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=False, timeout=60)
    assert path.stat().st_size > 0
    before = path.read_bytes()
    assert run(["status", "-d", str(path)]) == 1
    assert capfd.readouterr().err == (
        f"kbetl: no store at {path} yet: its making was cut short; `kbetl ingest` makes it whole\n"
    )
    assert path.read_bytes() == before
    with Store.open(path) as store:
        assert pragma(store.connection, "page_size") == PAGE_SIZE_BYTES
        assert pragma(store.connection, "integrity_check") == "ok"
        assert store.changed_views() == []


def test_two_processes_make_one_store(tmp_path):
    """Both at once: both succeed, and there is one schema."""
    code = "import sys; from pathlib import Path; from kbetl.store import Store; sys.stdin.read(1);"
    code += "store = Store.open(Path(sys.argv[1])); store.begin_run('ingest', {}); store.close()"
    path = tmp_path / "kbetl.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, b"")
    with Store.read(path) as store:
        assert store.connection.execute("select count(*) from runs").fetchone() == (4,)


# what is refused


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - PAGE_SIZE_BYTES)


def broken_page(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        page = connection.execute("select rootpage from sqlite_schema where name = 'samples'").fetchone()[0]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE_BYTES)
        file.write(os.urandom(200))


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute("pragma user_version = 99")
    connection.close()


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("create table samples (hash)")
    connection.close()


DAMAGE = {
    "random bytes": (lambda path: path.write_bytes(b"\x07" * 4096), "not a kbetl store"),
    "text": (lambda path: path.write_text("hello\n"), "not a kbetl store"),
    "header alone": (lambda path: path.write_bytes(path.read_bytes()[:100]), "is damaged"),
    "shorter than a header": (lambda path: path.write_bytes(path.read_bytes()[:50]), "not a kbetl store"),
    "another program's": (foreign, "database of another program"),
    "newer schema": (newer, "has schema 99; this kbetl knows up to"),
    "cut": (cut, "is damaged"),
    "broken page": (broken_page, "is damaged"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("command", [["use", "--min-reward", "0.5"], ["query", "select * from samples"]])
def test_what_is_no_store_is_refused_untouched(path, capfd, damage, words, command):
    """One line, exit 1; bytes and times as before, no file beside it."""
    damage(path)
    before = state(path.parent)
    assert run([*command, "-d", str(path)]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    after = state(path.parent)
    if command[0] == "query" and damage is broken_page:
        # a reader of a WAL database keeps the two files; nothing is in them
        after = {name: held for name, held in after.items() if name == path.name}
    assert after == before


def test_a_folder_is_refused(tmp_path, capfd):
    assert run(["query", "select 1", "-d", str(tmp_path)]) == 1
    assert "is a folder" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["query", "select 1"], ["status"], ["check"], ["use", "difficulty"]])
def test_reading_makes_nothing(tmp_path, monkeypatch, capfd, arguments):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 1
    assert capfd.readouterr().err == (
        "kbetl: no store at kbetl.db; `kbetl ingest` makes one, or name another with -d\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_write(path):
    with Store.read(path) as store, pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.connection.execute("delete from samples")


# views


def test_a_changed_view_is_made_anew_by_a_writer(path):
    with sqlite3.connect(path) as plain:
        plain.execute("drop view costs")
        plain.execute("create view costs as select 1 as wrong")
        plain.execute("drop view filtered")
    plain.close()
    with Store.read(path, checks_views=False) as store:
        assert store.changed_views() == ["costs", "filtered"]
    with Store.open(path) as store:
        assert store.changed_views() == []
        assert store.connection.execute("select count(*) from filtered").fetchone() == (0,)


def test_views_that_are_the_users_own_stay(path):
    with sqlite3.connect(path) as plain:
        plain.execute("create view mine as select 1 as one")
    plain.close()
    with Store.open(path) as store:
        assert store.connection.execute("select one from mine").fetchone() == (1,)


# statements and transactions


def test_statements_splits_where_sqlite_would():
    script = (
        "-- a; comment\ncreate table a (b text default ';');\n\ninsert into a values ('x;\ny');\n-- end\n"
    )
    assert [statement.strip() for statement in statements(script)] == [
        "-- a; comment\ncreate table a (b text default ';');",
        "insert into a values ('x;\ny');",
    ]


@pytest.mark.parametrize("name", sql_names("migrations"))
def test_statements_loses_nothing_of_a_migration(name):
    text = sql(f"migrations/{name}")
    assert "".join(statements(text)) == text


def test_a_transaction_is_all_or_nothing(path):
    with Store.open(path) as store:

        def fail() -> None:
            with store.transaction():
                store.execute("store/change_setting", {"key": "min_reward", "value": 0.1})
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert store.setting("min_reward") == 0.85
        assert not store.connection.in_transaction


def test_an_unknown_setting_is_named(path):
    with (
        Store.open(path) as store,
        pytest.raises(ConfigError, match="no setting 'max_reward'; there are min_reward"),
    ):
        store.setting("max_reward")


def test_runs_are_kept(path):
    with Store.open(path) as store:
        run_id = store.begin_run("enrich", {"limit": 5}, task="difficulty")
        begun = store.last_run("difficulty")
        store.end_run(run_id, 3, {"asked": 2}, cost_usd=0.5)
        ended = store.last_run("difficulty")
        assert store.last_run("prompts") is None
    assert begun is not None
    assert ended is not None
    assert (begun.id, begun.options, begun.status, begun.ended_at, begun.pid) == (
        run_id,
        {"limit": 5},
        None,
        None,
        os.getpid(),
    )
    assert (ended.status, ended.ended_at is not None) == (3, True)


def test_one_process_pays_per_task(path):
    """Another task may; the same one may after the first ended, however it ended."""
    code = "import sys; from pathlib import Path; from kbetl.store import task_lock\n"
    code += "with task_lock(Path(sys.argv[1]), 'difficulty'): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(Busy, match="another process is asking about difficulty"),
        task_lock(path, "difficulty"),
    ):
        pass
    with task_lock(path, "prompts"):
        pass
    holder.kill()
    holder.communicate(timeout=60)
    with task_lock(path, "difficulty"):
        pass


# runs

NEWEST_RUN = "select command, status, counts, ended_at is not null from runs order by id desc limit 1"


def end_a_run(store, error, before=lambda: None):
    """A run that has read three rows when it ends so."""
    counts = {}
    with store.run("ingest", {}, counts=lambda: counts):
        counts["read"] = 3
        before()
        raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (Interrupted("terminated", 143), 143),
        (ConfigError("wrong"), 2),
        (StoreError("full"), 1),
        (ValueError("ours"), 1),
    ],
)
def test_a_run_records_what_ended_it(path, error, status):
    """With what had been counted by then; the exception goes on."""
    with Store.open(path) as store:
        with pytest.raises(type(error)) as raised:
            end_a_run(store, error)
        assert raised.value is error
        assert store.connection.execute(NEWEST_RUN).fetchall() == [("ingest", status, '{"read": 3}', 1)]


def test_what_ended_a_run_is_told_also_where_its_end_cannot_be_kept(path):
    """The store takes no more: the first reason counts, not that the end was not recorded."""
    with Store.open(path) as store:
        with pytest.raises(ConfigError, match="the first reason"):
            end_a_run(
                store,
                ConfigError("the first reason"),
                before=lambda: store.connection.execute("pragma query_only = on"),
            )
        assert store.connection.execute(NEWEST_RUN).fetchall() == [("ingest", None, None, 0)]
