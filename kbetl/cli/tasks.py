"""`kbetl tasks`: which there are; a new one as a file; one as it is; and one tried out on a few samples."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from kbetl import config
from kbetl.cli.enrich import given_options
from kbetl.cli.params import (
    WholeNumber,
    budget_options,
    common,
    parameter_options,
    print_lines,
    refuse_options_before,
    sample_options,
    server_options,
)
from kbetl.errors import ConfigError


@click.group(short_help="List tasks; write, show and try out one.", invoke_without_command=True)
@common
@click.pass_context
def tasks(context: click.Context, /, database: Path, **_: Any) -> None:
    """List the tasks of the store and those built in; write, show and try out one.

    \b
    Examples:
      kbetl tasks
      kbetl tasks new helpfulness --about rollout --question "How helpful is it?" --answer 1-5
      kbetl tasks show difficulty
      kbetl tasks test ./helpfulness.md -n 2    # needs the file
    """
    if context.invoked_subcommand is not None:
        refuse_options_before(context)
        return
    from kbetl.inference.find_task import builtin_rows, task_rows
    from kbetl.store import Store

    if not database.exists():
        found = builtin_rows(set())
    else:
        with Store.read(database) as store:
            found = task_rows(store)
    print_lines([row.as_text() for row in found])


@tasks.command(short_help="Write a commented task file.")
@common
@click.argument("name")
@click.option("--about", help="What it is asked about: rollout, module or record.")
@click.option("--question", help="What the model is to judge or to write.")
@click.option("--answer", help="Its form: 1-5, low,medium,high, text, score:integer,why:text, or /REGEX/.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file.  [default: NAME.md]")
def new(name: str, *, database: Path, output: Path | None, quiet: bool, **given: Any) -> None:
    """Write the file of a task called NAME, with comments; on a terminal what is not given is asked.

    \b
    Examples:
      kbetl tasks new clarity --about rollout --question "How clear is the answer?" --answer 1-5
      kbetl tasks new topic --about record --question "What is it about?" --answer code,maths,prose
    """
    from kbetl.tasks.task import is_column_name
    from kbetl.tasks.task_writer import new_task_text

    path = output or Path(f"{name}.md")
    if path.exists():
        raise ConfigError(f"{path} is there already; name another file with -o, or remove it")
    answers = {key: given[key] or _ask(key, text) for key, text in _QUESTIONS.items()}
    columns = _fields(database) if answers["about"] == "record" else []
    shown = [each for each in columns if is_column_name(each)]
    text = new_task_text(name, answers["about"], answers["question"], answers["answer"], shown)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    left_out = ", ".join(map(repr, (each for each in columns if each not in shown)))
    if left_out and not quiet:
        click.echo(f"left out, as no template can name it: {left_out}", err=True)
    click.echo(f"{path}: try it with: {config.command_line(database, 'tasks', 'test', _typed(path))}")


_QUESTIONS = {
    "about": "What is it asked about: rollout, module or record",
    "question": "What is the model to judge or to write",
    "answer": "What form has the answer: 1-5, low,medium,high, text, score:integer,why:text, /REGEX/",
}


def _ask(key: str, text: str) -> str:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(f"--{key} is missing; give it, or answer on a terminal")
    return str(click.prompt(text, err=True))


def _fields(database: Path) -> list[str]:
    """The fields with text of some record of the store; none without a store."""
    if not database.exists():
        return []
    from kbetl.store import Store

    with Store.read(database) as store:
        return [name for (name,) in store.rows("inference/fields_of_a_record")]


def _typed(path: Path) -> str:
    return str(path) if path.parent != Path() else f"./{path}"


@tasks.command(short_help="Show the file of a task.")
@common
@click.argument("task", metavar="NAME|FILE")
def show(task: str, *, database: Path, **_: Any) -> None:
    """Show a task as a file: of a name in the store the one in use, else the newest.

    \b
    Examples:
      kbetl tasks show difficulty
      kbetl tasks show helpfulness > helpfulness.md    # needs a task of this name
    """
    from kbetl.inference.find_task import task_at
    from kbetl.tasks.task_writer import task_text

    click.echo(task_text(task_at(database, task)), nl=False)


@tasks.command(short_help="Show the exact requests for a few samples; with --ask their answers.")
@common
@click.argument("task", metavar="NAME|FILE")
@click.option("-n", "--limit", type=WholeNumber(min=1), default=5, show_default=True, help="So many samples.")
@click.option("--ask", is_flag=True, help="Ask just these, and show answer and value; the answers are kept.")
@sample_options
@click.option("-m", "--model", default=config.MODEL, show_default=True, help="Model, or offline.")
@parameter_options
@server_options
@budget_options
def test(task: str, *, database: Path, ask: bool, quiet: bool, **given: Any) -> int:
    """Show the exact requests that a task makes of the next samples, and what they would cost.

    With --ask they are asked, before anything else is paid, and each answer stands above the value that was
    read from it. The answers are kept and paid once; the labels are not: the task does not come into use.

    \b
    Examples:
      kbetl tasks test difficulty -m offline -n 1
      kbetl tasks test ./helpfulness.md -n 2 --ask -b http://127.0.0.1:8000/v1 -m my-model    # needs the file
    """
    from kbetl.enrich import plan_of
    from kbetl.store import Store
    from kbetl.trial import ask_requests, show_requests

    options = given_options({**given, "task": task})
    say = (lambda _line: None) if quiet else partial(click.echo, err=True)
    if not database.exists():
        Store.read(database)  # says that there is none
    with Store.open(database) as store:
        plan = plan_of(store, options, "tasks test")
        if not ask:
            print_lines(list(show_requests(plan, say)))
            return 0
        trials = ask_requests(plan, say)
    print_lines([line for trial in trials for line in trial.lines()])
    return 0 if all(trial.status == "ok" for trial in trials) else 3
