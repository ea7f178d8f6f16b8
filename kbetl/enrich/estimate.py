"""What a run would cost, and how far its budget would reach."""

from __future__ import annotations

from dataclasses import dataclass

from kbetl.asking import Budget
from kbetl.prices import Price, pusd_of, usd
from kbetl.records import Request
from kbetl.store.ledger import Usage


@dataclass(frozen=True)
class Estimate:
    """Of the requests that would be sent."""

    requests: int
    cost_usd: float | None
    """About what they cost; None where no price is known."""
    basis: str
    """What that rests on."""
    used: str | None
    """What the budget has used of what; None without a budget."""
    reach: int
    """Requests that the budget lets through where each takes about what is expected."""
    reach_at_least: int
    """Requests that it lets through where each takes the most it can."""

    def lines(self) -> list[str]:
        lines = []
        if self.cost_usd is not None:
            lines.append(f"about ${self.cost_usd:.4f} ({self.basis})")
        if self.used is not None:
            lines.append(
                f"budget: {self.used} used; it would reach about {self.reach} of {self.requests} requests, "
                f"at the worst {self.reach_at_least}"
            )
        return lines


class Estimator:
    """Takes the requests that would be sent, one by one; nothing is reserved in the store."""

    def __init__(self, budget: Budget | None, price: Price | None) -> None:
        self._budget = budget
        self._price = price
        self._used = None if budget is None else budget.room.as_text()
        self._left = None if budget is None else budget.room.left
        self._requests = 0
        self._reach_at_least = 0
        self._is_full = False

    def add(self, request: Request) -> None:
        """One more. Raises ConfigError where a budget is set and its worst case is not known."""
        self._requests += 1
        if self._budget is None:
            return
        worst = self._budget.worst_case(request)
        self._is_full = self._is_full or not self._budget.room.fits(worst)
        if not self._is_full:
            self._budget.room.take(worst)
            self._reach_at_least += 1

    def estimate(self, prompt_tokens: int, output_limit: int | None, usage: Usage) -> Estimate:
        """What they take together: `prompt_tokens` of all, `output_limit` of each, `usage` as of before."""
        each_tokens = usage.completion_tokens if usage.completion_tokens is not None else output_limit
        completion_tokens = None if each_tokens is None else round(each_tokens * self._requests)
        cost_usd, basis = self._cost(prompt_tokens, completion_tokens, usage)
        reach = max(self._reach(cost_usd, prompt_tokens + (completion_tokens or 0)), self._reach_at_least)
        return Estimate(self._requests, cost_usd, basis, self._used, reach, self._reach_at_least)

    def _cost(
        self, prompt_tokens: int, completion_tokens: int | None, usage: Usage
    ) -> tuple[float | None, str]:
        told_usd = None if usage.cost_usd is None else usage.cost_usd * self._requests
        told = told_usd, "as answers of this model told before"
        if self._price is None or completion_tokens is None:
            return (None, "") if told_usd is None else told
        cost_usd = usd(self._price.cost_pusd(prompt_tokens, 0, completion_tokens))
        if told_usd is not None and (told_usd >= cost_usd or usage.completion_tokens is None):
            return told
        basis = (
            "answers as long as before" if usage.completion_tokens is not None else "answers at their limit"
        )
        return cost_usd, f"{basis}, at the price of {self._price.source}"

    def _reach(self, cost_usd: float | None, tokens: int) -> int:
        """Requests that fit where all take what is expected on average."""
        if self._left is None:
            return self._requests
        shares = [1.0]
        if self._left.pusd is not None and cost_usd:
            shares.append(self._left.pusd / pusd_of(cost_usd))
        if self._left.tokens is not None and tokens:
            shares.append(self._left.tokens / tokens)
        return int(max(0.0, min(shares)) * self._requests)
