"""Column types as the Hub and `datasets` spell them: from Arrow, from a card, and what differs. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}
_ALIKE = {"large_string": "string"}
"""Types that differ in how they lie in memory alone."""


def described(schema: pa.Schema) -> list[dict[str, Any]]:
    """Columns as `dataset_info.features` of a card lists them."""
    return [{"name": column.name, **_in_card(column.type)} for column in schema]


def with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the metadata in which `datasets` keeps features in a Parquet file."""
    features = {column.name: _feature(column.type) for column in schema}
    text = json.dumps({"info": {"features": features}})
    return schema.with_metadata({"huggingface": text})


def column_types(features: Any) -> dict[str, str] | None:
    """Columns and their types, each as one text; None for what is no list of columns.

    `features` are as in a card, whichever version of `datasets` wrote them. Keys of objects are sorted,
    so that their order makes no difference.
    """
    if not isinstance(features, list) or not all(isinstance(each, Mapping) for each in features):
        return None
    return {str(each.get("name")): _type_text(each) for each in features}


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """What differs between two sets of columns, a line each: `-` as it is there, `+` as it would be."""
    lines = []
    for name in dict.fromkeys((*theirs, *ours)):
        before, after = theirs.get(name), ours.get(name)
        if before != after:
            lines += [f"- {name}: {before}"] if before is not None else []
            lines += [f"+ {name}: {after}"] if after is not None else []
    return lines


def _name(type_: pa.DataType) -> str:
    return _NAMES.get(str(type_), str(type_))


def _in_card(type_: pa.DataType) -> dict[str, Any]:
    import pyarrow as pa

    if pa.types.is_struct(type_):
        return {"struct": described(type_)}
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        key = "large_list" if pa.types.is_large_list(type_) else "list"
        inner = _in_card(type_.value_type)
        is_short = list(inner) in (["dtype"], ["struct"])
        return {key: next(iter(inner.values())) if is_short else inner}
    return {"dtype": _name(type_)}


def _feature(type_: pa.DataType) -> dict[str, Any]:
    import pyarrow as pa

    if pa.types.is_struct(type_):
        return {child.name: _feature(child.type) for child in type_}
    if pa.types.is_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "List"}
    if pa.types.is_large_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "LargeList"}
    return {"dtype": _name(type_), "_type": "Value"}


def _type_text(feature: Any) -> str:
    """`list<struct<content: string, role: string>>`; what is not known as its JSON."""
    if isinstance(feature, str):
        return _ALIKE.get(feature, feature)
    if isinstance(feature, list):
        return _struct_text(feature)
    if isinstance(feature, Mapping):
        for key in ("list", "large_list", "sequence"):
            if key in feature:
                return f"list<{_type_text(feature[key])}>"
        if "struct" in feature:
            return _struct_text(feature["struct"])
        if isinstance(feature.get("dtype"), str):
            return _type_text(feature["dtype"])
        return _type_text(json.dumps(feature.get("dtype", feature), sort_keys=True, default=str))
    return json.dumps(feature, default=str)


def _struct_text(fields: Sequence[Any]) -> str:
    types = column_types(fields)
    if types is None:
        return json.dumps(fields, sort_keys=True, default=str)
    return f"struct<{', '.join(f'{name}: {type_}' for name, type_ in sorted(types.items()))}>"
