"""Chooses what the datasets are made of: which task's labels, which rewards, which splits."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from kbetl import offline
from kbetl.errors import ConfigError
from kbetl.store import ReportRow, Store
from kbetl.store.generated_views import check_label_columns

HASH_PREFIX = "t1:"


@dataclass(frozen=True, slots=True)
class Choice:
    """A task that could be used, and its outcomes by status."""

    hash: str
    model: str
    parameters: str
    in_use: bool
    outcomes: Mapping[str, int]
    is_labelled: bool
    """Whether it has an outcome that is ok."""
    reader: str
    """How its answers are read, as the store keeps it."""

    @property
    def labels(self) -> int:
        """Samples that have a label by it."""
        return self.outcomes.get("ok", 0)

    def as_text(self) -> str:
        """One line: hash, model, parameters, use, outcomes."""
        counts = ", ".join(f"{number:,} {status}" for status, number in self.outcomes.items())
        return (
            f"{self.hash[:15]}  {self.model}  {self.parameters}"
            f"{'  in use' if self.in_use else ''}  {counts or 'no outcome'}"
        )


def use_task(store: Store, name: str, model: str | None, task_hash: str | None) -> list[str]:
    """Puts the one task of this name that matches in use; returns the report.

    The model `offline` is the built-in one of this kbetl, as in `enrich`. `task_hash` is the beginning of
    a hash, with or without `t1:`. Raises ConfigError, and changes nothing, if none or several match,
    the one that does has no outcome that is ok, or a label of it has the name of another column.
    """
    model = offline.MODEL if model == "offline" else model
    choices = _choices(store, name)
    chosen = _the_one(store, name, choices, _matching(choices, model, task_hash))
    check_label_columns(store.connection, name, chosen.reader)
    before = next((choice for choice in choices if choice.in_use), None)
    run_id = store.begin_run(
        "use", {"task": name, "model": model, "task_hash": chosen.hash}, task_hash=chosen.hash
    )
    (changes,) = store.named_rows(
        "use/label_changes", {"before": before.hash if before else None, "after": chosen.hash}
    )
    with store.transaction():
        store.execute("use/retire_tasks", {"name": name})
        store.execute("use/use_task", {"hash": chosen.hash})
        store.remake_views()
    store.end_run(run_id, 0, changes)
    return _report(name, before, chosen, changes)


def use_settings(store: Store, min_reward: float | None, split_by: str | None) -> list[str]:
    """Changes the settings that are given; returns the report. Raises ConfigError for NaN and infinity."""
    if min_reward is not None and not math.isfinite(min_reward):
        raise ConfigError(f"--min-reward {min_reward} is no finite number; the usual one is 0.85")
    wanted = {"min_reward": min_reward, "split_by": split_by}
    given = {key: value for key, value in wanted.items() if value is not None}
    run_id = store.begin_run("use", given)
    lines = []
    for key, value in given.items():
        before = store.setting(key)
        filtered = _filtered(store)
        store.change_setting(key, value)
        lines.append(f"{key}: {value} now, before: {before}")
        if key == "min_reward":
            lines.append(f"filtered: {_filtered(store):,} rows now, before: {filtered:,}")
    store.end_run(run_id, 0, {})
    return lines


def warnings(store: Store) -> list[str]:
    """Returns a warning if the dataset `filtered` is empty after a change."""
    if _filtered(store) == 0:
        return ["the dataset filtered is empty now: no rated rollout has a reward above min_reward"]
    return []


def _filtered(store: Store) -> int:
    count: int = store.rows("use/filtered_count")[0][0]
    return count


def _choices(store: Store, name: str) -> list[Choice]:
    return [
        Choice(task_hash, model, parameters, bool(in_use), json.loads(outcomes), bool(is_labelled), reader)
        for task_hash, model, parameters, in_use, outcomes, is_labelled, reader in store.rows(
            "use/task_choices", {"name": name}
        )
    ]


def _matching(choices: list[Choice], model: str | None, task_hash: str | None) -> list[Choice]:
    prefix = HASH_PREFIX + (task_hash or "").removeprefix(HASH_PREFIX).lower()
    return [
        choice
        for choice in choices
        if (model is None or choice.model == model) and choice.hash.startswith(prefix)
    ]


def _the_one(store: Store, name: str, choices: list[Choice], matching: list[Choice]) -> Choice:
    if len(matching) == 1 and matching[0].is_labelled:
        return matching[0]
    if len(matching) == 1:
        raise ConfigError(
            f"no outcome of this task is ok, so it has no labels to use:\n  {matching[0].as_text()}"
        )
    if not choices:
        names = (
            ", ".join(row[0] for row in store.rows("reparse/task_names"))
            or "none yet; kbetl enrich asks the first"
        )
        raise ConfigError(f"no task named {name} in {store.path}; there are: {names}")
    if matching:
        problem = f"{len(matching)} tasks named {name} match; say which with --task-hash"
    else:
        problem = f"no task named {name} matches; there are"
    listed = "".join(f"\n  {choice.as_text()}" for choice in matching or choices)
    raise ConfigError(f"{problem}:{listed}")


def _report(name: str, before: Choice | None, chosen: Choice, changes: ReportRow) -> list[str]:
    now = f"{name}: {chosen.labels:,} labels of {chosen.model} ({chosen.hash[:11]}) in use now"
    if before is None:
        return [f"{now}, before: none"]
    if before.hash == chosen.hash:
        return [f"{now}, as before"]
    return [
        f"{now}, before: {before.labels:,} of {before.model} ({before.hash[:11]})",
        "{differing:,} labels differ, {gained:,} samples have a label only now, {lost:,} only before".format(
            **changes
        ),
    ]
