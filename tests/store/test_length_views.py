"""The views on lengths: a hand-written table of counts in, and rows out; the report says the same."""

from __future__ import annotations

import math
import random

import pytest
from fill_disk import Filling, digest

from kbetl.lengths.report import advice, buckets, limits, percentiles
from kbetl.store import lengths
from kbetl.store.lengths import HistogramBin

USUAL = [1024 * 2**power for power in range(8)]
WANTED = [50, 75, 90, 95, 99, 99.5, 99.9, 100]
TEMPLATE = digest("l1", "template")


def measured(store: Filling, sample: str, total: int | None, tokenizer: str = "q", **columns: str) -> None:
    """A length of a sample; None: the template refused it."""
    store.add(
        "lengths",
        sample_hash=sample,
        tokenizer=tokenizer,
        template_hash=TEMPLATE,
        prompt_tokens=None if total is None else 1,
        completion_tokens=None if total is None else total - 1,
        total_tokens=total,
        refusal="because" if total is None else None,
        **columns,
    )


def fill(store: Filling, totals: list[int]) -> None:
    for number, total in enumerate(totals):
        measured(store, store.rollout(f"M{number}", 0.9, str(number)), total)


def nearest_rank(totals: list[int], percent: float) -> int:
    """The smallest length that covers at least that many of a hundred, as the books have it."""
    ordered = sorted(totals)
    return ordered[math.ceil(round(percent * 10) * len(ordered) / 1000) - 1]


def groups_of(totals: list[int]) -> list[HistogramBin]:
    return [HistogramBin(None, total, totals.count(total)) for total in sorted(set(totals))]


SETS = {
    "one": [7],
    "two": [7, 9],
    "four": [10, 20, 30, 40],
    "alike": [5] * 9,
    "a thousand": list(range(1, 1001)),
    "random": [random.Random(3).randrange(1, 300_000) for _ in range(377)],
}


@pytest.mark.parametrize("totals", SETS.values(), ids=SETS)
def test_percentiles_are_by_nearest_rank(store, totals):
    """Not interpolated: a length that a sample has; 100 is the longest."""
    fill(store, totals)
    expected = [(percent, nearest_rank(totals, percent)) for percent in WANTED]
    assert (
        store.rows(
            "select percentile, total_tokens from length_percentiles where dataset = 'samples'"
            " order by percentile"
        )
        == expected
    )
    assert percentiles(groups_of(totals)) == expected


def test_percentiles_of_four(store):
    """By hand: half of four is two, three quarters three, more than that all."""
    fill(store, [40, 10, 30, 20])
    rows = store.rows(
        "select total_tokens from length_percentiles where dataset = 'samples' order by percentile"
    )
    assert rows == [(20,), (30,), (40,), (40,), (40,), (40,), (40,), (40,)]


def test_each_tokenizer_template_and_dataset_has_its_own(store):
    best, worse, unrated = store.rollout("A", 0.95), store.rollout("A", 0.9), store.rollout("B", 0.99)
    task = store.task()
    store.outcome(best, task, value="low")
    store.outcome(worse, task, value="high")
    for sample, total in ((best, 10), (worse, 20), (unrated, 30)):
        measured(store, sample, total)
    measured(store, worse, 99, tokenizer="other")

    rows = store.rows(
        "select dataset, tokenizer, template_hash, total_tokens from length_percentiles"
        " where percentile = 100 order by dataset, tokenizer"
    )

    assert rows == [
        ("filtered", "other", TEMPLATE, 99),
        ("filtered", "q", TEMPLATE, 20),
        ("samples", "other", TEMPLATE, 99),
        ("samples", "q", TEMPLATE, 30),
        ("unique", "q", TEMPLATE, 10),
    ]


def test_two_templates_of_one_tokenizer_are_apart(store):
    sample = store.rollout("A", 0.9)
    measured(store, sample, 5)
    other = digest("l1", "another")
    store.add(
        "lengths",
        sample_hash=sample,
        tokenizer="q",
        template_hash=other,
        prompt_tokens=1,
        completion_tokens=1,
        total_tokens=2,
    )
    found = store.rows("select template_hash, total_tokens from length_percentiles where percentile = 50")
    assert sorted(found) == sorted([(TEMPLATE, 5), (other, 2)])


def test_buckets_hold_their_upper_bound(store):
    fill(store, [0 + 1, 1024, 1025, 131_072, 131_073])
    rows = store.rows(
        "select over_tokens, up_to_tokens, samples, share, tokens from length_buckets"
        " where dataset = 'samples' and difficulty = 'all' order by over_tokens"
    )
    assert rows == [
        (0, 1024, 2, 0.4, 1025),
        (1024, 2048, 1, 0.2, 1025),
        (2048, 4096, 0, 0.0, 0),
        (4096, 8192, 0, 0.0, 0),
        (8192, 16384, 0, 0.0, 0),
        (16384, 32768, 0, 0.0, 0),
        (32768, 65536, 0, 0.0, 0),
        (65536, 131_072, 1, 0.2, 131_072),
        (131_072, None, 1, 0.2, 131_073),
    ]
    assert [row[:4] for row in rows] == buckets(groups_of([1, 1024, 1025, 131_072, 131_073]))


def test_buckets_are_by_difficulty(store):
    """`all`, each rating, null for what is not rated; shares are of the rating's own samples."""
    task = store.task()
    for number, (value, total) in enumerate((("low", 10), ("low", 2000), ("high", 10), (None, 10))):
        sample = store.rollout(f"M{number}", 0.9)
        measured(store, sample, total)
        if value:
            store.outcome(sample, task, value=value)
    rows = store.rows(
        "select dataset, difficulty, over_tokens, samples, share from length_buckets"
        " where samples > 0 order by dataset, difficulty, over_tokens"
    )
    assert [row for row in rows if row[0] == "samples"] == [
        ("samples", None, 0, 1, 1.0),
        ("samples", "all", 0, 3, 0.75),
        ("samples", "all", 1024, 1, 0.25),
        ("samples", "high", 0, 1, 1.0),
        ("samples", "low", 0, 1, 0.5),
        ("samples", "low", 1024, 1, 0.5),
    ]
    assert [row[1:4] for row in rows if row[0] == "filtered"] == [
        ("all", 0, 2), ("all", 1024, 1), ("high", 0, 1), ("low", 0, 1), ("low", 1024, 1)
    ]  # fmt: skip


def test_limits_say_what_is_over_lost_and_padded(store):
    """Against sums written out, for every usual length."""
    totals = SETS["random"]
    fill(store, totals)
    expected = [
        (
            limit,
            len(totals),
            sum(total > limit for total in totals),
            sum(total - limit for total in totals if total > limit),
            sum(limit - total for total in totals if total < limit),
        )
        for limit in USUAL
    ]
    rows = store.rows(
        "select limit_tokens, samples, samples_over, tokens_lost, tokens_padding from length_limits"
        " where dataset = 'samples' and difficulty = 'all' order by limit_tokens"
    )
    assert rows == expected
    report = [limit for limit in limits(groups_of(totals)) if limit.difficulty == "all"]
    assert [
        (each.limit_tokens, each.samples, each.samples_over, each.tokens_lost, each.tokens_padding)
        for each in report
    ] == expected
    shares = (
        "select share_over, share_padding from length_limits where difficulty = 'all' and dataset = 'samples'"
    )
    assert store.rows(f"{shares} order by limit_tokens") == [
        (pytest.approx(each.share_over), pytest.approx(each.share_padding)) for each in report
    ]


@pytest.mark.parametrize(
    ("longest", "seq_len"),
    [
        (1, 1024),
        (1024, 1024),
        (1025, 2048),
        (40_000, 65_536),
        (131_072, 131_072),
        (131_073, 262_144),
        (600_000, 655_360),
    ],
)
def test_advice_for_all_covers_the_longest(store, longest, seq_len):
    """However long: beyond the largest usual value, the next multiple of it."""
    fill(store, [longest])
    rows = store.rows(
        "select percentile, total_tokens, seq_len, samples_over from seq_len_advice order by percentile"
    )
    assert rows == [(percent, longest, seq_len, 0) for percent in (99, 99.5, 100)]
    assert lengths.seq_len(longest) == seq_len


def test_advice_says_what_it_loses_and_wastes(store):
    totals = [100] * 989 + [1500] * 8 + [200_000] * 3
    fill(store, totals)
    rows = store.rows(
        "select percentile, total_tokens, seq_len, samples_over, tokens_lost, tokens_padding, unreached,"
        " refused from seq_len_advice where dataset = 'samples' order by percentile"
    )
    padding = 989 * (2048 - 100) + 8 * (2048 - 1500)
    lost = 3 * (200_000 - 2048)
    assert rows == [
        (99, 1500, 2048, 3, lost, padding, 0, 0),
        (99.5, 1500, 2048, 3, lost, padding, 0, 0),
        (100, 200_000, 262_144, 0, 0, sum(262_144 - total for total in totals), 0, 0),
    ]
    assert [tuple(each)[:6] for each in advice(groups_of(totals))] == [row[:6] for row in rows]


def test_there_is_no_advice_where_text_is_left_out(store):
    """For each dataset that holds such a sample, and for no other."""
    task = store.task()
    good, bad = store.rollout("A", 0.9), store.rollout("B", 0.2)
    store.outcome(good, task, value="low")
    measured(store, good, 10)
    measured(store, bad, 20, unreached='["completion[0].reasoning"]')
    rows = store.rows("select distinct dataset, seq_len, unreached from seq_len_advice order by dataset")
    assert rows == [("filtered", 1024, 0), ("samples", None, 1), ("unique", 1024, 0)]


def test_refused_rows_have_no_length_and_are_counted(store):
    measured(store, store.rollout("A", 0.9), 10)
    measured(store, store.rollout("B", 0.9), None)
    assert store.rows("select distinct seq_len, refused from seq_len_advice where dataset = 'samples'") == [
        (1024, 1)
    ]
    assert (
        store.rows("select samples from length_limits where difficulty = 'all' and dataset = 'samples'")
        == [(1,)] * 8
    )
    assert store.rows("select sum(samples) from length_counts where dataset = 'samples'") == [(1,)]


def test_only_refused_rows_give_no_figures(store):
    measured(store, store.rollout("A", 0.9), None)
    for view in ("length_percentiles", "length_buckets", "length_limits", "seq_len_advice"):
        assert store.rows(f"select * from {view}") == []
