"""The rows that a line holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kbetl.json_text import Parsed
from kbetl.rollouts.batches import rollouts_of_batch
from kbetl.rollouts.shapes import check_shape
from kbetl.rollouts.traces import Built, rollouts_of_episode, rollouts_of_trace


def rows_of(parsed: Parsed, request: Mapping[str, Any] | None = None) -> Sequence[Parsed]:
    """The rollouts of a line, as rows: the line itself where it is one, else rows built from it.

    `request` is the body that a line of batch output answers. Raises BadRow where the line holds none.
    """
    shape = check_shape(parsed.value)
    if shape == "row":
        return [parsed]
    if shape == "batch":
        built = rollouts_of_batch(parsed.value, request)
    else:
        built = rollouts_of_episode(parsed.value) if shape == "episode" else rollouts_of_trace(parsed.value)
    return [_parsed(each) for each in built]


def _parsed(built: Built) -> Parsed:
    row = {key: value for key, value in built.row.items() if value is not None}
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    return Parsed(row, text, tuple(built.nonfinite))
