"""What a command goes on with: the run that `--resume` takes up, the model whose labels are in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from kbetl.asking.starting import limit_of_stage
from kbetl.enrich.options import OFFLINE, Options
from kbetl.enrich.planning import Asked, asked_task, model_name
from kbetl.enrich.running import Say, plan_of
from kbetl.errors import ConfigError
from kbetl.store import Run, Store
from kbetl.store.ledger import StoredTask, tasks_named
from kbetl.tasks import Task, load_task
from kbetl.wording import question_words

AnyOptions = TypeVar("AnyOptions", bound=Options)

_CHOOSING = frozenset({"sources", "where", "min_reward", "limit", "retry"})
"""Options that choose what a run asks; given with --resume they may leave out some of what was left."""


def resumed(
    store: Store,
    options: AnyOptions,
    given: frozenset[str],
    say: Say,
    asked_by: Callable[[AnyOptions], Asked] | None = None,
) -> AnyOptions | None:
    """The options of the last run of the task that is not dealt with; `given` ones win over its.

    What is left of its limit is the limit. Without such a run, those of the last that ended with 0, less
    what bounded it or asked again: what is missing is asked as it asked. None if there is none either.
    `asked_by` gives the task that options ask. Raises ConfigError where model, parameters or template
    would differ: that would be another task, to be run without --resume.
    """
    name = load_task(options.task).name
    left = store.last_run_left_over(name)
    last = left or store.last_finished_run(name)
    if last is None:
        say(f"--resume: no run of {name} was left over, and none has finished; asking what waits")
        return None
    before = type(options).from_json(last.options)
    if left is None:
        say(f"--resume: no run of {name} was left over; asking what is missing as run {last.id} asked")
        before = replace(before, limit=None, resumed_run=None, takes_back=False)
    else:
        say(f"--resume: taking up run {last.id}, begun at {last.started_at}")
    now = replace(before, **{key: getattr(options, key) for key in given})
    if "parameters" in given:
        now = replace(now, parameters={**before.parameters, **options.parameters})
    if "retry" not in given and before.retry:
        now = replace(now, retry_since_run=before.retry_since_run or last.id)
    _check_same(last, asked_by(now) if asked_by is not None else asked_task(store, now))
    return now if left is None else _rest_of(store, left, before, now, given)


def _check_same(last: Run, asked: Asked) -> None:
    if last.task_hash is not None and asked.hash != last.task_hash:
        raise ConfigError(
            f"--resume: model, parameters or template are not those of run {last.id} "
            f"({last.task_hash[:15]}); leave out --resume to ask anew with them"
        )


def _rest_of(
    store: Store, last: Run, before: AnyOptions, now: AnyOptions, given: frozenset[str]
) -> AnyOptions:
    """The options less what the run has done of its limit."""
    if now.limit is not None and "limit" not in given and last.task_hash is not None:
        values = {"task_hash": last.task_hash, "run_id": last.id, "since": last.started_at}
        done = store.rows("decided_since", values)[0][0]
        now = replace(now, limit=max(now.limit - done, 0))
    goes_on_with_all = given.isdisjoint(_CHOOSING)
    return replace(now, resumed_run=(before.resumed_run or last.id) if goes_on_with_all else None)


class Typed(NamedTuple):
    """A command line that names no model."""

    line: Callable[..., str]
    """It again, with more words, as it is pasted into a shell."""
    given: frozenset[str]
    """The options that it has, by their names in Options."""
    has_server: bool
    """Whether it takes `-b`."""


def check_model_meant(store: Store, options: Options, typed: Typed) -> None:
    """Raises ConfigError where the default model would be asked what another one has labelled.

    The message has both ways on, and how many samples each would ask.
    """
    task = load_task(options.task)
    in_use = next((each for each in tasks_named(store, task.name) if each.in_use), None)
    if in_use is None or in_use.model == model_name(options.model, task.name):
        return
    known = replace(options, **_as_in_use(store, in_use, task, options, typed))
    words = question_words(known.as_json(), {**options.as_json(), "model": None})
    on, other = (
        f"{typed.line(*more)} (asks {_count(store, told)} samples)"
        for more, told in ((words, known), (("-m", options.model), options))
    )
    raise ConfigError(
        f"{task.name}: the labels in use are of {in_use.model} ({in_use.hash[:15]}), and no model is named. "
        f"To go on with it: {on}. To ask another: {other}. kbetl.toml can name it for every run, too"
    )


def _count(store: Store, options: Options) -> int:
    """How many samples a run with these options would ask."""
    return plan_of(store, options).select(limit_of_stage(options.limit)).waiting


def _as_in_use(
    store: Store, in_use: StoredTask, task: Task, options: Options, typed: Typed
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
    if last is not None and typed.has_server and not is_offline:
        before = Options.from_json(last.options)
        names = {"base_url", "api_key_var", "headers"} - typed.given
        found |= {name: getattr(before, name) for name in names}
    return found
