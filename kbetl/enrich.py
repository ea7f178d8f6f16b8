"""`enrich` and `prompts`: their plan, and what is checked before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kbetl import offline
from kbetl.client.endpoint import check_address, endpoint_at
from kbetl.errors import ConfigError
from kbetl.inference import ServerBackend
from kbetl.inference.find_task import find_task, task_at
from kbetl.inference.options import OFFLINE, EnrichOptions, question_words
from kbetl.inference.plan import Plan, check_options, model_name, resolve_task, select
from kbetl.store import Store, check_conditions
from kbetl.store.answers import StoredTask, tasks_named
from kbetl.store.datasets import source_ids
from kbetl.tasks import Task


def plan_of(store: Store, options: EnrichOptions, command: str = "enrich") -> Plan:
    """What `command` asks with these options; raises ConfigError for options that cannot be kept."""
    check_options(options)
    check_address(options.base_url)
    asked = resolve_task(store, options)
    return Plan(
        store,
        command,
        options,
        asked,
        select=lambda: select(store, options, asked),
        backend=lambda limits, say: ServerBackend(
            endpoint_at(options.base_url, options.api_key_var, options.headers), limits, say
        ),
    )


class CommandLine(NamedTuple):
    """A command line that names no model."""

    with_words: Callable[..., str]
    """Gives it with more words, as it is pasted into a shell."""
    given: frozenset[str]
    """The options that it has, by their names in EnrichOptions."""
    has_server: bool
    """Whether the command has the option `-b`."""


def check_model_meant(store: Store, options: EnrichOptions, command_line: CommandLine) -> None:
    """Raises ConfigError if the default model would be asked what another one has labelled.

    The message has a command for either model, and how many samples each would ask.
    """
    task = find_task(store, options.task)
    in_use = next((each for each in tasks_named(store, task.name) if each.in_use), None)
    if in_use is None or in_use.model == model_name(options.model, task.name):
        return
    known = replace(options, **_as_in_use(store, in_use, task, options, command_line))
    words = question_words(known.as_json(), {**options.as_json(), "model": None})
    on, other = (
        f"{command_line.with_words(*more)} (asks {_count(store, changed)} samples)"
        for more, changed in ((words, known), (("-m", options.model), options))
    )
    raise ConfigError(
        f"{task.name}: the labels in use are of {in_use.model} ({in_use.hash[:15]}), and no model is named. "
        f"To go on with it: {on}. To ask another: {other}. kbetl.toml can name it for every run, too"
    )


def _count(store: Store, options: EnrichOptions) -> int:
    """How many samples a run with these options would ask."""
    return plan_of(store, options).select().waiting


def _as_in_use(
    store: Store, in_use: StoredTask, task: Task, options: EnrichOptions, command_line: CommandLine
) -> Mapping[str, Any]:
    """Model, server and parameters with which the task in use was asked."""
    is_offline = in_use.model.startswith(f"{OFFLINE}/")
    last = store.last_finished_run(task.name, in_use.hash)
    parameters = {key: value for key, value in in_use.parameters.items() if task.parameters.get(key) != value}
    parameters |= {key: None for key in task.parameters if key not in in_use.parameters}
    found: dict[str, Any] = {
        "model": OFFLINE if is_offline else in_use.model,
        "parameters": {**parameters, **options.parameters},
    }
    if last is not None and command_line.has_server and not is_offline:
        before = EnrichOptions.from_json(last.options)
        names = {"base_url", "api_key_var", "headers"} - command_line.given
        found |= {name: getattr(before, name) for name in names}
    return found


def preflight(
    options: EnrichOptions,
    store: Store | None = None,
    database: Path | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Raises what a run with these options would raise before it asks, key and headers included.

    Without a store its sources are not looked at. `database` is where it is, or will be; `labels` are tasks
    that are asked before.
    """
    check_options(options)
    check_address(options.base_url)
    task = task_at(database, options.task) if store is None else find_task(store, options.task)
    task.with_parameters(options.parameters)
    model = model_name(options.model, task.name)
    check_conditions([each for each in (task.where, options.where) if each is not None], database, labels)
    if store is not None:
        source_ids(store, options.sources)
    if model != offline.MODEL:
        endpoint_at(options.base_url, options.api_key_var, options.headers)
