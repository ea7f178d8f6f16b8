"""kbetl use."""

from __future__ import annotations

from pathlib import Path

import click

from kbetl.cli.params import common, print_lines


@click.command(short_help="Choose which labels the datasets use.")
@common
@click.argument("task", required=False)
@click.option("-m", "--model", help="The model that gave the labels.")
@click.option("--task-hash", metavar="PREFIX", help="The beginning of the task's hash.")
@click.option("--min-reward", type=float, help="Rewards above it count as good.")
@click.option("--split-by", type=click.Choice(["code", "name"]), help="What a split keeps together.")
def use(
    database: Path,
    *,
    task: str | None,
    model: str | None,
    task_hash: str | None,
    min_reward: float | None,
    split_by: str | None,
    **_: bool,
) -> None:
    """Choose which labels of TASK the datasets use, or change a setting of theirs.

    \b
    Examples:
      kbetl use difficulty --model offline/2
      kbetl use --min-reward 0.9
    """
    from kbetl.store import Store
    from kbetl.tasks import task_name
    from kbetl.use import use_settings, use_task, warnings

    if task is None and (model is not None or task_hash is not None):
        raise click.UsageError("--model and --task-hash choose among the labels of a TASK; name it")
    has_settings = min_reward is not None or split_by is not None
    if task is None and not has_settings:
        raise click.UsageError("name a TASK, --min-reward or --split-by")
    if not database.exists():
        Store.read(database)  # says that there is none; choosing makes no store
    with Store.open(database) as store:
        lines = use_settings(store, min_reward, split_by) if has_settings else []
        if task is not None:
            lines += use_task(store, task_name(task), model, task_hash)
        for line in warnings(store):
            click.echo(f"kbetl: {line}", err=True)
    print_lines(lines)
