"""Files as they should not be: each fault is named where it stands, and nothing good is lost."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from conftest import Run, clean_environment
from hostile_case import CSV, GOOD, lines, module, seen, write_parquet

BAD_LINES = {
    "a cut line": (b'{"module_name": "A", "python_co', "not JSON: Unterminated string"),
    "bytes that are no UTF-8": (b'{"module_name": "\xff"}', "invalid UTF-8: byte 0xff at offset 17"),
    "a NUL byte": (b'{"module_name": "\x00"}', "not JSON: Invalid control character at column 18"),
    "only NUL bytes": (b"\x00" * 100, "not JSON: Expecting value at column 1"),
    "a key twice": (b'{"a": 1, "b": 2, "a": 3}', 'the key "a" stands twice in one object'),
    "a key twice below": (b'{"a": [{"b": 1, "b": 1}]}', 'the key "b" stands twice in one object'),
    "a lone surrogate": (
        b'{"module_name": "A", "python_code": "\\ud800"}',
        "a lone surrogate at $.python_code: not Unicode text",
    ),
    "nesting without end": (b"[" * 100_000, "it nests deeper than 250 levels"),
    "nesting past what can be written": (
        b'{"python_code": ' + b"[" * 300 + b"]" * 300 + b"}",
        "it nests deeper than 250 levels",
    ),
    "an integer of 5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "a number that cannot be read"),
    "no object": (b'["module_name", "python_code"]', "the row is a list, not an object with fields"),
    "a number alone": (b"12", "the row is a number, not an object with fields"),
    "null": (b"null", "the row is null, not an object with fields"),
    "two objects": (GOOD.encode() * 2, "not JSON: Extra data"),
    "an empty object": (b"{}", "an object without fields"),
    "code that is null": (
        b'{"module_name": "A", "python_code": null}',
        "a module without code: field 'python_code' is null",
    ),
    "code that is blank": (
        b'{"module_name": "A", "python_code": " \\n"}',
        "a module without code: field 'python_code' is blank",
    ),
    "code that is a number": (
        b'{"module_name": "A", "python_code": 1}',
        "field 'python_code' is a number, not text",
    ),
    "code with a blank name": (b'{"module_name": "", "python_code": "a"}', "a module without a name"),
    "a reward that is text": (
        b'{"completion": "a", "reward": "high"}',
        "field 'reward' is text \"high\", not a number",
    ),
    "a reward that is a boolean": (b'{"completion": "a", "reward": true}', "field 'reward' is a boolean"),
    "a reward beyond a double": (b'{"completion": "a", "reward": ' + b"9" * 400 + b"}", "beyond a double"),
    "a prompt that is a number": (b'{"completion": "a", "prompt": 1}', "field 'prompt' is a number"),
    "a completion that is an object": (b'{"completion": {"role": "x"}}', "field 'completion' is an object"),
    "a message that is a number": (
        b'{"completion": [1]}',
        "field 'completion[0]' is a number, not a message",
    ),
    "content that is a number": (
        b'{"completion": [{"role": "assistant", "content": 1}]}',
        "message content is a number",
    ),
    "info that is a list": (b'{"completion": "a", "info": []}', "field 'info' is a list, not an object"),
    "info that nests without end": (
        b'{"completion": "a", "info": "' + b"[" * 100_000 + b'"}',
        "field 'info' is text that is not JSON",
    ),
    "a name that is a number": (
        b'{"completion": "a", "info": {"module_name": 1}}',
        "field 'module_name' is a number, not text",
    ),
    "a verifiers episode": (b'{"traces": [], "id": "a"}', "a verifiers trace, not an evals row"),
    "a verifiers trace": (b'{"nodes": [], "task": {}}', "a verifiers trace, not an evals row"),
    "a line of a batch": (b'{"custom_id": "a", "response": {}}', "a line of a batch file"),
}


@pytest.mark.parametrize("what", BAD_LINES)
def test_bad_line_is_named_and_the_others_are_kept(run: Run, tmp_path: Path, what: str) -> None:
    line, reason = BAD_LINES[what]
    tmp_path.joinpath("rows.jsonl").write_bytes(
        b"\n".join([lines(module("A")).encode().strip(), line, lines(module("B")).encode()])
    )

    result = run("ingest", "rows.jsonl")

    assert result.returncode == 3
    assert result.stdout == "rows.jsonl: read 3, new 2, known 0, rejected 1 (modules 2)\n"
    assert result.stderr.startswith("rows.jsonl:2: ")
    assert result.stderr.count("\n") == 1
    assert reason in result.stderr
    names, rejected = seen(tmp_path)
    assert names == ["A", "B"]
    assert rejected == [("rows.jsonl:2", result.stderr.removeprefix("rows.jsonl:2: ").rstrip("\n"))]


def test_names_of_a_record_do_nothing_to_a_terminal(run: Run, tmp_path: Path) -> None:
    tmp_path.joinpath("rows.jsonl").write_bytes(b'{"\\u001b[31m": 1}\n')
    result = run("ingest", "rows.jsonl")
    assert (result.returncode, result.stderr) == (0, "rows.jsonl: 1 record has the fields \\x1b[31m\n")


GOOD_LINES = {
    "blanks around it": b"  \t" + GOOD.encode() + b" \r",
    "a depth of 200": GOOD.encode()[:-1] + b', "deep": ' + b"[" * 199 + b"]" * 199 + b"}",
    "an integer beyond 64 bit": GOOD.encode()[:-1] + b', "big": 123456789012345678901234567890}',
    "a NUL character": GOOD.encode()[:-1] + b', "nul": "\\u0000"}',
    "an escape code": GOOD.encode()[:-1] + b', "\\u001b[31m": "\\u001b]0;x\\u0007"}',
    "a pair of surrogates": GOOD.encode()[:-1] + b', "face": "\\ud83d\\ude00"}',
    "text that looks like keys": GOOD.encode()[:-1] + b', "t": "\\"a\\": 1, \\"a\\": 2", "colon": ": \\\\"}',
    "a key that ends with a backslash": GOOD.encode()[:-1] + b', "a\\\\": 1, "b\\"": 2}',
    "a rollout without a reward": b'{"completion": []}',
}


@pytest.mark.parametrize("what", GOOD_LINES)
def test_odd_line_is_kept_as_it_is(run: Run, tmp_path: Path, what: str) -> None:
    tmp_path.joinpath("rows.jsonl").write_bytes(GOOD_LINES[what] + b"\n")

    result = run("ingest", "rows.jsonl")

    told = "rows.jsonl: 1 new rollout has no reward\n" if what == "a rollout without a reward" else ""
    assert (result.returncode, result.stderr) == (0, told)
    with sqlite3.connect(tmp_path / "kbetl.db") as store:
        ((row, is_json),) = store.execute("select row, json_valid(row) from samples")
    assert row.encode() == GOOD_LINES[what].rstrip(b"\r")
    assert is_json


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
def test_number_that_is_not_finite_becomes_null_and_is_named(run: Run, tmp_path: Path, token: str) -> None:
    tmp_path.joinpath("rows.jsonl").write_text(
        f'{{"completion": "is NaN, \\"Infinity\\"", "reward": {token}, "metrics": {{"a b": [1, {token}]}}}}\n'
    )

    assert run("ingest", "rows.jsonl").returncode == 0

    with sqlite3.connect(tmp_path / "kbetl.db") as store:
        ((row, reward, paths),) = store.execute("select row, reward, nonfinite from samples")
    assert row == '{"completion": "is NaN, \\"Infinity\\"", "reward": null, "metrics": {"a b": [1, null]}}'
    assert reward is None
    assert json.loads(paths) == ["$.reward", '$.metrics."a b"[1]']


def test_byte_order_mark_and_windows_line_ends_change_nothing(run: Run, tmp_path: Path) -> None:
    rows = lines(module("A"), module("B"))
    tmp_path.joinpath("unix.jsonl").write_text(rows)
    tmp_path.joinpath("windows.jsonl").write_bytes(b"\xef\xbb\xbf" + rows.replace("\n", "\r\n").encode())

    result = run("ingest", "unix.jsonl", "windows.jsonl")

    assert result.stdout.splitlines()[1] == "windows.jsonl: read 2, new 0, known 2, rejected 0 (modules 2)"


def test_blank_lines_are_no_rows_and_count_as_lines(run: Run, tmp_path: Path) -> None:
    tmp_path.joinpath("rows.jsonl").write_text(f"\n  \n{GOOD}\n\r\n\t\n{{}}\n\n")

    result = run("ingest", "rows.jsonl")

    assert result.stdout.startswith("rows.jsonl: read 2, new 1, known 0, rejected 1")
    assert result.stderr.startswith("rows.jsonl:6: ")


def test_line_of_50_mb_is_a_row_like_any_other(run: Run, tmp_path: Path) -> None:
    long = {"completion": "é\n" * 6_250_000, "info": {"module_name": "Long"}}
    tmp_path.joinpath("rows.jsonl").write_text(lines(module("A"), long, module("B")))

    result = run("ingest", "rows.jsonl")

    assert result.stdout == "rows.jsonl: read 3, new 3, known 0, rejected 0 (modules 2, rollouts 1)\n"
    with sqlite3.connect(tmp_path / "kbetl.db") as store:
        assert store.execute("select max(length(row)) from samples").fetchone()[0] == len(json.dumps(long))


def test_many_rejected_rows_are_shown_in_part_and_kept_in_full(run: Run, tmp_path: Path) -> None:
    tmp_path.joinpath("rows.jsonl").write_text("{}\n" * 25 + GOOD)

    result = run("ingest", "rows.jsonl")

    shown = result.stderr.splitlines()
    ((line),) = shown
    assert line.startswith("25 rows: an object without fields")
    assert line.endswith("(rows.jsonl:1, rows.jsonl:2, rows.jsonl:3 and 22 more)")
    assert [location for location, _ in seen(tmp_path).rejected] == [f"rows.jsonl:{n}" for n in range(1, 26)]


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.jsonl", b""), ("rows.jsonl", b"\n \n"), ("rows.json", b"[]"), ("rows.csv", b"a,b\n")],
)
def test_file_without_rows_is_an_error_and_leaves_the_source(
    run: Run, tmp_path: Path, name: str, content: bytes
) -> None:
    tmp_path.joinpath("before.jsonl").write_text(GOOD)
    run("ingest", "before.jsonl", "--as", name)
    tmp_path.joinpath(name).write_bytes(content)

    result = run("ingest", name)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"kbetl: {name} holds no rows\n"
    assert seen(tmp_path).names == ["Good"]


def packed(name: str, content: bytes) -> bytes:
    return gzip.compress(content) if name.endswith(".gz") else zstandard.compress(content)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
def test_compressed_file_that_is_cut_gives_the_rows_before_the_cut(
    run: Run, tmp_path: Path, name: str
) -> None:
    rows = [{**module(f"M{n}"), "noise": os.urandom(3000).hex()} for n in range(300)]
    whole = packed(name, lines(*rows).encode())
    tmp_path.joinpath(name).write_bytes(whole[: len(whole) // 2])

    result = run("ingest", name)

    assert result.returncode == 3
    names, rejected = seen(tmp_path)
    assert 20 < len(names) < 280
    assert names == [f"M{n}" for n in range(len(names))]
    ((location, reason),) = rejected
    assert location == f"{name}:{len(names) + 1}"
    assert "is cut" in reason


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
def test_cut_in_the_end_mark_alone_loses_no_row(run: Run, tmp_path: Path, name: str) -> None:
    content = lines(module("A"), module("B")).encode()
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(content)
    whole = gzip.compress(content) if name.endswith(".gz") else checked
    tmp_path.joinpath(name).write_bytes(whole[:-3])

    result = run("ingest", name)

    assert result.stdout == f"{name}: read 3, new 2, known 0, rejected 1 (modules 2)\n"
    assert result.stderr.startswith(f"{name}:3: ")


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst", "rows.csv.gz", "rows.json.zst"])
@pytest.mark.parametrize("kept_bytes", [4, 12])
def test_compressed_file_of_which_nothing_is_left_is_an_error(
    run: Run, tmp_path: Path, name: str, kept_bytes: int
) -> None:
    tmp_path.joinpath(name).write_bytes(packed(name, lines(module("A")).encode())[:kept_bytes])

    result = run("ingest", name)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"kbetl: {name}")
    assert "nothing could be read" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
def test_damaged_compressed_data_is_named(run: Run, tmp_path: Path, name: str) -> None:
    rows = [{**module(f"M{n}"), "noise": os.urandom(3000).hex()} for n in range(300)]
    whole = bytearray(packed(name, lines(*rows).encode()))
    whole[len(whole) // 2 : len(whole) // 2 + 400] = bytes(400)
    tmp_path.joinpath(name).write_bytes(whole)

    result = run("ingest", name)

    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    assert seen(tmp_path).names[:10] == [f"M{n}" for n in range(10)]
    assert "damaged" in seen(tmp_path).rejected[-1][1]


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
def test_compressed_files_put_together_are_read_to_the_end(run: Run, tmp_path: Path, name: str) -> None:
    tmp_path.joinpath(name).write_bytes(
        b"".join(packed(name, lines(module(f"M{n}")).encode()) for n in range(5))
    )

    assert run("ingest", name).stdout == f"{name}: read 5, new 5, known 0, rejected 0 (modules 5)\n"


def test_compression_is_known_by_content_not_by_name(run: Run, tmp_path: Path) -> None:
    tmp_path.joinpath("packed.jsonl").write_bytes(gzip.compress(GOOD.encode()))
    tmp_path.joinpath("plain.jsonl.gz").write_text(GOOD)

    result = run("ingest", "packed.jsonl", "plain.jsonl.gz")

    assert result.returncode == 0
    assert seen(tmp_path).names == ["Good", "Good"]


def test_fifo_is_read_as_a_stream(run: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(
        [sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", pipe, GOOD]
    )

    result = run("ingest", "pipe")

    writer.wait(30)
    assert result.stdout == "pipe: read 1, new 1, known 0, rejected 0 (modules 1)\n"


def test_folder_is_read_file_by_file_and_says_what_it_leaves_aside(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    (folder / "b").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    folder.joinpath("c.jsonl").write_text(lines(module("C")))
    folder.joinpath("a.json").write_text(json.dumps([module("A1"), module("A2")]))
    folder.joinpath("b", "b.csv").write_text(f"{CSV}B,b,1\n")
    write_parquet(folder / "d.parquet", [module("D")])
    folder.joinpath(".hidden", "x.jsonl").write_text(lines(module("Hidden")))
    folder.joinpath("README.md").write_text("# Rows")
    folder.joinpath("metadata.json").write_text('{"env_id": "kernelbook", "model": "m"}')
    os.mkfifo(folder / "pipe.jsonl")
    folder.joinpath("loop").symlink_to(folder)

    result = run("ingest", "rows")

    assert result.returncode == 0
    assert result.stdout == "rows: read 5, new 5, known 0, rejected 0 (modules 5)\n"
    assert seen(tmp_path).names == ["A1", "A2", "B", "C", "D"]
    kinds = ".jsonl, .json, .csv, .parquet and .arrow, also with .gz or .zst"
    assert result.stderr.splitlines() == [
        "rows/loop: skipped, a link to a folder",
        f"rows/README.md: skipped, not one of {kinds}",
        "rows/metadata.json: skipped, one object without the fields of a row",
        "rows/pipe.jsonl: skipped, a folder, pipe or device",
    ]


def test_file_of_a_folder_that_cannot_be_read_is_one_rejected_row(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    folder.joinpath("a.jsonl").symlink_to("gone.jsonl")
    folder.joinpath("b.jsonl").symlink_to("b.jsonl")
    folder.joinpath("c.parquet").write_bytes(b"PAR1 cut")
    folder.joinpath("d.jsonl").write_text(GOOD)

    result = run("ingest", "rows")

    assert result.returncode == 3
    assert result.stdout == "rows: read 4, new 1, known 0, rejected 3 (modules 1)\n"
    found = seen(tmp_path)
    assert found.names == ["Good"]
    assert [location for location, _ in found.rejected] == [
        "rows/a.jsonl:1",
        "rows/b.jsonl:1",
        "rows/c.parquet:1",
    ]


UNREADABLE = {
    "gone.jsonl": "gone.jsonl: no such file or folder; a dataset on the Hub is named OWNER/NAME",
    "no/such/place": "no/such/place: no such file or folder",
    "data/gone.jsonl": "data/gone.jsonl: no such file or folder",
    "loop.jsonl": "loop.jsonl cannot be read: Too many levels of symbolic links",
    "broken.jsonl": "broken.jsonl is a link to nothing, which does not exist",
    "/dev/null": "/dev/null is a device or socket, not a file with rows",
    "notes.txt": "notes.txt: not a kind of file that holds rows; those are .jsonl, .json, .csv, .parquet",
    "empty": "folder empty holds no file with rows",
}


@pytest.mark.parametrize("source", UNREADABLE)
def test_source_that_cannot_be_read_is_one_line_and_makes_no_store(
    run: Run, tmp_path: Path, source: str
) -> None:
    tmp_path.joinpath("loop.jsonl").symlink_to("loop.jsonl")
    tmp_path.joinpath("broken.jsonl").symlink_to("nothing")
    tmp_path.joinpath("notes.txt").write_text("hello")
    tmp_path.joinpath("empty").mkdir()

    result = run("ingest", source)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"kbetl: {UNREADABLE[source]}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "kbetl.db").exists()


def test_name_that_is_no_text_is_spelled_out(tmp_path: Path) -> None:
    name = b"r\xff\x1b[31m.jsonl"
    with open(os.fsencode(tmp_path) + b"/" + name, "w") as file:
        file.write("{}\n" + GOOD)

    result = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"kbetl", b"ingest", name],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path)),
        capture_output=True,
        check=False,
    )

    assert result.returncode == 3
    assert result.stdout.startswith(b"r\\xff\\x1b[31m.jsonl: read 2, new 1")
    assert result.stderr.startswith(b"r\\xff\\x1b[31m.jsonl:1: ")
