"""What values are found at each place of many rows. Pure."""

from __future__ import annotations

from typing import Any

BOOLEAN, INTEGER, FLOAT, TEXT, LIST, OBJECT = 1, 2, 4, 8, 16, 32
_KINDS = {bool: BOOLEAN, int: INTEGER, float: FLOAT, str: TEXT, list: LIST, dict: OBJECT}


class Shape:
    """All values that were seen at one place; nulls leave no trace."""

    __slots__ = ("fields", "highest", "item", "kinds", "lowest")

    def __init__(self) -> None:
        self.kinds = 0
        """Which kinds of values: a sum of BOOLEAN ... OBJECT."""
        self.lowest = 0
        self.highest = 0
        """Of the integers, and 0."""
        self.item: Shape | None = None
        """Of the elements of lists."""
        self.fields: dict[str, Shape] = {}
        """Of the values of objects, by key, in the order in which keys were first seen."""

    def see(self, value: Any) -> None:
        """One more value, as JSON gives it."""
        if value is None:
            return
        kind = _KINDS[type(value)]
        self.kinds |= kind
        if kind == OBJECT:
            self.see_object(value)
        elif kind == LIST:
            self._see_list(value)
        elif kind == INTEGER:
            self.lowest = min(self.lowest, value)
            self.highest = max(self.highest, value)

    def see_object(self, value: dict[str, Any]) -> None:
        """The values of one more object."""
        fields = self.fields
        for key, child in value.items():
            shape = fields.get(key)
            if shape is None:
                shape = fields[key] = Shape()
            if type(child) is str:
                shape.kinds |= TEXT
            else:
                shape.see(child)

    def _see_list(self, value: list[Any]) -> None:
        if self.item is None:
            self.item = Shape()
        for child in value:
            self.item.see(child)
