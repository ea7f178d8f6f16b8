"""What the constructor of a module builds: its layers and parameters, by attribute."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from kbetl.offline.modules import FunctionNode, Source
from kbetl.offline.operators import CONTAINERS, IDLE, Operation, family_of
from kbetl.offline.shapes import settings

Apply = Callable[[str], tuple[Operation, ...]]
"""What a class of the same source applies when called."""


MOST_LAYERS = 300
"""Of one expression; a chain as long as that is rated high whatever follows."""


class Layers:
    """The layers of one class.

    `attributes` maps an attribute to what a call of it applies, `tensors` names the attributes that are
    parameters or buffers.
    """

    def __init__(self, source: Source, class_name: str, apply: Apply) -> None:
        self.source = source
        self.class_name = class_name
        self.apply = apply
        self.attributes: dict[str, tuple[Operation, ...]] = {}
        self.tensors: set[str] = set()
        self.built: dict[int, tuple[Operation, ...]] = {}
        self.scope: FunctionNode | None = None
        for function in reversed(list(self._constructors())):
            self.scope = function
            for node in ast.walk(function):
                self._note(node)
        self.scope = next(self._constructors(), None)

    def base(self) -> tuple[Operation, ...]:
        """What the layer that the class extends applies: all children for `Sequential`, else itself."""
        name = self.source.torch_base(self.class_name)
        if name is None:
            return ()
        if name.lower() not in CONTAINERS:
            return (Operation(name, family_of(name) or "other"),)
        found = [one for applied in self.attributes.values() for one in applied]
        for function in self._constructors():
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "__init__"
                ):
                    found += [one for argument in node.args for one in self.construct(argument)]
        return tuple(found)

    def _constructors(self) -> Iterator[FunctionNode]:
        """The methods that may build layers: all but those of a forward, nearest class first."""
        for cls in self.source.ancestry(self.class_name):
            for node in cls.body:
                if isinstance(node, FunctionNode) and not node.name.startswith("forward"):
                    yield node

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._keep(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._keep(node.target, node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            self._note_call(node, node.func)

    def _note_call(self, node: ast.Call, func: ast.Attribute) -> None:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        if not values:
            return
        if func.attr in ("append", "extend", "insert"):
            name = _self_attribute(func.value)
            if name:
                self._add(name, self.construct(values[-1]))
        elif func.attr in ("add_module", "register_module") and len(values) == 2:
            label = values[0].value if isinstance(values[0], ast.Constant) else "layers"
            self._add(str(label), self.construct(values[1]))
        elif func.attr in ("register_buffer", "register_parameter") and isinstance(values[0], ast.Constant):
            self.tensors.add(str(values[0].value))

    def _keep(self, target: ast.expr, value: ast.expr) -> None:
        name = _self_attribute(target)
        if name is None:
            return
        made = self.source.torch_name(value.func) if isinstance(value, ast.Call) else None
        if made and made.lower() in IDLE and made not in ("device", "dtype"):
            self.tensors.add(name)
        else:
            self._add(name, self.construct(value))

    def _add(self, name: str, operations: tuple[Operation, ...]) -> None:
        if operations:
            self.attributes[name] = self.attributes.get(name, ()) + operations

    def construct(self, node: ast.AST) -> tuple[Operation, ...]:
        """What the layers that an expression builds apply when called, in order."""
        if id(node) not in self.built:
            self.built[id(node)] = ()  # what holds itself adds nothing the second time
            self.built[id(node)] = tuple(self._construct(node))[:MOST_LAYERS]
        return self.built[id(node)]

    def _construct(self, node: ast.AST) -> Iterator[Operation]:
        if isinstance(node, ast.Call):
            yield from self._construct_call(node)
        elif isinstance(node, ast.Attribute):
            name = self.source.torch_name(node)
            family = family_of(name) if name else None
            if name and family:
                yield Operation(name, family)  # self.act = F.relu
        elif isinstance(node, ast.Name):
            yield from self._construct_name(node.id)
        elif isinstance(node, ast.ListComp | ast.GeneratorExp):
            yield from self.construct(node.elt) * 2  # repeated
        elif isinstance(node, ast.IfExp):
            yield from self.construct(node.body) or self.construct(node.orelse)
        elif isinstance(node, ast.Constant | ast.Lambda | ast.JoinedStr):
            return
        else:
            for child in ast.iter_child_nodes(node):
                yield from self.construct(child)

    def _construct_call(self, node: ast.Call) -> Iterator[Operation]:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        name = self.source.torch_name(node.func)
        if name and name.lower() not in CONTAINERS | {"spectral_norm", "weight_norm"}:
            family = family_of(name)
            if family:
                yield Operation(name, family, settings(node, name))
        elif isinstance(node.func, ast.Name) and node.func.id in self.source.classes:
            yield from self.apply(node.func.id)
        elif isinstance(node.func, ast.Name) and node.func.id in self.source.functions:
            yield from self._built_in(self.source.functions[node.func.id])
        elif (method := _self_attribute(node.func)) and self.source.method(self.class_name, method):
            yield from self._built_in(self.source.method(self.class_name, method))
        else:
            held = self.construct(node.func) if isinstance(node.func, ast.Name) else ()
            yield from held  # a class that came as an argument: norm_layer(dim)
            for value in () if held else values:
                yield from self.construct(value)

    def _built_in(self, function: FunctionNode | None) -> Iterator[Operation]:
        """The layers that a function builds: what it returns, with its own names."""
        if function is None:
            return
        outer, self.scope = self.scope, function
        try:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield from self.construct(node.value)
        finally:
            self.scope = outer

    def _construct_name(self, name: str) -> Iterator[Operation]:
        """What a local name holds: everything assigned or appended to it, or an argument's default."""
        if name == "self" or self.scope is None:
            return
        for node in ast.walk(self.scope):
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                    yield from self.construct(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                held = isinstance(node.func.value, ast.Name) and node.func.value.id == name
                if held and node.func.attr in ("append", "extend", "insert", "add_module"):
                    yield from self.construct(node.args[-1])
        arguments = self.scope.args
        defaults = zip(
            reversed([*arguments.posonlyargs, *arguments.args]), reversed(arguments.defaults), strict=False
        )
        for argument, default in defaults:
            if argument.arg == name and isinstance(default, ast.Attribute | ast.Name):
                yield from self.construct(default)


def _self_attribute(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return None
