"""README.md and the documents in kbetl/docs show what the program says, and their blocks run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from readme_blocks import DOCUMENTS, LEAVES, ROOT, failing_examples, rewritten, run_demo, unmarked

from kbetl.cli.commands import COMMANDS
from kbetl.resources import topics

TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}


def name(path: Path) -> str:
    return path.name


@pytest.fixture(scope="module")
def running() -> Iterator[dict[Path, Future[str]]]:
    """All documents run beside each other; under pytest-xdist each worker runs its own, one at a time."""
    is_alone = "PYTEST_XDIST_WORKER" not in os.environ
    with ThreadPoolExecutor(max_workers=os.cpu_count() if is_alone else 1) as pool:
        yield {path: pool.submit(rewritten, text) for path, text in TEXTS.items()} if is_alone else {}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_helps_outputs_tables_and_views_are_the_real_ones(path, running):
    """`python tests/support/readme_blocks.py` writes them anew."""
    assert (running[path].result() if running else rewritten(TEXTS[path])) == TEXTS[path]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_block_is_run_or_says_why_not(path):
    assert unmarked(TEXTS[path]) == []


def test_every_test_and_measurement_that_is_named_exists():
    named = {found for text in TEXTS.values() for found in re.findall(r"\btests/[\w/]+\.py\b", text)}
    assert {found for found in named if not (ROOT / found).is_file()} == set()


def test_readme_names_every_command_and_every_topic():
    """A subcommand has a row of its own, or is named in the row of its command."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\|[^|]*\| `kbetl ([^`]+)` \| (.*) \|$", readme, re.MULTILINE))
    named = {" ".join(names[:2]) for names in LEAVES}
    missing = {
        words
        for words in named
        if words not in rows and f"`{words.partition(' ')[2]}`" not in rows.get(words.split()[0], "")
    }
    assert missing == set()
    assert set(re.findall(r"\[`(\w+)`\]\(kbetl/docs/", readme)) == set(topics())


def test_every_command_has_a_section_with_its_help():
    texts = "\n".join(TEXTS.values())
    shown = set(re.findall(r"<!-- help: (\S+) -->", texts))
    assert shown == {command.name for command in COMMANDS}
    for command in COMMANDS:
        assert re.search(rf"^###? .*`kbetl {command.name}`", texts, re.MULTILINE), command.name


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `kbetl demo` ran."""
    folder = tmp_path_factory.mktemp("demo")
    run_demo(folder)
    return folder


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_the_examples_of_a_help_work_as_pasted_or_say_what_they_need(names, demo):
    """On the store and the rows that the demo leaves."""
    assert failing_examples(" ".join(names), demo) == []
