"""Reads what a Triton kernel does with its arguments: through which it stores, and from which that comes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kbetl.dataflow.source import FunctionNode

_TRITON = ("tl", "triton", "language", "libdevice", "gl", "gluon")
_STORES_NOTHING = ("print", "static_assert", "static_print", "device_assert", "device_print", "debug_barrier")
_LOW_PRECISION = ("float16", "bfloat16", "float8", "int8", "fp8")


@dataclass
class Kernel:
    """A kernel, or a helper of one."""

    stores: dict[str, set[str]] = field(default_factory=dict)
    """By the parameter that it stores through: the parameters that what it stores comes from."""
    low_precision_line: int = 0
    """The line where a value is made less than single precision whatever comes in; 0 if there is none."""
    only_copies: bool = True
    """Whether it stores what it loaded, unchanged."""
    is_followed: bool = True
    """Whether nothing else is called that could store."""


def read_kernel(
    node: ast.AST, helpers: Mapping[str, ast.AST], known: dict[int, Kernel] | None = None
) -> Kernel:
    """What a kernel does, with the other kernels of the source by name; `known` are those that were read."""
    known = {} if known is None else known
    if id(node) not in known:
        known[id(node)] = Kernel()  # of one that calls itself
        if isinstance(node, FunctionNode):
            known[id(node)] = _Reading(node, helpers, known).kernel
    return known[id(node)]


class _Reading:
    """One reading of a kernel, whatever the order of its statements."""

    def __init__(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        helpers: Mapping[str, ast.AST],
        known: dict[int, Kernel],
    ) -> None:
        self.kernel = Kernel()
        self.helpers, self.known = helpers, known
        arguments = node.args
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        self.values: dict[str, set[str]] = {one.arg: {one.arg} for one in given}
        self.pointers: dict[str, set[str]] = {one.arg: {one.arg} for one in given}
        self.loaded: dict[str, bool] = {}
        assigned = list(_assignments(node))
        names = [(target, _names(value), _names(value, behind_loads=False)) for target, value in assigned]
        for _ in range(3):  # what is carried round a loop comes from below
            for target, used, pointing in names:
                self.values.setdefault(target, set()).update(_held(self.values, used))
                self.pointers.setdefault(target, set()).update(_held(self.pointers, pointing))
        for target, value in assigned:
            self.loaded[target] = self.loaded.get(target, True) and _is_load(value)
        for call in _calls(node):
            self.call(call)
        self.kernel.is_followed &= not any(map(self._may_store, ast.walk(node)))
        self.kernel.low_precision_line = _low_precision(node.body)
        self.kernel.only_copies &= bool(self.kernel.stores)

    def sources(self, node: ast.AST) -> set[str]:
        """The parameters that a value comes from."""
        return _held(self.values, _names(node))

    def addresses(self, node: ast.AST) -> set[str]:
        """The parameters that an address points into: those behind a load are none."""
        return _held(self.pointers, _names(node, behind_loads=False))

    def call(self, node: ast.Call) -> None:
        """Notes what a call stores."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        args = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in ("value", "val"))]
        if isinstance(node.func, ast.Name) and node.func.id in self.helpers:
            self._helper(node, self.helpers[node.func.id])
        elif name == "store" or name.startswith("atomic_") or name == "store_tensor_descriptor":
            owner = node.func.value if isinstance(node.func, ast.Attribute) else node
            is_method = bool(self.addresses(owner))
            address = owner if is_method else node.args[0] if node.args else node
            value = args[-1] if is_method else args[1] if len(args) > 1 else node
            found = self.sources(value)
            is_copy = _is_load(value) or (isinstance(value, ast.Name) and self.loaded.get(value.id, False))
            self.kernel.only_copies &= is_copy and name == "store"
            for parameter in self.addresses(address):
                kept = {parameter} if name.startswith("atomic_") else set()
                self.kernel.stores.setdefault(parameter, set()).update(found | kept)

    def _may_store(self, node: ast.AST) -> bool:
        """Whether a statement calls, for no result, what the source does not show."""
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            return False
        function = node.value.func
        if isinstance(function, ast.Name):
            return function.id not in self.helpers and function.id not in _STORES_NOTHING
        root = next((one.id for one in ast.walk(function) if isinstance(one, ast.Name)), "")
        name = function.attr if isinstance(function, ast.Attribute) else ""
        return name.startswith("inline_asm") or not (root in _TRITON or root in self.values)

    def _helper(self, node: ast.Call, helper: ast.AST) -> None:
        if not isinstance(helper, FunctionNode):
            return
        inner = read_kernel(helper, self.helpers, self.known)
        names = [one.arg for one in helper.args.args]
        given: dict[str, ast.expr] = dict(zip(names, node.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        self.kernel.only_copies &= not inner.stores or inner.only_copies
        self.kernel.is_followed &= inner.is_followed
        for stored, found in inner.stores.items():
            held = {one for name in found if name in given for one in self.sources(given[name])}
            for parameter in self.addresses(given[stored]) if stored in given else ():
                self.kernel.stores.setdefault(parameter, set()).update(held)


def _names(node: ast.AST, *, behind_loads: bool = True) -> set[str]:
    """The names in an expression; those that only say from where something is loaded if `behind_loads`."""
    found, waiting = set[str](), [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.Name):
            found.add(one.id)
        elif behind_loads or not (isinstance(one, ast.Call) and _is_load(one)):
            waiting += ast.iter_child_nodes(one)
    return found


def _held(by_name: Mapping[str, set[str]], names: set[str]) -> set[str]:
    return {parameter for name in names for parameter in by_name.get(name, ())}


def _assignments(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for one in ast.walk(node):
        if isinstance(one, ast.Assign):
            pairs: Sequence[tuple[ast.expr, ast.expr]] = [(target, one.value) for target in one.targets]
        elif isinstance(one, ast.AugAssign | ast.AnnAssign | ast.NamedExpr) and one.value is not None:
            pairs = [(one.target, one.value)]
        elif isinstance(one, ast.For):
            pairs = [(one.target, one.iter)]
        else:
            continue
        for target, value in pairs:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    yield name.id, value


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Call))


def _is_load(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return name in ("load", "load_tensor_descriptor", "_experimental_descriptor_load")


def _low_precision(statements: Sequence[ast.stmt]) -> int:
    """The first line that makes a value less than single precision, outside of conditions; 0 if none does."""
    for statement in statements:
        if isinstance(statement, ast.If):
            continue
        if isinstance(statement, ast.For | ast.While):
            inner = _low_precision(statement.body)
            if inner:
                return inner
            continue
        for call in _calls(statement):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if name in ("to", "cast") and any(_is_low(one) for one in call.args[-1:]):
                return call.lineno
    return 0


def _is_low(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr.startswith(_LOW_PRECISION)
