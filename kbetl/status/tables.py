"""What `kbetl status` says, as values: a class for each table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Source(NamedTuple):
    """One source and what it holds; `samples` are different ones, `rows` are places."""

    name: str
    rows: int
    samples: int
    modules: int
    rollouts: int
    rejected: int
    ingested_at: str


class Made(NamedTuple):
    """Rollouts of one source by one model in one environment; None where nobody says which."""

    source: str
    model: str | None
    environment: str | None
    rows: int
    rollouts: int
    empty: int
    errors: int
    rewarded: int


class Kind(NamedTuple):
    """All samples of one kind; `good` have a reward above min_reward."""

    kind: str
    samples: int
    good: int


class Difficulty(NamedTuple):
    """Samples rated alike with the labels in use; `good` are in `filtered`."""

    difficulty: str
    samples: int
    good: int


class Pending(NamedTuple):
    """What a plain run would ask; `why` is `new` or `failed`."""

    task: str
    why: str
    samples: int


class HandedOut(NamedTuple):
    """What waits for batch files, and is not asked meanwhile."""

    task: str
    samples: int
    files: int


class Parked(NamedTuple):
    """Samples that failed in so many runs in a row that a plain run leaves them out."""

    task: str
    samples: int


class Failure(NamedTuple):
    """Samples whose outcome by the task in use is not ok, for one reason."""

    task: str
    status: str
    reason: str
    samples: int


class Cost(NamedTuple):
    """Paid answers; `cost_usd` is None where no answer told its cost, `task` where none was asked."""

    task: str | None
    model: str
    answers: int
    cost_usd: float | None
    answers_without_cost: int
    prompt_tokens: int | None
    completion_tokens: int | None
    computed_usd: float | None
    """By tokens and price, of answers that told no cost; None where none could be computed."""
    uncounted: int
    """Answers whose cost is neither told nor computed."""
    reserved: int
    """Requests under a budget that were sent and told no usage; they count in full."""
    reserved_usd: float | None
    """What those cost at most; None where there are none, or no price was known."""


class Reserved(NamedTuple):
    """Requests that a run under a budget sent and of which nothing is known since; they count in full."""

    run_id: int
    command: str
    task: str
    is_killed: bool
    requests: int
    tokens: int
    cost_usd: float | None
    """At most; None where no price was known."""


@dataclass(frozen=True, slots=True)
class Labels:
    """One task and its outcomes by status."""

    task: str
    task_hash: str
    model: str
    in_use: bool
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that did not end with 0 and was not made good; `status` is None if it runs or was killed."""

    run_id: int
    command: str
    task: str | None
    started_at: str
    status: int | None
    pid: int
    is_running: bool
    resume: str | None
    """The command that takes it up, or that shows what it left over; None: the same command again."""


@dataclass(frozen=True, slots=True)
class Served:
    """Answers whose reply names another model than was asked, a snapshot of it among them."""

    model: str
    served_model: str
    answers: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `kbetl status` says."""

    database: str
    size_bytes: int
    pending: Sequence[Pending]
    handed_out: Sequence[HandedOut]
    failures: Sequence[Failure]
    parked: Sequence[Parked]
    unfinished: Sequence[Unfinished]
    sources: Sequence[Source]
    models: Sequence[Made]
    samples: Sequence[Kind]
    labels: Sequence[Labels]
    difficulties: Sequence[Difficulty]
    costs: Sequence[Cost]
    served: Sequence[Served]
    reserved: Sequence[Reserved]
    settings: Mapping[str, Any]
    next: str
    """The command to run next."""

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: every table as a list of objects."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: _plain(value) for name, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [item._asdict() if hasattr(item, "_asdict") else asdict(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
