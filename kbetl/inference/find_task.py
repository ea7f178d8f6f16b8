"""Finds tasks, built in, in files and in the store: all of them, or one by its name or file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

from kbetl.errors import ConfigError
from kbetl.json_codec import stored_value
from kbetl.records import Kind
from kbetl.store import Store
from kbetl.store.answers import stored_task
from kbetl.tasks import Task, builtin_names, format_from_spec, is_task_file, load_task


def find_task(store: Store, name_or_file: str) -> Task:
    """The task in that file, built in by that name, or stored by it: the one in use, else the newest.

    Raises ConfigError, with the names that there are, if there is none.
    """
    if _needs_no_store(name_or_file):
        return load_task(name_or_file)
    found = stored_task(store, name_or_file)
    if found is None:
        stored = ", ".join(row.name for row in task_rows(store) if row.hash) or "none"
        raise ConfigError(
            f"no task {name_or_file!r}; built in: {', '.join(builtin_names())}; in {store.path}: {stored}. "
            "A file of your own is named by its path, such as ./style.md"
        )
    return _of_store(found)


def task_at(database: Path | None, name_or_file: str) -> Task:
    """Returns what `find_task` does for the store at this path, or what ships if there is no store."""
    if _needs_no_store(name_or_file) or database is None or not database.exists():
        return load_task(name_or_file)
    with Store.read(database) as store:
        return find_task(store, name_or_file)


def _needs_no_store(name_or_file: str) -> bool:
    return is_task_file(name_or_file) or name_or_file in builtin_names()


def _of_store(columns: Any) -> Task:
    name, about, restriction, reader, closing, system, template, parameters = columns
    return Task(
        name=name,
        about=cast(tuple[Kind, ...], tuple(about.split(","))),
        where=restriction,
        system=system,
        template=template,
        parameters=stored_value(parameters),
        answer_format=format_from_spec(reader),
        closing=closing,
    )


class TaskRow(NamedTuple):
    """One task by name and question; `hash` is None for a built-in one that was never asked."""

    name: str
    about: str
    model: str | None
    hash: str | None
    in_use: bool
    outcomes: int
    ok: int

    def as_text(self) -> str:
        """For a person."""
        kinds = " and ".join(f"{kind}s" for kind in self.about.split(","))
        if self.hash is None:
            return f"{self.name}: built in, about {kinds}; not asked yet"
        state = " in use," if self.in_use else ""
        counts = f"{self.outcomes:,} outcomes, {self.ok:,} ok"
        return f"{self.name}: about {kinds}, {self.model} ({self.hash[:15]}),{state} {counts}"


def task_rows(store: Store) -> list[TaskRow]:
    """The tasks of the store by name, of each name the one in use first; then those built in alone."""
    found = [TaskRow(*row) for row in store.rows("answers/all_tasks")]
    asked = {row.name for row in found}
    return [*found, *builtin_rows(asked)]


def builtin_rows(asked: set[str]) -> list[TaskRow]:
    """The built-in tasks that are not among those asked."""
    names = (name for name in builtin_names() if name not in asked)
    return [TaskRow(name, ",".join(load_task(name).about), None, None, False, 0, 0) for name in names]
