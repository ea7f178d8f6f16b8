"""The options of the run that `--resume` takes up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from kbetl.enrich.options import Options
from kbetl.enrich.planning import Asked, asked_task
from kbetl.enrich.running import Say
from kbetl.errors import ConfigError
from kbetl.store import Store

AnyOptions = TypeVar("AnyOptions", bound=Options)

_CHOOSING = frozenset({"sources", "where", "min_reward", "limit", "retry"})
"""Options that choose what a run asks; given with --resume they may leave out some of what was left."""


def resumed(
    store: Store,
    options: AnyOptions,
    given: frozenset[str],
    say: Say,
    asked_by: Callable[[AnyOptions], Asked] | None = None,
) -> AnyOptions:
    """The options of the last run of the task that is not dealt with; `given` ones win over its.

    What is left of its limit is the limit. The same options where there is no such run. `asked_by` gives
    the task that options ask. Raises ConfigError where model, parameters or template would differ: that
    would be another task, to be run without --resume.
    """
    from kbetl.tasks import load_task

    name = load_task(options.task).name
    last = store.last_run_left_over(name)
    if last is None:
        say(f"--resume: no run of {name} was left over; asking what waits")
        return options
    say(f"--resume: taking up run {last.id}, begun at {last.started_at}")
    before = type(options).from_json(last.options)
    now = replace(before, **{key: getattr(options, key) for key in given})
    if "parameters" in given:
        now = replace(now, parameters={**before.parameters, **options.parameters})
    if "retry" not in given and before.retry:
        now = replace(now, retry_since_run=before.retry_since_run or last.id)
    asked = asked_by(now) if asked_by is not None else asked_task(store, now)
    if last.task_hash is not None and asked.hash != last.task_hash:
        raise ConfigError(
            f"--resume: model, parameters or template are not those of run {last.id} "
            f"({last.task_hash[:15]}); leave out --resume to ask anew with them"
        )
    if now.limit is not None and "limit" not in given and last.task_hash is not None:
        done = store.rows("decided_since", {"task_hash": last.task_hash, "since": last.started_at})[0][0]
        now = replace(now, limit=max(now.limit - done, 0))
    goes_on_with_all = given.isdisjoint(_CHOOSING)
    return replace(now, resumed_run=(before.resumed_run or last.id) if goes_on_with_all else None)
