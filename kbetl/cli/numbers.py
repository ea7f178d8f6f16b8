"""Numbers on the command line and in `kbetl.toml`: those that a store and a clock can hold."""

from __future__ import annotations

import math
from typing import Any

import click

LARGEST = 2**63 - 1
"""The largest integer that SQLite holds."""


class WholeNumber(click.IntRange):
    """A whole number within bounds; what SQLite cannot hold is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; fails where it is out of bounds."""
        number = super().convert(value, param, ctx)
        if abs(number) > LARGEST:
            self.fail(f"{number} is larger than {LARGEST}.", param, ctx)
        return number


class FiniteNumber(click.FloatRange):
    """A number within bounds; nan and inf are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; fails where it is out of bounds or not finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number.", param, ctx)
        return number
