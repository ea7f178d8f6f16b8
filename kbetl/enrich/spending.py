"""What a run may still take, and what its model's tokens cost."""

from __future__ import annotations

from kbetl import offline
from kbetl.asking import Asking, Budget, BudgetLimits, open_budget
from kbetl.enrich.options import Options
from kbetl.enrich.planning import Asked
from kbetl.prices import Price, find_price
from kbetl.store import Store


def budget_of(store: Store, options: Options, asked: Asked) -> Budget | None:
    """What the task may still take; None without a limit, and for the offline model, which costs nothing.

    Raises ConfigError where a limit cannot be kept.
    """
    if asked.model == offline.MODEL:
        return None
    asking = Asking(asked.task.name, asked.model, asked.parameters, options.base_url)
    return open_budget(store, asking, BudgetLimits(options.max_cost_usd, options.max_tokens_total))


def price_of(options: Options, asked: Asked) -> Price | None:
    """The price of the run's model at the address that it asks; None where none is known."""
    return None if asked.model == offline.MODEL else find_price(asked.model, options.base_url)
