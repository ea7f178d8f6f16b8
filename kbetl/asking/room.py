"""The arithmetic of a budget: what was spent, what is reserved, and whether one more request fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kbetl.prices import Price, pusd_of, usd
from kbetl.records import Completion
from kbetl.store.spending import Worst


class Ceiling(NamedTuple):
    """What a task may take in a store in all; None: no limit."""

    pusd: int | None
    """Picodollars."""
    tokens: int | None
    """Prompt and completion."""


class Taken(NamedTuple):
    """Picodollars and tokens. None: not known, which counts as the most that it may be."""

    pusd: int | None
    tokens: int | None


@dataclass
class Room:
    """spent + reserved never passes the ceiling, as long as no request takes more than its reservation."""

    ceiling: Ceiling
    spent_pusd: int = 0
    """Of requests that told what they took."""
    spent_tokens: int = 0
    reserved_pusd: int = field(default=0)
    """Of requests that were sent and have not told it, or never will."""
    reserved_tokens: int = 0

    def fits(self, worst: Worst) -> bool:
        """Whether a request may be sent that takes so much at most."""
        most_pusd, most_tokens = self.ceiling
        if most_pusd is not None and self.used_pusd + (worst.pusd or 0) > most_pusd:
            return False
        return most_tokens is None or self.used_tokens + worst.tokens <= most_tokens

    def take(self, worst: Worst) -> None:
        """Reserves; only what fits."""
        self.reserved_pusd += worst.pusd or 0
        self.reserved_tokens += worst.tokens

    def give_back(self, worst: Worst) -> None:
        """Nothing of a reservation was used."""
        self.reserved_pusd -= worst.pusd or 0
        self.reserved_tokens -= worst.tokens

    def settle(self, worst: Worst, taken: Taken) -> bool:
        """Puts what a request took in place of its reservation.

        False, and nothing changes, where it does not tell what the ceiling is about: it counts in full.
        """
        if not self.is_told(taken):
            return False
        self.give_back(worst)
        self.spent_pusd += taken.pusd or 0
        self.spent_tokens += taken.tokens or 0
        return True

    def is_told(self, taken: Taken) -> bool:
        """Whether an answer tells what the ceiling is about."""
        lacks_cost = self.ceiling.pusd is not None and taken.pusd is None
        lacks_tokens = self.ceiling.tokens is not None and taken.tokens is None
        return not (lacks_cost or lacks_tokens)

    @property
    def left(self) -> Ceiling:
        """What may still be reserved, below zero where more was used than that; None: no limit."""
        return Ceiling(
            None if self.ceiling.pusd is None else self.ceiling.pusd - self.used_pusd,
            None if self.ceiling.tokens is None else self.ceiling.tokens - self.used_tokens,
        )

    @property
    def used_pusd(self) -> int:
        return self.spent_pusd + self.reserved_pusd

    @property
    def used_tokens(self) -> int:
        return self.spent_tokens + self.reserved_tokens

    def as_text(self) -> str:
        """What is used of what, for people."""
        parts = []
        if self.ceiling.pusd is not None:
            reserved = f" (${usd(self.reserved_pusd):.4f} of it reserved)" if self.reserved_pusd else ""
            parts.append(f"${usd(self.used_pusd):.4f} of ${usd(self.ceiling.pusd):.4f}{reserved}")
        if self.ceiling.tokens is not None:
            reserved = f" ({self.reserved_tokens:,} of them reserved)" if self.reserved_tokens else ""
            parts.append(f"{self.used_tokens:,} of {self.ceiling.tokens:,} tokens{reserved}")
        return " and ".join(parts)


def exceeds(worst: Worst, taken: Taken) -> bool:
    """Whether a request took more than it could by its price and limit: then these are wrong."""
    is_dearer = worst.pusd is not None and taken.pusd is not None and taken.pusd > worst.pusd
    return is_dearer or (taken.tokens is not None and taken.tokens > worst.tokens)


def taken_by(completion: Completion, price: Price | None) -> Taken:
    """What an answer took: the larger of its own word for the cost and of its tokens by the price.

    None: neither is known.
    """
    prompt_tokens, completion_tokens = completion.prompt_tokens, completion.completion_tokens
    is_counted = prompt_tokens is not None and completion_tokens is not None
    tokens = (prompt_tokens or 0) + (completion_tokens or 0) if is_counted else None
    known = [] if completion.cost_usd is None else [pusd_of(completion.cost_usd)]
    if is_counted and price is not None and price.covers(prompt_tokens or 0):
        cached = min(prompt_tokens or 0, completion.cached_tokens or 0)
        known.append(price.cost_pusd((prompt_tokens or 0) - cached, cached, completion_tokens or 0))
    return Taken(max(known, default=None), tokens)
