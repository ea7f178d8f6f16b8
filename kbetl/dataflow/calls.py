"""What calls of the source's own functions, classes and layers give while it is read."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from kbetl.dataflow import library
from kbetl.dataflow.objects import Objects
from kbetl.dataflow.operators import CONTAINERS, family_of
from kbetl.dataflow.state import MOST_OPERATIONS, Known
from kbetl.dataflow.values import (
    SIZE,
    UNKNOWN,
    Bound,
    Choice,
    Class,
    Function,
    Instance,
    Launcher,
    Layer,
    Library,
    Opaque,
    Partial,
    Scope,
    Spread,
    Tensor,
    Unknown,
    tensors_in,
)

# Calls inside each other, of the source's own functions.
MOST_CALLS = 60
# Calls of one function or class inside itself that are followed.
MOST_RECURSION = 2
_PLAIN_ANNOTATIONS = frozenset({"int", "float", "bool", "str"})


class Calls(Objects):
    """The rules for calls."""

    def call(
        self, function: object, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
    ) -> object:
        """What a call gives."""
        if isinstance(function, Choice):
            found = [self.call(one, args, keywords, node) for one in function.values if one is not None]
            return self._joined(found)
        if isinstance(function, Function):
            if function.is_kernel:
                return UNKNOWN
            return self._call_function(function, args, keywords, node)
        if isinstance(function, Bound):
            if function.function is not None:
                return self._call_function(function.function, [function.owner, *args], keywords, node)
            return library.call_method(self.reader, function.owner, function.name, args, keywords, node)
        if isinstance(function, Class):
            return self.construct(function, args, keywords, node)
        if isinstance(function, Instance):
            return self._call_instance(function, args, keywords, node)
        if isinstance(function, Layer):
            return self._call_layer(function, args, keywords, node)
        if isinstance(function, Library):
            return library.call(self.reader, function.name, args, keywords, node)
        if isinstance(function, Partial):
            return self.call(
                function.function, [*function.args, *args], {**function.keywords, **keywords}, node
            )
        if isinstance(function, Opaque) and function.name.startswith("triton."):
            return library.call(self.reader, function.name, args, keywords, node)
        if isinstance(function, Launcher):
            self.launch(function.kernel, args, keywords, node or ast.Pass())
            return UNKNOWN
        return self.unread_call(_called(node), args, keywords, node)

    def unread_call(
        self, name: str, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
    ) -> object:
        """What a call of something gives whose inside the source does not show."""
        values = [*args, *keywords.values()]
        self.on_unread(name, values, node or ast.Pass())
        if any(True for value in values for _ in tensors_in(_plain(value))):
            return self.operator(name, "other", [UNKNOWN, *map(_plain, values)], node)
        return UNKNOWN

    def _call_function(
        self, function: Function, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
    ) -> object:
        self.on_function(function, node or ast.Pass())
        if self.active.get(id(function), 0) >= MOST_RECURSION or len(self.frames) > MOST_CALLS:
            return self.unread_call(function.name, args, keywords, node)
        key = (
            id(function),
            *map(_identity, args),
            *((name, _identity(one)) for name, one in keywords.items()),
        )
        known = self.known.get((self.writes, self.constructing, key))
        if known is not None:
            # No more than are read: functions that call another one twice, and so on, double them.
            self.operations += known.operations[: max(MOST_OPERATIONS - len(self.operations), 0)]
            return known.value
        writes, applied = self.writes, len(self.operations)
        value = self._run(function, args, keywords)
        if function.results is not None:
            function.results.append(value)
            value = self._joined(function.results)
        elif writes == self.writes:
            self.known[writes, self.constructing, key] = Known(
                value, self.operations[applied:], [*args, *keywords.values()]
            )
        return value

    def _run(self, function: Function, args: Sequence[object], keywords: Mapping[str, object]) -> object:
        scope = Scope(self.bound(function, args, keywords), function.scope)
        if function.owner is not None and args:
            scope.names |= {"__class__": function.owner, "__self__": args[0]}
        if isinstance(function.node, ast.Lambda):
            return self.reader.value(function.node.body, scope)
        self.frames.append([])
        self.active[id(function)] = self.active.get(id(function), 0) + 1
        try:
            self.reader.block(function.node.body, scope)
        finally:
            self.active[id(function)] -= 1
            results = self.frames.pop()
        if len(results) > 1 and all(isinstance(one, list) and len(one) == 1 for one in results):
            return [one for listed in results if isinstance(listed, list) for one in listed]  # a generator
        return self._joined(results) if results else None

    def bound(
        self, function: Function, args: Sequence[object], keywords: Mapping[str, object]
    ) -> dict[str, object]:
        """The arguments of a call by their names; UNKNOWN for one that is not given."""
        arguments = function.node.args
        ordered = [*arguments.posonlyargs, *arguments.args]
        names = {one.arg: UNKNOWN for one in [*ordered, *arguments.kwonlyargs]} | function.defaults
        spread = next((one for one in args if isinstance(one, Spread)), None)
        given = [one for one in args if not isinstance(one, Spread)]
        found = dict(zip([one.arg for one in ordered], given, strict=False))
        if spread is not None:
            rest = [one.arg for one in ordered[len(given) :] if one.arg not in function.defaults]
            found |= dict.fromkeys(rest, spread.value)
        extra = {name: value for name, value in keywords.items() if name not in names}
        found |= {name: value for name, value in keywords.items() if name in names}
        for one in [*ordered, *arguments.kwonlyargs]:
            is_plain = isinstance(one.annotation, ast.Name) and one.annotation.id in _PLAIN_ANNOTATIONS
            if is_plain and isinstance(found.get(one.arg), Tensor):
                found[one.arg] = SIZE
        if arguments.vararg:
            held = given[len(ordered) :]
            found[arguments.vararg.arg] = spread.value if spread and not held else tuple(held)
        if arguments.kwarg:
            found[arguments.kwarg.arg] = extra
        return {**names, **found}

    def construct(
        self, cls: Class, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
    ) -> object:
        """An object of a class of the source."""
        key = (id(cls), *map(_identity, args), *((name, _identity(one)) for name, one in keywords.items()))
        if not self.exact and key in self.known:
            return self.known[key].value
        if self.active.get(id(cls), 0) >= MOST_RECURSION or len(self.frames) > MOST_CALLS:
            return UNKNOWN
        instance = Instance(cls)
        base = cls.library_base()
        initialise = cls.lookup("__init__")
        outer, self.constructing = self.constructing, self.constructing or "nn." in base
        self.active[id(cls)] = self.active.get(id(cls), 0) + 1
        try:
            if isinstance(initialise, Function):
                self._call_function(initialise, [instance, *args], keywords, node)
            else:
                library.initialise(self.reader, instance, args, keywords)
        finally:
            self.constructing = outer
            self.active[id(cls)] -= 1
        self.known[key] = Known(instance, (), [*args, *keywords.values()])
        return instance

    def _call_instance(
        self, instance: Instance, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
    ) -> object:
        for name in ("forward", "__call__"):
            held = instance.attributes.get(name, instance.cls.lookup(name))
            if isinstance(held, Function):
                return self._call_function(held, [instance, *args], keywords, node)
            if isinstance(held, Bound):
                return self.call(held, args, keywords, node)
        base = instance.cls.library_base().rpartition(".")[2]
        if base.lower() in CONTAINERS:
            layers = instance.items or [
                one for one in instance.attributes.values() if isinstance(one, Layer | Instance)
            ]
            return self._call_layer(Layer("Sequential", items=layers), args, keywords, node)
        if base and base != "Module":
            return self._call_layer(Layer(base), args, keywords, node)
        return self.unread_call(instance.cls.name, args, keywords, node)

    def _call_layer(
        self, layer: Layer, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
    ) -> object:
        if layer.name.lower() in CONTAINERS:
            value = _plain(args[0]) if args else UNKNOWN
            for one in layer.items:
                value = self.call(one, [value], {}, node)
            return value
        values = [_plain(one) for one in [*args, *keywords.values()]]
        family = family_of(layer.name) or "other"
        value = self.operator(layer.name, family, values, layer.call or _no_call(node))
        if isinstance(value, Tensor) and value not in values:
            value.node.line = getattr(node, "lineno", value.node.line)  # of its use, not of its settings
        return value


def _no_call(node: ast.AST | None) -> ast.AST | None:
    """The line of a call without its arguments."""
    return ast.Pass(lineno=getattr(node, "lineno", 0))


def _plain(value: object) -> object:
    return value.value if isinstance(value, Spread) else value


def _called(node: ast.AST | None) -> str:
    """The last name of what is called."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else "call"


def _identity(value: object, depth: int = 0) -> object:
    """A key that is equal for values that a function cannot tell apart."""
    if isinstance(value, Tensor):
        return value.node.digest, value.node.sources, id(value)
    if isinstance(value, tuple) and depth < 3:
        return tuple(_identity(one, depth + 1) for one in value)
    if isinstance(value, Spread):
        return "*", _identity(value.value)
    if isinstance(value, bool | int | float | str | None | Unknown | Library):
        return type(value).__name__, value
    return id(value)
