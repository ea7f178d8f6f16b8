"""When rows of several sources would mix in a dataset: only if no single source holds all of them."""

from __future__ import annotations

import pytest

from kbetl.dataset.dataset import Dataset, check_sources
from kbetl.errors import ConfigError
from kbetl.store.datasets import mixed_sources

SOURCES = {
    "one": ({"a": "12"}, ""),
    "the same three times": ({"a": "12", "b": "12", "c": "21"}, ""),
    "one within another": ({"a": "1", "b": "12"}, ""),
    "a first one that holds all": ({"a": "123", "b": "1", "c": "23"}, ""),
    "a last one that holds all": ({"a": "1", "b": "2", "c": "12"}, ""),
    "two apart": ({"a": "1", "b": "2"}, "ab"),
    "two that overlap": ({"a": "12", "b": "23"}, "ab"),
    "each within the others, none in one": ({"a": "12", "b": "23", "c": "13"}, "abc"),
    "apart, and one of them twice": ({"a": "1", "b": "2", "c": "2"}, "ab"),
    "a source of modules beside": ({"a": "1", "b": "m"}, ""),
    "a module more within": ({"a": "1m", "b": "1"}, ""),
    "an empty one": ({"a": "", "b": "1"}, ""),
}
"""Sources with their samples (`m` is a module), and those that mix."""


@pytest.mark.parametrize("name", SOURCES)
def test_sources_mix_where_no_one_holds_all_rollouts(store, name):
    sources, mixed = SOURCES[name]
    samples = {letter: store.rollout(letter, 0.9) for letter in "123"} | {"m": store.module("M")}
    for source, letters in sources.items():
        store.source(source, *(samples[letter] for letter in letters))
    assert mixed_sources(store.store) == list(mixed)
    if not mixed:
        check_sources(store.store, Dataset("filtered"))
        return
    with pytest.raises(ConfigError, match=f"holds rollouts of {len(mixed)} sources: {', '.join(mixed)}. "):
        check_sources(store.store, Dataset("filtered"))
