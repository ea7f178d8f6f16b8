"""Why a run asks nothing: no sample of its kind, no good reward, a condition, or all is settled."""

from __future__ import annotations

import json
from typing import NamedTuple

from kbetl.config import command_line
from kbetl.errors import ConfigError
from kbetl.inference.options import EnrichOptions
from kbetl.inference.plan import REWARD_ABOVE, ModelTask, min_reward
from kbetl.json_codec import stored_value
from kbetl.samples import fields
from kbetl.store import Store
from kbetl.store.datasets import source_ids
from kbetl.store.selection import Selection
from kbetl.text import plain_text


class _Choosable(NamedTuple):
    """What could have been chosen."""

    samples: int
    rewarded: int
    highest: float | None
    row: bytes | None
    """Of one of the samples; None if there is none."""
    records: int
    """Samples of the third kind."""


def why_nothing(store: Store, options: EnrichOptions, asked: ModelTask, selection: Selection) -> list[str]:
    """What to say of a run that asks nothing, in one line; empty where it asks, or waits for a batch."""
    chosen = selection.chosen
    if selection.waiting or selection.missing or selection.handed_out:
        return []
    if chosen:
        left = {status: count for status, count in selection.by_status().items() if status != "ok"}
        retry = f"; asked again by --retry: {', '.join(left)}" if left else ""
        return [f"nothing to ask: each of the {chosen:,} samples chosen has its outcome{retry}"]
    if selection.empty:
        return []
    return [f"no sample is chosen: {_why_none_chosen(store, options, asked)}"]


def _why_none_chosen(store: Store, options: EnrichOptions, asked: ModelTask) -> str:
    kinds = asked.task.about
    about = " or ".join(kinds)
    ids = json.dumps(source_ids(store, options.sources)) if options.sources else None
    found = _Choosable(*store.rows("inference/choosable", {"kinds": json.dumps(kinds), "source_ids": ids})[0])
    of = f" of {', '.join(options.sources)}" if options.sources else ""
    name = "completion" if "rollout" in kinds else "prompt"
    if not found.samples and found.records:
        raise ConfigError(
            f"there is no {about}{of} in {store.path}, but {found.records:,} records: say where the {name} "
            f"is, {command_line(store.path, 'ingest', 'SOURCE', '--map', f'{name}=FIELD')}, "
            'or let the task be about "record"'
        )
    if not found.samples:
        return f"there is no {about}{of} in {store.path}; run: {command_line(store.path, 'ingest')}"
    all_of = f"none of {found.samples:,} {about}s{of}"
    limit = min_reward(store, options)
    if asked.task.where == REWARD_ABOVE or options.min_reward is not None:
        if not found.rewarded:
            row = stored_value(found.row or b"{}")
            return f"{all_of} has a reward{plain_text(fields.meant_words(row, ('reward',)))}"
        if found.highest is not None and found.highest <= limit:
            return f"{all_of} has a reward above {limit}; the highest is {found.highest}"
    conditions = [each for each in (asked.task.where, options.where) if each is not None]
    return f"{all_of} satisfies {' and '.join(map(repr, conditions)) or 'what the task asks for'}"
