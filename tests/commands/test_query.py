"""`kbetl query`: any question, no change."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kbetl.cli import run
from kbetl.query import number_or_text
from kbetl.store import Store, read_only_connection, read_only_query

ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select {} from c"


@pytest.fixture
def store_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with five samples, the working folder around it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "kbetl.db"
    with Store.open(path) as store, store.transaction():
        for number in range(5):
            store.connection.execute(
                "insert into samples (hash, kind, module_name, code_point, name_point, reward, row)"
                " values (?, 'rollout', ?, 0, 0, ?, ?)",
                (f"s1:{number:064d}", f"Module{number}", number / 4, f'{{"reward":{number / 4}}}'),
            )
    return path


def output(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> bytes:
    """What `kbetl query` writes to stdout; it must succeed and say nothing else."""
    status = run(["query", *arguments])
    out, err = capfdbinary.readouterr()
    assert (status, err) == (0, b"")
    return out


def error(capfd: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """The one line on stderr of a `kbetl query` that fails with `status` and writes nothing."""
    assert run(["query", *arguments]) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_rows_are_a_json_list(store_path, capfdbinary):
    """One row per line, keys in the order of the columns."""
    text = output(capfdbinary, "select reward, module_name from samples order by hash limit 2")
    assert (
        text == b'[{"reward": 0.0, "module_name": "Module0"},\n {"reward": 0.25, "module_name": "Module1"}]\n'
    )


def test_no_rows_is_an_empty_list(store_path, capfdbinary):
    assert output(capfdbinary, "select hash from samples where 0") == b"[]\n"
    assert output(capfdbinary, "select hash from samples where 0", "--nl") == b""
    assert output(capfdbinary, "select hash from samples where 0", "--csv") == b"hash\r\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--nl"], b'{"a": 1, "b": "x,y"}\n{"a": null, "b": "\\""}\n'),
        (["--arrays"], b'[[1, "x,y"],\n [null, "\\""]]\n'),
        (["--nl", "--arrays"], b'[1, "x,y"]\n[null, "\\""]\n'),
        (["--csv"], b'a,b\r\n1,"x,y"\r\n,""""\r\n'),
        (["--csv", "--no-headers"], b'1,"x,y"\r\n,""""\r\n'),
        (["--tsv"], b'a\tb\r\n1\tx,y\r\n\t""""\r\n'),
        (["-t"], b'  a  b\n---  ---\n  1  x,y\n     "\n'),
        (["--fmt", "pipe"], b'|   a | b   |\n|----:|:----|\n|   1 | x,y |\n|     | "   |\n'),
        (["-r"], b"1"),
    ],
)
def test_each_form(store_path, capfdbinary, options, expected):
    sql = "select 1 as a, 'x,y' as b union all select null, '\"'"
    assert output(capfdbinary, sql, *options) == expected


def test_values_that_json_lacks_are_kept(store_path, capfdbinary):
    """BLOBs and broken UTF-8 as base64, infinity as SQLite spells it, NUL and big integers whole."""
    sql = (
        "select x'00ff' as b, cast(x'ff' as text) as t, 9e999 as i, 'a' || char(0) || 'b' as n,"
        " 9223372036854775807 as m"
    )
    text = output(capfdbinary, sql, "--nl").decode()
    row = json.loads(text)
    assert row["b"] == {"$base64": True, "encoded": base64.b64encode(b"\x00\xff").decode()}
    assert row["t"] == {"$base64": True, "encoded": base64.b64encode(b"\xff").decode()}
    assert row["n"] == "a\x00b"
    assert '"i": 9e999' in text
    assert '"m": 9223372036854775807' in text


def test_equal_column_names_are_numbered(store_path, capfdbinary):
    text = output(capfdbinary, "select 1 as id, 2 as id, 3 as id_2, 4 as id", "--nl")
    assert text == b'{"id": 1, "id_3": 2, "id_2": 3, "id_4": 4}\n'


def test_json_columns_are_nested_as_they_stand(store_path, capfdbinary):
    """Numbers keep their spelling; text that only looks like JSON stays text."""
    sql = (
        """select '{"a": 1.00,' || char(10) || ' "b": 123456789012345678901234}' as j,"""
        """ '[x' as k, '[NaN]' as l"""
    )
    text = output(capfdbinary, sql, "--nl", "--json-cols")
    assert text == b'{"j": {"a": 1.00,  "b": 123456789012345678901234}, "k": "[x", "l": "[NaN]"}\n'


def test_control_characters_never_reach_the_terminal(store_path, capfdbinary):
    sql = "select 'a' || char(27) || '[31m' || char(155) || char(8238) || char(10) || char(9) || 'é' as x"
    for options in (["--nl"], ["-t"], []):
        text = output(capfdbinary, sql, *options).decode()
        assert not [c for c in text if not c.isprintable() and c != "\n"], options
        assert "é" in text


def test_csv_holds_no_formula_and_numbers_stay_numbers(store_path, capfdbinary):
    sql = (
        "select column1 as \"=h\" from (values ('=1+1'), ('+cmd'), ('-cmd'), ('@x'), (char(9) || 'x'),"
        " (char(13) || 'x'), ('-0.5'), ('+3e-2'), (-3), ('a=b'), (x'3d'))"
    )
    cells = [
        row[0] for row in csv.reader(io.StringIO(output(capfdbinary, sql, "--csv").decode(), newline=""))
    ]
    assert cells == [
        "'=h",
        "'=1+1",
        "'+cmd",
        "'-cmd",
        "'@x",
        "'\tx",
        "'\rx",
        "-0.5",
        "+3e-2",
        "-3",
        "a=b",
        '{"$base64": true, "encoded": "PQ=="}',
    ]


def test_a_table_shows_text_as_it_is(store_path, capfdbinary):
    """Text that looks like a number is not one, and leading blanks are kept."""
    assert output(capfdbinary, "select '007' as a, '  x' as b, 0.10 as c", "-t", "--no-headers").splitlines()[
        1
    ] == (b"007    x  0.1")


def test_parameters_are_numbers_where_they_are_spelled_so(store_path, capfdbinary):
    """As text, 0.4 would be above every computed number."""
    sql = "select count(*) as n from rollouts where reward > :min"
    assert output(capfdbinary, sql, "-p", "min", "0.4", "--nl") == b'{"n": 3}\n'
    assert (
        output(capfdbinary, "select typeof(:a) as t, :a as v", "-p", "a", "007", "--nl")
        == b'{"t": "text", "v": "007"}\n'
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0.90", 0.9),
        ("1e-3", 0.001),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("1e999", "1e999"),
        ("", ""),
        (" 5", " 5"),
        ("5\n", "5\n"),
        ("+5", "+5"),
        ("05", "05"),
        ("nan", "nan"),
        ("٣", "٣"),
    ],
)
def test_number_or_text(text, value):
    assert number_or_text(text) == value
    assert type(number_or_text(text)) is type(value)


def test_sql_comes_from_stdin(store_path, tmp_path):
    done = kbetl("query", "-", "--nl", input=b"select 'a' || :b as c", parameters=["-p", "b", "z"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"c": "az"}\n', b"")


@pytest.mark.parametrize(
    "sql",
    [
        "attach 'new.db' as other",
        "attach ':memory:' as other",
        "vacuum into 'new.db'",
        "vacuum",
        "pragma user_version = 7",
        "pragma journal_mode = delete",
        "pragma writable_schema = on",
        "pragma query_only = off",
        "select load_extension('x')",
        "create temp table t (a)",
        "create table t (a)",
        "create view temp.v as select 1",
        "insert into settings (key, value) values ('a', 1)",
        "update settings set value = 0.1",
        "delete from samples",
        "drop table samples",
        "begin",
        "savepoint a",
        "analyze",
        "reindex",
        "replace into settings (key, value) values ('min_reward', 0)",
        "with x as (select 1) delete from samples returning hash",
        "select 1; delete from samples",
        "create virtual table t using fts5(a)",
        "select * from pragma_user_version",
        "detach main",
    ],
)
def test_nothing_can_be_written(store_path, capfd, sql):
    """The store stays byte for byte what it was, and no file is made."""
    before = store_path.read_bytes()
    error(capfd, 1, sql)
    assert store_path.read_bytes() == before
    assert {path.name for path in store_path.parent.iterdir()} <= {"kbetl.db", "kbetl.db-wal", "kbetl.db-shm"}


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("selec 1", 'near "selec": syntax error'),
        ("select colour from samples", "no such column: colour"),
        ("select * from sampels", "no such table: sampels"),
        ("select 'open", "unrecognized token"),
        ('select * from "two\nlines"', "no such table: two lines"),
        ("select :x", "parameter :x"),
        ("select ?", "no name"),
        ("select abs(-9223372036854775807 - 1)", "integer overflow"),
        ("select json_extract('{', '$')", "malformed JSON"),
        ("delete from samples", "can only read"),
    ],
)
def test_an_sql_error_is_one_line_in_sqlites_words(store_path, capfd, sql, words):
    assert words in error(capfd, 1, sql)


@pytest.mark.parametrize("sql", ["", "  \n", "-- only words", ";"])
def test_empty_sql_is_wrong_usage(store_path, capfd, sql):
    assert "no SQL statement" in error(capfd, 2, "--", sql)


@pytest.mark.parametrize(
    "options", [["--csv", "--arrays"], ["--no-headers"], ["-t", "--json-cols"], ["--nl", "--fmt", "grid"]]
)
def test_an_option_that_would_do_nothing_is_wrong_usage(store_path, capfd, options):
    assert run(["query", "select 1", *options]) == 2
    assert "does nothing" in capfd.readouterr().err


def test_a_missing_store_is_not_made(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no store at other.db" in error(capfd, 1, "select 1", "-d", "other.db")
    assert list(tmp_path.iterdir()) == []


def test_json_functions_work_after_the_schema_changed(store_path):
    """A writer that remakes a view must not shut a reader out of json_each."""
    connection = read_only_connection(store_path)
    with sqlite3.connect(store_path) as other:
        other.execute("create view another as select 1")
    assert connection.execute("select value from json_each('[1,2]')").fetchall() == [(1,), (2,)]
    assert connection.execute("select count(*) from rollouts where completion is null").fetchone() == (5,)
    connection.close()


def test_reading_goes_on_while_another_writes(store_path, capfdbinary):
    """A writer in the middle of its transaction is not seen, and does not stop the reader."""
    writer = sqlite3.connect(store_path, isolation_level=None)
    writer.execute("begin immediate")
    writer.execute("delete from samples")
    assert output(capfdbinary, "select count(*) as n from samples", "--nl") == b'{"n": 5}\n'
    writer.execute("rollback")
    writer.close()


def kbetl(
    *arguments: str, parameters: list[str] | None = None, **options
) -> subprocess.CompletedProcess[bytes]:
    """`kbetl` in a process of its own."""
    command = [sys.executable, "-m", "kbetl", *arguments, *(parameters or [])]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_runaway_query_at_once(store_path, number, status):
    """Also where SQLite never gives a row back; the signal comes from inside the query's process."""
    code = f"""
        import os, sys, threading
        import kbetl.store.user_sql as user_sql
        from kbetl.cli import run
        calls = []
        real = user_sql._go_on
        def go_on():
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), {int(number)})
            return real()
        user_sql._go_on = go_on
        sys.exit(run(["query", "{ENDLESS.format("max(x)")}"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False, timeout=120
    )
    assert done.returncode == status
    assert done.stdout == b""
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_signal_in_a_guarded_query_raises_what_its_handler_raises(store_path):
    """`sqlite3` alone would say `interrupted` and forget who asked."""

    def alarm(_number, _frame):
        raise TimeoutError("enough")

    def go_on() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    def ask() -> None:
        with read_only_query(store_path) as connection:
            connection.set_progress_handler(go_on, 1000)
            connection.execute(ENDLESS.format("max(x)")).fetchall()

    before = signal.signal(signal.SIGTERM, alarm)
    try:
        with pytest.raises(TimeoutError, match="enough"):
            ask()
        assert signal.getsignal(signal.SIGTERM) is alarm
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("form", ["--nl", "--csv"])
def test_a_reader_that_leaves_is_no_error(store_path, form):
    """As in `kbetl query ... | head -1`."""
    command = [sys.executable, "-m", "kbetl", "query", ENDLESS.format("x"), form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(120) == 0


@pytest.mark.parametrize("form", ["--nl", "--csv", "--tsv", "--arrays"])
def test_memory_does_not_grow_with_rows(store_path, form):
    """150 MB of rows need less than 30 MB more than one row does."""
    peaks = []
    for rows in (1, 1500):
        sql = f"{ENDLESS.format('hex(zeroblob(50000)) as t')} limit {rows}"
        code = f"""
            import os, resource, sys
            from kbetl.cli import run
            status = run(["query", {sql!r}, {form!r}])
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
            timeout=120,
        )
        peaks.append(int(done.stderr))
    assert peaks[1] - peaks[0] < 30_000


def test_a_broken_page_is_the_stores_fault(store_path, capfd):
    """The message names the store and says what to do."""
    with sqlite3.connect(store_path, isolation_level=None) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        page = connection.execute("select rootpage from sqlite_schema where name = 'samples'").fetchone()[0]
    connection.close()
    with store_path.open("r+b") as file:
        file.seek((page - 1) * 16384)
        file.write(b"\xff" * 16384)
    assert "is damaged" in error(capfd, 1, "select row from samples")
