"""What a run did, and what one would do, for a person."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from kbetl import config
from kbetl.errors import exit_status_for
from kbetl.inference.budget import Budget, billed_usage
from kbetl.prices import Price, pusd_of, usd
from kbetl.records import Completion, Request, Status
from kbetl.store.answers import Usage

_FAILURES = ("query", "select * from failures where task = :task", "-p", "task")

# Of code and prose in English, for a model without an answer in the store.
CHARACTERS_PER_TOKEN = 3.6


@dataclass(frozen=True)
class RunReport:
    """What a run did. `not_ok` counts, by status, the chosen samples whose outcome is not ok now."""

    task: str
    model: str
    task_hash: str
    selected: int
    unanswered: int
    """Chosen samples that a run without a limit would ask, each as often as answers are wanted."""
    tally: RunProgress
    not_ok: Mapping[str, int]
    handed_out: int = 0
    """Chosen samples whose request is pending in a batch file."""
    notes: tuple[str, ...] = ()
    what: str = "samples chosen"
    database: Path = config.DATABASE
    budget_reached: str | None = None
    """What the budget has reached, if it ended the run; else None."""
    rejected: int = 0
    """Rows of a file of prompts that hold none."""

    @property
    def exit_status(self) -> int:
        """3 if this run recorded an outcome that is not ok, or asked less than it should, else 0."""
        return exit_status_for(self.tally.not_ok, self.handed_out, self.budget_reached, self.rejected)

    def lines(self) -> list[str]:
        """For a person: what was not done before what was."""
        lines = self.tally.reason_lines()
        if self.budget_reached is not None:
            unasked = self.tally.waiting - self.tally.asked
            lines.insert(
                0, f"{self.budget_reached}: {unasked} of {self.tally.waiting} samples were not asked"
            )
        lines.append(
            f"{self.task} by {self.model} ({self.task_hash[:15]}): asked {self.tally.outcomes_text()}"
        )
        lines.append(self._spent())
        if self.not_ok:
            left = ", ".join(f"{status} {count}" for status, count in self.not_ok.items())
            see = config.command_line(self.database, *_FAILURES, self.task)
            lines.append(f"left over: {left}; see: {see}")
        if self.rejected:
            see = config.command_line(self.database, "query", "select * from rejected_rows")
            lines.append(f"rejected: {self.rejected} rows that hold no prompt; see: {see}")
        if self.handed_out:
            lines.append(f"left to batch files: {self.handed_out}; see: kbetl batch status")
        return [*lines, *self.notes]

    def _spent(self) -> str:
        tally = self.tally
        return (
            f"{tally.answers_text()}, reused {tally.reused}; "
            f"{self.what} {self.selected}, not to be asked {self.selected - self.unanswered}"
            + (f", left for another run {self.unanswered - self.tally.waiting}" if self.is_limited else "")
        )

    @property
    def is_limited(self) -> bool:
        """Whether a limit kept the run from asking everything that is missing."""
        return self.unanswered > self.tally.waiting


@dataclass(frozen=True)
class DryReport:
    """What a run would do."""

    task: str
    model: str
    task_hash: str
    chosen: int
    waiting: int
    groups: tuple[tuple[str, int], ...]
    """Why, and how many samples."""
    requests: int
    """Different requests that would be sent."""
    answered: int
    """Samples that an answer in the store would decide."""
    impossible: int
    """Samples that lack a field."""
    handed_out: int
    """Samples whose request is pending in a batch file."""
    prompt_tokens: int
    completion_tokens: int | None
    """At most, by the output limit; None without one."""
    is_measured: bool
    """Whether the token estimate is computed from answers of this model."""
    estimate: Estimate
    what: str = "samples"
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        lines = [
            f"{self.task} by {self.model} ({self.task_hash[:15]}): "
            f"would ask {self.waiting} of {self.chosen} {self.what}"
        ]
        lines += [f"  {count} {why}" for why, count in self.groups]
        lines.append(
            f"requests to send {self.requests}; settled by answers that are there {self.answered}; "
            f"cannot be asked {self.impossible}"
            + (f"; left to batch files {self.handed_out}" if self.handed_out else "")
        )
        basis = (
            "as this model counted before"
            if self.is_measured
            else f"at {CHARACTERS_PER_TOKEN} characters each"
        )
        limit = "no limit" if self.completion_tokens is None else f"at most {self.completion_tokens:,}"
        lines.append(f"about {self.prompt_tokens:,} prompt tokens ({basis}), {limit} completion tokens")
        return [*lines, *self.estimate.lines(), *self.notes]


def billed_there_too(at_service: int) -> str:
    """The end of a line about released requests: how many of them a service answers all the same."""
    return f"; {at_service} of them are at a service, and paid for there too" if at_service else ""


# Different reasons that are counted apart; the rest are counted as one.
MAX_REASONS = 200
_SNAPSHOT = re.compile(r"[-@:_](?:latest|\d{4}-?\d{2}-?\d{2}|\d{3,8})$")
"""The end of a name that is a snapshot's: `gpt-5.2-2026-01-01`, `kimi-k2-0905`, `gemini-2.0-flash-001`."""


def is_other_model(served: str, asked: str) -> bool:
    """Whether a reply names another model than was asked.

    A snapshot of the model asked is no other model, nor is its name with or without the provider's; another
    snapshot than the one asked is.

    >>> is_other_model("gpt-5.2-2026-01-01", "openai/gpt-5.2"), is_other_model("gpt-5.2-mini", "gpt-5.2")
    (False, True)
    """
    one, other = (name.strip().lower().rpartition("/")[2] for name in (served, asked))
    bare = [_SNAPSHOT.sub("", name) for name in (one, other)]
    is_dated = one != bare[0] and other != bare[1] and "latest" not in one + other
    return one != other and (bare[0] != bare[1] or is_dated)


@dataclass
class RunProgress:
    """Counts of one run. asked = ok + unparsed + refused + truncated + failed."""

    waiting: int = 0
    """Samples that this run set out to ask."""
    statuses: Counter[Status] = field(default_factory=Counter)
    reasons: Counter[tuple[Status, str]] = field(default_factory=Counter)
    """Outcomes that are not ok, by status and reason."""
    answers: int = 0
    """Tries whose completion was stored, unusable ones among them."""
    reused: int = 0
    """Samples decided by a stored answer, or by that to another sample of this run."""
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
    """US dollars, as far as answers name it; None if none does."""
    price: Price | None = None
    """What tokens cost if answers do not name it; None: not known."""
    computed_pusd: int = 0
    """Picodollars that tokens and price make beyond what answers name."""
    uncounted: int = 0
    """Answers whose cost is neither named nor can be computed."""
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
        """Counts an outcome of so many samples."""
        self.statuses[status] += samples
        if status != "ok":
            key = (status, reason or "")
            if key not in self.reasons and len(self.reasons) >= MAX_REASONS:
                key = (status, "other reasons")
            self.reasons[key] += samples

    def count_answers(self, completions: Sequence[Completion], model: str) -> None:
        """Counts answers, their tokens and cost; `model` was asked."""
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
        usage = billed_usage(completion, price)
        self.uncounted += usage.pusd is None
        self.computed_pusd += max(0, (usage.pusd or 0) - pusd_of(completion.cost_usd or 0.0))

    def counts(self) -> dict[str, int]:
        """For `runs.counts`."""
        return {
            "asked": self.asked,
            **{str(status): count for status, count in self.statuses.items()},
            "answers": self.answers,
            "reused": self.reused,
            **({"other_model": self.served.total()} if self.served else {}),
        }

    def reason_lines(self) -> list[str]:
        """The ten most frequent reasons of outcomes that are not ok."""
        return [f"{status}: {count} x {reason}" for (status, reason), count in self.reasons.most_common(10)]

    def outcomes_text(self) -> str:
        """How many outcomes there are, and how many of each status."""
        return f"{self.asked}: " + ", ".join(f"{each} {self.statuses[each]}" for each in get_args(Status))

    def answers_text(self) -> str:
        """How many answers came, their tokens and what they cost."""
        cost = self.cost_text()
        return (
            f"answers received {self.answers} ({self.prompt_tokens:,} prompt and "
            f"{self.completion_tokens:,} completion tokens{'' if cost is None else f', {cost}'})"
        )

    def served_lines(self) -> list[str]:
        """Which other models answered, and how often."""
        return [
            f"{asked} was asked and {served} answered: {count} answers (answers.served_model)"
            for (served, asked), count in self.served.most_common(10)
        ]

    def cost_text(self) -> str | None:
        """What the answers cost: as they name it, and as computed; None if nothing is known."""
        named = None if self.cost_usd is None else f"${self.cost_usd:.4f}"
        computed = f"${usd(self.computed_pusd):.4f} by tokens and price" if self.computed_pusd else None
        return " + ".join(part for part in (named, computed) if part is not None) or None


@dataclass(frozen=True)
class Estimate:
    """Of the requests that would be sent."""

    requests: int
    cost_usd: float | None
    """About what they cost; None if no price is known."""
    basis: str
    """What that is computed from, in words."""
    used: str | None
    """What the budget has used of what; None without a budget."""
    reach: int
    """Requests that fit into the budget if each uses what is expected."""
    reach_at_least: int
    """Requests that fit if each uses the most that it can."""

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
    """Adds up the requests that would be sent; reserves nothing in the store."""

    def __init__(self, budget: Budget | None, price: Price | None) -> None:
        self._budget = budget
        self._price = price
        self._used = None if budget is None else budget.balance.as_text()
        self._remaining = None if budget is None else budget.balance.remaining
        self._requests = 0
        self._reach_at_least = 0
        self._is_full = False

    def add(self, request: Request) -> None:
        """Adds one. Raises ConfigError if a budget is set and the worst case is not known."""
        self._requests += 1
        if self._budget is None:
            return
        worst = self._budget.max_usage(request)
        self._is_full = self._is_full or not self._budget.balance.fits(worst)
        if not self._is_full:
            self._budget.balance.reserve(worst)
            self._reach_at_least += 1

    def estimate(self, prompt_tokens: int, output_limit: int | None, usage: Usage) -> Estimate:
        """What they use together: `prompt_tokens` of all, `output_limit` of each, `usage` of earlier ones."""
        each_tokens = usage.completion_tokens if usage.completion_tokens is not None else output_limit
        completion_tokens = None if each_tokens is None else round(each_tokens * self._requests)
        cost_usd, basis = self._cost(prompt_tokens, completion_tokens, usage)
        reach = max(self._reach(cost_usd, prompt_tokens + (completion_tokens or 0)), self._reach_at_least)
        return Estimate(self._requests, cost_usd, basis, self._used, reach, self._reach_at_least)

    def _cost(
        self, prompt_tokens: int, completion_tokens: int | None, usage: Usage
    ) -> tuple[float | None, str]:
        named_usd = None if usage.cost_usd is None else usage.cost_usd * self._requests
        named = named_usd, "as answers of this model told before"
        if self._price is None or completion_tokens is None:
            return (None, "") if named_usd is None else named
        cost_usd = usd(self._price.cost_pusd(prompt_tokens, 0, completion_tokens))
        if named_usd is not None and (named_usd >= cost_usd or usage.completion_tokens is None):
            return named
        basis = (
            "answers as long as before" if usage.completion_tokens is not None else "answers at their limit"
        )
        return cost_usd, f"{basis}, at the price of {self._price.source}"

    def _reach(self, cost_usd: float | None, tokens: int) -> int:
        """Requests that fit if each uses what is expected on average."""
        if self._remaining is None:
            return self._requests
        shares = [1.0]
        if self._remaining.pusd is not None and cost_usd:
            shares.append(self._remaining.pusd / pusd_of(cost_usd))
        if self._remaining.tokens is not None and tokens:
            shares.append(self._remaining.tokens / tokens)
        return int(max(0.0, min(shares)) * self._requests)
