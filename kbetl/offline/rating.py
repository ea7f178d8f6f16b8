"""How hard a kernel for a chain of operators is to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from kbetl.dataflow.operators import Operation

Difficulty = Literal["low", "medium", "high"]


class Rating(NamedTuple):
    difficulty: Difficulty
    why: str


def rate(operations: Sequence[Operation]) -> Rating:
    """Low, medium or high by what is chained.

    low: copies, identity, elementwise. medium: basic reductions, matrix operations, one convolution.
    high: these fused with each other or with more than a step around them, attention, recurrence.
    """
    count = Counter(operation.family for operation in operations)
    heavy = count["matrix"] + count["convolution"] + count["reduction"] + count["other"]
    around = heavy + count["elementwise"]
    if count["attention"] or count["recurrent"]:
        return Rating("high", "attention or a recurrent layer")
    if not heavy:
        return Rating("low", "copies and elementwise steps alone")
    if count["convolution"]:
        if around > 1:
            return Rating("high", "a convolution fused with other operators")
        return Rating("medium", "one convolution")
    if count["matrix"]:
        if heavy > count["matrix"]:
            return Rating("high", "matrix operations fused with reductions")
        if around > 2:
            return Rating("high", "matrix operations fused with each other or with elementwise steps")
        return Rating("medium", "a basic matrix operation")
    if heavy > 4:
        return Rating("high", "many reductions chained")
    if count["other"]:
        return Rating("medium", "a call whose inside is not in the source")
    return Rating("medium", "a basic reduction")
