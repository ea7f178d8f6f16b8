"""How many requests are in flight, and how many answers may wait for the disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from enrich_case import Case, ended, rollouts, started, until

pytest_plugins = ["enrich_fixtures"]


def test_no_more_requests_are_in_flight_than_were_allowed(case: Case) -> None:
    """Slots whose answers become durable do not count; the server never sees more than -c at once."""
    case.ingest(rollouts(150))
    # long enough for a busy machine to send all of the first 64
    case.llm.latency_s = lambda index: 3.0 if index < 64 else 0.1

    found = case.enrich("-c", 64)

    assert (found.status, found.requests, case.llm.max_in_flight) == (0, 150, 64)
    assert case.statuses() == {"ok": 150}


def test_a_disk_that_does_not_keep_up_holds_up_the_asking(case: Case) -> None:
    """With the store locked, no request follows once 64 + 4 answers wait to be kept; then all are kept."""
    case.ingest(rollouts(300))

    with (
        closing(sqlite3.connect(case.folder / "kbetl.db", isolation_level=None)) as other,
        started(case.folder, "enrich", "-b", case.llm.url, "-m", "m", "-c", 64) as process,
    ):
        until(lambda: len(case.llm.answered) >= 1)
        other.execute("begin immediate")
        kept = other.execute("select count(*) from answers").fetchone()[0]
        until(lambda: len(case.llm.answered) >= min(kept + 68, 300))
        assert len(case.llm.requests) <= kept + 68
        other.execute("rollback")
        result = ended(process)

    assert (result.status, len(case.llm.requests)) == (0, 300)
    assert case.statuses() == {"ok": 300}
