"""What Python's own functions, lists and dictionaries give while a source is read."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kbetl.dataflow.operators import family_of
from kbetl.dataflow.values import (
    SIZE,
    UNKNOWN,
    Bound,
    Instance,
    Layer,
    Library,
    Tensor,
    Unknown,
    join,
    tensors_in,
)

if TYPE_CHECKING:
    from kbetl.dataflow.reader import Reader


def call_builtin(
    reader: Reader, name: str, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
) -> object:
    first = args[0] if args else UNKNOWN
    if name == "setattr" and len(args) == 3 and isinstance(args[1], str):
        reader.set_attribute(first, args[1], args[2], node or ast.Pass())
        return None
    known = _BUILTINS.get(name)
    if known is not None:
        return known(reader, args)
    if name in ("list", "tuple", "set", "sorted", "iter", "reversed"):
        if isinstance(first, Tensor | Unknown):
            return first
        values = reader.elements(first) if args else []
        return tuple(values) if name == "tuple" else values[::-1] if name == "reversed" else values
    if name in ("max", "min", "abs", "pow", "divmod", "round") and any(
        True for one in args for _ in tensors_in(one)
    ):
        family = family_of(name) or "elementwise"
        return reader.operator(
            f"{name}imum" if name in ("max", "min") else name, family, args, node, shown=name
        )
    if name in ("int", "float", "bool", "str", "max", "min", "abs", "pow", "round", "id", "hash"):
        if name in ("int", "bool", "str") and isinstance(first, int | str) and len(args) == 1:
            return {"int": int, "bool": bool, "str": str}[name](first) if str(first).isdigit() else UNKNOWN
        return SIZE if any(one is SIZE for value in args for one in _parts(value)) else UNKNOWN
    if name == "dict":
        found = dictionary(args)
        found.update(keywords)
        return found
    if name in ("isinstance", "issubclass", "hasattr", "callable", "print", "type", "repr", "format"):
        return _asked(name, args)
    if name in ("setattr", "vars", "object", "slice", "open", "exec", "eval", "any", "all"):
        return UNKNOWN
    return reader.unread_call(name, args, keywords, node)


def _parts(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _asked(name: str, args: Sequence[object]) -> object:
    if name == "isinstance" and len(args) == 2:
        value, kinds = args[0], _parts(args[1])
        if isinstance(value, Layer):
            names = [one.name.rpartition(".")[2] for one in kinds if isinstance(one, Library)]
            return value.name in names or (UNKNOWN if "Module" in names else False)
        if isinstance(value, Instance):
            return any(one is cls for one in kinds for cls in value.cls.ancestry()) or UNKNOWN
        if isinstance(value, Tensor):
            return any(isinstance(one, Library) and one.name.endswith("Tensor") for one in kinds)
        names = [one.name for one in kinds if isinstance(one, Library)]
        plain = (list, tuple, dict, str, int, float)
        if isinstance(value, plain) and not isinstance(value, bool):
            return type(value).__name__ in names
    return UNKNOWN


def _ranged(reader: Reader, args: Sequence[object]) -> object:
    bounds = [one for one in args if isinstance(one, int)]
    if len(bounds) == len(args) and len(args) in (1, 2, 3) and 0 not in bounds[2:]:
        return list(range(*bounds)[:64])
    first = args[0] if len(args) > 1 else 0
    return [first, first + 1] if isinstance(first, int) and len(args) < 3 else [UNKNOWN, UNKNOWN]


def _summed(reader: Reader, args: Sequence[object]) -> object:
    values = [*args[1:], *reader.elements(args[0])] if args else []
    held = [one for one in values if isinstance(one, Tensor)]
    if not held:
        return SIZE if SIZE in values else UNKNOWN
    value: object = held[0]
    for one in held[1:]:
        value = reader.operator("addition", "elementwise", [value, one], None)
    return value


def _zipped(reader: Reader, args: Sequence[object]) -> object:
    columns = [reader.elements(one) for one in args]
    known = [
        len(one) for one, value in zip(columns, args, strict=True) if isinstance(value, list | tuple | Layer)
    ]
    length = min(known, default=2)
    filled = [
        one if len(one) >= length else [*one, *[one[0] if one else UNKNOWN] * (length - len(one))]
        for one in columns
    ]
    return list(zip(*(one[:length] for one in filled), strict=True))


def _mapped(reader: Reader, args: Sequence[object]) -> object:
    return (
        [reader.call(args[0], [one], {}, None) for one in reader.elements(args[1])] if len(args) > 1 else []
    )


def _enumerated(reader: Reader, args: Sequence[object]) -> object:
    return list(enumerate(reader.elements(args[0]))) if args else []


def _length(reader: Reader, args: Sequence[object]) -> object:
    value = args[0] if args else UNKNOWN
    if isinstance(value, list | tuple | dict | str):
        return len(value)
    if isinstance(value, Layer | Instance):
        return len(reader.elements(value))
    return SIZE if isinstance(value, Tensor) else UNKNOWN


def _next(reader: Reader, args: Sequence[object]) -> object:
    return reader.element(args[0]) if args else UNKNOWN


def _got(reader: Reader, args: Sequence[object]) -> object:
    if len(args) > 1 and isinstance(args[1], str):
        held = reader.attribute(args[0], args[1], ast.Pass())
        is_open = held is UNKNOWN or (isinstance(held, Bound) and held.function is None)
        return args[2] if is_open and len(args) > 2 else held
    if args and isinstance(args[0], Instance):
        return reader.element(
            [one for one in args[0].attributes.values() if isinstance(one, Layer | Instance)]
        )
    return UNKNOWN


_BUILTINS = {
    "range": _ranged,
    "sum": _summed,
    "zip": _zipped,
    "map": _mapped,
    "enumerate": _enumerated,
    "len": _length,
    "next": _next,
    "getattr": _got,
}


def list_method(reader: Reader, owner: list[object], name: str, args: Sequence[object]) -> object:
    reader.writes += 1
    if name in ("append", "add") and args:
        owner.append(args[0])
    elif name == "extend" and args:
        owner.extend(reader.elements(args[0]))
    elif name == "insert" and len(args) > 1:
        owner.insert(args[0] if isinstance(args[0], int) else 0, args[1])
    elif name == "pop":
        at = args[0] if args and isinstance(args[0], int) else -1
        return owner.pop(at) if -len(owner) <= at < len(owner) else UNKNOWN
    elif name == "reverse":
        owner.reverse()
    elif name == "clear":
        owner.clear()
    elif name == "copy":
        return list(owner)
    return UNKNOWN


def dict_method(reader: Reader, owner: dict[object, object], name: str, args: Sequence[object]) -> object:
    if name == "items":
        return list(owner.items())
    if name == "values":
        return list(owner.values())
    if name == "keys":
        return list(owner)
    if name == "get" and args:
        held = reader.item(owner, args[0])
        return (
            held if held is not UNKNOWN else args[1] if len(args) > 1 else UNKNOWN if reader.exact else None
        )
    if name == "setdefault" and len(args) > 1:
        held = reader.item(owner, args[0])
        reader.set_item(owner, args[0], args[1] if held is UNKNOWN else join(held, args[1]), ast.Pass())
        return reader.item(owner, args[0])
    if name == "update" and args:
        reader.writes += 1
        owner.update(dictionary(args))
    if name == "pop" and args:
        reader.writes += 1
        return owner.pop(reader.key(args[0]), UNKNOWN)
    return UNKNOWN


def dictionary(args: Sequence[object]) -> dict[object, object]:
    found: dict[object, object] = {}
    held = args[0] if args else ()
    if isinstance(held, dict):
        found |= held
    elif isinstance(held, list | tuple):
        for at, pair in enumerate(held):
            if isinstance(pair, tuple | list) and len(pair) == 2:
                found[pair[0] if isinstance(pair[0], str) else f"\0{at}"] = pair[1]
    return found
