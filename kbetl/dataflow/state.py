"""The state of a reading: steps, operators that were applied, memory that was written to."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kbetl.dataflow.operators import VIEWS, Family, Operation, operator_name
from kbetl.dataflow.values import (
    UNKNOWN,
    Function,
    Node,
    Scope,
    Tensor,
    either,
    tensors_in,
)

if TYPE_CHECKING:
    from kbetl.dataflow.reader import Reader

# Of one reading: statements and expressions. 40,000 need 0.4 s.
MOST_STEPS = 40_000
# Of one module, in order; a chain as long as that is rated high whatever follows.
MOST_OPERATIONS = 300


class TooLarge(Exception):
    """The source needs more steps than one reading may have; never leaves this package."""


class Known(NamedTuple):
    """What a call gave, and the operators that it applied."""

    value: object
    operations: Sequence[Operation]
    args: Sequence[object]
    """Kept, because they are known by their `id`."""


class State:
    """The state of a reading, and what a checker may watch."""

    def __init__(self, *, exact: bool = False) -> None:
        self.exact = exact
        """Whether numbers are known; else they are sizes, and no condition depends on them."""
        self.top = Scope({"__name__": "module"})
        self.operations: list[Operation] = []
        """What was applied so far, in order, in the words of the source."""
        self.frames: list[list[object]] = []
        """What each function that is being called has returned so far."""
        self.conditions: list[object] = []
        """The open conditions around what is read."""
        self.attempts: list[ast.Try] = []
        self.constructing = True
        """Whether tensors that are made are parameters: at the top of a source and in constructors."""
        self.instance: object = None
        """The module whose forward is read."""
        self.writes = 0
        """How often something was stored that a later call could find."""
        self.tensor_expressions: set[int] = set()
        self.custom_ops: dict[str, Function] = {}
        """What `torch.ops.NAMESPACE.NAME` means, by `NAMESPACE.NAME`."""
        self.steps = 0
        self.active: dict[int, int] = {}
        self.known: dict[object, Known] = {}

    @property
    def reader(self) -> Reader:
        return self  # type: ignore[return-value]  # Reader is the only class above this one

    # --- what a checker may watch

    def on_branch(self, node: ast.stmt, test: object, mark: int, *, is_left: bool) -> None:
        """Called after a branch of an open condition was read; with whether it leaves the function."""

    def on_enter(self, values: Sequence[object], node: ast.AST) -> None:
        """Called at the start of a `with`."""

    def on_exit(self, values: Sequence[object]) -> None:
        """Called at the end of a `with`."""

    def on_state(self, value: object, node: ast.expr) -> None:
        """Called with what an attribute, a key or a name at the top of the source holds."""

    def on_call(self, name: str, args: Sequence[object], node: ast.AST) -> None:
        """Called for each call of something of a library, by its dotted name."""

    def on_function(self, function: Function, node: ast.AST) -> None:
        """Called before a function of the source is read."""

    def on_replace(self, name: str, node: ast.AST) -> None:
        """Called if a name of a library is replaced."""

    def on_unread(self, name: str, args: Sequence[object], node: ast.AST) -> None:
        """Called for a call that cannot be followed."""

    def launch(
        self, kernel: Function, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST
    ) -> None:
        """Reads the launch of a Triton kernel: every tensor may be written to, from every other one."""
        held = [one for value in [*args, *keywords.values()] for one in tensors_in(value)]
        node_of_all = Node("triton", [one.node for one in held], line=getattr(node, "lineno", 0))
        for one in held:
            self.write(one, node_of_all)

    # --- steps, operators, memory

    def step(self) -> None:
        """Counts a step. Raises TooLarge if there were too many."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise TooLarge

    def mark(self) -> int:
        """How many results the function that is being called has so far."""
        return len(self.frames[-1]) if self.frames else 0

    def since(self, mark: int) -> Sequence[object]:
        """The results since then."""
        return self.frames[-1][mark:] if self.frames else []

    def operator(
        self, name: str, family: Family, args: Sequence[object], node: ast.AST | None, *, shown: str = ""
    ) -> object:
        """The tensor that an operator gives; it is a parameter in a constructor."""
        if self.constructing:
            return Tensor(Node("parameter"))
        held = [one for value in args for one in tensors_in(value)]
        call = node if isinstance(node, ast.Call) else None
        self.operations.append(
            Operation(shown or name, family, call, self._tensor_arguments(call) if call else frozenset())
        )
        if family == "copy" and operator_name(name) in VIEWS and held:
            return held[0]
        nodes = [one.node for one in held]
        if self.exact and any(value is UNKNOWN for value in args):
            nodes.append(Node("unread"))
        return Tensor(Node(operator_name(name), nodes, family=family, line=getattr(node, "lineno", 0)))

    def _tensor_arguments(self, call: ast.Call) -> frozenset[int]:
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        return frozenset(id(one) for one in values if id(one) in self.tensor_expressions)

    def write(self, tensor: Tensor, node: Node) -> None:
        """Stores into a tensor's memory."""
        self.writes += 1
        tensor.node = either([tensor.node, node]) if self.conditions else node
