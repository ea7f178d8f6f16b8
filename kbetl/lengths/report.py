"""What was measured of a dataset: figures, advice, and why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kbetl.errors import exit_status_for
from kbetl.lengths import figures
from kbetl.lengths.choosing import Chosen
from kbetl.lengths.figures import Advice, Bucket, Limit, Percentile
from kbetl.lengths.files import TokenizerFiles
from kbetl.lines import plain_text
from kbetl.store import Store
from kbetl.store.measures import Dataset, Fault, LengthCounts, Measures, modules_without_length

SHOWN_FAULTS = 10


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `kbetl lengths` says; lengths are in tokens."""

    dataset: Dataset
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
    refusals: Sequence[Fault]
    unreached: Sequence[Fault]
    percentiles: Sequence[Percentile]
    buckets: Sequence[Bucket]
    limits: Sequence[Limit]
    advice: Sequence[Advice]
    """Empty where text does not reach the rendered text, and where nothing was measured."""
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
        """3 where the template refused a row that was measured now, or leaves text of one out, else 0."""
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

    def head(self) -> str:
        """What was measured, in one line."""
        of = f" of {', '.join(map(plain_text, self.sources))}" if self.sources else ""
        return (
            f"{self.dataset}{of}: {self.counts.measured:,} of {self.counts.rollouts:,} rollouts measured, "
            f"{self.measured_now:,} now, with {plain_text(self.tokenizer)} ({self.template_hash[:11]})"
        )

    def total(self) -> str:
        """Tokens in all, in one line."""
        prompt, completion = self.counts.prompt_tokens, self.counts.completion_tokens
        return f"{prompt:,} prompt + {completion:,} completion = {prompt + completion:,} tokens"


def read_report(
    store: Store, measures: Measures, files: TokenizerFiles, chosen: Chosen, measured_now: int
) -> Report:
    """What the store knows of the rollouts that `measures` chose."""
    groups = measures.histogram()
    unreached = measures.unreached()
    return Report(
        dataset=chosen.dataset,
        sources=chosen.sources,
        tokenizer=files.name,
        template_hash=files.template_hash,
        revision=files.revision,
        counts=measures.counts(),
        measured_now=measured_now,
        modules=modules_without_length(store, chosen.source_ids),
        refusals=measures.refusals(),
        unreached=unreached,
        percentiles=figures.percentiles(groups),
        buckets=figures.buckets(groups),
        limits=figures.limits(groups),
        advice=[] if unreached else figures.advice(groups),
    )


def _faults(faults: Sequence[Fault], words: str) -> Iterator[str]:
    for fault in faults[:SHOWN_FAULTS]:
        yield words.format(
            what=plain_text(fault.what), samples=_samples(fault.samples), example=fault.example[:11]
        )
    hidden = faults[SHOWN_FAULTS:]
    if hidden:
        yield f"... and {len(hidden):,} more: columns refusal and unreached of the table lengths"


def _samples(number: int) -> str:
    return f"{number:,} sample{'' if number == 1 else 's'}"
