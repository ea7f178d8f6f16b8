"""Rollouts that an answer becomes: the sample, its place in a source, and which answer it is."""

from __future__ import annotations

from dataclasses import dataclass

from kbetl.facts import Facts
from kbetl.records import Sample
from kbetl.store.core import Store
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


def add_generated(store: Store, rollout: Generated, try_number: int | None) -> None:
    """Keeps a rollout at the next place of its source, once for each answer. Call within a transaction.

    Without a `try_number` it is the newest answer that is no fault.
    """
    placed = store.execute(
        "add_generation",
        {
            "source_id": rollout.source_id,
            "task_hash": rollout.task_hash,
            "problem_hash": rollout.problem_hash,
            "attempt": rollout.attempt,
            "request_hash": rollout.request_hash,
            "try": try_number,
        },
    ).fetchone()
    if placed is None:
        return
    store.execute("add_sample", sample_columns(rollout.sample))
    store.execute("add_rollout_facts", facts_columns(rollout.sample.hash, rollout.facts))
    store.execute(
        "add_membership",
        {"source_id": rollout.source_id, "position": placed[0], "sample_hash": rollout.sample.hash},
    )


def run_source(store: Store, origin: Origin) -> int:
    """The id of the source that generated rollouts go to; made where it is not there.

    Call within a transaction.
    """
    store.execute("add_source", source_columns(origin))
    found: int = store.execute("source_id", {"name": origin.name}).fetchone()[0]
    return found
