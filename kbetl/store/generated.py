"""Rollouts that an answer becomes: the sample, its place in a source, and which answer it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    All of one source; each is made of the newest answer to its request that is no fault, and none of these
    became a rollout before. Call within a transaction, with the answers kept.
    """
    if not rollouts:
        return
    first = _free_position(store, rollouts[0].source_id)
    placed = [(first + index, rollout) for index, rollout in enumerate(rollouts)]
    store.execute_many("add_generation", (_generation(each, at, None) for at, each in placed))
    store.execute_many("add_sample", (sample_columns(each.sample) for each in rollouts))
    store.execute_many(
        "add_rollout_facts", (facts_columns(each.sample.hash, each.facts) for each in rollouts)
    )
    store.execute_many("add_membership", (_membership(each, at) for at, each in placed))
    _touch(store, rollouts[0].source_id)


def add_again(store: Store, rollout: Generated, try_number: int | None) -> None:
    """Keeps the rollout of an answer that may be one already: then nothing is added.

    Without a `try_number` it is the newest answer that is no fault. Call within a transaction.
    """
    position = _free_position(store, rollout.source_id)
    if not store.execute("add_generation", _generation(rollout, position, try_number)).rowcount:
        return
    store.execute("add_sample", sample_columns(rollout.sample))
    store.execute("add_rollout_facts", facts_columns(rollout.sample.hash, rollout.facts))
    store.execute("add_membership", _membership(rollout, position))
    _touch(store, rollout.source_id)


def _free_position(store: Store, source_id: int) -> int:
    found: int = store.execute("free_position", {"source_id": source_id}).fetchone()[0]
    return found


def _touch(store: Store, source_id: int) -> None:
    store.execute("touch_source", {"source_id": source_id, "ingested_at": now()})


def _generation(rollout: Generated, position: int, try_number: int | None) -> dict[str, Any]:
    """The columns of `generations`."""
    return {
        "source_id": rollout.source_id,
        "position": position,
        "task_hash": rollout.task_hash,
        "problem_hash": rollout.problem_hash,
        "attempt": rollout.attempt,
        "request_hash": rollout.request_hash,
        "try": try_number,
    }


def _membership(rollout: Generated, position: int) -> dict[str, Any]:
    return {"source_id": rollout.source_id, "position": position, "sample_hash": rollout.sample.hash}


def run_source(store: Store, origin: Origin) -> int:
    """The id of the source that generated rollouts go to; made where it is not there.

    Call within a transaction.
    """
    store.execute("add_source", source_columns(origin))
    found: int = store.execute("source_id", {"name": origin.name}).fetchone()[0]
    return found
