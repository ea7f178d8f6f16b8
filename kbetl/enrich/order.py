"""What a run would ask, as an order for whoever puts its questions elsewhere."""

from __future__ import annotations

from kbetl.asking.order import Order
from kbetl.asking.starting import limit_of_stage
from kbetl.enrich.options import Options
from kbetl.enrich.planning import check_choosing
from kbetl.enrich.running import Plan, plan_of
from kbetl.enrich.spending import budget_of, price_of
from kbetl.store import Store

_NO_RUN = 0


def ordered(store: Store, options: Options, command: str) -> Order:
    """The questions of `enrich` with these options; raises ConfigError as it does."""
    check_choosing(options)
    return order_of(store, plan_of(store, options), options, command)


def order_of(store: Store, plan: Plan, options: Options, command: str) -> Order:
    """The questions of a plan."""
    task, generate = plan.asked.task, plan.generate
    return Order(
        command=command,
        options=options.as_json(),
        task_row=plan.asked.row(),
        parser_version=task.parser_version,
        question_hash=plan.asked.question_hash,
        read=task.read,
        select=lambda: plan.select(limit_of_stage(options.limit)),
        prepare=plan.prepare(None),
        budget=lambda: budget_of(store, options, plan.asked),
        price=price_of(options, plan.asked),
        generate=None if generate is None else lambda: generate(_NO_RUN),
    )
