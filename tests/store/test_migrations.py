"""Stores of released schemas: how they are refused, migrated, backed up, and left whole on the way."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import clean_environment
from old_stores import LATER, MIGRATES, RELEASED, content, later_sql, old_store, rows, version

from kbetl import resources
from kbetl.cli import run
from kbetl.errors import StoreError
from kbetl.store import Store, task_lock
from kbetl.store.connection import empty_in_memory
from kbetl.store.migrations import latest_schema, statements

__all__ = ["later_sql"]

KILLED_WITHIN_STATEMENTS = """
import os, signal, sys
from pathlib import Path
from kbetl import resources
from kbetl.store import Store, migrations
resources.SQL = Path(sys.argv[2])
real, left = migrations.statements, int(sys.argv[3])
def counted(script):
    global left
    for statement in real(script):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        yield statement
migrations.statements = counted
Store.open(Path(sys.argv[1])).close()
"""


def schema_text(path: Path) -> list[tuple[object, ...]]:
    """Everything that is defined: tables, indexes, views."""
    return rows(path, "select type, name, tbl_name, sql from sqlite_schema order by type, name")


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if not entry.name.endswith(("-lock", "-wal", "-shm"))}


@pytest.fixture
def later(later_sql: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process is a kbetl to come."""
    monkeypatch.setattr(resources, "SQL", later_sql)
    resources.sql.cache_clear()
    yield later_sql
    resources.sql.cache_clear()


# from each released schema


@pytest.mark.parametrize("schema", RELEASED)
def test_a_migrated_store_equals_a_fresh_one(tmp_path, capfd, schema):
    """Tables, indexes, views and settings; every row as it was, every hash as its content says."""
    path, before = old_store(tmp_path / "kbetl.db", schema), old_store(tmp_path / "before.db", schema)
    fresh = tmp_path / "fresh.db"
    Store.open(fresh).close()
    assert run(["batch", "status", "--offline", "-d", str(path)]) == 0
    capfd.readouterr()
    assert version(path) == latest_schema() == version(fresh)
    made_of_tasks = ("task_difficulty", "task_prompts", "selectable")
    assert [each for each in schema_text(path) if each[1] not in made_of_tasks] == [
        each for each in schema_text(fresh) if each[1] != "selectable"
    ]
    assert rows(path, "select count(*) from selectable where prompts is not null") == rows(
        path, "select count(*) from task_prompts"
    )
    assert content(path, before) == content(before, before)
    assert run(["check", "-d", str(path)]) == 0, capfd.readouterr().out
    for name in resources.sql_names("views"):
        rows(path, f'select count(*) from "{name}"')
    keys = "select key from settings order by key"
    assert rows(path, keys) == rows(fresh, keys)


def test_a_task_whose_name_is_a_column_keeps_it_without_a_view(tmp_path, capfd):
    """Older versions let every name pass; its labels are in `labels` as all others are."""
    path = old_store(tmp_path / "kbetl.db", 2)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update tasks set name = 'reward' where name = 'prompts'")
    assert run(["batch", "status", "--offline", "-d", str(path)]) == 0
    assert rows(path, "select distinct name, label_name from tasks order by name") == [
        ("difficulty", "difficulty"),
        ("reward", None),
    ]
    assert rows(path, "select name from sqlite_schema where name glob 'task_*' and type = 'view'") == [
        ("task_difficulty",)
    ]
    assert rows(path, "select count(*) > 0 from labels where task = 'reward'") == [(1,)]
    assert run(["query", "select reward from selectable limit 1", "-d", str(path)]) == 0


@pytest.mark.parametrize("schema", RELEASED)
def test_a_store_of_an_old_schema_holds_what_its_kbetl_filled_it_with(tmp_path, schema):
    """So that the tests here are about something."""
    path = old_store(tmp_path / "kbetl.db", schema)
    for table in ("samples", "rejected_rows", "scores", "answers", "lengths", "known_lines"):
        assert rows(path, f"select count(*) > 0 from {table}") == [(1,)]
    statuses = rows(path, "select distinct status from outcomes order by status")
    assert statuses == [("failed",), ("ok",), ("refused",), ("unparsed",)]
    assert rows(path, "pragma integrity_check") == [("ok",)]


def test_a_store_of_the_first_schema_can_be_made_of_the_first_migration_alone(tmp_path):
    """The file in `stores/` and the released migration agree."""
    made = tmp_path / "made.db"
    with contextlib.closing(sqlite3.connect(made)) as connection:
        connection.executescript(resources.sql("migrations/0001_initial"))
    tables = "select name, sql from sqlite_schema where type <> 'view' and sql is not null order by name"
    assert rows(made, tables) == rows(old_store(tmp_path / "kbetl.db", 1), tables)


# one step further


@pytest.mark.parametrize("arguments", [["query", "select 1"], ["status"], ["check"], ["dedupe"]])
def test_a_reader_of_an_older_store_says_what_migrates_it(tmp_path, later, capfd, arguments):
    """And that command does, and changes nothing else."""
    path = old_store(tmp_path / "my store.db")
    before = path.read_bytes()
    assert run([*arguments, "-d", str(path)]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        f"kbetl: store {path} has schema 1; this kbetl reads {LATER}. Any writing command migrates it after "
        f"a backup; this one asks nothing: kbetl batch status --offline -d '{path}'\n"
    )
    assert path.read_bytes() == before
    runs = rows(path, "select count(*) from runs")
    assert run(["batch", "status", "--offline", "-d", str(path)]) == 0
    assert run([*arguments, "-d", str(path)]) in (0, 3)
    assert rows(path, "select count(*) from runs") == runs


def test_the_backup_is_the_store_as_it_was_and_is_named(tmp_path, later, caplog):
    path, before = old_store(tmp_path / "kbetl.db"), old_store(tmp_path / "before.db")
    Store.open(path).close()
    backup = tmp_path / "kbetl.db.schema1.backup"
    assert [record.getMessage() for record in caplog.records] == [
        f"store {path}: schema 1 is {LATER} now; as it was: {backup}"
    ]
    assert (version(path), version(backup)) == (LATER, 1)
    assert schema_text(backup) == schema_text(before)
    assert content(backup, before) == content(before, before)
    assert rows(path, "select count(*) from later") == rows(before, "select count(*) from runs")
    assert rows(path, "select one from split_leaks") == [(1,)]


def test_an_earlier_backup_is_never_overwritten(tmp_path, later):
    """As after a restored copy was migrated again."""
    first, second = tmp_path / "kbetl.db.schema1.backup", tmp_path / "kbetl.db.2.schema1.backup"
    first.write_bytes(b"mine")
    Store.open(old_store(tmp_path / "kbetl.db")).close()
    assert first.read_bytes() == b"mine"
    assert version(second) == 1


def test_no_backup_no_migration(tmp_path, later_sql):
    """No room for it: exit 1, one line, nothing left beside the store, and the store as it was."""
    path = old_store(tmp_path / "kbetl.db")
    before = path.read_bytes()
    limited = (
        "import resource, sys; from pathlib import Path; from kbetl import resources\n"
        "resources.SQL = Path(sys.argv.pop(1)); size = 200_000\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "from kbetl.cli import main; main()"
    )
    done = python(limited, later_sql, "use", "--min-reward", "0.5", "-d", path)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"kbetl: store {path} has schema 1 and was left untouched: a backup cannot be written beside it ("
    )
    assert path.read_bytes() == before
    assert names(tmp_path) == {"kbetl.db", "sql"}


def test_a_migration_that_fails_changes_nothing(tmp_path, later):
    """A statement that the store does not take rolls everything back."""
    with (later / "migrations" / f"00{LATER}_later.sql").open("a") as file:
        file.write("insert into later (id, name) values (1, null);\n")
    path, before = old_store(tmp_path / "kbetl.db"), old_store(tmp_path / "before.db")
    with pytest.raises(StoreError, match="NOT NULL constraint failed"):
        Store.open(path)
    assert version(path) == 1
    assert schema_text(path) == schema_text(before)
    assert content(path, before) == content(before, before)


@pytest.mark.parametrize("killed_after", [0, 1, 3, 4, "the last"])
def test_a_killed_migration_leaves_the_old_store_or_the_new(tmp_path, later_sql, killed_after):
    """And the next writing command makes it the new one."""
    path, before = old_store(tmp_path / "kbetl.db"), old_store(tmp_path / "before.db")
    limit = 10_000 if killed_after == "the last" else killed_after
    done = python(KILLED_WITHIN_STATEMENTS, path, later_sql, limit)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert version(path) == (1 if done.returncode else LATER)
    assert content(path, before) == content(before, before)
    if done.returncode:
        assert schema_text(path) == schema_text(before)
    again = python(KILLED_WITHIN_STATEMENTS, path, later_sql, 10_000)
    assert again.returncode == 0, again.stderr
    assert version(path) == LATER
    assert content(path, before) == content(before, before)
    assert rows(path, "pragma integrity_check") == [("ok",)]
    assert not [name for name in names(tmp_path) if name.endswith(".partial")]


CHECKS_CHANGE = {
    "before the text of the checks changes": "pragma writable_schema = on",
    "when one of two is changed": "'check (about in",
    "before the schema is read anew": "pragma writable_schema = reset",
    "before another table is made": "create table field_maps",
    "at the end": None,
}
"""Statements of the migration before which the process is killed."""


@pytest.mark.parametrize("when", CHECKS_CHANGE)
def test_a_store_killed_while_its_checks_change_is_the_old_or_the_new(tmp_path, when):
    """The checks of large tables change in their text alone; rows of the third kind are taken after it."""
    mark, found = CHECKS_CHANGE[when], list(statements(resources.sql("migrations/0003_served_models")))
    number = next((n for n, each in enumerate(found) if mark is not None and mark in each), len(found))
    path, before = old_store(tmp_path / "kbetl.db", 2), old_store(tmp_path / "before.db", 2)
    done = python(KILLED_WITHIN_STATEMENTS, path, resources.SQL, number)
    assert version(path) == (latest_schema() if mark is None else 2), done.stderr
    if mark is not None:
        assert schema_text(path) == schema_text(before)
        assert content(path, before) == content(before, before)
    Store.open(path).close()
    fresh = tmp_path / "fresh.db"
    Store.open(fresh).close()
    tables, wanted = ([each for each in schema_text(of) if each[0] != "view"] for of in (path, fresh))
    assert tables == wanted
    assert rows(path, "pragma integrity_check") == [("ok",)]
    assert content(path, before) == content(before, before)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        kinds = "insert into samples (hash, kind, code_point, name_point, row) values (?, ?, 0, 0, '{}')"
        connection.execute(kinds, (f"s1:{'0' * 64}", "record"))
        with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
            connection.execute(kinds, (f"s1:{'1' * 64}", "thing"))


def test_two_processes_migrate_one_store_once(tmp_path, later_sql):
    """Both go on afterwards; there is one backup."""
    path = old_store(tmp_path / "kbetl.db")
    runs = len(rows(path, "select id from runs"))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATES, str(path), str(later_sql)],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = ""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said += err
    assert said.count("as it was") == 1
    assert names(tmp_path) == {"kbetl.db", "kbetl.db.schema1.backup", "sql"}
    assert len(rows(path, "select id from runs")) == runs + 3


def test_a_store_that_an_older_kbetl_pays_into_is_not_migrated(tmp_path, later_sql):
    """Exit 1, and it says to wait; the run goes on unharmed, and afterwards it is migrated."""
    path = old_store(tmp_path / "kbetl.db")
    command = "from pathlib import Path; import sys; from kbetl import resources\n"
    command += "resources.SQL = Path(sys.argv.pop(1)); from kbetl.cli import main; main()"
    use = ["use", "--min-reward", "0.5", "-d", path]
    with task_lock(path, "difficulty"):
        done = python(command, later_sql, *use)
        assert (done.returncode, done.stderr) == (
            1,
            f"kbetl: store {path} has an older schema, and an older kbetl is paying into it; "
            "let that run end, then run this again\n",
        )
        assert version(path) == 1
        assert names(tmp_path) == {"kbetl.db", "sql"}
    done = python(command, later_sql, *use)
    assert done.returncode == 0, done.stderr
    assert version(path) == LATER


def test_an_older_kbetl_that_writes_on_beside_a_migration_loses_nothing(tmp_path, later):
    """An ingest of before has no lock: its connection is open while the schema changes under it."""
    path = old_store(tmp_path / "kbetl.db")
    statement = (
        "insert into runs (command, options, started_at, pid, task, task_hash, kbetl_version)"
        " values ('ingest', '{}', 't', 1, null, null, 'old')"
    )
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as older:
        older.execute(statement)
        Store.open(path).close()
        older.execute(statement)
    assert version(path) == LATER
    assert rows(path, "select host from runs where kbetl_version = 'old'") == [("here",), (None,)]


def test_a_newer_store_is_refused_untouched(tmp_path, later, monkeypatch, capfd):
    """Also by commands that write."""
    path = old_store(tmp_path / "kbetl.db")
    Store.open(path).close()
    before = path.read_bytes()
    monkeypatch.undo()
    capfd.readouterr()
    for arguments in (["status"], ["use", "--min-reward", "0.5"], ["enrich", "--dry-run"]):
        assert run([*arguments, "-d", str(path)]) == 1
        assert capfd.readouterr().err == (
            f"kbetl: store {path} has schema {LATER}; this kbetl knows up to {latest_schema()}. "
            "Upgrade kbetl, or open an older copy\n"
        )
    assert path.read_bytes() == before


def test_locks_of_names_are_in_the_range_that_a_migration_keeps_free(tmp_path):
    """Else it would not see who pays."""
    path = tmp_path / "kbetl.db"
    for name in ("difficulty", "prompts", "style", "ü"):
        code = "import fcntl, sys; file = open(sys.argv[1], 'r+')\n"
        code += "try: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 2**48, 0)\nexcept OSError: sys.exit(7)"
        with task_lock(path, name):
            assert python(code, f"{path}-lock").returncode == 7


@pytest.mark.parametrize("command", [["status"], ["query", "select * from source_counts"], ["dedupe"]])
def test_a_reader_that_meets_older_views_says_what_remakes_them(tmp_path, run, command):
    """The store's schema is today's, one of its views is not: what it says could be wrong without a word."""
    (tmp_path / "rows.jsonl").write_text('{"module_name": "A", "python_code": "x = 1"}\n')
    assert run("ingest", "rows.jsonl").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "kbetl.db")) as connection:
        columns = [row[1] for row in connection.execute("pragma table_info(source_counts)")]
        connection.execute("drop view source_counts")
        empty = ", ".join(f"null as {column}" for column in columns)
        connection.execute(f"create view source_counts as select {empty} where 0")
    before = run(*command)
    assert (before.returncode, before.stdout) == (1, "")
    assert before.stderr == (
        "kbetl: store kbetl.db: 1 of its views, source_counts first, are of another kbetl. "
        "Any writing command remakes them; this one asks nothing: kbetl batch status --offline -d kbetl.db\n"
    )
    assert run("check").returncode == 1
    assert run("batch", "status", "--offline").returncode == 0
    assert run("status").returncode == 0


OUTCOME = (
    "insert into outcomes"
    " (sample_hash, task_hash, attempt, status, parser_version, decided_at, reason, value)"
    " select hash, ?, 0, ?, 'v', '2026-01-01', iif(?2 = 'ok', null, 'why'), iif(?2 = 'ok', 'low', null)"
    " from samples where kind = 'rollout' order by hash limit 1"
)
TASK = (
    "insert into tasks (hash, name, about, model, parameters, in_use, reader, created_at, run_id, template)"
    " values (?, ?, 'rollout', 'm', '{}', ?, '{}', ?, 1, 'x')"
)
MIGRATED = {
    "a failed one gives way to the first that has labels": ([(1, "failed"), (0, "ok"), (0, "ok")], 1),
    "an unread one alone is in use no more": ([(1, "unparsed")], None),
    "one never asked gives way": ([(0, "ok"), (1, None)], 0),
    "one with labels stays, though another is older": ([(0, "ok"), (1, "ok")], 1),
    "where none is in use the first with labels is": ([(0, "refused"), (0, "ok")], 1),
}
"""Tasks of one name, the oldest first: whether in use, the status of an outcome; which is in use after."""


@pytest.mark.parametrize("name", MIGRATED)
def test_a_migration_puts_right_what_is_in_use(tmp_path, name):
    tasks, expected = MIGRATED[name]
    path = tmp_path / "kbetl.db"
    hashes = [f"t1:{number:064x}" for number in range(len(tasks))]
    old_store(path, 2)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for number, (is_used, status) in enumerate(tasks):
            connection.execute(TASK, (hashes[number], "named", is_used, f"2026-01-0{number + 1}"))
            if status is not None:
                connection.execute(OUTCOME, (hashes[number], status))
    with Store.open(path) as store:
        found = store.connection.execute(
            "select hash from tasks where in_use = 1 and name = 'named'"
        ).fetchall()
    assert found == ([] if expected is None else [(hashes[expected],)])


def test_a_migration_keeps_lengths_of_one_tokenizer_once(tmp_path):
    """Under its first name, whichever of its names a sample was measured by; other templates stay."""
    path = old_store(tmp_path / "kbetl.db", 2)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from lengths")
        samples = [row[0] for row in connection.execute("select hash from samples order by hash limit 2")]
        for tokenizer, template, sample in (
            ("b", "l1:x", samples[0]),
            ("a", "l1:x", samples[0]),
            ("b", "l1:x", samples[1]),
            ("b", "l1:y", samples[1]),
        ):
            connection.execute(
                "insert into lengths (sample_hash, tokenizer, template_hash, prompt_tokens,"
                " completion_tokens, total_tokens) values (?, ?, ?, 1, 1, 2)",
                (sample, tokenizer, template),
            )
    with Store.open(path) as store:
        found = store.connection.execute(
            "select tokenizer, template_hash, sample_hash from lengths order by template_hash, sample_hash"
        ).fetchall()
    assert found == [("a", "l1:x", samples[0]), ("a", "l1:x", samples[1]), ("b", "l1:y", samples[1])]


def test_a_migration_of_lengths_grows_with_their_number():
    """Two tokenizers of other templates: twice the rows are no more than twice the steps of SQLite."""
    steps = []
    for number in (500, 1000):
        with contextlib.closing(empty_in_memory()) as connection:
            connection.executemany(
                "insert into lengths (sample_hash, tokenizer, template_hash, refusal) values (?, ?, ?, 'no')",
                [(f"s{row}", name, name) for row in range(number) for name in ("a", "b")],
            )
            counted: list[int] = []
            connection.set_progress_handler(lambda counted=counted: counted.append(1), 100)
            for statement in statements(resources.sql("migrations/0003_served_models")):
                if "from lengths" in statement:
                    connection.execute(statement)
            connection.set_progress_handler(None, 0)
            steps.append(len(counted))
    assert steps[1] < 2.2 * steps[0]
