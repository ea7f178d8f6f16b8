"""What a task has cost in a store, and the reservations of requests that have not said it yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kbetl.prices import Price, usd
from kbetl.store.store import Store, now


class Worst(NamedTuple):
    """The most that one try may take."""

    tokens: int
    """Prompt and completion."""
    pusd: int | None
    """Picodollars; None where no price is known."""


class ToReserve(NamedTuple):
    """One try that is about to be sent."""

    run_id: int
    request_hash: str
    attempt: int
    model: str
    worst: Worst


class AnswersOfModel(NamedTuple):
    """What answers of one model took; those that a reservation counts are left out."""

    model: str
    is_told: bool
    """Whether these answers told what they cost."""
    told_pusd: float
    """Whole picodollars, as answers told them."""
    computed_pusd: float
    """What tokens and the price of their run make beyond that."""
    unpriced_fresh_tokens: int
    """Tokens of answers whose run knew no price, here and in the next two."""
    unpriced_cached_tokens: int
    unpriced_completion_tokens: int
    longest_unpriced: int
    """Prompt tokens of the longest of them."""
    unpriced_told_pusd: float
    """What they told."""
    tokens: int


class AnswerWithoutUsage(NamedTuple):
    """An answer that told no tokens; `lacks_cost`: nor what it cost."""

    model: str
    lacks_cost: bool
    request: str
    """The body as asked."""


class ReservedOfModel(NamedTuple):
    """What counts in full, of one model."""

    model: str
    reservations: int
    tokens: int
    pusd: float
    """Whole picodollars of those that were reserved with a price."""
    unpriced_tokens: int
    """Tokens of the others."""


class HandedOutRequest(NamedTuple):
    """A request in a batch file that no reservation counts."""

    model: str
    request: str
    """The body as asked."""


class OrphanedReservations(NamedTuple):
    """Requests of one run that were sent and of which nothing is known since."""

    run_id: int
    command: str
    task: str
    pid: int
    is_open: bool
    """Whether the run has no end: it runs, or was killed."""
    requests: int
    tokens: int
    cost_usd: float | None
    """US dollars at most; None where no price was known."""


def add_price(store: Store, run_id: int, model: str, price: Price) -> None:
    """Keeps the price that a run reckons with. Call within a transaction."""
    store.execute(
        "reservations/add_price",
        {
            "run_id": run_id,
            "model": model,
            "input_usd": price.input_usd,
            "cached_input_usd": price.cached_input_usd,
            "output_usd": price.output_usd,
            "below_prompt_tokens": price.below_prompt_tokens,
            "source": price.source,
        },
    )


def reserve(store: Store, to_reserve: ToReserve) -> int:
    """Reserves the most that a try may take; gives the reservation's id. Call within a transaction."""
    worst = to_reserve.worst
    cursor = store.execute(
        "reservations/add_reservation",
        {
            "run_id": to_reserve.run_id,
            "request_hash": to_reserve.request_hash,
            "attempt": to_reserve.attempt,
            "model": to_reserve.model,
            "tokens": worst.tokens,
            "cost_usd": None if worst.pusd is None else usd(worst.pusd),
            "reserved_at": now(),
        },
    )
    return int(cursor.lastrowid or 0)


def release(store: Store, reservation_id: int) -> None:
    """Gives a reservation back: its answer is stored and told what it took, or nothing was billed.

    Call within the transaction that stores the answer.
    """
    store.execute("reservations/drop_reservation", {"id": reservation_id})


def charge_in_full(store: Store, reservation_id: int, try_number: int) -> None:
    """The answer is stored and told no usage: the reservation stays, in its place.

    Call within the transaction that stores the answer.
    """
    store.execute("reservations/keep_reservation", {"id": reservation_id, "try": try_number})


def open_reservation(store: Store, run_id: int, request_hash: str, attempt: int = 0) -> int | None:
    """The oldest reservation of a run for a request that no answer came for; None where there is none."""
    key = {"run_id": run_id, "request_hash": request_hash, "attempt": attempt}
    found = store.rows("reservations/open_reservation", key)
    return found[0][0] if found else None


def answers_by_model(store: Store, task: str) -> list[AnswersOfModel]:
    """What all runs of a task's name took, as far as answers told it."""
    found = [AnswersOfModel(*row) for row in store.rows("reservations/spent_by_answers", {"task": task})]
    return [each._replace(is_told=bool(each.is_told)) for each in found]


def untold_answers(store: Store, task: str) -> Iterator[AnswerWithoutUsage]:
    """The answers of all runs of a task's name that told no tokens."""
    with store.translate_errors():
        for model, lacks_cost, request in store.execute("reservations/spent_untold", {"task": task}):
            yield AnswerWithoutUsage(model, bool(lacks_cost), request)


def reserved_by_model(store: Store, task: str) -> list[ReservedOfModel]:
    """What counts in full for a task's name: requests that were sent and told no usage."""
    return [ReservedOfModel(*row) for row in store.rows("reservations/spent_reserved", {"task": task})]


def handed_out_uncounted(store: Store, task: str) -> Iterator[HandedOutRequest]:
    """The requests of a task's name that batch files hold and no reservation counts."""
    with store.translate_errors():
        for row in store.execute("reservations/spent_handed_out", {"task": task}):
            yield HandedOutRequest(*row)


def orphaned_reservations(store: Store, task: str | None = None) -> list[OrphanedReservations]:
    """By run, the requests about a task (None: all) that were sent and of which nothing is known since."""
    return [
        OrphanedReservations(*row)._replace(is_open=bool(row[4]))
        for row in store.rows("reservations/reserved_by_run", {"task": task})
    ]


def drop_reserved_of_ended(store: Store, batch_id: int) -> None:
    """Gives back what a batch reserved of which nothing more will come. Call within a transaction."""
    store.execute("reservations/drop_reservations_of_ended", {"batch_id": batch_id})
