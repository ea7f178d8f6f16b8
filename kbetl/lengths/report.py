"""Computes figures and advice from the measured lengths of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from kbetl.errors import exit_status_for
from kbetl.lengths.scope import Chosen
from kbetl.lengths.tokenizer_files import TokenizerFiles
from kbetl.store import Store
from kbetl.store.lengths import (
    USUAL,
    FieldFault,
    HistogramBin,
    LengthCounts,
    LengthStore,
    samples_without_length,
    seq_len,
)
from kbetl.text import hidden_line, plain_text

SHOWN_FAULTS = 10


@dataclass(frozen=True, slots=True)
class LengthReport:
    """Everything that `kbetl lengths` says; lengths are in tokens."""

    dataset: str
    sources: tuple[str, ...]
    """Empty for all."""
    tokenizer: str
    template_hash: str
    revision: str | None
    """The tokenizer's commit on the Hub; None for a folder."""
    counts: LengthCounts
    measured_now: int
    """Samples that this run measured, or saw refused."""
    modules: int
    """Modules left out: they have no completion."""
    records: int
    """Records left out, likewise."""
    refusals: Sequence[FieldFault]
    unreached: Sequence[FieldFault]
    percentiles: Sequence[Percentile]
    buckets: Sequence[Bucket]
    limits: Sequence[Limit]
    advice: Sequence[Advice]
    """Empty if text does not reach the rendered text, and if nothing was measured."""
    left_over_now: int = 0
    """Samples that this run saw refused by the template, or of which it leaves text out."""

    @property
    def waiting(self) -> int:
        """Rollouts of the dataset that were not measured yet."""
        return self.counts.rollouts - self.counts.measured - self.counts.refused

    @property
    def has_ratings(self) -> bool:
        """Whether any of the measured samples has a difficulty."""
        return any(limit.difficulty not in ("all", None) for limit in self.limits)

    @property
    def exit_status(self) -> int:
        """3 if the template refused a row that was measured now, or leaves text of one out, else 0."""
        return exit_status_for(self.left_over_now)

    def counts_of_run(self) -> dict[str, int]:
        """For `runs.counts`."""
        return {"measured_now": self.measured_now, "modules": self.modules, **self.counts._asdict()}

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: every table as a list of objects."""
        plain = asdict(self)
        for name in plain:
            found = getattr(self, name)
            if isinstance(found, list):
                plain[name] = [each._asdict() for each in found]
            elif isinstance(found, LengthCounts):
                plain[name] = {**found._asdict(), "waiting": self.waiting}
        return plain

    def left_over(self) -> Iterator[str]:
        """What was not measured, or not as it should be, a line each; why there is no advice."""
        if self.waiting:
            yield f"{self.waiting:,} of {self.counts.rollouts:,} rollouts are not measured yet"
        yield from _faults(self.refusals, "{samples} refused: {what} (for example {example})")
        yield from _faults(
            self.unreached,
            "{what} of {samples} does not reach the rendered text (for example {example})",
        )
        if self.unreached:
            yield (
                f"no advice: a trainer with this template would not see all text of "
                f"{_samples(self.counts.unreached)}; use a template that renders it, or leave those out"
            )
        if self.modules:
            yield f"{self.modules:,} modules have no completion and are left out"
        if self.records:
            yield f"{self.records:,} records have no completion and are left out"

    def head(self) -> str:
        """Says in one line what was measured."""
        of = f" of {', '.join(map(plain_text, self.sources))}" if self.sources else ""
        return (
            f"{self.dataset}{of}: {self.counts.measured:,} of {self.counts.rollouts:,} rollouts measured, "
            f"{self.measured_now:,} now, with {plain_text(self.tokenizer)} ({self.template_hash[:11]})"
        )

    def total(self) -> str:
        """Says in one line how many tokens there are in all."""
        prompt, completion = self.counts.prompt_tokens, self.counts.completion_tokens
        return f"{prompt:,} prompt + {completion:,} completion = {prompt + completion:,} tokens"


def read_report(
    store: Store, measures: LengthStore, files: TokenizerFiles, chosen: Chosen, measured_now: int
) -> LengthReport:
    """The report on the rollouts that `measures` selected."""
    groups = measures.histogram()
    unreached = measures.unreached()
    without = samples_without_length(store, chosen.source_ids)
    return LengthReport(
        dataset=chosen.dataset,
        sources=chosen.sources,
        tokenizer=files.name,
        template_hash=files.template_hash,
        revision=files.revision,
        counts=measures.counts(),
        measured_now=measured_now,
        modules=without.modules,
        records=without.records,
        refusals=measures.refusals(),
        unreached=unreached,
        percentiles=percentiles(groups),
        buckets=buckets(groups),
        limits=limits(groups),
        advice=[] if unreached else advice(groups),
    )


def _faults(faults: Sequence[FieldFault], words: str) -> Iterator[str]:
    for fault in faults[:SHOWN_FAULTS]:
        yield words.format(
            what=plain_text(fault.what), samples=_samples(fault.samples), example=fault.example[:11]
        )
    hidden = len(faults) - SHOWN_FAULTS
    yield from hidden_line(max(hidden, 0), "reasons: columns refusal and unreached of the table lengths")


def _samples(number: int) -> str:
    return f"{number:,} sample{'' if number == 1 else 's'}"


PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0)
ADVISED = (99.0, 99.5, 100.0)


class Percentile(NamedTuple):
    """The smallest length that covers at least `percentile` % of the samples."""

    percentile: float
    total_tokens: int


class Bucket(NamedTuple):
    """Samples longer than `over_tokens`, up to `up_to_tokens` (None: no end); `share` is 0 to 1."""

    over_tokens: int
    up_to_tokens: int | None
    samples: int
    share: float


class Limit(NamedTuple):
    """What a sequence length does: what is cut off, and what padding wastes, one sample per sequence.

    `difficulty` is `all`, a rating, or None for what is not rated; shares are 0 to 1.
    """

    limit_tokens: int
    difficulty: str | None
    samples: int
    samples_over: int
    share_over: float
    tokens_lost: int
    tokens_padding: int
    share_padding: float


class Advice(NamedTuple):
    """The sequence length that covers `percentile` % of the samples, and what it does."""

    percentile: float
    total_tokens: int
    seq_len: int
    samples_over: int
    tokens_lost: int
    tokens_padding: int
    share_padding: float


def percentiles(groups: Sequence[HistogramBin], wanted: Sequence[float] = PERCENTILES) -> list[Percentile]:
    """The percentiles of the lengths, by nearest rank; `groups` come shortest first. Empty without samples.

    >>> percentiles([HistogramBin(None, 10, 3), HistogramBin(None, 40, 1)], [50, 75, 99])
    [Percentile(percentile=50, total_tokens=10), Percentile(percentile=75, total_tokens=10), \
Percentile(percentile=99, total_tokens=40)]
    """
    samples = sum(group.samples for group in groups)
    found: list[Percentile] = []
    covered = 0
    for group in groups:
        covered += group.samples
        # exact: 99.9 % of 1,000 samples are 999, in floats a little more
        while len(found) < len(wanted) and covered * 100 >= samples * Fraction(str(wanted[len(found)])):
            found.append(Percentile(wanted[len(found)], group.total_tokens))
    return found


def buckets(groups: Sequence[HistogramBin]) -> list[Bucket]:
    """All buckets from 1,024 tokens up, also the empty ones. Empty if there are no samples."""
    samples = sum(group.samples for group in groups)
    bounds = zip((-1, *USUAL), (*USUAL, None), strict=True)
    found = []
    for over, up_to in bounds:
        here = sum(
            group.samples
            for group in groups
            if over < group.total_tokens and (up_to is None or group.total_tokens <= up_to)
        )
        found.append(Bucket(max(over, 0), up_to, here, here / samples if samples else 0.0))
    return found if samples else []


def limits(groups: Sequence[HistogramBin]) -> list[Limit]:
    """What each usual length does to all samples, then to those of each difficulty."""
    if not groups:
        return []
    ratings: dict[str | None, list[HistogramBin]] = {}
    for group in groups:
        ratings.setdefault(group.difficulty, []).append(group)
    parts = [("all", groups), *sorted(ratings.items(), key=lambda part: (part[0] is None, part[0] or ""))]
    return [_limit(usual, difficulty, held) for usual in USUAL for difficulty, held in parts]


def advice(groups: Sequence[HistogramBin]) -> list[Advice]:
    """The sequence lengths that cover 99, 99.5 and 100 %, rounded up to usual values."""
    found = []
    for percentile, total_tokens in percentiles(groups, ADVISED):
        limit = _limit(seq_len(total_tokens), "all", groups)
        wasted = (limit.tokens_padding, limit.share_padding)
        found.append(
            Advice(
                percentile, total_tokens, limit.limit_tokens, limit.samples_over, limit.tokens_lost, *wasted
            )
        )
    return found


def _limit(limit_tokens: int, difficulty: str | None, groups: Sequence[HistogramBin]) -> Limit:
    samples = sum(group.samples for group in groups)
    over = sum(group.samples for group in groups if group.total_tokens > limit_tokens)
    lost = sum(group.samples * max(group.total_tokens - limit_tokens, 0) for group in groups)
    padding = sum(group.samples * max(limit_tokens - group.total_tokens, 0) for group in groups)
    return Limit(
        limit_tokens,
        difficulty,
        samples,
        over,
        over / samples,
        lost,
        padding,
        padding / (samples * limit_tokens),
    )
