"""Reads what a task has cost in a store; stores the reservations of requests whose cost is not known yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kbetl.prices import Price, usd
from kbetl.store.store import Store, now


class MaxUsage(NamedTuple):
    """The most tokens and money that one try can use."""

    tokens: int
    """Prompt and completion."""
    pusd: int | None
    """Picodollars; None if no price is known."""


class ToReserve(NamedTuple):
    """One try that is about to be sent."""

    run_id: int
    request_hash: str
    attempt: int
    model: str
    worst: MaxUsage


class AnswersOfModel(NamedTuple):
    """Usage of the answers of one model, without those that a reservation counts."""

    model: str
    has_cost: bool
    """Whether these answers report their cost."""
    reported_pusd: float
    """Whole picodollars, as the answers report them."""
    computed_pusd: float
    """Whole picodollars that tokens and the price of their run make beyond that."""
    unpriced_fresh_tokens: int
    """Tokens of answers whose run knew no price, here and in the next two."""
    unpriced_cached_tokens: int
    unpriced_completion_tokens: int
    longest_unpriced: int
    """Prompt tokens of the longest of them."""
    unpriced_reported_pusd: float
    """Whole picodollars that they report."""
    tokens: int


class AnswerWithoutUsage(NamedTuple):
    """An answer that reports no tokens; `lacks_cost`: nor its cost."""

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
    """US dollars at most; None if no price was known."""


def add_price(store: Store, run_id: int, model: str, price: Price) -> None:
    """Stores the price that a run counts with. Call within a transaction."""
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
    """Reserves the most that a try can use; returns the reservation's id. Call within a transaction."""
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
    """Drops a reservation: its answer is stored and reports its usage, or nothing was billed.

    Call within the transaction that stores the answer.
    """
    store.execute("reservations/drop_reservation", {"id": reservation_id})


def charge_in_full(store: Store, reservation_id: int, try_number: int) -> None:
    """Keeps a reservation as the usage of its answer, which is stored and reports none.

    Call within the transaction that stores the answer.
    """
    store.execute("reservations/keep_reservation", {"id": reservation_id, "try": try_number})


def open_reservation(store: Store, run_id: int, request_hash: str, attempt: int = 0) -> int | None:
    """The oldest reservation of a run for a request without an answer; None if there is none."""
    key = {"run_id": run_id, "request_hash": request_hash, "attempt": attempt}
    found = store.rows("reservations/open_reservation", key)
    return found[0][0] if found else None


def answers_by_model(store: Store, task: str) -> list[AnswersOfModel]:
    """Usage by model of all runs of a task's name, as far as answers report it."""
    found = [AnswersOfModel(*row) for row in store.rows("reservations/spent_by_answers", {"task": task})]
    return [each._replace(has_cost=bool(each.has_cost)) for each in found]


def answers_without_usage(store: Store, task: str) -> Iterator[AnswerWithoutUsage]:
    """The answers of all runs of a task's name that report no tokens."""
    with store.translate_errors():
        for model, lacks_cost, request in store.execute("reservations/spent_untold", {"task": task}):
            yield AnswerWithoutUsage(model, bool(lacks_cost), request)


def reserved_by_model(store: Store, task: str) -> list[ReservedOfModel]:
    """What is charged in full for a task's name: requests that were sent and whose usage is not known."""
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
    """Drops a batch's reservations for requests that no answer will come for. Call within a transaction."""
    store.execute("reservations/drop_reservations_of_ended", {"batch_id": batch_id})
