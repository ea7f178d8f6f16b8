"""Percentiles, limits and advice from a histogram of lengths. Pure; the views say the same in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from kbetl.store.measures import USUAL, Group, seq_len

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0)
ADVISED = (99.0, 99.5, 100.0)


class Percentile(NamedTuple):
    """The smallest length that covers at least `percentile` % of the samples."""

    percentile: float
    total_tokens: int


class Bucket(NamedTuple):
    """Samples longer than `over_tokens`, up to `up_to_tokens` (None: no end); `share` is 0 to 1."""

    over_tokens: int
    up_to_tokens: int | None
    samples: int
    share: float


class Limit(NamedTuple):
    """What a sequence length does: what is cut off, and what padding wastes, one sample per sequence.

    `difficulty` is `all`, a rating, or None for what is not rated; shares are 0 to 1.
    """

    limit_tokens: int
    difficulty: str | None
    samples: int
    samples_over: int
    share_over: float
    tokens_lost: int
    tokens_padding: int
    share_padding: float


class Advice(NamedTuple):
    """The sequence length that covers `percentile` % of the samples, and what it does."""

    percentile: float
    total_tokens: int
    seq_len: int
    samples_over: int
    tokens_lost: int
    tokens_padding: int
    share_padding: float


def percentiles(groups: Sequence[Group], wanted: Sequence[float] = PERCENTILES) -> list[Percentile]:
    """By nearest rank; `groups` come shortest first. Empty where there are no samples.

    >>> percentiles([Group(None, 10, 3), Group(None, 40, 1)], [50, 75, 99])
    [Percentile(percentile=50, total_tokens=10), Percentile(percentile=75, total_tokens=10), \
Percentile(percentile=99, total_tokens=40)]
    """
    samples = sum(group.samples for group in groups)
    found: list[Percentile] = []
    covered = 0
    for group in groups:
        covered += group.samples
        # exact: 99.9 % of 1,000 samples are 999, in floats a little more
        while len(found) < len(wanted) and covered * 100 >= samples * Fraction(str(wanted[len(found)])):
            found.append(Percentile(wanted[len(found)], group.total_tokens))
    return found


def buckets(groups: Sequence[Group]) -> list[Bucket]:
    """All buckets from 1,024 up, also the empty ones. Empty where there are no samples."""
    samples = sum(group.samples for group in groups)
    bounds = zip((-1, *USUAL), (*USUAL, None), strict=True)
    found = []
    for over, up_to in bounds:
        here = sum(
            group.samples
            for group in groups
            if over < group.total_tokens and (up_to is None or group.total_tokens <= up_to)
        )
        found.append(Bucket(max(over, 0), up_to, here, here / samples if samples else 0.0))
    return found if samples else []


def limits(groups: Sequence[Group]) -> list[Limit]:
    """What each usual length does to all samples, then to those of each difficulty."""
    if not groups:
        return []
    ratings: dict[str | None, list[Group]] = {}
    for group in groups:
        ratings.setdefault(group.difficulty, []).append(group)
    parts = [("all", groups), *sorted(ratings.items(), key=lambda part: (part[0] is None, part[0] or ""))]
    return [_limit(usual, difficulty, held) for usual in USUAL for difficulty, held in parts]


def advice(groups: Sequence[Group]) -> list[Advice]:
    """The sequence lengths that cover 99, 99.5 and 100 %, rounded up to usual values."""
    found = []
    for percentile, total_tokens in percentiles(groups, ADVISED):
        limit = _limit(seq_len(total_tokens), "all", groups)
        wasted = (limit.tokens_padding, limit.share_padding)
        found.append(
            Advice(
                percentile, total_tokens, limit.limit_tokens, limit.samples_over, limit.tokens_lost, *wasted
            )
        )
    return found


def _limit(limit_tokens: int, difficulty: str | None, groups: Sequence[Group]) -> Limit:
    samples = sum(group.samples for group in groups)
    over = sum(group.samples for group in groups if group.total_tokens > limit_tokens)
    lost = sum(group.samples * max(group.total_tokens - limit_tokens, 0) for group in groups)
    padding = sum(group.samples * max(limit_tokens - group.total_tokens, 0) for group in groups)
    return Limit(
        limit_tokens,
        difficulty,
        samples,
        over,
        over / samples,
        lost,
        padding,
        padding / (samples * limit_tokens),
    )
