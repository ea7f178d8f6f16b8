"""The command line's frame: help, exit statuses, configuration, signals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest
from conftest import clean_environment
from fill_disk import Filling
from readme_blocks import LEAVES

import kbetl
from kbetl.cli import cli, run
from kbetl.cli.commands import COMMANDS

HEAVY = (
    "pandas",
    "datasets",
    "transformers",
    "aiohttp",
    "sqlite_utils",
    "pyarrow",
    "numpy",
    "rich",
    "tenacity",
    "huggingface_hub",
    "tokenizers",
    "jsonschema",
    "tabulate",
)
NAMES = [command.name or "" for command in COMMANDS]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean working folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("KBETL_DATABASE", "TEST_MODE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


# help


HELPS = [["--help"], ["-h"], ["--version"], *([*names, "-h"] for names in LEAVES)]
PRINTS_HELPS = f"""
import contextlib, io, json, sys
from kbetl.cli import run
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = run(arguments)
    said = "kbetl" in out.getvalue()
    print(json.dumps([arguments, status, said, err.getvalue(), sorted(set({HEAVY}) & set(sys.modules))]))
"""


def test_help_is_instant():
    """None of the heavy libraries is imported to print it; each of the helps, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PRINTS_HELPS, json.dumps(HELPS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert printed == [[arguments, 0, True, "", []] for arguments in HELPS]


def test_the_start_loads_no_part_that_only_some_commands_need():
    """Each command waits for what stands at the top of the modules that all of them load."""
    code = "import sys, kbetl.cli; print(*{name.split('.')[1] for name in sys.modules if 'kbetl.' in name})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    parts = set(done.stdout.split())
    assert not parts & {
        "store",
        "records",
        "samples",
        "export",
        "hub",
        "client",
        "inference",
        "readers",
        "rollouts",
        "tasks",
        "offline",
    }


@pytest.mark.parametrize("name", [*NAMES, *(" ".join(names) for names in LEAVES if len(names) > 1)])
def test_every_command_shows_an_example(name, capfd):
    assert run([*name.split(), "-h"]) == 0
    out = capfd.readouterr().out
    block = out.partition("Examples:\n")[2].partition("\n\n")[0]
    assert re.search(rf"(^|\| ){'kbetl ' + name}\b|\bkbetl {name}\b", block), (
        f"kbetl {name} -h shows no example"
    )


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_every_command_has_the_common_options(names):
    command = cli
    for name in names:
        command = command.commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"-d", "--database", "-q", "-v"} <= options


def test_the_version(capfd):
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == f"kbetl, version {kbetl.__version__}\n"


def test_help_names_every_command(capfd):
    assert run(["--help"]) == 0
    out = capfd.readouterr().out
    listed = re.findall(r"^  (\w[\w-]*)  ", out.partition("Commands:\n")[2], re.MULTILINE)
    assert sorted(listed) == sorted(NAMES)
    assert "Exit status" in out


# exit statuses


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["frobnicate"], 2, "No such command"),
        (["query"], 2, "Missing argument"),
        (["query", "select 1", "--what"], 2, "No such option"),
        (["query", "select 1"], 1, "no store at kbetl.db"),
        (["query", "select 1", "-d"], 2, "requires an argument"),
        (["contamination", "-d", "other.db", "review"], 2, "-d stands before review"),
        (
            ["contamination", "--against", "b.jsonl", "verdict", "a", "same"],
            2,
            "--against stands before verdict",
        ),
        (["contamination", "review", "-n", str(2**63)], 2, f"{2**63} is larger than"),
        (["tasks", "-q", "show", "difficulty"], 2, "-q stands before show"),
    ],
)
def test_errors_are_lines_and_statuses(capfd, arguments, status, words):
    assert run(arguments) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def _given(parameter: click.Parameter, last: str) -> list[str]:
    """The words that give a parameter a value."""
    option = [parameter.opts[0]] if isinstance(parameter, click.Option) else []
    return [*option, *["x"] * (parameter.nargs - 1), last]


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_text_that_is_no_unicode_is_one_line_before_anything_is_done(names, capfd, folder):
    """Every option and argument but numbers, choices and what names a file."""
    command = cli
    for name in names:
        command = command.commands[name]
    for parameter in command.params:
        is_text = parameter.type.name in ("text", "<text text>") and parameter.type is not click.UNPROCESSED
        if not is_text or getattr(parameter, "is_flag", False):
            continue
        words = [*names]
        for other in command.params:
            words += _given(other, "x") if other.required and other is not parameter else []
        words += _given(parameter, "x\udcff")
        assert run(words) == 2, words
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1), (words, err)
        assert err.endswith(" is not Unicode text: 'x\\udcff'\n")
    assert list(folder.iterdir()) == []


CODE = "class A(nn.Module):\n    def forward(self, x):\n        return x + 1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest", "rows.jsonl"],
        ["enrich", "-m", "offline"],
        ["reparse"],
        ["show"],
        ["status"],
        ["export", "evals", "-o", "x.jsonl"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_reader_that_is_gone_changes_no_status(folder, arguments):
    """What was done stands; who reads the counts, or the first line of them, is no matter of the command."""
    rows = [{"module_name": "A", "python_code": CODE, "completion": "x", "reward": 1}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(["ingest", "rows.jsonl", "-q"]) == 0
    assert run(["enrich", "-m", "offline", "-q"]) == 0
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "kbetl", *arguments, "-q"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_one_line(folder):
    Filling(folder / "kbetl.db").store.close()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kbetl", "query", "select 1"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    """Only what a user can cause becomes one line."""
    code = """
        import sys
        import kbetl.status
        def broken(database):
            raise ZeroDivisionError("ours")
        kbetl.status.read_status = broken
        from kbetl.cli import main
        main(["status"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: ours" in done.stderr


# configuration: options, environment, .env, kbetl.toml, defaults


def store_with(name: str, samples: int) -> None:
    with Filling(Path(name)) as store:
        for number in range(samples):
            store.rollout(f"M{number}", 1.0)


def count(capfd: pytest.CaptureFixture[str], *arguments: str) -> int:
    assert run(["query", "select count(*) from samples", "-r", *arguments]) == 0
    return int(capfd.readouterr().out)


def test_what_weighs_more_wins(capfd, monkeypatch):
    """Five stores, told apart by their size; each way of naming one beats the next."""
    for number, name in enumerate(["kbetl.db", "toml.db", "dotenv.db", "environment.db", "option.db"]):
        store_with(name, number)
    assert count(capfd) == 0
    Path("kbetl.toml").write_text('database = "toml.db"\n', encoding="utf-8")
    assert count(capfd) == 1
    Path(".env").write_text("KBETL_DATABASE=dotenv.db\n", encoding="utf-8")
    monkeypatch.setenv("KBETL_DATABASE", "")
    monkeypatch.delenv("KBETL_DATABASE")
    assert count(capfd) == 2
    monkeypatch.setenv("KBETL_DATABASE", "environment.db")
    assert count(capfd) == 3
    assert count(capfd, "-d", "option.db") == 4


def test_a_table_holds_options_of_a_command(capfd):
    store_with("kbetl.db", 0)
    Path("kbetl.toml").write_text('[query]\nform = "nl"\n', encoding="utf-8")
    assert run(["query", "select 1 as a"]) == 0
    assert capfd.readouterr().out == '{"a": 1}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[query", "kbetl.toml:1: it cannot be read"),
        ("colour = 1", "unknown key 'colour'"),
        ("[query]\ncolour = 1", "[query] has no option 'colour'"),
        ("[frobnicate]", "unknown key 'frobnicate'"),
        ("database = 5", "database = 5: it must be text in quotes"),
        ("[query.param]", "[query] param: it is a table, not a value"),
        ('[enrich]\nconcurrency = "many"', "[enrich] concurrency = 'many': it must be a whole number"),
        ("[enrich]\nconcurrency = true", "[enrich] concurrency = true: it must be a whole number"),
        ("[enrich]\nconcurrency = 0", "[enrich] concurrency = 0: 0 is not in the range x>=1"),
        ('[enrich]\nmin-reward = "0.9"', "[enrich] min-reward = '0.9': it must be a number"),
        ("[enrich]\nmodel = 5", "[enrich] model = 5: it must be text in quotes"),
        ('[enrich]\ndry-run = "yes"', "[enrich] dry-run = 'yes': it must be true or false"),
        ('[enrich]\nsource = "evals"', "[enrich] source = 'evals': it must be a list, as [...]"),
        ('[enrich]\noption = ["n", "1"]', "[enrich] option = ['n', '1']: each must be a list of 2"),
        ('[ingest]\nsources = "a.jsonl"', "[ingest] sources = 'a.jsonl': it must be a list, as [...]"),
        ('[lengths]\ndataset = "best"', "[lengths] dataset = 'best': 'best' is not one of"),
        ('[query]\nform = "xml"', "[query] form = 'xml': it must be one of 'nl', 'csv'"),
        ("[query]\ncsv = 1", "[query] csv = 1: it must be true, or be left out"),
        ('[export]\nsource = ["a"]\nsources = ["b"]', "the same option stands above by another name"),
        ('[export]\noutput = "x.jsonl"', "[export] output = 'x.jsonl': a path is for one dataset"),
        ('[export]\nsql = "select 1"', "[export] sql = 'select 1': a query is for one file"),
        ('[export]\ndataset = "unique"', "say what `kbetl run` exports with datasets = [...]"),
        ('[export]\ndatasets = ["all"]', "[export] datasets = ['all']: it must be a list of some of"),
        ('[export.unique]\nformat = "chat"', "[export.unique] format = 'chat': 'chat' is not one of"),
        ('[export.best]\nformat = "rows"', "[export] has no option 'best'"),
    ],
)
def test_a_wrong_kbetl_toml_is_named(capfd, text, words):
    """By every command, also one that would not use it; an option is named once."""
    Path("kbetl.toml").write_text(text, encoding="utf-8")
    assert run(["query", "select 1"]) == 2
    err = capfd.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert re.match(r"kbetl: kbetl\.toml:\d+: ", err), err


BROKEN = {
    "kbetl.toml": (
        "[query]\nform = 'nl'\n\n[enrich]\nconcurrency = 0\n",
        "kbetl.toml:5: [enrich] concurrency",
    ),
    "kbetl.toml, not TOML": ("[query]\n\nform = \n", "kbetl.toml:3: it cannot be read"),
    "kbetl.toml, cut": ('[query]\nform = "nl', "kbetl.toml:2: it cannot be read"),
    "kbetl.toml, an unknown table": ("database = 'a.db'\n[frobnicate]\n", "kbetl.toml:2: unknown key"),
    "kbetl.toml, a price": ('[prices."m"]\nprompt = 1\n', "kbetl.toml"),
    ".env": ("A=1\n\nfoo bar\n", ".env:3: it cannot be read"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_configuration_takes_no_help_away(capfd, what):
    """Help, version and init work; a command that needs it names file and line."""
    text, place = BROKEN[what]
    name = what.partition(",")[0]
    Path(name).write_text(text, encoding="utf-8")
    for words in (["--help"], ["-h"], ["--version"], ["query", "--help"], ["synth", "run", "-h"], ["synth"]):
        assert run(words) in (0, 2)
        out, err = capfd.readouterr()
        assert place not in err
        assert "kbetl" in out + err
    assert run(["init"]) == 0
    capfd.readouterr()
    assert run(["query", "select 1"]) == 2
    assert capfd.readouterr().err.startswith(f"kbetl: {place}")


@pytest.mark.parametrize("name", ["kbetl.toml", ".env"])
def test_a_configuration_with_a_byte_order_mark_is_read_and_utf16_is_named(capfd, name):
    store_with("kbetl.db", 0)
    text = '[query]\nform = "nl"\n' if name == "kbetl.toml" else "A=1\n"
    Path(name).write_text(text, encoding="utf-8-sig")
    assert run(["query", "select 1 as a"]) == 0
    Path(name).write_text(text, encoding="utf-16")
    assert run(["query", "select 1 as a"]) == 2
    assert f"{name}:1: it is not UTF-8 text" in capfd.readouterr().err


def test_an_unknown_option_is_answered_with_each_option_once(capfd):
    Path("kbetl.toml").write_text("[export]\ncolour = 1\n", encoding="utf-8")
    assert run(["query", "select 1"]) == 2
    names = capfd.readouterr().err.partition("it knows ")[2].strip().split(", ")
    assert len(names) == len(set(names)) > 5
    assert {"format", "no-reasoning", "all-sources"} <= set(names)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("A=1\n\nfoo bar\n", 3),
        ("A=1\nB=b\0c\n", 2),
        ("A=1\nPRIME_API_KEY\n", 2),
        ('A=1\n# no end\nKEY="abc\n', 3),
    ],
)
def test_a_line_of_dotenv_that_cannot_be_read_is_named(capfd, text, number):
    """By its number alone: it may hold a key."""
    Path(".env").write_text(text, encoding="utf-8")
    assert run(["query", "select 1"]) == 2
    assert capfd.readouterr().err == f"kbetl: .env:{number}: it cannot be read; a line is NAME=value\n"


def test_verbose_says_which_files_and_store_and_what_it_took(capfd, monkeypatch):
    """On stderr alone."""
    store_with("kbetl.db", 1)
    monkeypatch.setenv("TEST_MODE", "true")
    Path(".env").write_text("TEST_MODE=true\n", encoding="utf-8")
    assert run(["query", "-v", "select 1 as a"]) == 0
    out, err = capfd.readouterr()
    assert out == '[{"a": 1}]\n'
    lines = err.splitlines()
    assert lines[0].startswith(f"kbetl: kbetl {kbetl.__version__}, Python ")
    assert lines[1] == "kbetl: configuration: .env; TEST_MODE on"
    assert lines[2].startswith(f"kbetl: store {Path('kbetl.db').resolve()}: ")
    assert re.fullmatch(r"kbetl: query took [\d.]+ s, [\d.]+ s of CPU", lines[3])


@pytest.mark.parametrize(
    ("closed", "status"), [("query 'select 1' >&-", 0), ("ingest - <&-", 1), ("query 'select x' 2>&-", 1)]
)
def test_a_closed_stream_is_the_null_device(tmp_path, closed, status):
    """Neither a traceback, nor a store that gets the number of the stream."""
    (tmp_path / "rows.jsonl").write_text('{"module_name": "A", "python_code": "x = 1"}\n')
    kbetl = f"{sys.executable} -m kbetl"
    done = subprocess.run(
        ["sh", "-c", f"{kbetl} ingest rows.jsonl >&2 && {kbetl} {closed}"],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_interrupt_while_the_program_loads_is_no_traceback(tmp_path):
    """Nothing has begun by then: exit status 130, and no word."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    environment = clean_environment(HOME=str(tmp_path))
    environment["PYTHONPATH"] = f"{tmp_path}:{environment['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "kbetl", "status"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
