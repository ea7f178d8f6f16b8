"""Reads numbers, shapes of inputs and arguments of calls from source that is not run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kbetl.dataflow.operators import IDLE, Operation
from kbetl.dataflow.source import FunctionNode, Source

_LARGEST = 2**53
Plain = int | float | bool | str | None | tuple["Plain", ...]
Names = Mapping[str, ast.expr]


class Unknown(Exception):
    """An expression that is not plain numbers and texts; never leaves this package."""


class Input(NamedTuple):
    """One value that `get_inputs` makes."""

    text: str
    """In words: its shape and how it is filled."""


def plain(node: ast.expr, names: Names, depth: int = 0) -> Plain:
    """The value of an expression of numbers, texts, tuples and names of such.

    Raises Unknown for any other expression, and for numbers beyond what a shape or a setting may be.
    """
    if depth > 30:
        raise Unknown
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(plain(child, names, depth + 1) for child in node.elts)
    if isinstance(node, ast.Name) and node.id in names:
        return plain(names[node.id], names, depth + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(plain(node.operand, names, depth + 1))
    if isinstance(node, ast.BinOp):
        left = _number(plain(node.left, names, depth + 1))
        return _calculated(node.op, left, _number(plain(node.right, names, depth + 1)))
    raise Unknown


def _number(value: Plain) -> int | float:
    if isinstance(value, int | float) and abs(value) <= _LARGEST:
        return value
    raise Unknown


def _calculated(operator: ast.operator, left: float, right: float) -> int | float:
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    if isinstance(operator, ast.Mult):
        return left * right
    if isinstance(operator, ast.Pow) and 0 <= right <= 64 and abs(left) <= 1024:
        return float(left**right) if isinstance(left, float) else int(left**right)
    if isinstance(operator, ast.FloorDiv) and right:
        return left // right
    if isinstance(operator, ast.Div) and right:
        return left / right
    raise Unknown


def in_words(value: Plain) -> str:
    """A plain value as Python spells it, shortened if it is long; it opens and closes no tag."""
    text = repr(value).replace("<", r"\x3c")
    return text if len(text) <= 60 else f"{text[:50]}..."


def settings(operation: Operation) -> tuple[str, ...]:
    """What a call is passed besides tensors, in words: `kernel_size 3`, `argument 2 from out_channels`."""
    call = operation.call
    if call is None:
        return ()
    given = [(f"argument {index}", argument) for index, argument in enumerate(call.args, 1)]
    given += [(f"`{keyword.arg}`", keyword.value) for keyword in call.keywords if keyword.arg]
    found = [_setting(what, value) for what, value in given if id(value) not in operation.tensors]
    return tuple(text for text in found if text)[:12]


def _setting(what: str, value: ast.expr) -> str:
    try:
        return f"{what} = {in_words(plain(value, {}))}"
    except Unknown:
        used = dict.fromkeys(
            child.attr if isinstance(child, ast.Attribute) else child.id
            for child in ast.walk(value)
            if (isinstance(child, ast.Name) and child.id != "self")
            or (
                isinstance(child, ast.Attribute)
                and isinstance(child.value, ast.Name)
                and child.value.id == "self"
            )
        )
        return f"{what} from {', '.join(f'`{name}`' for name in used)}" if used else ""


def inputs(source: Source) -> Sequence[Input] | None:
    """What `get_inputs` returns, in order; None if that cannot be known without running it."""
    function = source.functions.get("get_inputs")
    returned = _returned(function)
    if function is None or not isinstance(returned, ast.List | ast.Tuple):
        return None
    names = {**source.constants, **_assigned(function)}
    return [Input(_described(child, names, source)) for child in returned.elts]


def constructor_values(source: Source) -> tuple[Sequence[str], Mapping[str, str]] | None:
    """What `get_init_inputs` returns, by position and by keyword, in words; None if that cannot be known."""
    function = source.functions.get("get_init_inputs")
    returned = _returned(function)
    if function is None or not isinstance(returned, ast.List | ast.Tuple):
        return None
    names = {**source.constants, **_assigned(function)}
    positional = returned.elts
    keywords = ast.Dict(keys=[], values=[])
    match positional:
        case [ast.List() as listed, ast.Dict() as keywords]:
            positional = listed.elts
    named = {
        str(key.value): _value_in_words(value, names)
        for key, value in zip(keywords.keys, keywords.values, strict=True)
        if isinstance(key, ast.Constant)
    }
    return [_value_in_words(child, names) for child in positional], named


def _value_in_words(node: ast.expr, names: Names) -> str:
    try:
        return in_words(plain(node, names))
    except Unknown:
        return "a value that get_init_inputs() computes"


def _returned(function: FunctionNode | None) -> ast.expr | None:
    """What a function returns last; None if it returns nothing or is none."""
    returns = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)] if function else []
    return returns[-1] if returns else None


def _assigned(function: FunctionNode) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _described(node: ast.expr, names: Names, source: Source, depth: int = 0) -> str:
    try:
        return f"the plain value {in_words(plain(node, names))}"
    except Unknown:
        pass
    if isinstance(node, ast.Name) and node.id in names and depth < 30:
        return _described(names[node.id], names, source, depth + 1)
    if isinstance(node, ast.List | ast.Tuple):
        return f"a list of {len(node.elts)} values"
    maker = _maker(node, source)
    if maker is None:
        return "a value that get_inputs() computes"
    name = source.torch_name(maker.func) or ""
    arguments = maker.args
    if name == "randint":
        arguments = [argument for argument in maker.args if isinstance(argument, ast.Tuple | ast.List)]
        arguments += [keyword.value for keyword in maker.keywords if keyword.arg == "size"]
    shape = [_dimension(argument, names) for argument in _flat(arguments)]
    computed = "" if maker is node else ", then computed further"
    return f"a tensor of shape ({', '.join(shape)}), filled by `{name}`{computed}"


def _maker(node: ast.expr, source: Source) -> ast.Call | None:
    """The first call in an expression that makes a tensor of a shape."""
    for child in ast.walk(node):
        name = source.torch_name(child.func) if isinstance(child, ast.Call) else None
        if (
            isinstance(child, ast.Call)
            and name in IDLE
            and name in ("rand", "randn", "randint", "zeros", "ones", "empty")
        ):
            return child
    return None


def _flat(arguments: Sequence[ast.expr]) -> list[ast.expr]:
    return [
        inner
        for argument in arguments
        for inner in (argument.elts if isinstance(argument, ast.Tuple | ast.List) else [argument])
    ]


def _dimension(node: ast.expr, names: Names) -> str:
    star = isinstance(node, ast.Starred)
    try:
        value = plain(node.value if isinstance(node, ast.Starred) else node, names)
    except Unknown:
        return "?"
    if star or isinstance(value, tuple):
        return ", ".join(str(one) for one in value) if isinstance(value, tuple) else "?"
    return str(value)
