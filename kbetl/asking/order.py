"""What a command would ask, for whoever puts its questions elsewhere than online."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kbetl.asking.budget import Budget
from kbetl.asking.loop import Generate
from kbetl.asking.question import Prepare, Question
from kbetl.prices import Price
from kbetl.records import Completion, Outcome, Reading
from kbetl.store.ledger import Selection


def paid_too(at_service: int) -> str:
    """What to say of requests that were taken back while a service answers them; nothing of none."""
    return f"; {at_service} of them are at a service, and paid for there too" if at_service else ""


@dataclass(frozen=True)
class Order:
    """The questions of one command about one task."""

    command: str
    options: Mapping[str, Any]
    """For `runs.options`."""
    task_row: Mapping[str, Any]
    """The columns of `tasks`."""
    parser_version: str
    question_hash: str
    """The identity of what is asked, which its lock goes by."""
    read: Callable[[Completion], Reading]
    select: Callable[[], Selection]
    """Chooses what is asked; called once, when the task's lock is held."""
    prepare: Prepare
    budget: Callable[[], Budget | None] = lambda: None
    """What the task may still take; called under its lock, raises ConfigError where it cannot be kept."""
    price: Price | None = None
    """Of the model; None where none is known."""
    generate: Callable[[], Generate] | None = None
    """What makes the rollouts that answers are; called in a transaction."""

    @property
    def task_name(self) -> str:
        """The task's name, which its lock goes by."""
        return str(self.task_row["name"])

    @property
    def task_hash(self) -> str:
        """The task whose outcomes are set."""
        return str(self.task_row["hash"])

    @property
    def model(self) -> str:
        """The model that is asked."""
        return str(self.task_row["model"])

    def questions(self, selection: Selection) -> Iterator[list[Question]]:
        """The questions of a selection in order, by chunks, so that memory does not grow with rows."""
        after = 0
        while chunk := selection.next(after):
            after = chunk[-1].position
            yield self.prepare(chunk)

    def outcome(self, question: Question, reading: Reading) -> Outcome:
        """What is concluded about a question's sample without asking."""
        return Outcome(
            sample_hash=question.sample_hash,
            task_hash=self.task_hash,
            attempt=question.attempt,
            status=reading.status,
            value=reading.value,
            reason=reading.reason,
            request_hash=question.request.hash if question.request else None,
            try_number=question.stored.try_number if question.stored else None,
            parser_version=self.parser_version,
        )
