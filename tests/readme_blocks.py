"""The parts of the README that the program itself says: helps, outputs, tables and views.

`python tests/readme_blocks.py` writes them anew; a test compares them with what is there. A marker names
the part, the fenced block below it holds it:

    <!-- help: enrich -->           the help of a command
    <!-- run: kbetl status -->      a command line and its output, in one folder, in the README's order
    <!-- hidden: cp a b -->         a command line run there without being shown; no block
    <!-- tables -->, <!-- views --> the schema, from `sql/`; plain Markdown up to <!-- end -->
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fake_llm import Asked, FakeLlm

ROOT = Path(__file__).parents[1]
SERVER = "http://127.0.0.1:8000/v1"
"""The address of a model server in the README; its commands ask a local one in its place."""
README = ROOT / "README.md"
_BLOCK = re.compile(
    r"(?P<marker><!-- (?P<kind>help|run|hidden): (?P<argument>.*?) -->\n)(?P<body>```[a-z]*\n.*?^```\n)?"
    r"|(?P<schema><!-- (?P<part>tables|views) -->\n).*?(?=<!-- end -->)",
    re.DOTALL | re.MULTILINE,
)
_VARIES = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-11-22T10:00:00.000Z"),
    (r"\d+ pages", "44 pages"),
    (r"\d\.\d MB", "0.8 MB"),
)
"""What differs from run to run, or between versions of SQLite, and how it is shown."""
_COLUMN = re.compile(r"^  (\w+) (?:text|integer|real|blob|any)\b.*?-- (.*)$", re.MULTILINE)
_ADDED = re.compile(r"^alter table (\w+) add column$(\n.*)", re.MULTILINE)
_TABLE = re.compile(r"^create table (\w+) \((.*?)^\) strict", re.DOTALL | re.MULTILINE)


def rewritten(text: str) -> str:
    """The README with every such part as the program says it now."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bin").mkdir()
        launcher = Path(folder) / "bin" / "kbetl"
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kbetl "$@"\n')
        launcher.chmod(0o755)
        (Path(folder) / "work").mkdir()
        shutil.copy(ROOT / "data" / "sample.jsonl", Path(folder) / "work" / "rollouts.jsonl")
        shutil.copytree(ROOT / "data" / "tokenizer", Path(folder) / "work" / "tokenizer")
        shutil.copytree(ROOT / "tests" / "rollouts", Path(folder) / "work" / "runs")
        with FakeLlm(content=_kernel) as llm:
            served = text.replace(SERVER, llm.url)
            found = _BLOCK.sub(lambda match: _part(match, Path(folder)), served)
            return found.replace(llm.url, SERVER)


def _kernel(asked: Asked) -> str:
    """What the model server of the README answers."""
    return f"BEGIN_PYTHON\nimport triton  # answer {asked.index:02}\nEND_PYTHON"


def _part(match: re.Match[str], folder: Path) -> str:
    if match["schema"]:
        return match["schema"] + "\n" + "\n".join(tables() if match["part"] == "tables" else views()) + "\n\n"
    if match["kind"] == "help":
        command = f"kbetl {match['argument']} -h"
        return f"{match['marker']}```text\n{_output(command, folder)}```\n"
    output = _output(match["argument"], folder)
    if match["kind"] == "hidden":
        return match["marker"] + (match["body"] or "")
    return f"{match['marker']}```console\n$ {match['argument']}\n{output}```\n"


def _output(command: str, folder: Path) -> str:
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    output = done.stdout
    for pattern, shown in _VARIES:
        output = re.sub(pattern, shown, output)
    return output if output.endswith("\n") or not output else output + "\n"


def tables() -> Iterator[str]:
    """Every table of the migrations, column by column; those that a later one added are last."""
    scripts = [path.read_text("utf-8") for path in sorted((ROOT / "sql" / "migrations").glob("*.sql"))]
    for script in scripts:
        for name, body in _TABLE.findall(script):
            added = [line for each in scripts for line in _ADDED.findall(each) if line[0] == name]
            yield f"**`{name}`**\n"
            yield "| column | what it is |"
            yield "| --- | --- |"
            for column, comment in _COLUMN.findall(body + "".join(line for _, line in added)):
                yield _cells(f"`{column}`", comment)
            yield ""


def views() -> Iterator[str]:
    """Every view, with the comment that opens its file."""
    yield "| view | what it gives |"
    yield "| --- | --- |"
    for path in sorted((ROOT / "sql" / "views").glob("*.sql")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = " ".join(line.removeprefix("--").strip() for line in lines if line.startswith("--"))
        yield _cells(f"`{path.stem}`", comment)


def _cells(first: str, second: str) -> str:
    return "| " + first + " | " + second.replace("|", "\\|") + " |"


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
