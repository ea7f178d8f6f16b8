"""Opens the budget of a task: what it has taken in a store so far, over all runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from kbetl.errors import ConfigError
from kbetl.inference.budget import Balance, Budget, Limit, billed_usage, max_usage, output_limit
from kbetl.prices import Price, find_price, how_to_price, pusd_of
from kbetl.records import Completion, Request
from kbetl.store import Store
from kbetl.store.reservations import (
    AnswersOfModel,
    AnswerWithoutUsage,
    HandedOutRequest,
    ReservedOfModel,
    answers_by_model,
    charge_in_full,
    handed_out_uncounted,
    open_reservation,
    orphaned_reservations,
    release,
    reserved_by_model,
    untold_answers,
)

_MOST_USD = 1e6
PriceOf = Callable[[str], Price | None]


class BudgetLimits(NamedTuple):
    """`--max-cost` in US dollars and `--max-tokens-total`; None: no such limit."""

    cost_usd: float | None = None
    tokens: int | None = None

    @property
    def is_set(self) -> bool:
        return self.cost_usd is not None or self.tokens is not None


class BudgetScope(NamedTuple):
    """What is asked, as far as a budget is about it."""

    task_name: str
    """A budget is that of the name: another template, model or parameter does not begin a new one."""
    model: str
    parameters: Mapping[str, Any]
    base_url: str


def open_budget(store: Store, asking: BudgetScope, limits: BudgetLimits) -> Budget | None:
    """The budget, with what all runs of the task's name have taken in it; None where no limit is set.

    Set its `run_id` before it reserves. Raises ConfigError where a limit cannot be kept: no price, no
    output limit, or answers of earlier runs whose cost cannot be known.
    """
    if not limits.is_set:
        return None
    if limits.cost_usd is not None and not 0 <= limits.cost_usd <= _MOST_USD:
        raise ConfigError(f"--max-cost {limits.cost_usd} is no amount from 0 to {_MOST_USD:,.0f} US dollars")
    if output_limit(asking.parameters) is None:
        raise ConfigError(
            f"{_named(limits)} needs an output limit, and {asking.task_name} is asked without one: "
            "give -t/--max-tokens N, or -o max_completion_tokens N"
        )
    price = find_price(asking.model, asking.base_url)
    if limits.cost_usd is not None and price is None:
        raise ConfigError(
            f"--max-cost needs a price, and none is known of {asking.model}: {how_to_price(asking.model)}, "
            "or pip install 'kbetl[prices]' for the list prices of well-known providers"
        )
    max_pusd = None if limits.cost_usd is None else pusd_of(limits.cost_usd)
    room = Balance(Limit(max_pusd, limits.tokens))
    _load_history(store, asking, room, lambda model: find_price(model, asking.base_url))
    budget = Budget(room, price, asking.task_name)
    budget.left_behind = _left_behind(store, asking.task_name)
    return budget


def settle_reservation(
    store: Store, run_id: int, request: Request, found: tuple[Completion, int] | None, attempt: int = 0
) -> None:
    """Settles what `run_id` reserved for a request that it handed out.

    Call within the transaction that stores the answer.
    `found` is the answer and the number of its try; None where the request was not answered and not
    billed. An answer that tells neither its cost nor its tokens counts in full. Nothing happens where
    nothing was reserved.
    """
    reservation = open_reservation(store, run_id, request.hash, attempt)
    if reservation is None:
        return
    if found is not None and billed_usage(found[0], None) == (None, None):
        charge_in_full(store, reservation, found[1])
    else:
        release(store, reservation)


def _named(limits: BudgetLimits) -> str:
    return "--max-tokens-total" if limits.cost_usd is None else "--max-cost"


def _load_history(store: Store, asking: BudgetScope, room: Balance, price_of: PriceOf) -> None:
    """Puts into the room what all runs of the task's name took."""
    for answers in answers_by_model(store, asking.task_name):
        _count_answers(answers, room, price_of)
    for untold in untold_answers(store, asking.task_name):
        _count_untold(untold, room, price_of)
    for reserved in reserved_by_model(store, asking.task_name):
        _count_reserved(reserved, room, price_of)
    for waiting in handed_out_uncounted(store, asking.task_name):
        _count_handed_out(waiting, room, price_of)


def _count_answers(answers: AnswersOfModel, room: Balance, price_of: PriceOf) -> None:
    room.spent_tokens += answers.tokens
    room.spent_pusd += int(answers.told_pusd) + int(answers.computed_pusd)
    tokens = (
        answers.unpriced_fresh_tokens,
        answers.unpriced_cached_tokens,
        answers.unpriced_completion_tokens,
    )
    if room.ceiling.pusd is None or not any(tokens):
        return
    price = price_of(answers.model) if answers.is_told else _price(answers.model, price_of)
    if price is None:
        return
    if price.covers(answers.longest_unpriced):
        room.spent_pusd += max(0, price.cost_pusd(*tokens) - int(answers.unpriced_told_pusd))
    elif not answers.is_told:
        raise ConfigError(
            f"answers of {answers.model} to prompts of up to {answers.longest_unpriced:,} tokens "
            "have no price: " + how_to_price(answers.model)
        )


def _count_untold(untold: AnswerWithoutUsage, room: Balance, price_of: PriceOf) -> None:
    """An answer that told no tokens, and that nothing was reserved for: the most that it may have taken."""
    lacks_cost = untold.lacks_cost and room.ceiling.pusd is not None
    if not lacks_cost and room.ceiling.tokens is None:
        return
    price = _price(untold.model, price_of) if lacks_cost else None
    is_free = price is not None and price.input_usd == price.cached_input_usd == price.output_usd == 0
    if is_free and room.ceiling.tokens is None:
        return
    request = _request(untold.request)
    if output_limit(request.parameters) is None:
        raise ConfigError(
            f"an earlier run asked {untold.model} without an output limit, and an answer told neither its "
            "cost nor its tokens: no budget can be kept in this store for this task; leave the limit out"
        )
    room.reserve(max_usage(request, price))


def _count_handed_out(waiting: HandedOutRequest, room: Balance, price_of: PriceOf) -> None:
    """A request that a file holds and that nothing was reserved for: the most that its answer may take."""
    request = _request(waiting.request)
    if output_limit(request.parameters) is None:
        raise ConfigError(
            f"a batch file asks {waiting.model} without an output limit, and its answers are not there yet: "
            "no budget can be kept until they are; read them with kbetl batch read or fetch, or leave the "
            "limit out"
        )
    price = _price(waiting.model, price_of) if room.ceiling.pusd is not None else None
    room.reserve(max_usage(request, price))


def _request(body_text: str) -> Request:
    body = orjson.loads(body_text)
    return Request(body.pop("model"), body.pop("messages"), body)


def _left_behind(store: Store, task_name: str) -> str:
    """What killed runs have reserved, in words; call under the task's lock, where no other run goes on."""
    killed = [each for each in orphaned_reservations(store, task_name) if each.is_open]
    if not killed:
        return ""
    runs = ", ".join(str(each.run_id) for each in killed)
    dollars = sum(each.cost_usd or 0.0 for each in killed)
    tokens = sum(each.tokens for each in killed)
    return (
        f"{sum(each.requests for each in killed):,} requests that were in flight when run {runs} was killed "
        f"count in full, with ${dollars:.4f} and {tokens:,} tokens at most"
    )


def _count_reserved(reserved: ReservedOfModel, room: Balance, price_of: PriceOf) -> None:
    room.reserved_tokens += reserved.tokens
    room.reserved_pusd += int(reserved.pusd)
    if room.ceiling.pusd is not None and reserved.unpriced_tokens:
        tokens = reserved.unpriced_tokens
        price = _price(reserved.model, price_of)
        room.reserved_pusd += max(price.most_pusd(tokens, 0), price.most_pusd(0, tokens))


def _price(model: str, price_of: PriceOf) -> Price:
    price = price_of(model)
    if price is None:
        raise ConfigError(
            f"--max-cost counts what earlier runs cost, and no price is known of {model}, "
            "which answered some: " + how_to_price(model)
        )
    return price
