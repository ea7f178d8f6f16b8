"""kbetl show."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbetl.cli.params import common, ignore_broken_pipe
from kbetl.text import plain_text

if TYPE_CHECKING:
    from kbetl.show import Shown
    from kbetl.store import ReportRow

# Lines of the reasoning and of a label that are shown; --raw and --json have them all.
FOLDED_LINES = 5
_FACT_WIDTH = 12
# Code in an answer: in fences of Markdown, or between the marks that the evals prompts ask for.
_FENCE = re.compile(
    r"^(?:```[^\n]*|BEGIN_PYTHON)\n(.*?)(?:^(?:```|END_PYTHON)[^\n]*$|\Z)", re.DOTALL | re.MULTILINE
)


@click.command(short_help="Show one sample with everything known of it.")
@common
@click.argument("name", metavar="[HASH|NAME]", required=False)
@click.option("--random", "is_random", is_flag=True, help="A random sample.")
@click.option(
    "--where", metavar="SQL", help="Among those for which it holds, over the columns of selectable."
)
@click.option("--next", "is_next", is_flag=True, help="The sample after HASH, of the same kind.")
@click.option("--raw", is_flag=True, help="Its row alone, as it was stored.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for programs.")
def show(database: Path, *, name: str | None, raw: bool, as_json: bool, **given: Any) -> None:
    """Show one sample: its reward, labels, costs and texts, and why it is in a dataset or not.

    HASH may be shortened to 8 digits if no other begins with them; of a module NAME the rollout with the
    highest reward is shown. Without one it is the first sample, or the first that --where matches.

    \b
    Examples:
      kbetl show UnitRows
      kbetl show --random --where "difficulty = 'high'"
      kbetl show UnitRows --next --raw
    """
    from kbetl.show import Choice
    from kbetl.show import show as read_shown

    _check_usage(name, given, raw=raw, as_json=as_json)
    choice = Choice(name, given["where"], is_random=given["is_random"], is_next=given["is_next"])
    shown = read_shown(database, choice)
    with ignore_broken_pipe():
        if raw:
            click.echo(shown.sample["row"].encode())
        elif as_json:
            click.echo(json.dumps(shown.as_json(), indent=2, ensure_ascii=True))
        else:
            click.echo(_page(shown), nl=False)


def _check_usage(name: str | None, given: dict[str, Any], *, raw: bool, as_json: bool) -> None:
    """Raises UsageError for options of which one would do nothing."""
    if raw and as_json:
        raise click.UsageError("--raw and --json are two forms; give one")
    if given["is_next"] and name is None:
        raise click.UsageError("--next needs the HASH or NAME that it comes after")
    if given["is_random"] and name is not None:
        raise click.UsageError("--random chooses itself; leave the HASH or NAME out")
    if given["where"] is not None and name is not None and not given["is_next"]:
        raise click.UsageError("--where chooses a sample; with a HASH or NAME it needs --next")


def _page(shown: Shown) -> str:
    """In a terminal with colours; lines are as long as they are, so that what is copied is whole."""
    page = _Page()
    page.line(shown.sample["module_name"] or "(no name)", "bold")
    for fact, value in shown.facts():
        page.line(f"{fact:<{_FACT_WIDTH}} {value}")
    page.heading("labels", shown.labels)
    for row in shown.labels:
        first, *more = _label_lines(row)
        page.line(first, "green" if row["status"] == "ok" else "yellow")
        for line in more:
            page.line(f"    {line}")
    page.heading("problem", shown.problem)
    page.code(shown.problem or "")
    page.heading("reference kernel", shown.kernel)
    page.code(shown.kernel or "")
    page.heading("reasoning", shown.reasoning)
    for line in _folded((shown.reasoning or "").splitlines()):
        page.line(line, "italic")
    page.heading("answer", shown.completion)
    page.prose(shown.completion or "")
    if shown.sample["kind"] == "record":
        page.heading("row", shown.row)
        for line in json.dumps(shown.row, indent=2, ensure_ascii=False).splitlines():
            page.line(line)
    page.heading("of the same name", shown.others)
    for line in shown.other_lines():
        page.line(line)
    return page.text()


class _Page:
    """Lays out inert text with rich's colours; for a file or pipe it is plain."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._console.begin_capture()

    def text(self) -> str:
        """All that was laid out."""
        return self._console.end_capture()

    def line(self, text: str, style: str = "") -> None:
        """One line."""
        from rich.text import Text

        self._console.print(Text(plain_text(text.expandtabs(4)), style=style), soft_wrap=True)

    def heading(self, title: str, content: object) -> None:
        """The title of a part; nothing if the part has no content."""
        if content:
            self.line("")
            self.line(f"── {title} ──", "dim")

    def code(self, code: str) -> None:
        """Python source, coloured."""
        from rich.syntax import Syntax

        inert = "\n".join(plain_text(line.expandtabs(4)) for line in code.splitlines())
        if inert:
            coloured = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(inert)
            self._console.print(coloured, soft_wrap=True, end="")

    def prose(self, text: str) -> None:
        """Text, and the code in its fenced blocks."""
        at = 0
        for fence in _FENCE.finditer(text):
            self._lines(text[at : fence.start()])
            self.code(fence[1])
            at = fence.end()
        self._lines(text[at:])

    def _lines(self, text: str) -> None:
        for line in text.strip().splitlines():
            self.line(line)


def _folded(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    hidden = len(lines) - FOLDED_LINES
    more = [f"... {hidden:,} more lines; --raw and --json have them"] if hidden > 0 else []
    return [*lines[:FOLDED_LINES], *more]


def _label_lines(row: ReportRow) -> list[str]:
    """What was concluded, by whom, and what it cost; a long label is folded."""
    is_ok = row["status"] == "ok"
    first, *rest = _folded((row["value"] if is_ok else row["reason"]).splitlines() or [""])
    attempt = f", attempt {row['attempt']}" if row["attempt"] else ""
    used = "in use" if row["in_use"] else "not in use"
    return [
        f"{row['task']}: {'' if is_ok else row['status'] + ', '}{first}",
        *rest,
        f"by {row['model']} ({row['task_hash'][:11]}, {used}{attempt}) at {row['decided_at']}",
        *_request_line(row),
    ]


def _request_line(row: ReportRow) -> list[str]:
    if row["request_hash"] is None:
        return []
    parts = [f"request {row['request_hash'][:11]}"]
    if row["host"] is not None:
        parts.append(f"answered by {row['served_model'] or row['host']} in {row['latency_ms'] / 1000:,.1f} s")
    parts += [
        f"{row[f'{name}_tokens']:,} {name} tokens"
        for name in ("prompt", "completion")
        if row[f"{name}_tokens"] is not None
    ]
    if row["cost_usd"] is not None:
        parts.append(f"${row['cost_usd']:.6f}")
    return [", ".join(parts)]
