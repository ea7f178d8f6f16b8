"""What a run did, and what one would do, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbetl import config
from kbetl.asking import Tally
from kbetl.enrich.estimate import Estimate
from kbetl.errors import exit_status_for

_FAILURES = ("query", "select * from failures where task = :task", "-p", "task")

CHARACTERS_PER_TOKEN = 3.6
"""Of code and prose in English, where no answer of the model has told better."""


@dataclass(frozen=True)
class Report:
    """What a run did. `left_over` counts, by status, the chosen samples whose outcome is not ok now."""

    task: str
    model: str
    task_hash: str
    chosen: int
    missing: int
    """Chosen samples that a run without a limit would ask, each as often as answers are wanted."""
    tally: Tally
    left_over: Mapping[str, int]
    handed_out: int = 0
    """Chosen samples that wait for a batch file."""
    notes: tuple[str, ...] = ()
    what: str = "samples chosen"
    database: Path = config.DATABASE
    budget_reached: str | None = None
    """What the budget has reached where it ended the run; None where it did not."""
    rejected: int = 0
    """Rows of a file of prompts that hold none."""

    @property
    def exit_status(self) -> int:
        """3 where this run recorded an outcome that is not ok, or asked less than it should, else 0."""
        return exit_status_for(self.tally.not_ok, self.handed_out, self.budget_reached, self.rejected)

    def lines(self) -> list[str]:
        """For a person: what was not done before what was."""
        statuses = self.tally.statuses
        lines = [
            f"{status}: {count} x {reason}" for (status, reason), count in self.tally.reasons.most_common(10)
        ]
        if self.budget_reached is not None:
            unasked = self.tally.waiting - self.tally.asked
            lines.insert(
                0, f"{self.budget_reached}: {unasked} of {self.tally.waiting} samples were not asked"
            )
        parts = ", ".join(
            f"{status} {statuses[status]}" for status in ("ok", "unparsed", "refused", "truncated", "failed")
        )
        lines.append(
            f"{self.task} by {self.model} ({self.task_hash[:15]}): asked {self.tally.asked}: {parts}"
        )
        lines.append(self._spent())
        if self.left_over:
            left = ", ".join(f"{status} {count}" for status, count in self.left_over.items())
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
        cost_text = tally.cost_text()
        cost = "" if cost_text is None else f", {cost_text}"
        return (
            f"answers received {tally.answers} ({tally.prompt_tokens:,} prompt and "
            f"{tally.completion_tokens:,} completion tokens{cost}), reused {tally.reused}; "
            f"{self.what} {self.chosen}, not to be asked {self.chosen - self.missing}"
            + (f", left for another run {self.missing - self.tally.waiting}" if self.is_limited else "")
        )

    @property
    def is_limited(self) -> bool:
        """Whether a limit kept the run from asking everything that is missing."""
        return self.missing > self.tally.waiting


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
    """Samples that an answer in the store would settle."""
    impossible: int
    """Samples that lack a field."""
    handed_out: int
    """Samples that wait for a batch file."""
    prompt_tokens: int
    completion_tokens: int | None
    """At most, by the output limit; None without one."""
    is_measured: bool
    """Whether the token estimate rests on answers of this model."""
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
