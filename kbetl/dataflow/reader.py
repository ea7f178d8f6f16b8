"""Reads a source forward, as Python would run it, with unknowns for values that it does not show.

Nothing is executed or imported. The results of both branches of an open condition are joined; loops whose
length is open are read twice. Numbers are sizes: they are known only to a reader that is asked for them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence

from kbetl.dataflow.expressions import MOST_TURNS, Expressions
from kbetl.dataflow.source import imported_names
from kbetl.dataflow.values import (
    UNKNOWN,
    Bound,
    Choice,
    Class,
    Function,
    Instance,
    Library,
    Partial,
    Scope,
    Tensor,
    Unknown,
    join,
)

_NEXT, _LEFT, _ENDED = range(3)
"""How a block ended: at its end, by `break` or `continue`, by `return` or `raise`."""


class Reader(Expressions):
    """One reading of one source."""

    def block(self, statements: Sequence[ast.stmt], scope: Scope) -> int:
        """Reads statements in order; returns how they ended."""
        for statement in statements:
            self.step()
            read = _STATEMENTS.get(type(statement))
            if read is None:
                for child in ast.iter_child_nodes(statement):
                    if isinstance(child, ast.expr):
                        self.value(child, scope)
            elif (end := read(self, statement, scope)) != _NEXT:
                return end
        return _NEXT

    def _assign(self, node: ast.Assign, scope: Scope) -> int:
        value = self.value(node.value, scope)
        for target in node.targets:
            self.bind(target, value, scope)
        return _NEXT

    def _annotated(self, node: ast.AnnAssign, scope: Scope) -> int:
        if node.value is not None:
            self.bind(node.target, self.value(node.value, scope), scope)
        return _NEXT

    def _augmented(self, node: ast.AugAssign, scope: Scope) -> int:
        before, value = self.value(node.target, scope), self.value(node.value, scope)
        if isinstance(before, list) and isinstance(node.op, ast.Add):
            self.writes += 1
            before.extend(self.elements(value))
            return _NEXT
        after = self.arithmetic(node, node.op, before, value)
        if isinstance(before, Tensor) and isinstance(after, Tensor):
            self.write(before, after.node)
            after = before
        self.bind(node.target, after, scope)
        return _NEXT

    def bind(self, target: ast.expr, value: object, scope: Scope) -> None:
        """Stores a value under a name, an attribute or a key."""
        if isinstance(target, ast.Name):
            scope.elsewhere.get(target.id, scope).names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for one, its in zip(target.elts, self._unpacked(target.elts, value), strict=True):
                self.bind(one.value if isinstance(one, ast.Starred) else one, its, scope)
        elif isinstance(target, ast.Attribute):
            self.set_attribute(self.value(target.value, scope), target.attr, value, target)
        elif isinstance(target, ast.Subscript):
            self.set_item(self.value(target.value, scope), self.value(target.slice, scope), value, target)

    def _unpacked(self, targets: Sequence[ast.expr], value: object) -> list[object]:
        """A value for each of several targets."""
        star = next((at for at, one in enumerate(targets) if isinstance(one, ast.Starred)), None)
        if isinstance(value, Tensor | Unknown | Choice):
            return [self.element(value)] * len(targets)
        values = self.elements(value)
        if star is not None:
            after = len(targets) - star - 1
            inner = values[star : len(values) - after]
            values = [*values[:star], list(inner), *(values[len(values) - after :] if after else [])]
        return [*values, *[UNKNOWN] * len(targets)][: len(targets)]

    def _if(self, node: ast.If, scope: Scope) -> int:
        test = self.value(node.test, scope)
        truth = self.truth(test)
        if truth is not None:
            return self.block(node.body if truth else node.orelse, scope)
        return self.branches([node.body, node.orelse], scope, node, test)

    def branches(
        self, blocks: Sequence[Sequence[ast.stmt]], scope: Scope, node: ast.stmt, test: object = UNKNOWN
    ) -> int:
        """Reads blocks of which one is run; afterwards each name holds what any of them left."""
        before = dict(scope.names)
        self.conditions.append(test)
        ended: list[int] = []
        after: list[dict[str, object]] = []
        for statements in blocks:
            scope.names = dict(before)
            mark = self.mark()
            end = self.block(statements, scope)
            self.on_branch(node, test, mark, is_left=end == _ENDED)
            ended.append(end)
            if end == _NEXT:
                after.append(scope.names)
        self.conditions.pop()
        scope.names = after[0] if after else before
        for names in after[1:]:
            merged = {name: join(value, names.get(name, value)) for name, value in scope.names.items()}
            scope.names = {**names, **merged}
        return _NEXT if after else max(ended)

    def _for(self, node: ast.For | ast.AsyncFor, scope: Scope) -> int:
        for value in self.elements(self.value(node.iter, scope))[:MOST_TURNS]:
            self.bind(node.target, value, scope)
            if self.block(node.body, scope) == _ENDED:
                return _ENDED
        return self.block(node.orelse, scope)

    def _while(self, node: ast.While, scope: Scope) -> int:
        for _ in range(2):
            if self.truth(self.value(node.test, scope)) is False:
                break
            if self.block(node.body, scope) == _ENDED:
                return _ENDED
        return self.block(node.orelse, scope)

    def _with(self, node: ast.With | ast.AsyncWith, scope: Scope) -> int:
        entered = []
        for item in node.items:
            value = self.value(item.context_expr, scope)
            entered.append(value)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value, scope)
        self.on_enter(entered, node)
        end = self.block(node.body, scope)
        self.on_exit(entered)
        return end

    def _try(self, node: ast.Try, scope: Scope) -> int:
        before = dict(scope.names)
        self.attempts.append(node)
        end = self.block(node.body, scope)
        self.attempts.pop()
        if end == _NEXT:
            end = self.block(node.orelse, scope)
        if node.handlers:
            after = scope.names
            scope.names = {
                **after,
                **{name: join(value, after.get(name, value)) for name, value in before.items()},
            }
            handled = self.branches([handler.body for handler in node.handlers], scope, node)
            if end == _NEXT:
                both = {name: join(value, scope.names.get(name, value)) for name, value in after.items()}
                scope.names = {**scope.names, **both} if handled == _NEXT else after
            end = min(end, handled)
        return max(end, self.block(node.finalbody, scope))

    def _return(self, node: ast.Return, scope: Scope) -> int:
        self.frames[-1].append(self.value(node.value, scope) if node.value else None)
        return _ENDED

    def _ended(self, node: ast.stmt, scope: Scope) -> int:
        return _ENDED

    def _left(self, node: ast.stmt, scope: Scope) -> int:
        return _LEFT

    def _nothing(self, node: ast.stmt, scope: Scope) -> int:
        return _NEXT

    def _declared(self, node: ast.Global | ast.Nonlocal, scope: Scope) -> int:
        for name in node.names:
            outer = scope.outer.home(name) if isinstance(node, ast.Nonlocal) and scope.outer else None
            scope.elsewhere[name] = outer or self.top
        return _NEXT

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> int:
        scope.names.update((name, Library(full)) for name, full in imported_names(node))
        return _NEXT

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> int:
        scope.names[node.name] = self.decorated(self.function(node, scope), node.decorator_list, scope)
        return _NEXT

    def _class(self, node: ast.ClassDef, scope: Scope) -> int:
        inner = Scope({}, scope, is_class=True)
        cls = Class(node.name, [self.value(base, scope) for base in node.bases], inner.names, node.lineno)
        self.block(node.body, inner)
        cls.names = inner.names
        for value in inner.names.values():
            for one in [value, *(value.defaults.values() if isinstance(value, Function) else ())]:
                if isinstance(one, Function) and one.owner is None:
                    one.owner = cls
        scope.names[node.name] = cls
        return _NEXT

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope) -> Function:
        """A function of the source, with the defaults that it has here."""
        arguments = node.args
        ordered = [*arguments.posonlyargs, *arguments.args]
        held = ordered[len(ordered) - len(arguments.defaults) :] if arguments.defaults else []
        defaults = {
            one.arg: self.value(value, scope) for one, value in zip(held, arguments.defaults, strict=True)
        }
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if default is not None:
                defaults[one.arg] = self.value(default, scope)
        around = scope.outer if scope.is_class and scope.outer else scope
        return Function(node, around, defaults=defaults)

    def decorated(self, function: Function, decorators: Sequence[ast.expr], scope: Scope) -> object:
        """The value under a function's name once its decorators were applied."""
        value: object = function
        for one in reversed(decorators):
            decorator = self.value(one.func if isinstance(one, ast.Call) else one, scope)
            name = decorator.name.rpartition(".")[2] if isinstance(decorator, Library) else ""
            if name in ("staticmethod", "classmethod", "property", "cached_property"):
                function.kind = {"staticmethod": "static", "classmethod": "class"}.get(name, "property")
            elif name == "jit" and isinstance(decorator, Library) and decorator.name.startswith("triton"):
                function.is_kernel = True
            elif name in ("lru_cache", "cache"):
                function.results = []
            elif name in ("custom_op", "triton_op") and isinstance(one, ast.Call) and one.args:
                self.custom_ops[str(self.value(one.args[0], scope)).replace("::", ".")] = function
            elif isinstance(decorator, Function) and not function.is_kernel:
                made = self.value(one, scope) if isinstance(one, ast.Call) else decorator
                made = self.call(made, [value], {}, one)
                value = made if isinstance(made, Function | Class | Instance | Partial) else value
            elif isinstance(decorator, Bound) and isinstance(decorator.owner, Function):
                return scope.names.get(function.name, UNKNOWN) if decorator.name == "setter" else UNKNOWN
        return value


_STATEMENTS: Mapping[type[ast.stmt], Callable[..., int]] = {
    ast.Assign: Reader._assign,
    ast.AnnAssign: Reader._annotated,
    ast.AugAssign: Reader._augmented,
    ast.If: Reader._if,
    ast.For: Reader._for,
    ast.AsyncFor: Reader._for,
    ast.While: Reader._while,
    ast.With: Reader._with,
    ast.AsyncWith: Reader._with,
    ast.Try: Reader._try,
    ast.TryStar: Reader._try,
    ast.Return: Reader._return,
    ast.Raise: Reader._ended,
    ast.Break: Reader._left,
    ast.Continue: Reader._left,
    ast.Assert: Reader._nothing,
    ast.Delete: Reader._nothing,
    ast.Pass: Reader._nothing,
    ast.Global: Reader._declared,
    ast.Nonlocal: Reader._declared,
    ast.Import: Reader._import,
    ast.ImportFrom: Reader._import,
    ast.FunctionDef: Reader._function,
    ast.AsyncFunctionDef: Reader._function,
    ast.ClassDef: Reader._class,
}
