"""Rollouts that an answer becomes: the sample, its place in a source, and which answer it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kbetl.facts import Facts
from kbetl.records import Sample
from kbetl.store.core import Store, now
from kbetl.store.intake import Origin, facts_columns, sample_columns, source_columns


@dataclass(frozen=True, slots=True)
class Generated:
    """A rollout, and the attempt at a problem whose answer it is."""

    sample: Sample
    facts: Facts
    source_id: int
    task_hash: str
    problem_hash: str
    attempt: int
    request_hash: str


def add_new(store: Store, rollouts: Sequence[Generated]) -> None:
    """Keeps the rollouts of answers that came just now, at the next places of their source.

    All of one task; each is made of the newest answer to its request that is no fault, and none of these
    became a rollout before. Call within a transaction, with the answers kept.
    """
    if rollouts:
        first = _free_position(store, rollouts[0].source_id)
        _add_generations(store, rollouts, first, None)
        _add_samples(store, rollouts, first)


def add_again(store: Store, rollout: Generated, try_number: int | None) -> None:
    """Keeps the rollout of an answer that may be one already: then nothing is added.

    Without a `try_number` it is the newest answer that is no fault. Call within a transaction.
    """
    position = _free_position(store, rollout.source_id)
    if _add_generations(store, [rollout], position, try_number):
        _add_samples(store, [rollout], position)


def _free_position(store: Store, source_id: int) -> int:
    found: int = store.execute("free_position", {"source_id": source_id}).fetchone()[0]
    return found


def _add_generations(store: Store, rollouts: Sequence[Generated], first: int, try_number: int | None) -> int:
    """Gives the number of those that were none yet. One statement: each step holds up other threads."""
    told = [
        (position, each.problem_hash, each.attempt, each.request_hash, try_number)
        for position, each in enumerate(rollouts, first)
    ]
    values = {"source_id": rollouts[0].source_id, "task_hash": rollouts[0].task_hash}
    return store.execute("add_generations", {**values, "rollouts": json.dumps(told)}).rowcount


def _add_samples(store: Store, rollouts: Sequence[Generated], first: int) -> None:
    store.execute_many("add_sample", (sample_columns(each.sample) for each in rollouts))
    store.execute_many(
        "add_rollout_facts", (facts_columns(each.sample.hash, each.facts) for each in rollouts)
    )
    places = [(position, each.sample.hash) for position, each in enumerate(rollouts, first)]
    source_id = rollouts[0].source_id
    store.execute("add_memberships", {"source_id": source_id, "places": json.dumps(places)})
    store.execute("touch_source", {"source_id": source_id, "ingested_at": now()})


def run_source(store: Store, origin: Origin) -> int:
    """The id of the source that generated rollouts go to; made where it is not there.

    Call within a transaction.
    """
    store.execute("add_source", source_columns(origin))
    found: int = store.execute("source_id", {"name": origin.name}).fetchone()[0]
    return found
