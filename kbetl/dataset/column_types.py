"""What a source declares of its columns, in one form, whether `datasets` or Arrow spelled it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

DeclaredType = str | list[Any] | dict[str, Any] | None
"""A name of a plain type, a list of one element type, an object by keys; None where nothing is known."""

_PLAIN = {
    "bool": "bool",
    **{name: name for size in (8, 16, 32, 64) for name in (f"int{size}", f"uint{size}")},
    **dict.fromkeys(("float16", "halffloat", "float32", "float", "float64", "double"), "float64"),
    "string": "string",
    "utf8": "string",
    "string_view": "string",
    "large_string": "large_string",
    "null": "null",
}
"""float64 holds every smaller float exactly, and rewards that came later fit it too."""
_ARROW_PART = re.compile(r"[<>,]|[^<>,]+")


def declared_columns(features: Sequence[str | None]) -> dict[str, DeclaredType]:
    """The columns that every source declares, and declares alike; empty where one declares nothing.

    `features` are texts of `sources.features`: of `datasets`, or names of Arrow types.
    """
    found = [_columns(json.loads(text)) if text is not None else {} for text in features]
    if not found:
        return {}
    first, *others = found
    return {
        name: type_
        for name, type_ in first.items()
        if type_ is not None and all(other.get(name) == type_ for other in others)
    }


def _columns(features: Any) -> dict[str, DeclaredType]:
    if not isinstance(features, Mapping):
        return {}
    return {
        name: _arrow(type_) if isinstance(type_, str) else _feature(type_) for name, type_ in features.items()
    }


def _feature(feature: Any) -> DeclaredType:
    """A feature of `datasets`; kinds other than plain values, lists and objects are None."""
    if isinstance(feature, list) and len(feature) == 1:
        return [_feature(feature[0])]
    if not isinstance(feature, Mapping):
        return None
    kind = feature.get("_type")
    if kind == "Value":
        return _PLAIN.get(str(feature.get("dtype")))
    if kind in ("List", "LargeList", "Sequence"):
        return [_feature(feature.get("feature"))]
    if isinstance(kind, str):
        return None
    return {name: _feature(inner) for name, inner in feature.items()}


def _arrow(text: str) -> DeclaredType:
    """`list<element: struct<role: string, content: string>>`; None where it cannot be read with certainty."""
    parts = _ARROW_PART.findall(text)
    try:
        found = _arrow_type(parts)
    except IndexError:
        return None
    return None if parts else found


def _arrow_type(parts: list[str]) -> DeclaredType:
    """The type at the front of `parts`, which are taken away."""
    name = parts.pop(0).strip()
    if not parts or parts[0] != "<":
        return _PLAIN.get(name)
    inner: dict[str, DeclaredType] = {}
    while parts.pop(0) in "<,":
        key, colon, rest = parts.pop(0).partition(": ")
        if not colon or key.strip() in inner:
            raise IndexError
        parts.insert(0, rest)
        inner[key.strip()] = _arrow_type(parts)
    if name in ("list", "large_list") and len(inner) == 1:
        return [next(iter(inner.values()))]
    return inner if name == "struct" else None


BOOLEAN, INTEGER, FLOAT, TEXT, LIST, OBJECT = 1, 2, 4, 8, 16, 32
_KINDS = {bool: BOOLEAN, int: INTEGER, float: FLOAT, str: TEXT, list: LIST, dict: OBJECT}


class SeenTypes:
    """All values that were seen at one place; nulls leave no trace."""

    __slots__ = ("fields", "highest", "item", "kinds", "lowest")

    def __init__(self) -> None:
        self.kinds = 0
        """Which kinds of values: a sum of BOOLEAN ... OBJECT."""
        self.lowest = 0
        self.highest = 0
        """Of the integers, and 0."""
        self.item: SeenTypes | None = None
        """Of the elements of lists."""
        self.fields: dict[str, SeenTypes] = {}
        """Of the values of objects, by key, in the order in which keys were first seen."""

    def add(self, value: Any) -> None:
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
                shape = fields[key] = SeenTypes()
            if type(child) is str:
                shape.kinds |= TEXT
            else:
                shape.add(child)

    def _see_list(self, value: list[Any]) -> None:
        if self.item is None:
            self.item = SeenTypes()
        for child in value:
            self.item.add(child)
