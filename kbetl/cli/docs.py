"""`kbetl docs`: the documentation that ships with the package, topic by topic."""

from __future__ import annotations

import difflib
import re
import sys
from typing import Any

import click

from kbetl.cli.params import common, ignore_broken_pipe

_COMMENT = re.compile(r"^<!--.*?-->\n", re.DOTALL | re.MULTILINE)
# Lines longer than this are hard to read, however wide the terminal is.
_MAX_WIDTH = 110


@click.command(short_help="Show the documentation of a topic.")
@common
@click.argument("topic", required=False)
def docs(topic: str | None, **_: Any) -> None:
    """Show the documentation of TOPIC, or list the topics.

    In a terminal it is laid out and shown in the pager; into a file or a pipe goes Markdown.

    \b
    Examples:
      kbetl docs
      kbetl docs tasks
      kbetl docs schema > schema.md
    """
    text = _topic_list() if topic is None else _markdown(topic)
    with ignore_broken_pipe():
        if topic is not None and sys.stdout.isatty():
            # the pager counts as a terminal: it shows the colours that rich chose for this one
            click.echo_via_pager(_laid_out(text), color=True)
        else:
            click.echo(text, nl=False)


def _topic_list() -> str:
    """A line per topic with the title of its document, and how to see one."""
    from kbetl.resources import document, topics

    titles = {topic: document(topic).partition("\n")[0].removeprefix("# ") for topic in topics()}
    width = max(map(len, titles))
    lines = [f"{topic:<{width}}  {title}\n" for topic, title in titles.items()]
    return "".join([*lines, "\nShow one: kbetl docs TOPIC\n"])


def _markdown(topic: str) -> str:
    """The document of a topic, without the marks that the tests read.

    Raises click.BadParameter, with the topic that was probably meant, if there is none of this name.
    """
    from kbetl.resources import document, topics

    known = topics()
    if topic not in known:
        near = difflib.get_close_matches(topic.lower(), known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise click.BadParameter(
            f"no topic {topic!r}.{meant} There are {', '.join(known)}.", param_hint="TOPIC"
        )
    return _COMMENT.sub("", document(topic))


def _laid_out(markdown: str) -> str:
    """The text for a terminal: headings, tables and code with rich's colours, as wide as the terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(force_terminal=True)
    width = min(console.width, _MAX_WIDTH)
    with console.capture() as capture:
        console.print(Markdown(markdown), width=width)
    return capture.get()
