"""What expressions give while a source is read. Numbers are sizes, unknown unless a reader asks for them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence

from kbetl.dataflow.calls import Calls
from kbetl.dataflow.operators import Family
from kbetl.dataflow.values import (
    DTYPE,
    SIZE,
    UNKNOWN,
    Class,
    Function,
    Instance,
    Launcher,
    Layer,
    Library,
    Scope,
    Spread,
    Super,
    Tensor,
    Unknown,
    join,
)

# An integer up to this one is structure (an axis, a stride, an index), a larger one a size.
LARGEST_STRUCTURE = 3
# Turns of a loop whose length is known; a longer one shows nothing new.
MOST_TURNS = 64
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
_COMPARISON = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
_NUMBERS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
    ast.Div: lambda left, right: left / right,
}
_COMPARED: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: lambda left, right: left < right,
    ast.LtE: lambda left, right: left <= right,
    ast.Gt: lambda left, right: left > right,
    ast.GtE: lambda left, right: left >= right,
}


class Expressions(Calls):
    """The rules for expressions."""

    def value(self, node: ast.expr, scope: Scope) -> object:
        """What an expression gives."""
        self.step()
        read = _EXPRESSIONS.get(type(node))
        if read is None:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child, scope)
            return UNKNOWN
        value = read(self, node, scope)
        if isinstance(value, Tensor):
            self.tensor_expressions.add(id(node))
        return value

    def _constant(self, node: ast.Constant, scope: Scope) -> object:
        value = node.value
        if isinstance(value, bool | str | None):
            return value
        if isinstance(value, int) and (self.exact or abs(value) <= LARGEST_STRUCTURE):
            return value
        if isinstance(value, float) and self.exact:
            return value
        return value if value is Ellipsis else UNKNOWN

    def _name(self, node: ast.Name, scope: Scope) -> object:
        home = scope.home(node.id)
        value = Library(node.id) if home is None else home.names[node.id]
        if home is self.top:
            self.on_state(value, node)
        return value

    def _attribute(self, node: ast.Attribute, scope: Scope) -> object:
        owner = self.value(node.value, scope)
        value = self.attribute(owner, node.attr, node)
        if not isinstance(owner, Tensor):
            self.on_state(value, node)
        return value

    def _subscript(self, node: ast.Subscript, scope: Scope) -> object:
        owner = self.value(node.value, scope)
        if isinstance(owner, Function) and owner.is_kernel:
            self.value(node.slice, scope)
            return Launcher(owner)
        value = self.item(owner, self.value(node.slice, scope))
        self.on_state(value, node)
        return value

    def _binary(self, node: ast.BinOp, scope: Scope) -> object:
        return self.arithmetic(node, node.op, self.value(node.left, scope), self.value(node.right, scope))

    def arithmetic(self, node: ast.AST, operator: ast.operator, left: object, right: object) -> object:
        """What an operator's sign gives."""
        left, right = self.merged(left), self.merged(right)
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            name = _ARITHMETIC.get(type(operator), "bitwise operation")
            family: Family = "matrix" if name == "matmul" else "elementwise"
            return self.operator(name, family, [left, right], node)
        if isinstance(left, list | tuple | str) and isinstance(right, list | tuple | str):
            self.steps += len(left) + len(right)
            self.step()
        if isinstance(left, list | tuple) and isinstance(operator, ast.Add) and isinstance(right, type(left)):
            return [*left, *right] if isinstance(left, list) else (*left, *right)
        if isinstance(left, list | tuple | str) and isinstance(operator, ast.Mult):
            return (
                left
                if isinstance(right, Unknown)
                else left * min(right, 4)
                if isinstance(right, int)
                else left
            )
        if isinstance(left, str) and isinstance(right, str) and isinstance(operator, ast.Add):
            return left + right
        if isinstance(left, int | float) and isinstance(right, int | float):
            calculate = _NUMBERS.get(type(operator))
            if calculate and max(abs(left), abs(right)) < 2**53:
                try:
                    return calculate(left, right)
                except ZeroDivisionError:
                    return UNKNOWN
        return SIZE if SIZE in (left, right) and isinstance(left, Unknown | int | float) else UNKNOWN

    def _unary(self, node: ast.UnaryOp, scope: Scope) -> object:
        value = self.merged(self.value(node.operand, scope))
        if isinstance(node.op, ast.Not):
            truth = self.truth(value)
            return truth if truth is None else not truth if truth is not None else value
        if isinstance(value, Tensor):
            if isinstance(node.op, ast.USub):
                return self.operator("negation", "elementwise", [value], node)
            return value
        if isinstance(value, int | float) and isinstance(node.op, ast.USub):
            return -value
        return value if isinstance(value, Unknown) else UNKNOWN

    def _compare(self, node: ast.Compare, scope: Scope) -> object:
        values = [self.value(one, scope) for one in (node.left, *node.comparators)]
        found: list[object] = [
            self._compared(node, operator, left, right)
            for operator, left, right in zip(node.ops, values, values[1:], strict=False)
        ]
        return found[0] if len(found) == 1 else self._all(found)

    def _all(self, found: Sequence[object]) -> object:
        truths = [self.truth(one) for one in found]
        if False in truths:
            return False
        if None not in truths:
            return True
        open_ones = [one for one, truth in zip(found, truths, strict=True) if truth is None]
        return next((one for one in open_ones if isinstance(one, Unknown) and one.about), UNKNOWN)

    def _compared(self, node: ast.Compare, operator: ast.cmpop, left: object, right: object) -> object:
        if isinstance(operator, ast.Is | ast.IsNot):
            same = self.is_same(left, right)
            return UNKNOWN if same is None else same == isinstance(operator, ast.Is)
        if isinstance(operator, ast.In | ast.NotIn):
            found = self.is_in(left, right)
            return found if isinstance(found, Unknown) else found == isinstance(operator, ast.In)
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            name = _COMPARISON[type(operator)]
            return self.operator(name, "elementwise", [left, right], node, shown="comparison")
        if isinstance(operator, ast.Eq | ast.NotEq):
            equal = self.is_equal(left, right)
            return equal if isinstance(equal, Unknown) else equal == isinstance(operator, ast.Eq)
        if isinstance(left, int | float) and isinstance(right, int | float):
            return _COMPARED[type(operator)](left, right)
        return DTYPE if DTYPE in (left, right) else UNKNOWN

    def _boolean(self, node: ast.BoolOp, scope: Scope) -> object:
        is_and = isinstance(node.op, ast.And)
        found: list[object] = []
        for one in node.values:
            value = self.value(one, scope)
            truth = self.truth(value)
            found.append(value)
            if truth is (not is_and):
                return value if len(found) == 1 or not is_and else False if truth is False else found[-1]
        if all(isinstance(one, Unknown | bool) for one in found):
            return self._all(found) if is_and else UNKNOWN
        last = found[-1]
        for other in found[:-1]:
            if self.truth(other) is None:
                last = join(other, last)
        return last

    def _conditional(self, node: ast.IfExp, scope: Scope) -> object:
        test = self.value(node.test, scope)
        truth = self.truth(test)
        if truth is not None:
            return self.value(node.body if truth else node.orelse, scope)
        self.conditions.append(test)
        first, other = self.value(node.body, scope), self.value(node.orelse, scope)
        self.conditions.pop()
        return join(first, other)

    def _tuple(self, node: ast.Tuple, scope: Scope) -> object:
        return tuple(self._listed(node.elts, scope))

    def _list(self, node: ast.List | ast.Set, scope: Scope) -> object:
        return self._listed(node.elts, scope)

    def _listed(self, nodes: Sequence[ast.expr], scope: Scope) -> list[object]:
        found: list[object] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.elements(self.value(node.value, scope))
            else:
                found.append(self.value(node, scope))
        return found

    def _dict(self, node: ast.Dict, scope: Scope) -> object:
        found: dict[object, object] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            held = self.value(value, scope)
            if key is not None:
                found[self.key(self.value(key, scope))] = held
            elif isinstance(held, dict):
                found.update(held)
        return found

    def _text(self, node: ast.JoinedStr, scope: Scope) -> object:
        parts = []
        for one in node.values:
            value = self.value(one.value if isinstance(one, ast.FormattedValue) else one, scope)
            if not isinstance(value, str | int):
                return UNKNOWN
            parts.append(str(value))
        return "".join(parts)

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, scope: Scope) -> object:
        return [self.value(node.elt, inner) for inner in self._turns(node.generators, Scope({}, scope))]

    def _dict_comprehension(self, node: ast.DictComp, scope: Scope) -> object:
        return {
            self.key(self.value(node.key, inner)): self.value(node.value, inner)
            for inner in self._turns(node.generators, Scope({}, scope))
        }

    def _turns(self, generators: Sequence[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        if not generators:
            yield scope
            return
        for value in self.elements(self.value(generators[0].iter, scope))[:MOST_TURNS]:
            inner = Scope({}, scope)
            self.reader.bind(generators[0].target, value, inner)
            if all(self.truth(self.value(test, inner)) is not False for test in generators[0].ifs):
                yield from self._turns(generators[1:], inner)

    def _lambda(self, node: ast.Lambda, scope: Scope) -> object:
        return self.reader.function(node, scope)

    def _named(self, node: ast.NamedExpr, scope: Scope) -> object:
        value = self.value(node.value, scope)
        self.reader.bind(node.target, value, scope)
        return value

    def _starred(self, node: ast.Starred | ast.Await, scope: Scope) -> object:
        return self.value(node.value, scope)

    def _yield(self, node: ast.Yield, scope: Scope) -> object:
        if node.value is not None and self.frames:
            self.frames[-1].append([self.value(node.value, scope)])
        return UNKNOWN

    def _slice(self, node: ast.Slice, scope: Scope) -> object:
        bounds = [self.value(one, scope) if one else None for one in (node.lower, node.upper, node.step)]
        return slice(*bounds) if all(isinstance(one, int | None) for one in bounds) else slice(None)

    def _call(self, node: ast.Call, scope: Scope) -> object:
        function = self.value(node.func, scope)
        args: list[object] = []
        for one in node.args:
            if isinstance(one, ast.Starred):
                spread = self.value(one.value, scope)
                if isinstance(spread, list | tuple | Layer | Instance):
                    args += self.elements(spread)
                else:
                    args.append(Spread(spread if isinstance(spread, Tensor) else UNKNOWN))
            else:
                args.append(self.value(one, scope))
        keywords: dict[str, object] = {}
        for keyword in node.keywords:
            held = self.value(keyword.value, scope)
            if keyword.arg is not None:
                keywords[keyword.arg] = held
            elif isinstance(held, dict):
                keywords |= {name: one for name, one in held.items() if isinstance(name, str)}
        if isinstance(function, Library) and function.name == "super" and not args:
            return self._super(scope)
        return self.call(function, args, keywords, node)

    def _super(self, scope: Scope) -> object:
        inner: Scope | None = scope
        while inner is not None and "__class__" not in inner.names:
            inner = inner.outer
        if inner is None:
            return UNKNOWN
        cls = inner.names["__class__"]
        return Super(inner.names["__self__"], cls) if isinstance(cls, Class) else UNKNOWN


_EXPRESSIONS: Mapping[type[ast.expr], Callable[..., object]] = {
    ast.Constant: Expressions._constant,
    ast.Name: Expressions._name,
    ast.Attribute: Expressions._attribute,
    ast.Subscript: Expressions._subscript,
    ast.BinOp: Expressions._binary,
    ast.UnaryOp: Expressions._unary,
    ast.Compare: Expressions._compare,
    ast.BoolOp: Expressions._boolean,
    ast.IfExp: Expressions._conditional,
    ast.Tuple: Expressions._tuple,
    ast.List: Expressions._list,
    ast.Set: Expressions._list,
    ast.Dict: Expressions._dict,
    ast.JoinedStr: Expressions._text,
    ast.ListComp: Expressions._comprehension,
    ast.GeneratorExp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.DictComp: Expressions._dict_comprehension,
    ast.Lambda: Expressions._lambda,
    ast.NamedExpr: Expressions._named,
    ast.Starred: Expressions._starred,
    ast.Await: Expressions._starred,
    ast.Yield: Expressions._yield,
    ast.Slice: Expressions._slice,
    ast.Call: Expressions._call,
}
