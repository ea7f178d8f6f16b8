"""Follows a module's forward through its own methods, functions and classes, and lists its operators."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kbetl.offline.layers import Layers
from kbetl.offline.modules import FunctionNode, Source
from kbetl.offline.operators import IDLE, Operation, family_of
from kbetl.offline.shapes import settings

MOST_OPERATIONS = 300
"""Of one function; a chain as long as that is rated high whatever follows."""

_ARITHMETIC = {
    ast.Add: "addition",
    ast.Sub: "subtraction",
    ast.Mult: "multiplication",
    ast.Div: "division",
    ast.FloorDiv: "floor division",
    ast.Mod: "remainder",
    ast.Pow: "power",
    ast.MatMult: "matmul",
}
_NO_TENSOR = frozenset(
    {"shape", "dtype", "device", "ndim", "is_cuda", "requires_grad", "training", "size", "dim"}
)
_CARRIERS = frozenset(
    {
        "sum",
        "zip",
        "list",
        "tuple",
        "enumerate",
        "reversed",
        "map",
        "abs",
        "max",
        "min",
        "pow",
        "sorted",
        "iter",
        "next",
        "dict",
        "set",
    }
)


def operations_of(source: Source, class_name: str) -> Sequence[Operation]:
    """What a call of the class applies, in order, as far as the source tells."""
    return Walk(source).call_class(class_name)


@dataclass
class Walk:
    """One reading of a source; remembers what each function applies, so that no work is repeated."""

    source: Source
    known: dict[tuple[str, str], tuple[Operation, ...]] = field(default_factory=dict)
    layers: dict[str, Layers] = field(default_factory=dict)

    def call_class(
        self, class_name: str, method: str = "forward", after: str | None = None
    ) -> tuple[Operation, ...]:
        """What a method applies; for a class without forward, what the layer that it extends applies."""
        key = (class_name, f"{after or ''}.{method}")
        if key in self.known:
            return self.known[key]
        self.known[key] = ()  # a class that holds itself adds nothing the second time
        function = self.source.method(class_name, method, after)
        if function is not None:
            found = self._run(function, class_name)
        elif method == "forward":
            found = self.layers_of(class_name).base()
        else:
            found = ()
        self.known[key] = found
        return found

    def call_function(self, name: str) -> tuple[Operation, ...]:
        """What a function at the top of the source applies."""
        key = ("", name)
        if key not in self.known:
            self.known[key] = ()
            self.known[key] = self._run(self.source.functions[name], None)
        return self.known[key]

    def layers_of(self, class_name: str) -> Layers:
        """What the class constructs, by attribute."""
        if class_name not in self.layers:
            self.layers[class_name] = Layers(self.source, class_name, self.call_class)
        return self.layers[class_name]

    def _run(self, function: FunctionNode, class_name: str | None) -> tuple[Operation, ...]:
        body = _Body(self, class_name, function)
        body.block(function.body)
        return tuple(body.found[:MOST_OPERATIONS])


class _Body:
    """The statements of one function. Every `value` method says whether the expression holds a tensor."""

    def __init__(self, walk: Walk, class_name: str | None, function: FunctionNode) -> None:
        self.walk = walk
        self.source = walk.source
        self.class_name = class_name
        self.layers = walk.layers_of(class_name) if class_name else None
        self.found: list[Operation] = []
        self.tensors = set(_tensor_arguments(function))
        self.held: dict[int, bool] = {}
        self.named_layers: dict[str, tuple[Operation, ...]] = {}

    def add(self, operations: Iterable[Operation]) -> None:
        if len(self.found) < MOST_OPERATIONS:
            self.found.extend(operations)

    def block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            holds = self.value(node.value)
            for target in node.targets:
                self.bind(target, node.value, holds)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.bind(node.target, node.value, self.value(node.value))
        elif isinstance(node, ast.AugAssign):
            if self.value(node.value) | self.value(node.target):
                self.arithmetic(node.op)
                self.bind(node.target, node.value, True)
        elif isinstance(node, ast.For):
            self.loop(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assert | ast.Raise):
            pass  # what is checked or defined here is not applied here
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child)
                elif isinstance(child, ast.stmt):
                    self.statement(child)
                elif isinstance(child, ast.withitem):
                    self.value(child.context_expr)

    def loop(self, node: ast.For) -> None:
        """A loop over layers applies each of them; any other body counts twice: it is repeated."""
        layers = self.layer_operations(node.iter)
        self.bind(node.target, node.iter, self.value(node.iter))
        if layers:
            for name in ast.walk(node.target):
                if isinstance(name, ast.Name):
                    self.named_layers[name.id] = layers
        start = len(self.found)
        self.block(node.body)
        if not layers:
            self.add(self.found[start:])
        self.block(node.orelse)

    def bind(self, target: ast.expr, value: ast.expr, holds: bool) -> None:
        if isinstance(target, ast.Name):
            (self.tensors.add if holds else self.tensors.discard)(target.id)
            layers = self.layer_operations(value)
            if layers:
                self.named_layers[target.id] = layers
        elif isinstance(target, ast.Tuple | ast.List):
            for child in target.elts:
                self.bind(child, value, holds)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, value, holds)
        elif isinstance(target, ast.Subscript) and holds and isinstance(target.value, ast.Name):
            self.tensors.add(target.value.id)

    def layer_operations(self, node: ast.expr) -> tuple[Operation, ...]:
        """What the layers named in an expression apply when called: `self.layers`, `zip(self.a, self.b)`."""
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in _CARRIERS | {"getattr"}
        ):
            return tuple(one for argument in node.args for one in self.layer_operations(argument))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("children", "values", "items", "modules", "get"):
                return self.layer_operations(node.func.value)
            return ()
        if isinstance(node, ast.Subscript):
            return self.layer_operations(node.value)
        if isinstance(node, ast.Name):
            if node.id == "self" and self.layers:
                return tuple(one for applied in self.layers.attributes.values() for one in applied)
            return self.named_layers.get(node.id, ())
        if _is_self(node) and isinstance(node, ast.Attribute) and self.layers:
            return self.layers.attributes.get(node.attr, ())
        return ()

    def value(self, node: ast.expr) -> bool:
        holds = self.held[id(node)] = self._value(node)
        return holds

    def is_tensor(self, node: ast.expr) -> bool:
        """Whether an expression that was read already holds a tensor."""
        return self.held.get(id(node), False)

    def _value(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.BinOp):
            return self.binary(node)
        if isinstance(node, ast.UnaryOp):
            holds = self.value(node.operand)
            if holds and isinstance(node.op, ast.USub):
                self.add([Operation("negation", "elementwise")])
            return holds and not isinstance(node.op, ast.Not)
        if isinstance(node, ast.Compare):
            return self.comparison(node)
        if isinstance(node, ast.Name):
            return node.id in self.tensors
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Subscript):
            return self.value(node.value) | (self.value(node.slice) and False)
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            return self.comprehension(node)
        if isinstance(node, ast.NamedExpr):
            holds = self.value(node.value)
            self.bind(node.target, node.value, holds)
            return holds
        if isinstance(node, ast.Lambda | ast.JoinedStr | ast.Constant):
            return False
        return self.any_of(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))

    def any_of(self, nodes: Iterable[ast.expr]) -> bool:
        """Whether one of them holds a tensor; all are read, because each may apply something."""
        holding = [self.value(node) for node in nodes]
        return any(holding)

    def binary(self, node: ast.BinOp) -> bool:
        holds = self.value(node.left) | self.value(node.right)
        if holds:
            self.arithmetic(node.op)
        return holds

    def arithmetic(self, operator: ast.operator) -> None:
        name = _ARITHMETIC.get(type(operator), "bitwise operation")
        self.add([Operation(name, "matrix" if name == "matmul" else "elementwise")])

    def comparison(self, node: ast.Compare) -> bool:
        holds = self.any_of((node.left, *node.comparators))
        holds = holds and not any(isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn) for op in node.ops)
        if holds:
            self.add([Operation("comparison", "elementwise")])
        return holds

    def attribute(self, node: ast.Attribute) -> bool:
        if _is_self(node):
            return self.layers is not None and node.attr in self.layers.tensors
        if node.attr in _NO_TENSOR:
            return False
        if isinstance(node.value, ast.Attribute) and _is_self(node.value):
            return node.attr in ("weight", "bias", "data") or self.value(node.value)
        return self.value(node.value)

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> bool:
        start = len(self.found)
        for part in node.generators:
            self.bind(part.target, part.iter, self.value(part.iter))
            layers = self.layer_operations(part.iter)
            if layers and isinstance(part.target, ast.Name):
                self.named_layers[part.target.id] = layers
        holds = self.value(node.elt)
        self.add(self.found[start:])
        return holds

    def call(self, node: ast.Call) -> bool:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        holding = [self.value(argument) for argument in values]
        given = any(holding)
        layers = self.layer_operations(node.func)
        if layers:
            self.add(layers)
            return True
        if isinstance(node.func, ast.Name):
            return self.call_name(node, node.func.id, given)
        if isinstance(node.func, ast.Attribute):
            return self.call_attribute(node, node.func, holding)
        constructed = self.layers.construct(node.func) if self.layers else ()
        self.add(constructed)  # nn.Softmax(dim=1)(x)
        return given or bool(constructed) or self.value(node.func)

    def call_name(self, node: ast.Call, name: str, given: bool) -> bool:
        torch_name = self.source.torch_name(node.func)
        if name in self.source.functions:
            self.add(self.walk.call_function(name))
        elif torch_name:
            return self.torch_call(node, torch_name, given)
        elif name in self.source.imports and given:
            self.add([Operation(name, "other")])
        elif name not in self.source.classes and name not in _CARRIERS and given:
            return name not in (
                "len",
                "int",
                "float",
                "isinstance",
                "print",
                "range",
                "bool",
                "str",
                "hasattr",
            )
        return given

    def call_attribute(self, node: ast.Call, func: ast.Attribute, holding: Sequence[bool]) -> bool:
        given = any(holding)
        if _is_self(func):
            return self.call_self(func.attr, given)
        if (
            isinstance(func.value, ast.Call)
            and isinstance(func.value.func, ast.Name)
            and func.value.func.id == "super"
        ):
            self.add(self.walk.call_class(self.class_name or "", func.attr, self.class_name))
            return given
        torch_name = self.source.torch_name(func)
        if torch_name:
            return self.torch_call(node, torch_name, given)
        if isinstance(func.value, ast.Name) and func.value.id in self.source.imports:
            return given  # math, numpy: nothing that runs on tensors
        if isinstance(func.value, ast.Name) and func.value.id in self.source.classes:
            self.add(self.walk.call_class(func.value.id, "forward" if func.attr == "apply" else func.attr))
            return True
        holds = self.value(func.value)
        if given and func.attr in ("append", "extend", "insert") and isinstance(func.value, ast.Name):
            self.tensors.add(func.value.id)
            return False
        return self.tensor_method(node, func.attr, holds)

    def call_self(self, name: str, given: bool) -> bool:
        if self.class_name and self.source.method(self.class_name, name):
            self.add(self.walk.call_class(self.class_name, name))
            return True
        held = self.layers is not None and name in self.layers.attributes
        if given and not held:
            self.add([Operation(name, "other")])
        return True

    def torch_call(self, node: ast.Call, name: str, given: bool) -> bool:
        family = family_of(name)
        if family and (name in ("max", "min") and len(node.args) == 2 and self.is_tensor(node.args[1])):
            family = "elementwise"
        if family and given:
            self.add([Operation(name, family, settings(node, name, self.is_tensor))])
        elif given and name not in IDLE and name.lower() not in IDLE:
            self.add([Operation(name, "other")])
        return name not in ("is_tensor", "numel", "device", "finfo")

    def tensor_method(self, node: ast.Call, name: str, holds: bool) -> bool:
        if not holds or name in _NO_TENSOR:
            return False
        family = family_of(name)
        if family:
            self.add([Operation(name, family, settings(node, name, self.is_tensor))])
        return name not in ("item", "numel", "tolist", "nelement", "stride")


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _tensor_arguments(function: FunctionNode) -> list[str]:
    """The arguments that are likely tensors: all but `self`, and those with a plain number or text."""
    arguments = function.args
    ordered = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(ordered) - len(arguments.defaults)) + [*arguments.defaults]
    pairs = [
        *zip(ordered, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    names = [argument.arg for argument, default in pairs if not _is_plain(argument, default)]
    names += [extra.arg for extra in (arguments.vararg, arguments.kwarg) if extra]
    return [name for name in names if name not in ("self", "ctx")]


def _is_plain(argument: ast.arg, default: ast.expr | None) -> bool:
    plain = isinstance(argument.annotation, ast.Name) and argument.annotation.id in (
        "int",
        "float",
        "bool",
        "str",
    )
    return plain or (isinstance(default, ast.Constant) and default.value is not None)
