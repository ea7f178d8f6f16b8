"""How SQLite runs the statements that run for each row or over all rows: their plans, without a clock.

A statement over all rows that looks something up must find it in an index, and one that counts must not touch
the wide rows. A plan that changes is changed here, with the reason in the commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from kbetl.resources import queries
from kbetl.store.connection import empty_in_memory

PLANS = {
    "samples/samples_of_lines": "known_lines USING PRIMARY KEY (line_hash=?); "
    "original_lines USING COVERING INDEX sqlite_autoindex_original_lines_1 (hash=?); "
    "samples USING COVERING INDEX samples_by_hash (hash=?)",
    "samples/is_rejected": "rejected_rows USING COVERING INDEX rejected_rows_by_content (content_hash=?)",
    "samples/drop_other_memberships": "source_samples USING PRIMARY KEY (source_id=?); "
    "incoming_samples USING INTEGER PRIMARY KEY (rowid=?)",
    "samples/keep_incoming_samples": "incoming_samples; "
    "source_samples USING COVERING INDEX source_samples_by_sample "
    "(sample_hash=? AND source_id=? AND position<?)",
    "samples/keep_incoming_lines": "incoming_samples; TEMP B-TREE FOR ORDER BY",
    "answers/newest_try": "answers USING COVERING INDEX sqlite_autoindex_answers_1 "
    "(request_hash=? AND attempt=?)",
    "answers/set_outcome": "answers USING INDEX sqlite_autoindex_answers_1 (request_hash=? AND attempt=?)",
    "check/whole_samples": "samples; mapped_samples USING PRIMARY KEY (sample_hash=?) LEFT-JOIN; "
    "field_maps USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN",
    "status/sample_counts": "samples USING COVERING INDEX samples_by_hash; TEMP B-TREE FOR GROUP BY; "
    "scores USING COVERING INDEX scores_by_sample (sample_hash=?); settings USING PRIMARY KEY (key=?)",
    "status/pending_by_task": "tasks USING INDEX tasks_in_use; samples USING COVERING INDEX samples_by_hash; "
    "asked USING AUTOMATIC COVERING INDEX (kind=?); "
    "scores USING COVERING INDEX scores_by_sample (sample_hash=?); settings USING PRIMARY KEY (key=?); "
    "rollout_facts USING PRIMARY KEY (sample_hash=?); "
    "handed_out_samples USING PRIMARY KEY (sample_hash=? AND task_hash=?); "
    "handed_out USING INTEGER PRIMARY KEY (rowid=?); "
    "outcomes USING PRIMARY KEY (task_hash=? AND sample_hash=? AND attempt=?) LEFT-JOIN; "
    "TEMP B-TREE FOR GROUP BY",
}
"""The tables that a statement reads, in order, each with the index by which; less what is made on the way."""

_READS = re.compile(r"(?:SCAN|SEARCH|USE) (?!CONSTANT|lines\b)(.*)")


@pytest.fixture(scope="module")
def plans() -> Iterator[dict[str, str]]:
    with closing(empty_in_memory()) as connection:
        for table in ("incoming_samples", "incoming_rejections"):
            connection.execute(queries("samples")[f"{table}_table"])
        found = {}
        for name in PLANS:
            module, block = name.split("/")
            statement = queries(module)[block]
            values = dict.fromkeys(re.findall(r":([a-z_]+)", statement))
            steps = [row[3] for row in connection.execute(f"explain query plan {statement}", values)]
            reads = [step[1] for each in steps if (step := _READS.fullmatch(each))]
            found[name] = "; ".join(each for each in reads if "VIRTUAL TABLE" not in each)
        yield found


@pytest.mark.parametrize("name", PLANS)
def test_plan_is_the_one_that_was_measured(plans, name):
    assert plans[name] == PLANS[name]
