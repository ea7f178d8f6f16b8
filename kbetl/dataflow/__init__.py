"""Reads what a module computes from its source: nested operators, `linear(relu(x))`. Nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kbetl.dataflow.operators import Operation
from kbetl.dataflow.reader import Reader
from kbetl.dataflow.source import Source
from kbetl.dataflow.state import MOST_OPERATIONS, TooLarge
from kbetl.dataflow.values import UNKNOWN, Class, Function, Instance, Node, Spread, Tensor, tensors_in
from kbetl.errors import UnreadableCode

# Tuples in tuples that are kept apart in a result.
_DEEPEST_RESULT = 3


class Dataflow(NamedTuple):
    """What a call of a module's forward computes."""

    result: Node
    operations: Sequence[Operation]
    """In the order of the source, views and copies as well."""
    is_whole: bool = True
    """Whether it was read to its end; if not, the operations are the first ones, without a result."""


def read_module(source: Source, class_name: str) -> Dataflow:
    """The dataflow of a class. Raises UnreadableCode if it is too large to follow."""
    reader = Reader()
    try:
        value = read_forward(reader, source, class_name)
    except (TooLarge, RecursionError):
        if len(reader.operations) < MOST_OPERATIONS:
            raise UnreadableCode("the code is too large to follow") from None
        return Dataflow(Node("unread"), reader.operations[:MOST_OPERATIONS], is_whole=False)
    return Dataflow(result_node(value), reader.operations[:MOST_OPERATIONS])


def read_forward(reader: Reader, source: Source, class_name: str) -> object:
    """What a call of a class gives, with arguments of the constructor that are not known."""
    reader.block(source.tree.body, reader.top)
    cls = reader.top.names.get(class_name)
    if not isinstance(cls, Class):
        return UNKNOWN
    reader.instance = reader.construct(cls, [Spread(UNKNOWN)], {}, None)
    reader.constructing = False
    return call_forward(reader, reader.instance)


def call_forward(reader: Reader, instance: object, leaf: str = "input") -> object:
    """What a call of a module gives, with one tensor for each argument that has no default."""
    args: list[object] = [Spread(Tensor(Node(leaf)))]
    forward = instance.cls.lookup("forward") if isinstance(instance, Instance) else None
    if isinstance(forward, Function):
        arguments = forward.node.args
        needed = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults) - 1
        args = [Tensor(Node(leaf)) for _ in range(needed)] + args
    return reader.call(instance, args, {}, None)


def result_node(value: object, depth: int = 0) -> Node:
    """The one node of a result; of several tensors a tuple of them."""
    if isinstance(value, tuple | list) and len(value) > 1 and depth < _DEEPEST_RESULT:
        return Node("tuple", [result_node(one, depth + 1) for one in value])
    held = [one.node for one in tensors_in(value)]
    return Node("unread") if not held else held[0] if len(held) == 1 else Node("tuple", held)
