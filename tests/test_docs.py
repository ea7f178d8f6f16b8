"""`kbetl docs`: the documentation in a terminal, in a pipe, and by name."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run, clean_environment

from kbetl.resources import DOCS, document, topics


def test_the_topics_are_the_files_with_their_titles(run: Run) -> None:
    done = run("docs")
    assert (done.returncode, done.stderr) == (0, "")
    listed = dict(line.split(maxsplit=1) for line in done.stdout.partition("\n\n")[0].splitlines())
    assert list(listed) == sorted(path.stem for path in DOCS.glob("*.md"))
    for topic, title in listed.items():
        assert document(topic).startswith(f"# {title}\n\n")


@pytest.mark.parametrize("topic", topics())
def test_a_pipe_gets_the_markdown_without_the_marks_of_the_tests(run: Run, topic: str) -> None:
    done = run("docs", topic)
    assert (done.returncode, done.stderr) == (0, "")
    assert "<!-- " not in done.stdout
    assert done.stdout == re.sub(r"^<!--.*?-->\n", "", document(topic), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("asked", "meant"), [("architectur", "architecture"), ("Architecture", "architecture"), ("qqq", None)]
)
def test_an_unknown_topic_names_the_topics_and_the_one_that_was_meant(
    run: Run, asked: str, meant: str
) -> None:
    done = run("docs", asked)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(rf"There are .*\b{topics()[0]}\b", done.stderr)
    assert ("Did you mean" in done.stderr) == (meant is not None)
    assert meant is None or f"Did you mean {meant}?" in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m kbetl docs architecture | head -n 1'
    done = subprocess.run(
        ["sh", "-c", command],
        env=clean_environment(HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (document("architecture").partition("\n")[0] + "\n", "")


def in_terminal(*arguments: str, home: Path, **variables: str) -> str:
    """What `kbetl ARGUMENTS` shows in a terminal of its own, through the pager `cat`."""
    controller, terminal = pty.openpty()
    environment = clean_environment(HOME=str(home), PAGER="cat", TERM="xterm", COLUMNS="60", **variables)
    done = subprocess.Popen(
        [sys.executable, "-m", "kbetl", *arguments],
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=home,
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 65536):
            shown += piece
    except OSError:
        pass  # Linux reports the end of a terminal as an error
    os.close(controller)
    assert done.wait() == 0
    return shown.decode()


def test_a_terminal_shows_it_laid_out_in_the_pager(tmp_path: Path) -> None:
    shown = in_terminal("docs", "architecture", home=tmp_path)
    title = document("architecture").partition("\n")[0].removeprefix("# ")
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert title in " ".join(plain.split())
    assert "| ---" not in plain
    assert "`kbetl" not in plain
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 60


def test_no_color_is_honoured(tmp_path: Path) -> None:
    shown = in_terminal("docs", "architecture", home=tmp_path, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)
