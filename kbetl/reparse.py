"""Reads stored answers again with today's parser: no request, and every change is shown before it is made."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kbetl.errors import ConfigError, exit_status_for
from kbetl.inference.find_task import find_task
from kbetl.records import Completion, ParsedAnswer
from kbetl.store import Store, now, task_lock
from kbetl.store.answers import InUse, StoredTask, tasks_named, use_first_tasks
from kbetl.store.generated_views import check_label_columns
from kbetl.tasks import Task, builtin_names
from kbetl.text import hidden_line

MAX_EXAMPLES = 20
_CHUNK = 500


class Change(NamedTuple):
    """One label that would change."""

    sample_hash: str
    module_name: str | None
    before: str
    after: str


@dataclass
class Reread:
    """What reading the answers of one stored task again would change."""

    name: str
    model: str
    task_hash: str
    answers: int = 0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Labels that change, by what they were and what they become."""
    examples: list[Change] = field(default_factory=list)
    not_ok: int = 0
    """Of those, samples whose outcome becomes one that is not ok."""
    reasons: int = 0
    """Outcomes whose label stays, but not its reason or the parser that decided."""
    is_applied: bool = False
    """Whether it was changed so."""
    in_use: InUse | None = None
    """Set if the task came into use by its new labels."""

    def lines(self) -> list[str]:
        """For a person: what changes, then some of the samples."""
        total = self.changes.total()
        lines = [
            f"{self.name} by {self.model} ({self.task_hash[:15]}): read {self.answers} answers again, "
            f"{total} labels change"
        ]
        lines += [f"  {count} x {before} -> {after}" for (before, after), count in self.changes.most_common()]
        lines += [
            f"  {change.sample_hash[:15]} {change.module_name or '-'}: {change.before} -> {change.after}"
            for change in self.examples
        ]
        return [*lines, *(f"  {line}" for line in hidden_line(total - len(self.examples)))]


def reparse(store: Store, task: str | None, confirm: Callable[[list[Reread]], bool]) -> list[Reread]:
    """Reads the answers of a task (a name or a file; None: every built-in one that has outcomes) again.

    `confirm` is shown what would change and says whether to change it. Raises ConfigError if there is
    nothing to read, or a label would have the name of another column; Busy while a command asks about the
    same task.
    """
    with_outcomes = {name for (name,) in store.rows("reparse/task_names")}
    tasks = [find_task(store, name) for name in ([task] if task else builtin_names())]
    tasks = [each for each in tasks if each.name in with_outcomes]
    if not tasks:
        there = ", ".join(sorted(with_outcomes)) or "none"
        asked = task or "the built-in tasks"
        raise ConfigError(f"nothing to read again for {asked}; tasks with outcomes: {there}")
    for each in tasks:
        check_label_columns(store.connection, each.name, each.format_spec)
    with contextlib.ExitStack() as locks:
        for each in tasks:
            locks.enter_context(task_lock(store.path, each.name))
        store.execute("reparse/drop_read_again")
        store.execute("reparse/read_again_table")
        read = [
            _read_again(store, each, stored) for each in tasks for stored in tasks_named(store, each.name)
        ]
        if any(each.changes or each.reasons for each in read) and confirm(read):
            _apply(store, tasks, read)
    return read


def exit_status_of(read: Sequence[Reread]) -> int:
    """3 if outcomes were made ones that are not ok, else 0."""
    return exit_status_for(*(each.not_ok for each in read if each.is_applied))


def _read_again(store: Store, task: Task, stored: StoredTask) -> Reread:
    found = Reread(task.name, stored.model, stored.hash)
    version = task.parser_version
    with store.transaction(writes=False):
        for row in _answers(store, stored.hash):
            sample_hash, attempt, status, value, reason, parser_version, module_name, *answer = row
            found.answers += 1
            reading = task.read(_completion(answer))
            if (reading.status, reading.value) != (status, value):
                after = _label(reading.status, reading.value)
                _note(found, Change(sample_hash, module_name, _label(status, value), after))
                found.not_ok += reading.status != "ok"
            elif (reading.reason, version) != (reason, parser_version):
                found.reasons += 1
            else:
                continue
            store.execute(
                "reparse/add_read_again",
                {**_row(stored.hash, sample_hash, reading, version), "attempt": attempt},
            )
    return found


def _row(task_hash: str, sample_hash: str, reading: ParsedAnswer, parser_version: str) -> dict[str, Any]:
    return {
        "task_hash": task_hash,
        "sample_hash": sample_hash,
        "status": reading.status,
        "value": reading.value,
        "reason": reading.reason,
        "parser_version": parser_version,
    }


def _answers(store: Store, task_hash: str) -> Iterator[tuple[Any, ...]]:
    after, attempt = "", 0
    while rows := store.rows(
        "reparse/answers_to_read",
        {"task_hash": task_hash, "after": after, "after_attempt": attempt, "limit": _CHUNK},
    ):
        yield from rows
        after, attempt = rows[-1][:2]


def _completion(answer: list[Any]) -> Completion:
    finish_reason, refusal, content, reasoning, fault = answer
    return Completion("", "", 0.0, content, reasoning, finish_reason, refusal, fault=fault)


def _note(found: Reread, change: Change) -> None:
    found.changes[(change.before, change.after)] += 1
    if len(found.examples) < MAX_EXAMPLES:
        found.examples.append(change)


def _label(status: str, value: str | None) -> str:
    """A rating as it is, a long text by its beginning, anything else by its status."""
    if value is None:
        return status
    return value if len(value) <= 40 else f"{value[:37]!r}..."


def _apply(store: Store, tasks: list[Task], read: list[Reread]) -> None:
    run_id = store.begin_run("reparse", {task.name: task.parser_version for task in tasks})
    with store.transaction():
        changed = store.execute("reparse/apply_read_again", {"decided_at": now()}).rowcount
        labelled = [task_hash for (task_hash,) in store.execute("reparse/tasks_read_ok").fetchall()]
        in_use = {used.hash: used for used in use_first_tasks(store, labelled)}
        for task in tasks:
            for stored in tasks_named(store, task.name):
                store.execute(
                    "reparse/set_reader",
                    {"hash": stored.hash, "reader": task.format_spec, "closing": task.closing},
                )
        store.remake_views()
    for each in read:
        each.is_applied = True
        each.in_use = in_use.get(each.task_hash)
    store.end_run(run_id, exit_status_of(read), {"outcomes": changed})
