"""Counts the tokens of a dataset's rollouts that were not counted yet, and reports on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from kbetl.dataset.dataset import query_of
from kbetl.dataset.registry import MEASURED
from kbetl.errors import BadRow
from kbetl.json_codec import stored_value
from kbetl.lengths.report import LengthReport, read_report
from kbetl.lengths.scope import Chosen
from kbetl.lengths.tokenizer import ChatTokenizer, Rendered
from kbetl.lengths.tokenizer_files import find
from kbetl.samples.conversation import Conversation, check_turns, conversation_of
from kbetl.samples.reading import stored_map
from kbetl.store import Store
from kbetl.store.lengths import Length, LengthStore, Unmeasured
from kbetl.text import plain_text

# Rows, and bytes of rows, that are tokenized together: a token needs some 100 bytes meanwhile.
PAGE_ROWS = 256
PAGE_BYTES = 2**20
# Samples whose token ids are compared with the tokenizer's own call: the first ones, then one in so many.
COMPARED_AT_FIRST = 8
COMPARED_LATER = 1024


@dataclass(slots=True)
class MeasureProgress:
    """Counters of a run, which another thread may read."""

    waiting: int = 0
    """Samples that the run measures; 0 until the number is known."""
    done: int = 0
    tokens: int = 0
    left_over: int = 0
    """Samples that the template refused or whose text it left out."""
    notes: list[str] = field(default_factory=list)


def measure(
    store: Store,
    tokenizer: str,
    chosen: Chosen,
    *,
    limit: int | None = None,
    tally: MeasureProgress | None = None,
) -> LengthReport:
    """Counts and stores the tokens of samples not counted yet with this tokenizer; returns the report.

    `tokenizer` is a folder, NAME or NAME@REVISION; at most `limit` samples are counted. The tokenizer is
    loaded only if there is something to count. Raises ConfigError for a tokenizer without chat template,
    SourceError if the Hub does not give it; counts made before an error stay stored.
    """
    tally = tally or MeasureProgress()
    files = find(tokenizer)
    options = {"tokenizer": tokenizer, "dataset": chosen.dataset, "sources": chosen.sources, "limit": limit}
    counts: dict[str, Any] = {}
    with store.run(
        "lengths",
        {**options, "template_hash": files.template_hash},
        counts=lambda: counts or {"measured_now": tally.done},
    ) as run:
        measures = LengthStore(store, files.name, files.template_hash)
        measures.choose(query_of(MEASURED[chosen.dataset], chosen.source_ids))
        waiting = measures.waiting()
        tally.waiting = waiting if limit is None else min(waiting, limit)
        if tally.waiting:
            _Measurement(measures, ChatTokenizer(files), tally).run()
        report = read_report(store, measures, files, chosen, tally.done)
        report = replace(report, left_over_now=tally.left_over)
        counts.update(report.counts_of_run())
        run.status = report.exit_status
    return report


DIFFERS = (
    "its token ids are not those of the tokenizer's own call; from here on that one counts, more slowly. "
    f"Of those counted before only one in {COMPARED_LATER} was compared: delete those from `lengths`"
)


class _RenderedSample(NamedTuple):
    """A sample that the template rendered."""

    sample_hash: str
    conversation: Conversation
    rendered: Rendered


class _Measurement:
    """Counts tokens page by page; each page is stored before the next is read."""

    def __init__(self, measures: LengthStore, chat: ChatTokenizer, tally: MeasureProgress) -> None:
        self._measures = measures
        self._chat = chat
        self._tally = tally
        # Rendered samples so far; by their number it is decided which are compared.
        self._seen = 0

    def run(self) -> None:
        """Measures as many samples as the progress says."""
        after = 0
        while left := self._tally.waiting - self._tally.done:
            page = self._measures.next(after, min(left, PAGE_ROWS), PAGE_BYTES)
            if not page:
                return  # another process measured them meanwhile
            after = page[-1].position
            lengths = self._lengths(page)
            self._measures.add(lengths)
            self._tally.left_over += sum(bool(each.refusal or each.unreached) for each in lengths)
            self._tally.done += len(page)

    def _lengths(self, page: Sequence[Unmeasured]) -> list[Length]:
        refused, ready = [], []
        for each in page:
            try:
                conversation = conversation_of(stored_value(each.row), stored_map(each.field_map))
                check_turns(conversation)
                ready.append(_RenderedSample(each.sample_hash, conversation, self._chat.render(conversation)))
            except BadRow as bad:
                refused.append(Length(each.sample_hash, None, None, None, refusal=plain_text(str(bad))))
        return [*refused, *self._counted(ready)]

    def _counted(self, ready: Sequence[_RenderedSample]) -> list[Length]:
        for each in self._to_compare(ready):
            if not self._chat.matches_reference(each.conversation, each.rendered):
                self._chat.use_reference()
                self._tally.notes.append(f"sample {each.sample_hash}: {DIFFERS}")
        found = []
        for each, tokens in zip(ready, self._chat.count([each.rendered for each in ready]), strict=True):
            self._tally.tokens += tokens.total
            found.append(Length(each.sample_hash, *tokens, unreached=each.rendered.unreached))
        return found

    def _to_compare(self, ready: Sequence[_RenderedSample]) -> list[_RenderedSample]:
        numbered = enumerate(ready, self._seen)
        self._seen += len(ready)
        return [
            each for number, each in numbered if number < COMPARED_AT_FIRST or number % COMPARED_LATER == 0
        ]
