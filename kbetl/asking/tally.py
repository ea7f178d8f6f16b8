"""What a run has done so far, as numbers that another thread may read at any moment."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kbetl.asking.room import taken_by
from kbetl.prices import Price, pusd_of, usd
from kbetl.records import Completion, Status

MAX_REASONS = 200
"""Different reasons that are counted apart; the rest are counted as one."""
_SNAPSHOT = re.compile(r"[-@:_](?:latest|\d{4}-?\d{2}-?\d{2}|\d{3,8})$")
"""What names a model's state at a time: `gpt-5.2-2026-01-01`, `kimi-k2-0905`, `gemini-2.0-flash-001`."""


def is_other_model(served: str, asked: str) -> bool:
    """Whether a reply names another model than was asked.

    A snapshot of the model asked is no other one, nor is its name with or without who provides it; of two
    snapshots one is.

    >>> is_other_model("gpt-5.2-2026-01-01", "openai/gpt-5.2"), is_other_model("gpt-5.2-mini", "gpt-5.2")
    (False, True)
    """
    one, other = (name.strip().lower().rpartition("/")[2] for name in (served, asked))
    told = [_SNAPSHOT.sub("", name) for name in (one, other)]
    is_dated = one != told[0] and other != told[1] and "latest" not in one + other
    return one != other and (told[0] != told[1] or is_dated)


@dataclass
class Tally:
    """Counts of one run. asked = ok + unparsed + refused + truncated + failed."""

    waiting: int = 0
    """Samples that this run set out to ask."""
    statuses: Counter[Status] = field(default_factory=Counter)
    reasons: Counter[tuple[Status, str]] = field(default_factory=Counter)
    """Outcomes that are not ok, by status and reason."""
    answers: int = 0
    """Tries that were delivered and kept, spoilt ones among them."""
    reused: int = 0
    """Samples settled by an answer that was there already, or that another sample of this run got."""
    reused_elsewhere: int = 0
    """Of those, by an answer of another host."""
    handed_out: int = 0
    """Samples that were not asked because a batch file holds their request."""
    count_in_flight: Callable[[], int] = lambda: 0
    """Requests that were sent and are not answered yet."""
    hold_s: Callable[[], float] = lambda: 0.0
    """Seconds for which nothing is sent, as the server wants it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    """US dollars, as far as answers told it; None where none did."""
    price: Price | None = None
    """What tokens cost where answers do not tell it; None: not known."""
    computed_pusd: int = 0
    """Picodollars that tokens and price make beyond what answers told."""
    uncounted: int = 0
    """Answers that told no cost, and for which it cannot be computed."""
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers of other models than were asked, by the name in the reply and the one asked."""
    is_ending: bool = False
    """Whether nothing new is asked any more, as a signal or a fault ended the run."""

    @property
    def asked(self) -> int:
        """Samples that have an outcome by this run."""
        return self.statuses.total()

    @property
    def not_ok(self) -> int:
        """Of those, samples whose outcome is not ok."""
        return self.asked - self.statuses["ok"]

    def count_outcome(self, status: Status, reason: str | None, samples: int = 1) -> None:
        """One more conclusion, about so many samples."""
        self.statuses[status] += samples
        if status != "ok":
            key = (status, reason or "")
            if key not in self.reasons and len(self.reasons) >= MAX_REASONS:
                key = (status, "other reasons")
            self.reasons[key] += samples

    def count_answers(self, completions: Sequence[Completion], model: str) -> None:
        """What was delivered and paid for, where `model` was asked."""
        for completion in completions:
            self.answers += 1
            served = completion.served_model
            if served is not None and is_other_model(served, model):
                self.served[served, model] += 1
            self.prompt_tokens += completion.prompt_tokens or 0
            self.completion_tokens += completion.completion_tokens or 0
            if completion.cost_usd is not None:
                self.cost_usd = (self.cost_usd or 0.0) + completion.cost_usd
            if self.price is not None:
                self._compute(completion, self.price)

    def _compute(self, completion: Completion, price: Price) -> None:
        taken = taken_by(completion, price)
        self.uncounted += taken.pusd is None
        self.computed_pusd += max(0, (taken.pusd or 0) - pusd_of(completion.cost_usd or 0.0))

    def served_lines(self) -> list[str]:
        """Which other models answered, and how often."""
        return [
            f"{asked} was asked and {served} answered: {count} answers (answers.served_model)"
            for (served, asked), count in self.served.most_common(10)
        ]

    def cost_text(self) -> str | None:
        """What the run's answers cost, computed costs apart from told ones; None where nothing is known."""
        told = None if self.cost_usd is None else f"${self.cost_usd:.4f}"
        computed = f"${usd(self.computed_pusd):.4f} by tokens and price" if self.computed_pusd else None
        return " + ".join(part for part in (told, computed) if part is not None) or None
