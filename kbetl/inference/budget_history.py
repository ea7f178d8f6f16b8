"""Opens the budget of a task: what it has used in a store so far, over all runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kbetl.errors import ConfigError
from kbetl.inference.budget import Balance, Budget, Limit, billed_usage, max_usage, output_limit
from kbetl.prices import Price, find_price, how_to_price, pusd_of
from kbetl.records import Completion, Request, request_from_text
from kbetl.store import Store
from kbetl.store.reservations import (
    AnswersOfModel,
    AnswerWithoutUsage,
    HandedOutRequest,
    ReservedOfModel,
    answers_by_model,
    answers_without_usage,
    charge_in_full,
    handed_out_uncounted,
    open_reservation,
    orphaned_reservations,
    release,
    reserved_by_model,
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
    """What a budget counts: a task's name, and what is asked."""

    task_name: str
    """A budget is that of the name: another template, model or parameter does not begin a new one."""
    model: str
    parameters: Mapping[str, Any]
    base_url: str


def open_budget(store: Store, scope: BudgetScope, limits: BudgetLimits) -> Budget | None:
    """The budget, less what all runs of the task's name have used; None if no limit is set.

    Set its `run_id` before it reserves. Raises ConfigError if a limit cannot be kept: no price, no
    output limit, or answers of earlier runs whose cost cannot be known.
    """
    if not limits.is_set:
        return None
    if limits.cost_usd is not None and not 0 <= limits.cost_usd <= _MOST_USD:
        raise ConfigError(f"--max-cost {limits.cost_usd} is no amount from 0 to {_MOST_USD:,.0f} US dollars")
    if output_limit(scope.parameters) is None:
        raise ConfigError(
            f"{_named(limits)} needs an output limit, and {scope.task_name} is asked without one: "
            "give -t/--max-tokens N, or -o max_completion_tokens N"
        )
    price = find_price(scope.model, scope.base_url)
    if limits.cost_usd is not None and price is None:
        raise ConfigError(
            f"--max-cost needs a price, and none is known of {scope.model}: {how_to_price(scope.model)}, "
            "or pip install 'kbetl[prices]' for the list prices of well-known providers"
        )
    max_pusd = None if limits.cost_usd is None else pusd_of(limits.cost_usd)
    balance = Balance(Limit(max_pusd, limits.tokens))
    _load_history(store, scope, balance, lambda model: find_price(model, scope.base_url))
    budget = Budget(balance, price, scope.task_name)
    budget.orphaned_note = _orphaned_note(store, scope.task_name)
    return budget


def close_reservation(
    store: Store, run_id: int, request: Request, found: tuple[Completion, int] | None, attempt: int = 0
) -> None:
    """Charges or releases what `run_id` reserved for a request of a batch file; does nothing without that.

    `found` is the answer and the number of its try; None if the request was not answered and not billed.
    An answer that names neither its cost nor its tokens counts in full. Call it within the transaction
    that stores the answer.
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


def _load_history(store: Store, scope: BudgetScope, balance: Balance, price_of: PriceOf) -> None:
    """Adds to the balance what all runs of the task's name have used or reserved."""
    for answers in answers_by_model(store, scope.task_name):
        _count_answers(answers, balance, price_of)
    for answer in answers_without_usage(store, scope.task_name):
        _count_without_usage(answer, balance, price_of)
    for reserved in reserved_by_model(store, scope.task_name):
        _count_reserved(reserved, balance, price_of)
    for pending in handed_out_uncounted(store, scope.task_name):
        _count_handed_out(pending, balance, price_of)


def _count_answers(answers: AnswersOfModel, balance: Balance, price_of: PriceOf) -> None:
    balance.spent_tokens += answers.tokens
    balance.spent_pusd += int(answers.reported_pusd) + int(answers.computed_pusd)
    tokens = (
        answers.unpriced_fresh_tokens,
        answers.unpriced_cached_tokens,
        answers.unpriced_completion_tokens,
    )
    if balance.ceiling.pusd is None or not any(tokens):
        return
    price = price_of(answers.model) if answers.has_cost else _price(answers.model, price_of)
    if price is None:
        return
    if price.covers(answers.longest_unpriced):
        balance.spent_pusd += max(0, price.cost_pusd(*tokens) - int(answers.unpriced_reported_pusd))
    elif not answers.has_cost:
        raise ConfigError(
            f"answers of {answers.model} to prompts of up to {answers.longest_unpriced:,} tokens "
            "have no price: " + how_to_price(answers.model)
        )


def _count_without_usage(answer: AnswerWithoutUsage, balance: Balance, price_of: PriceOf) -> None:
    """Adds the most that an answer without a token count and without a reservation may have used."""
    lacks_cost = answer.lacks_cost and balance.ceiling.pusd is not None
    if not lacks_cost and balance.ceiling.tokens is None:
        return
    price = _price(answer.model, price_of) if lacks_cost else None
    is_free = price is not None and price.input_usd == price.cached_input_usd == price.output_usd == 0
    if is_free and balance.ceiling.tokens is None:
        return
    request = request_from_text(answer.request)
    if output_limit(request.parameters) is None:
        raise ConfigError(
            f"an earlier run asked {answer.model} without an output limit, and an answer told neither its "
            "cost nor its tokens: no budget can be kept in this store for this task; leave the limit out"
        )
    balance.reserve(max_usage(request, price))


def _count_handed_out(pending: HandedOutRequest, balance: Balance, price_of: PriceOf) -> None:
    """Adds the most that the answer to a request of a batch file without a reservation may use."""
    request = request_from_text(pending.request)
    if output_limit(request.parameters) is None:
        raise ConfigError(
            f"a batch file asks {pending.model} without an output limit, and its answers are not there yet: "
            "no budget can be kept until they are; read them with kbetl batch read or fetch, or leave the "
            "limit out"
        )
    price = _price(pending.model, price_of) if balance.ceiling.pusd is not None else None
    balance.reserve(max_usage(request, price))


def _orphaned_note(store: Store, task_name: str) -> str:
    """What killed runs have reserved, in words; call under the task's lock, so that no other run goes on."""
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


def _count_reserved(reserved: ReservedOfModel, balance: Balance, price_of: PriceOf) -> None:
    balance.reserved_tokens += reserved.tokens
    balance.reserved_pusd += int(reserved.pusd)
    if balance.ceiling.pusd is not None and reserved.unpriced_tokens:
        tokens = reserved.unpriced_tokens
        price = _price(reserved.model, price_of)
        balance.reserved_pusd += max(price.most_pusd(tokens, 0), price.most_pusd(0, tokens))


def _price(model: str, price_of: PriceOf) -> Price:
    price = price_of(model)
    if price is None:
        raise ConfigError(
            f"--max-cost counts what earlier runs cost, and no price is known of {model}, "
            "which answered some: " + how_to_price(model)
        )
    return price
