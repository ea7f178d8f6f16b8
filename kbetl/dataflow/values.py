"""The values that an expression can have while it is read: a tensor with its dataflow, a module, an unknown.

Numbers, texts, None, tuples, lists and dictionaries that are known are themselves.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from kbetl.dataflow.operators import Family, words

INPUT, PARAMETER, MADE, EMPTY, UNREAD, LATER, TRITON = (1 << bit for bit in range(7))
"""What a node depends on: arguments of forward, what the constructor made, constants, memory that nothing
wrote to, what could not be followed, arguments of a later call, a Triton kernel."""
_LEAVES = {
    "input": INPUT,
    "parameter": PARAMETER,
    "made": MADE,
    "empty": EMPTY,
    "unread": UNREAD,
    "later": LATER,
}
_UNORDERED = words(
    """
    add mul maximum minimum either eq ne logical_and logical_or logical_xor bitwise_and bitwise_or
    """
)
# Values of one name that are kept apart.
_MOST_CHOICES = 8
_LEFT_OUT = frozenset({"parameter", "made", "empty", "unread"})


class Node:
    """An operator with what it is applied to, or a leaf: an input, a parameter, a constant."""

    def __init__(
        self, name: str, args: Sequence[Node] = (), *, family: Family | None = None, line: int = 0
    ) -> None:
        self.name = name
        self.args = tuple(args)
        self.family = family
        self.line = line
        self.sources = _LEAVES.get(name, TRITON if name == "triton" else 0)
        for arg in self.args:
            self.sources |= arg.sources
        parts: list[bytes] = [arg.digest for arg in self.args if arg.name not in _LEFT_OUT]
        if name in _UNORDERED:
            parts.sort()
        self.digest: bytes = blake2b(
            b"\0".join([name.encode("utf-8", "replace"), *parts]), digest_size=16
        ).digest()
        """Of the tree from here on: names of operators, all inputs alike, no parameters and constants.
        Operands whose order means nothing are sorted."""

    @property
    def is_leaf(self) -> bool:
        """Whether it is no operator."""
        return self.name in _LEAVES

    def walk(self) -> Iterator[Node]:
        """Itself and everything that it depends on, each once."""
        waiting, seen = [self], {id(self)}
        while waiting:
            node = waiting.pop()
            yield node
            for arg in node.args:
                if id(arg) not in seen:
                    seen.add(id(arg))
                    waiting.append(arg)


class Tensor:
    """Memory with what was written there last; views are the same object."""

    def __init__(self, node: Node) -> None:
        self.node = node


@dataclass(frozen=True)
class Unknown:
    """A value that the source does not show; `about` is what is known of it."""

    about: str = ""


UNKNOWN = Unknown()
SIZE = Unknown("size")
"""A shape, a part of one, or a number computed from them."""
DTYPE = Unknown("dtype")
EXACT_SIZE = Unknown("exact size")
"""Whether a shape is this very one."""


@dataclass(eq=False)
class Choice:
    """One of several values, by a condition that the source does not show."""

    values: list[object]


@dataclass(eq=False)
class Scope:
    """Names and what they hold; those that are not here are looked up in the scope around it."""

    names: dict[str, object]
    outer: Scope | None = None
    elsewhere: dict[str, Scope] = field(default_factory=dict)
    """The scope of each name that `global` or `nonlocal` declares."""
    is_class: bool = False
    """Whether it is the body of a class, whose names its methods do not see."""

    def home(self, name: str) -> Scope | None:
        """The scope that holds a name; None if no one does."""
        scope: Scope | None = self.elsewhere.get(name, self)
        while scope is not None and name not in scope.names:
            scope = scope.outer
        return scope


@dataclass(eq=False)
class Function:
    """A function of the source, with the scope around it."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Scope
    owner: Class | None = None
    defaults: dict[str, object] = field(default_factory=dict)
    kind: str = "method"
    """`method`, `static`, `class` or `property`."""
    is_kernel: bool = False
    """Whether it is a Triton kernel."""
    results: list[object] | None = None
    """What it gave before, if it remembers that (`functools.lru_cache`)."""
    attributes: dict[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the source."""
        return "lambda" if isinstance(self.node, ast.Lambda) else self.node.name


@dataclass(eq=False)
class Class:
    """A class of the source."""

    name: str
    bases: list[object]
    names: dict[str, object]
    line: int

    def ancestry(self) -> Iterator[Class]:
        """Itself and its bases in the source, each once and before its own bases, as Python looks them up."""
        found: dict[int, Class] = {}
        _add_with_bases(self, found)
        return reversed(found.values())

    def lookup(self, name: str, after: Class | None = None) -> object:
        """What the class holds under a name, UNKNOWN if nothing; with `after`, in the bases of that class."""
        passed = after is None
        for cls in self.ancestry():
            if passed and name in cls.names:
                return cls.names[name]
            passed = passed or cls is after
        return UNKNOWN

    def library_base(self) -> str:
        """The dotted name of what it extends that the source does not define; empty if nothing."""
        for cls in self.ancestry():
            for base in cls.bases:
                if isinstance(base, Library):
                    return base.name
        return ""


def _add_with_bases(cls: Class, found: dict[int, Class]) -> None:
    """Adds a class behind its bases, the last base first; nothing if it is there."""
    for base in reversed(cls.bases):
        if isinstance(base, Class) and id(base) not in found:
            _add_with_bases(base, found)
    found[id(cls)] = cls


@dataclass(eq=False)
class Instance:
    """An object of a class of the source. `items` are its layers, if it extends a container of layers."""

    cls: Class
    attributes: dict[str, object] = field(default_factory=dict)
    items: list[object] = field(default_factory=list)


@dataclass(eq=False)
class Layer:
    """A layer of PyTorch; `items` are the layers that it holds, if it is a container."""

    name: str
    call: ast.Call | None = None
    items: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Library:
    """Something that the source does not define, by its dotted name: `torch.nn.functional.relu`, `len`."""

    name: str


@dataclass(eq=False)
class Opaque:
    """What a call of the library gave that is no tensor, by the dotted name of what was called."""

    name: str


@dataclass(eq=False)
class Bound:
    """A method with the object that it belongs to; `name` says which, if the library defines it."""

    owner: object
    function: Function | None = None
    name: str = ""


@dataclass(eq=False)
class Super:
    """What `super()` gives in a method of `cls`."""

    instance: object
    cls: Class


@dataclass(eq=False)
class Partial:
    """A callable with some of its arguments."""

    function: object
    args: list[object]
    keywords: dict[str, object]


@dataclass(frozen=True)
class Spread:
    """An unknown number of arguments, each this value: `*args` of what the source does not show."""

    value: object


@dataclass(eq=False)
class Launcher:
    """A Triton kernel with its grid."""

    kernel: Function


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors that a value is made of, in order; of a part that comes again those of the first time."""
    waiting, seen = [value], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple | dict | Choice) and id(one) not in seen:
            seen.add(id(one))
            parts = one.values() if isinstance(one, dict) else one.values if isinstance(one, Choice) else one
            waiting += reversed(list(parts))


def either(nodes: Sequence[Node]) -> Node:
    """One of several nodes; themselves if they are one."""
    known: dict[bytes, Node] = {}
    for node in nodes:
        for one in node.args if node.name == "either" else (node,):
            known.setdefault(one.digest + bytes([one.sources]), one)
    found = list(known.values())
    if len(found) > _MOST_CHOICES:  # a list that grows with every condition would be copied at each
        found = list(nodes)
    return found[0] if len(found) == 1 else Node("either", found, line=found[0].line)


def join(left: object, right: object, depth: int = 0) -> object:
    """What a name holds after two branches that the source does not choose between."""
    if left is right or (isinstance(left, Library) and left == right):
        return left
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return Tensor(either([left.node, right.node]))
    if isinstance(left, Unknown | int | float | str | None) and isinstance(
        right, Unknown | int | float | str
    ):
        same = type(left) is type(right) and left == right
        return (
            left
            if same
            else SIZE
            if SIZE in (left, right)
            else UNKNOWN
            if left is not None
            else _choice(left, right)
        )
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right) and depth < 3:
        return tuple(join(one, other, depth + 1) for one, other in zip(left, right, strict=True))
    return _choice(left, right)


def _choice(left: object, right: object) -> object:
    values: list[object] = []
    for value in (left, right):
        for one in value.values if isinstance(value, Choice) else [value]:
            if not any(one is known for known in values):
                values.append(one)
    held = [one for one in values if isinstance(one, Tensor)]
    if len(held) > 1:
        merged: object = Tensor(either([one.node for one in held]))
        values = [one for one in values if not isinstance(one, Tensor)] + [merged]
    return values[0] if len(values) == 1 else Choice(values[:_MOST_CHOICES])
