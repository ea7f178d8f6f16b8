"""Concludes what needs no request, as an online run would: an answer is there, or a field is lacking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kbetl.asking import Generate, Question
from kbetl.asking.order import Order
from kbetl.records import Reading
from kbetl.store import Store
from kbetl.store.core import now
from kbetl.store.generated import add_again
from kbetl.store.ledger import Decided, InUse, set_outcomes


class Settling:
    """The conclusions of one order, and what they count to."""

    def __init__(self, store: Store, order: Order) -> None:
        self.statuses: Counter[str] = Counter()
        self.in_use: list[InUse] = []
        """The tasks that came into use."""
        self._store = store
        self._order = order
        self._generate: Generate | None = None

    def settle(self, questions: Sequence[Question]) -> None:
        """Sets the outcomes of questions that have an answer or cannot be asked, in one transaction."""
        if not questions:
            return
        with self._store.transaction():
            for question in questions:
                self._settle(question)

    def _settle(self, question: Question) -> None:
        order, stored = self._order, question.stored
        if stored is None:
            reading = Reading("failed", None, question.failure)
        else:
            reading = order.read(stored.completion)
        decided = Decided(order.outcome(question, reading), is_answered=False)
        self.in_use += set_outcomes(self._store, [decided], now())
        self.statuses[reading.status] += 1
        if stored is not None and order.generate is not None and reading.status != "failed":
            self._generate = self._generate or order.generate()
            add_again(self._store, self._generate(question, stored.completion), stored.try_number)


def settle_answered(store: Store, order: Order) -> int:
    """Settles what an order selects and has an answer for; asks nothing. Gives the number of answers."""
    settling = Settling(store, order)
    selection = order.select()
    for chunk in order.questions(selection):
        settling.settle([question for question in chunk if question.stored is not None])
    return settling.statuses.total()
