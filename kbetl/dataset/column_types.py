"""Reads the column types that a source declares, and collects the types that values have. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

DeclaredType = str | list[Any] | dict[str, Any] | None
"""The name of a plain type, a list of one element type, or types by object keys; None if unknown."""

# All floats become float64, which is exact for smaller ones and for rewards that came later.
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
_ARROW_PART = re.compile(r"[<>,]|[^<>,]+")


def declared_columns(features: Sequence[str | None]) -> dict[str, DeclaredType]:
    """Returns the columns that all sources declare with one type; empty if a source declares none.

    `features` are texts of `sources.features`: features of `datasets`, or names of Arrow types.
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
    """Returns the type of a feature of `datasets`; None if it is no plain value, list or object."""
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
    """Returns the type of `list<element: struct<role: string>>`; None if the text is ambiguous."""
    parts = _ARROW_PART.findall(text)
    try:
        found = _arrow_type(parts)
    except IndexError:
        return None
    return None if parts else found


def _arrow_type(parts: list[str]) -> DeclaredType:
    """Removes the first type from `parts` and returns it."""
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
    """The types of all values of one column or field; nulls are ignored."""

    __slots__ = ("fields", "highest", "item", "kinds", "lowest")

    def __init__(self) -> None:
        self.kinds = 0
        """The kinds of values, a sum of BOOLEAN ... OBJECT; 0 if all were null."""
        self.lowest = 0
        self.highest = 0
        """Smallest and largest of 0 and the integers."""
        self.item: SeenTypes | None = None
        """The types of list elements; None if there was no list."""
        self.fields: dict[str, SeenTypes] = {}
        """The types of object values by key, in the order in which keys were first seen."""

    def add(self, value: Any) -> None:
        """Adds a JSON value."""
        if value is None:
            return
        kind = _KINDS[type(value)]
        self.kinds |= kind
        if kind == OBJECT:
            self.add_object(value)
        elif kind == LIST:
            self._add_list(value)
        elif kind == INTEGER:
            self.lowest = min(self.lowest, value)
            self.highest = max(self.highest, value)

    def add_object(self, value: dict[str, Any]) -> None:
        """Adds the values of an object."""
        fields = self.fields
        for key, child in value.items():
            seen = fields.get(key)
            if seen is None:
                seen = fields[key] = SeenTypes()
            if type(child) is str:
                seen.kinds |= TEXT
            else:
                seen.add(child)

    def _add_list(self, value: list[Any]) -> None:
        if self.item is None:
            self.item = SeenTypes()
        for child in value:
            self.item.add(child)
