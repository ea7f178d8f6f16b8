"""Measures the rollouts of a dataset that were not measured yet, and reports on all of them."""

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

PAGE_ROWS = 256
PAGE_BYTES = 2**20
"""Of rows that are read, rendered and cut into tokens together: a token takes some 100 bytes meanwhile."""
COMPARED_AT_FIRST = 8
COMPARED_LATER = 1024
"""Samples whose token ids are compared with the tokenizer's own: so many at first, then one in so many."""


@dataclass(slots=True)
class MeasureProgress:
    """How far a run is; another thread may read it."""

    waiting: int = 0
    """Samples that the run measures; 0 until that is known."""
    done: int = 0
    tokens: int = 0
    left_over: int = 0
    """Samples that the template refused, or of which it leaves text out."""
    notes: list[str] = field(default_factory=list)


def measure(
    store: Store,
    tokenizer: str,
    chosen: Chosen,
    *,
    limit: int | None = None,
    tally: MeasureProgress | None = None,
) -> LengthReport:
    """Counts what was not counted yet, with this tokenizer and its template, and stores it as it goes.

    `tokenizer` is a folder, NAME or NAME@REVISION; `limit` is how many samples are counted at most. The
    tokenizer is loaded only where there is something to count. Raises ConfigError for what is no tokenizer
    with a chat template, SourceError where the Hub gives none; what was counted before an error stays.
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
            _Measuring(measures, ChatTokenizer(files), tally).go()
        report = read_report(store, measures, files, chosen, tally.done)
        report = replace(report, left_over_now=tally.left_over)
        counts.update(report.counts_of_run())
        run.status = report.exit_status
    return report


DIFFERS = (
    "its token ids are not those of the tokenizer's own call; from here on that one counts, more slowly. "
    f"Of those counted before only one in {COMPARED_LATER} was compared: delete those from `lengths`"
)


class _Ready(NamedTuple):
    """A sample that the template took."""

    sample_hash: str
    conversation: Conversation
    rendered: Rendered


class _Measuring:
    """One run of measuring: page by page, each stored before the next is read."""

    def __init__(self, measures: LengthStore, chat: ChatTokenizer, tally: MeasureProgress) -> None:
        self._measures = measures
        self._chat = chat
        self._tally = tally
        self._seen = 0
        """Samples that could have been compared."""

    def go(self) -> None:
        """Measures as many as the tally says."""
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
                ready.append(_Ready(each.sample_hash, conversation, self._chat.render(conversation)))
            except BadRow as bad:
                refused.append(Length(each.sample_hash, None, None, None, refusal=plain_text(str(bad))))
        return [*refused, *self._counted(ready)]

    def _counted(self, ready: Sequence[_Ready]) -> list[Length]:
        for each in self._to_compare(ready):
            if not self._chat.agrees(each.conversation, each.rendered):
                self._chat.go_slowly()
                self._tally.notes.append(f"sample {each.sample_hash}: {DIFFERS}")
        found = []
        for each, tokens in zip(ready, self._chat.count([each.rendered for each in ready]), strict=True):
            self._tally.tokens += tokens.total
            found.append(Length(each.sample_hash, *tokens, unreached=each.rendered.unreached))
        return found

    def _to_compare(self, ready: Sequence[_Ready]) -> list[_Ready]:
        numbered = enumerate(ready, self._seen)
        self._seen += len(ready)
        return [
            each for number, each in numbered if number < COMPARED_AT_FIRST or number % COMPARED_LATER == 0
        ]
