"""The README shows what the program says."""

from __future__ import annotations

import re

from readme_blocks import README, rewritten

from kbetl.cli.commands import COMMANDS


def test_helps_outputs_tables_and_views_are_the_real_ones():
    """`python tests/readme_blocks.py` writes them anew."""
    text = README.read_text(encoding="utf-8")
    assert rewritten(text) == text


def test_every_command_has_a_section_with_its_help():
    text = README.read_text(encoding="utf-8")
    shown = set(re.findall(r"<!-- help: (\S+) -->", text))
    assert shown == {command.name for command in COMMANDS}
    for command in COMMANDS:
        assert re.search(rf"^### .*`kbetl {command.name}`", text, re.MULTILINE), command.name
