"""What attributes, keys, loops and conditions give while a source is read."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from kbetl.dataflow.operators import CONTAINERS, words
from kbetl.dataflow.state import State
from kbetl.dataflow.values import (
    DTYPE,
    EXACT_SIZE,
    SIZE,
    UNKNOWN,
    Bound,
    Choice,
    Class,
    Function,
    Instance,
    Layer,
    Library,
    Node,
    Opaque,
    Super,
    Tensor,
    Unknown,
    either,
    join,
    tensors_in,
)

_PARAMETERS = ("weight", "bias", "running_", "in_proj", "alpha", "data")
_SIZE_ATTRIBUTES = frozenset({"shape", "itemsize", "nbytes"})
_UNKNOWN_ATTRIBUTES = words(
    """
    device ndim is_cuda requires_grad layout is_contiguous grad_fn is_leaf _version is_nested is_sparse
    """
)
_SAME_ATTRIBUTES = words(
    """
    T mT H mH data grad real imag values indices
    """
)


class Objects(State):
    """The rules for objects, whatever they hold."""

    # --- attributes and keys

    def attribute(self, owner: object, name: str, node: ast.AST) -> object:
        """What an object holds under a name."""
        if isinstance(owner, Choice):
            found = [self.attribute(one, name, node) for one in owner.values if one is not None]
            return self._joined(found)
        if isinstance(owner, Tensor):
            return self._tensor_attribute(owner, name)
        if isinstance(owner, Instance):
            return self._instance_attribute(owner, name, node)
        if isinstance(owner, Class):
            return self._class_attribute(owner, name)
        if isinstance(owner, Layer):
            if name.startswith(_PARAMETERS) or name.endswith(("_weight", "_bias")):
                return Tensor(Node("parameter"))
            return owner if name in ("forward", "__call__") else Bound(owner, name=name)
        if isinstance(owner, Library):
            return Library(f"{owner.name}.{name}")
        if isinstance(owner, Super):
            held = (
                owner.instance.cls.lookup(name, owner.cls)
                if isinstance(owner.instance, Instance)
                else UNKNOWN
            )
            if isinstance(held, Function):
                return held if held.kind == "static" else Bound(owner.instance, held)
            return Bound(owner, name=name)
        if isinstance(owner, Function) and name in owner.attributes:
            return owner.attributes[name]
        if isinstance(owner, list | tuple | dict | str | Opaque | Function):
            return Bound(owner, name=name)
        return owner if owner is SIZE else UNKNOWN

    def _tensor_attribute(self, owner: Tensor, name: str) -> object:
        if name in _SIZE_ATTRIBUTES:
            return SIZE
        if name == "dtype":
            return DTYPE
        if name in _SAME_ATTRIBUTES:
            return owner
        return UNKNOWN if name in _UNKNOWN_ATTRIBUTES else Bound(owner, name=name)

    def _instance_attribute(self, owner: Instance, name: str, node: ast.AST) -> object:
        if name in owner.attributes:
            return owner.attributes[name]
        held = owner.cls.lookup(name)
        if isinstance(held, Function):
            if held.kind == "property":
                return self.reader.call(held, [owner], {}, node)
            return (
                held if held.kind == "static" else Bound(owner.cls if held.kind == "class" else owner, held)
            )
        if held is not UNKNOWN:
            return held
        base = owner.cls.library_base()
        if name == "__class__":
            return owner.cls
        if name == "__dict__":
            return owner.attributes
        if name == "training":
            return UNKNOWN
        if base and name.startswith(_PARAMETERS):
            return Tensor(Node("parameter"))
        return Bound(owner, name=name) if base or name.startswith("__") else UNKNOWN

    def _class_attribute(self, owner: Class, name: str) -> object:
        held = owner.lookup(name)
        if isinstance(held, Function):
            return Bound(owner, held) if held.kind == "class" else held
        return Bound(owner, name=name) if held is UNKNOWN else held

    def set_attribute(self, owner: object, name: str, value: object, node: ast.AST) -> None:
        """Stores under an attribute."""
        self.writes += 1
        if isinstance(owner, Instance):
            held = owner.attributes.get(name, owner.cls.names.get(name, value))
            owner.attributes[name] = (
                join(held, value) if self.conditions and name in owner.attributes else value
            )
        elif isinstance(owner, Class):
            owner.names[name] = value
        elif isinstance(owner, Function):
            owner.attributes[name] = value
        elif isinstance(owner, Tensor) and name in ("data", "weight", "bias"):
            for one in tensors_in(value):
                self.write(owner, one.node)
        elif isinstance(owner, Library):
            self.on_replace(f"{owner.name}.{name}", node)
        elif isinstance(owner, Layer) and name.isdigit() and int(name) < len(owner.items):
            owner.items[int(name)] = value

    def item(self, owner: object, key: object) -> object:
        """What is held under a key, or in a slice."""
        if isinstance(owner, Tensor) or owner is SIZE:
            return owner
        if isinstance(owner, Choice):
            return self._joined([self.item(one, key) for one in owner.values if one is not None])
        if isinstance(owner, dict):
            held = owner.get(self.key(key), UNKNOWN)
            if held is UNKNOWN and isinstance(key, Unknown | Tensor | tuple):
                held = self._joined(list(owner.values()))
            return held
        if isinstance(owner, Layer | Instance):
            held = owner.attributes if isinstance(owner, Instance) else {}
            values = self.elements(owner)
            if isinstance(key, slice):
                return Layer("Sequential", items=values[key])
            return self._at(values, key) if values else held.get(str(key), UNKNOWN)
        if isinstance(owner, list | tuple):
            if isinstance(key, slice):
                return owner[key]
            return self._at(owner, key)
        return UNKNOWN

    def _at(self, values: Sequence[object], key: object) -> object:
        if not values:
            return UNKNOWN
        if isinstance(key, int):
            return values[key] if -len(values) <= key < len(values) else values[-1]
        return values[0]

    def set_item(self, owner: object, key: object, value: object, node: ast.AST) -> None:
        """Stores under a key, or into a tensor."""
        self.writes += 1
        if isinstance(owner, dict):
            held = owner.get(self.key(key), value)
            owner[self.key(key)] = join(held, value) if self.conditions else value
        elif isinstance(owner, list) and isinstance(key, int) and -len(owner) <= key < len(owner):
            owner[key] = value
        elif isinstance(owner, Tensor):
            held = [one.node for one in tensors_in(value)] or [Node("made")]
            whole = key is Ellipsis or (isinstance(key, slice) and key == slice(None))
            self.write(owner, held[0] if whole else either([owner.node, *held]))
        elif isinstance(owner, Layer):
            owner.items.append(value)
        elif isinstance(owner, Library):
            self.on_replace(owner.name, node)

    def key(self, value: object) -> object:
        """A value as a key of a dictionary; one for all that are not known."""
        return value if isinstance(value, str | int | bool | float | None) else "\0unknown"

    # --- several values

    def elements(self, value: object) -> list[object]:
        """The values of a loop over a value, in turn; two of what is not known."""
        if isinstance(value, list | tuple):
            return list(value)
        if isinstance(value, dict):
            return list(value)
        if isinstance(value, Layer) and value.items:
            return list(value.items)
        if isinstance(value, Instance):
            if value.items:
                return list(value.items)
            iterate = value.cls.lookup("__iter__")
            if isinstance(iterate, Function):
                return self.elements(self.reader.call(iterate, [value], {}, None))
        if isinstance(value, Layer) and value.name.lower() in CONTAINERS:
            return []
        if isinstance(value, Choice):
            found = [self.elements(one) for one in value.values if one is not None]
            return max(found, key=len, default=[])
        return [self.element(value)] * 2

    def element(self, value: object) -> object:
        """One part of what is not known by its parts."""
        if isinstance(value, Choice):
            return self._joined([self.element(one) for one in value.values if one is not None])
        if isinstance(value, list | tuple):
            return value[0] if value else UNKNOWN
        return value if isinstance(value, Tensor) or value is SIZE else UNKNOWN

    def merged(self, value: object) -> object:
        """A value of several as one, if it may be a tensor."""
        held = list(tensors_in(value)) if isinstance(value, Choice) else []
        return Tensor(either([one.node for one in held])) if held else value

    def _joined(self, values: Sequence[object]) -> object:
        if not values:
            return UNKNOWN
        value = values[0]
        for one in values[1:]:
            value = join(value, one)
        return value

    # --- conditions

    def truth(self, value: object) -> bool | None:
        """Whether a value is true; None if the source does not show it."""
        if isinstance(value, Unknown | Tensor | Opaque):
            return None
        if isinstance(value, Choice):
            found = {self.truth(one) for one in value.values}
            return found.pop() if len(found) == 1 else None
        if isinstance(value, Library):
            return True if "." in value.name else None
        if value is None or isinstance(value, bool | int | float | str | list | tuple | dict):
            return bool(value)
        return True

    def is_same(self, left: object, right: object) -> bool | None:
        """Whether two values are one object; None if the source does not show it."""
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Choice):
                found = {self.is_same(value, other) for value in one.values}
                return found.pop() if len(found) == 1 else None
            if isinstance(one, Unknown | Opaque):
                return None
        if left is None or right is None:
            return left is right
        if isinstance(left, bool) and isinstance(right, bool):
            return left == right
        if isinstance(left, Function | Class | Library) and type(left) is type(right):
            return left == right
        return None

    def is_equal(self, left: object, right: object, depth: int = 0) -> bool | Unknown:
        """Whether two values are equal; of shapes, whether one is compared with this very size."""
        if isinstance(left, Library) and isinstance(right, Library):
            return left == right
        for one, other in ((left, right), (right, left)):
            if one is SIZE:
                sizes = (
                    [other] if isinstance(other, int) else other if isinstance(other, list | tuple) else []
                )
                exact = bool(sizes) and all(isinstance(size, int) for size in sizes)
                return EXACT_SIZE if exact and max(sizes, default=0) > 3 else UNKNOWN
            if one is DTYPE:
                return DTYPE
            if isinstance(one, Choice | Tensor | Unknown | Opaque | Layer | Instance):
                return UNKNOWN
        if isinstance(left, tuple | list) and isinstance(right, tuple | list):
            if depth > 3:
                return UNKNOWN
            if len(left) != len(right):
                return False if self.exact else UNKNOWN
            found = [self.is_equal(one, other, depth + 1) for one, other in zip(left, right, strict=True)]
            if False in found:
                return False
            open_ones = [one for one in found if isinstance(one, Unknown)]
            return EXACT_SIZE if EXACT_SIZE in open_ones else open_ones[0] if open_ones else True
        return left == right

    def is_in(self, left: object, right: object) -> bool | Unknown:
        """Whether a value is among others."""
        if isinstance(right, list | tuple) and right:
            found = [self.is_equal(left, one) for one in right]
            if True in found:
                return True
            return next((one for one in found if isinstance(one, Unknown)), False)
        if isinstance(right, dict) and isinstance(left, str | int):
            return left in right or ("\0unknown" in right and UNKNOWN)
        if isinstance(left, str) and isinstance(right, str):
            return left in right
        return (
            EXACT_SIZE
            if isinstance(right, dict) and left is SIZE and right and self._by_size(right)
            else UNKNOWN
        )

    def _by_size(self, held: Mapping[object, object]) -> bool:
        return all(isinstance(key, int) and key > 3 for key in held)
