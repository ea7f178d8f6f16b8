"""Each dataset is one entry: whatever lists the datasets has them all, and its view holds the rows."""

from __future__ import annotations

import pytest
from fill_disk import Filling

from kbetl.dataset.dataset import Dataset, open_dataset
from kbetl.dataset.registry import DATASETS, MEASURED, ROLLOUTS, DatasetEntry
from kbetl.resources import queries, sql_names
from kbetl.store.generated_views import counted_views, make_dataset_view, view_text


@pytest.fixture
def rated(tmp_path):
    """Rollouts with a rating each, a module with a specification, and a record, in one source."""
    with Filling(tmp_path / "kbetl.db") as store:
        rollouts = [store.rollout(name, reward) for name, reward in (("A", 0.9), ("A", 0.95), ("B", 0.9))]
        bad, module = store.rollout("C", 0.1), store.module("D")
        record = store.sample({"text": "E"}, "record")
        store.source("one", *reversed(rollouts), bad, module, record)
        task = store.task()
        for sample_hash in rollouts:
            store.outcome(sample_hash, task, value="low")
        store.outcome(module, store.task("prompts", about="module", restriction=None), value="Write D")
        yield store


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_an_entry_names_what_there_is(entry: DatasetEntry) -> None:
    module, _, block = entry.select_rows.partition("/")
    assert entry.view in sql_names("views")
    assert block in queries(module)
    assert entry.chosen.format(good="GOOD", rated="RATED")
    assert entry.repository.format(owner="o", model="m").startswith("o/kernelbook-")


def test_what_is_measured_has_completions() -> None:
    assert all(entry.has_completions for entry in MEASURED.values())


def test_the_views_that_length_counts_has_are_those_that_lengths_measures() -> None:
    """So that a new dataset needs its entry and its view, and no edit of another view."""
    views = {name: entry.view for name, entry in MEASURED.items() if name != ROLLOUTS}
    assert counted_views() == views
    assert [view_text("length_counts").count(f"\nfrom {view}\n") for view in views.values()] == [1] * len(
        views
    )


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_the_rows_of_its_view(rated, name):
    """Of the whole store; which of them are there for some sources alone is another test's."""
    wanted = {row[0] for row in rated.rows(f"select sample_hash from {DATASETS[name].view}")}
    with open_dataset(rated.store, Dataset(name, splits=False)) as dataset:
        found = [row.sample_hash for row in dataset.rows()]
    assert found
    assert sorted(found) == sorted(wanted)


def test_a_view_that_is_no_file_of_ours_is_refused(rated):
    with pytest.raises(ValueError, match="no view"):
        make_dataset_view(rated.store.connection, 'filtered"; drop table samples; --')
