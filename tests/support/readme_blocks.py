"""Runs the blocks of README.md and of kbetl/docs/*.md, and writes those that the program itself says anew.

`python tests/support/readme_blocks.py [FILE...]` does it; a test compares the result with what is there. Each
file runs in a folder of its own, in its own order, with the shipped rows as `rollouts.jsonl`, a `tokenizer`
and `runs` of other tools in it. Every fenced block has a marker in the line above it:

    <!-- help: enrich -->             the help of a command
    <!-- run: kbetl status -->        a command line and its output
    <!-- run lines 1-3 7: kbetl x --> the same, with these lines of the output alone
    <!-- file: style.md -->           a file of this name, written into the folder
    <!-- shell -->                    command lines that must end with 0; what they print is not shown
    <!-- not run: WHY -->             what cannot be run here, and why
    <!-- test command -->             what .ci/run runs

and without a block:

    <!-- hidden: cp a b -->           a command line run there without being shown; it must end with 0
    <!-- tables -->, <!-- views -->   the schema, from `sql/`; plain Markdown up to <!-- end -->
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from fake_llm import LABELS, Asked, FakeLlm
from preloaded import run_preloaded

from kbetl.cli import cli
from kbetl.cli.commands import COMMANDS
from kbetl.resources import sql_names
from kbetl.tables import table_comments, view_comment

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "kbetl" / "docs").glob("*.md")))
SERVER = "http://127.0.0.1:8000/v1"
"""The address of a model server in the documents; their commands ask a local one in its place."""
_BLOCK = re.compile(
    r"(?P<hidden><!-- hidden: (?P<command>.*?) -->\n)"
    r"|(?P<marker><!-- (?P<kind>help|run|file|shell|not run)"
    r"(?: lines (?P<lines>[\d -]+))?(?:: (?P<argument>.*?))? -->\n)```[a-z]*\n(?P<body>.*?)^```\n"
    r"|(?P<schema><!-- (?P<part>tables|views) -->\n).*?(?=<!-- end -->)",
    re.DOTALL | re.MULTILINE,
)
_MARKER = re.compile(r"<!-- (help|run|run lines [\d -]+|file|not run): .+ -->|<!-- (shell|test command) -->")
_VARIES = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-11-22T10:00:00.000Z"),
    (r"\d+ pages", "44 pages"),
    (r"\d\.\d MB", "0.8 MB"),
)
"""What differs from run to run, or between versions of SQLite, and how it is shown."""
_QUOTED = re.compile(r"'[^']*'|\"[^\"$`\\]*\"")


def _leaves(command: click.Command) -> list[tuple[str, ...]]:
    """The command, or those below it, each with the groups before it."""
    if not isinstance(command, click.Group):
        return [(command.name or "",)]
    return [(command.name or "", *below) for each in command.commands.values() for below in _leaves(each)]


LEAVES = [names for command in COMMANDS for names in _leaves(command)]
"""Every command that does something, with its group before it."""


def rewritten(text: str) -> str:
    """The document with every such part as the program says it now.

    Raises AssertionError with the output if a block that must end with 0 does not.
    """
    with tempfile.TemporaryDirectory() as name, FakeLlm(content=_answer) as llm:
        folder = Path(name)
        _fill(folder)
        # what is run asks this server, what is shown names that of the document
        return _BLOCK.sub(lambda match: _part(match, folder, llm.url), text)


def failing_examples(names: str, demo: Path) -> list[str]:
    """The examples in the help of a command that end with another status than 0, each with its output.

    They run in their order, on a copy of a folder in which the demo ran. Those behind which stands
    `# needs WHAT` are not run.
    """
    block = help_text(names).partition("Examples:\n")[2].partition("\n\n")[0]
    examples = [line.strip() for line in block.splitlines() if "# needs " not in line]
    failing = []
    with tempfile.TemporaryDirectory() as name, FakeLlm(content=_answer) as llm:
        folder = Path(name)
        shutil.copytree(demo, folder, dirs_exist_ok=True)
        for example in examples:
            ended = _output(example, folder, llm.url)
            failing += [f"{example}\n{ended.stdout}"] * (ended.returncode != 0)
    return failing


def run_demo(folder: Path) -> None:
    """Fills a folder with what the examples of the helps find there: the demo's store and rows."""
    _fill(folder)
    _must_run("kbetl demo -d kbetl.db", folder, SERVER)


def unmarked(text: str) -> list[str]:
    """The first lines of the blocks that have no marker above them, so that nothing runs them."""
    lines = ["", *text.splitlines()]
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    return [
        "\n".join(lines[number : number + 2])
        for number in fences[::2]
        if not _MARKER.fullmatch(lines[number - 1])
    ]


def _fill(folder: Path) -> None:
    (folder / "bin").mkdir()
    for name, command in (("kbetl", f'{sys.executable}" -m kbetl'), ("python", f'{sys.executable}"')):
        launcher = folder / "bin" / name
        launcher.write_text(f'#!/bin/sh\nexec "{command} "$@"\n')
        launcher.chmod(0o755)
    (folder / "work").mkdir()
    shutil.copy(ROOT / "data" / "sample.jsonl", folder / "work" / "rollouts.jsonl")
    shutil.copytree(ROOT / "data" / "tokenizer", folder / "work" / "tokenizer")
    shutil.copytree(ROOT / "tests" / "data" / "rollouts", folder / "work" / "runs")


def _answer(asked: Asked) -> str:
    """The model server's answer: a label that the prompt offers, chosen by its text; else a kernel.

    One in eight answers in a task of the reader's own names no label, as answers of models do.
    """
    drawn = zlib.crc32(asked.prompt.encode())
    if "<difficulty>" in asked.prompt:
        return f"<difficulty>{LABELS[drawn % len(LABELS)]}</difficulty>"
    offered = [match[0] for match in re.finditer(r"<(\w+)>\w+</\1>", asked.prompt)]
    if offered:
        return offered[drawn % len(offered)] if drawn % 8 else "It depends on how it is used."
    return f"BEGIN_PYTHON\nimport triton  # answer {asked.index:02}\nEND_PYTHON"


def _part(match: re.Match[str], folder: Path, server: str) -> str:
    if match["schema"]:
        return match["schema"] + "\n" + "\n".join(tables() if match["part"] == "tables" else views()) + "\n\n"
    if match["hidden"]:
        _must_run(match["command"], folder, server)
        return match[0]
    if match["kind"] == "help":
        return f"{match['marker']}```text\n{help_text(match['argument'])}```\n"
    if match["kind"] == "run":
        output = _output(match["argument"], folder, server).stdout
        shown = _chosen(output, match["lines"]) if match["lines"] else output
        return f"{match['marker']}```console\n$ {match['argument']}\n{shown}```\n"
    if match["kind"] == "file":
        (folder / "work" / match["argument"]).write_text(match["body"], encoding="utf-8")
    if match["kind"] == "shell":
        _must_run(match["body"], folder, server)
    return match[0]


def help_text(names: str) -> str:
    """What `kbetl NAMES -h` prints, 80 columns wide."""
    context = click.Context(cli, info_name="kbetl", terminal_width=78, **cli.context_settings)
    command: click.Command = cli
    for name in names.split():
        assert isinstance(command, click.Group)
        below = command.get_command(context, name)
        assert below is not None, f"no command {names}"
        command, context = below, click.Context(below, info_name=name, parent=context)
    return command.get_help(context) + "\n"


def _chosen(output: str, numbers: str) -> str:
    """These lines of the output, counted from 1, with `...` for those between them."""
    lines, shown, last = output.splitlines(), [], 0
    for each in numbers.split():
        first, _, to = each.partition("-")
        shown += ["..."] * (int(first) > last + 1) + lines[int(first) - 1 : int(to or first)]
        last = int(to or first)
    return "\n".join([*shown, *["..."] * (last < len(lines))]) + "\n"


def _must_run(text: str, folder: Path, server: str) -> None:
    for command in _commands(text):
        ended = _output(command, folder, server)
        assert ended.returncode == 0, f"{command}\nended with {ended.returncode}:\n{ended.stdout}"


def _commands(text: str) -> list[str]:
    """The command lines of a block one by one, where each is one of kbetl; else the block as a script."""
    found, open_line = [], ""
    for line in text.splitlines(keepends=True):
        open_line += line
        with contextlib.suppress(ValueError):  # a quote that goes on in the next line
            if shlex.split(open_line, comments=True):
                found.append(open_line.strip())
            open_line = ""
    return found if not open_line and all(map(_is_plain, found)) else [text]


def _is_plain(command: str) -> bool:
    """Whether a command line of kbetl needs nothing of the shell but quotes and a comment."""
    bare = _QUOTED.sub("", command).partition(" #")[0]
    return command.startswith("kbetl ") and not set(bare) & set("\n$|;&<>*?`\\'\"")


def _output(command: str, folder: Path, server: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
    }
    ended = _run(command.replace(SERVER, server), folder / "work", environment)
    output = ended.stdout.replace("\r\n", "\n").replace(server, SERVER)
    for pattern, shown in _VARIES:
        output = re.sub(pattern, shown, output)
    ended.stdout = output if output.endswith("\n") or not output else output + "\n"
    return ended


def _run(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """By the shell; a plain command line of kbetl in a process that need not import everything first."""
    if _is_plain(command):
        arguments = shlex.split(command, comments=True)[1:]
        return run_preloaded(arguments, folder, environment, is_merged=True)
    return subprocess.run(
        ["sh", "-ec" if "\n" in command else "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def tables() -> Iterator[str]:
    """Every table of the migrations, column by column; those that a later one added are last."""
    for name, comments in table_comments().items():
        yield f"**`{name}`**\n"
        yield "| column | what it is |"
        yield "| --- | --- |"
        yield from (_cells(f"`{column}`", comment) for column, comment in comments.items())
        yield ""


def views() -> Iterator[str]:
    """Every view, with the comment that opens its file."""
    yield "| view | what it gives |"
    yield "| --- | --- |"
    yield from (_cells(f"`{name}`", view_comment(name)) for name in sql_names("views"))


def _cells(first: str, second: str) -> str:
    return "| " + first + " | " + second.replace("|", "\\|") + " |"


def main(names: list[str]) -> int:
    """Writes the named documents anew, or all; 1 if a block of one failed, which stays as it is."""
    documents = [Path(name) for name in names] or list(DOCUMENTS)
    status = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        texts = [pool.submit(rewritten, path.read_text(encoding="utf-8")) for path in documents]
        for path, text in zip(documents, texts, strict=True):
            try:
                path.write_text(text.result(), encoding="utf-8")
            except AssertionError as error:
                print(f"{path}: {error}", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
