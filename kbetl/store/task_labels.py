"""Labels of the tasks in use with their types: what `--with` adds to rows, and what Python reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbetl.config import command_line
from kbetl.errors import ConfigError
from kbetl.json_codec import stored_value
from kbetl.store.store import Store


@dataclass(frozen=True, slots=True)
class TaskLabels:
    """The labels of a task in use: a column of its name."""

    name: str
    task_hash: str
    model: str
    form: Mapping[str, Any]
    """How its answers are read, as the store keeps it."""

    @property
    def column_type(self) -> str | None:
        """`int64`, `float64` or `string`; None for JSON, whose values say what they are."""
        if "json" in self.form:
            return None
        if "min" in self.form:
            return "int64" if self.form.get("integer") else "float64"
        return "string"

    def typed(self, text: str) -> Any:
        """A label as a JSON value of the column's type."""
        if "json" in self.form:
            return stored_value(text)
        if "min" in self.form:
            return int(text) if self.form.get("integer") else float(text)
        return text


def labels_in_use(store: Store, names: Sequence[str]) -> list[TaskLabels]:
    """The labels of these tasks. Raises ConfigError for a name that no task in use has."""
    tasks = {row[0]: row[1:] for row in store.rows("task_labels/tasks_by_name")}
    found = []
    for name in dict.fromkeys(names):
        task_hash, model, reader, is_labelled = tasks.get(name, (None, None, None, None))
        if task_hash is not None:
            found.append(TaskLabels(name, task_hash, model, json.loads(reader)))
        elif is_labelled:
            use = command_line(store.path, "use", name)
            raise ConfigError(f"labels of {name!r}: the task is not in use; run: {use}")
        else:
            there = ", ".join(task for task, row in tasks.items() if row[0]) or "none yet"
            raise ConfigError(f"labels of {name!r}: no task in use has that name; in use are: {there}")
    return found


def labels_of_sample(store: Store, labels: Sequence[TaskLabels], sample_hash: str) -> dict[str, Any]:
    """The label of each task for a sample, by the task's name; None if it has none."""
    found = {}
    for label in labels:
        parameters = {"task_hash": label.task_hash, "sample_hash": sample_hash}
        row = store.execute("task_labels/label_of_sample", parameters).fetchone()
        found[label.name] = None if row is None else label.typed(row[0])
    return found


def all_labels(store: Store, label: TaskLabels) -> Iterator[tuple[str, Any]]:
    """Every label of a task with its sample's hash, in the order of these."""
    with store.translate_errors():
        for sample_hash, text in store.execute("task_labels/labels_of_task", {"task_hash": label.task_hash}):
            yield sample_hash, label.typed(text)


def label_notes(store: Store, labels: Sequence[TaskLabels]) -> list[str]:
    """Whose labels were added to the chosen rows, and how many rows have none, a line each."""
    notes = []
    for label in labels:
        without = store.rows("task_labels/rows_without_label", {"task_hash": label.task_hash})[0][0]
        notes.append(
            f"column {label.name} has the labels of {label.model} ({label.task_hash[:15]}); "
            f"{without:,} rows have none"
        )
    return notes
