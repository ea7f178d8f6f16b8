"""A task specification for a module, in prose: what a kernel for it has to do, without its code."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import groupby

from kbetl.dataflow.operators import Operation
from kbetl.dataflow.source import FunctionNode, Source
from kbetl.offline.shapes import Unknown, constructor_values, in_words, inputs, plain, settings

MOST_STEPS = 60
_FAMILY_WORDS = {
    "copy": "data movement",
    "elementwise": "elementwise",
    "reduction": "reduction, normalisation or pooling",
    "matrix": "matrix operation",
    "convolution": "convolution",
    "attention": "attention",
    "recurrent": "recurrent layer",
    "other": "a call whose inside the source does not show",
}
_RANDOM = ("dropout", "bernoulli", "rrelu", "gumbel")
_TRAINED = ("batchnorm", "batch_norm", "instancenorm")


def specification(source: Source, class_name: str, operations: Sequence[Operation]) -> str:
    """Markdown bullets under five headings; no line of the source, nothing on how to write the kernel."""
    constructor = source.method(class_name, "__init__")
    forward = source.method(class_name, "forward")
    sections = {
        "What it computes": _computation(class_name, operations),
        "Inputs": _inputs(source, forward),
        "Constructor": _constructor(source, constructor),
        "Output": _output(forward, operations),
        "Interface": _interface(class_name, constructor, forward),
        "Behaviour": _behaviour(class_name, operations),
    }
    parts = [f"## {title}\n" + "\n".join(f"- {line}" for line in lines) for title, lines in sections.items()]
    return f"# Task: `{class_name}New`\n\n" + "\n\n".join(parts)


def _computation(class_name: str, operations: Sequence[Operation]) -> list[str]:
    if not operations:
        return [f"`{class_name}` hands its input on: it applies no operator of its own."]
    described = [(operation.name, operation.family, settings(operation)) for operation in operations]
    steps = [(step, len(list(same))) for step, same in groupby(described)]
    lines = [f"`{class_name}` applies these steps in this order:"]
    for number, ((name, family, said), times) in enumerate(steps[:MOST_STEPS], 1):
        given = f"; {', '.join(said)}" if said else ""
        repeated = f", {times} times" if times > 1 else ""
        lines.append(f"Step {number}: `{name}` ({_FAMILY_WORDS[family]}){repeated}{given}.")
    if len(steps) > MOST_STEPS:
        lines.append(f"{len(steps) - MOST_STEPS} further steps of the same kinds follow.")
    return lines


def _inputs(source: Source, forward: FunctionNode | None) -> list[str]:
    names = _arguments(forward)
    made = inputs(source)
    if made is None:
        no_shapes = "The source does not tell their shapes."
        return [f"`{name}`: a value given to `forward`." for name in names] + [no_shapes]
    lines = []
    for index, one in enumerate(made):
        name = f"`{names[index]}`" if index < len(names) else f"value {index + 1}"
        lines.append(f"{name}: {one.text}.")
    lines += [f"`{name}`: not given by get_inputs(); its default holds." for name in names[len(made) :]]
    return lines or ["None."]


def _constructor(source: Source, constructor: FunctionNode | None) -> list[str]:
    names = _arguments(constructor)
    if not names:
        return ["Takes no arguments."]
    given = constructor_values(source)
    defaults = _defaults(constructor)
    lines = []
    for index, name in enumerate(names):
        parts = [f"default {defaults[name]}"] if name in defaults else []
        if given and (index < len(given[0]) or name in given[1]):
            parts.append(f"tested with {given[1][name] if name in given[1] else given[0][index]}")
        lines.append(f"`{name}`{': ' if parts else ''}{', '.join(parts)}.")
    return lines


def _output(forward: FunctionNode | None, operations: Sequence[Operation]) -> list[str]:
    returned = [node.value for node in ast.walk(forward) if isinstance(node, ast.Return)] if forward else []
    values = [value for value in returned if value is not None]
    kinds = list(dict.fromkeys(_kind(value) for value in values)) or ["one tensor"]
    lines = [f"Returns {' or '.join(kinds)}, as the forward of the original does."]
    if operations and all(operation.family == "elementwise" for operation in operations):
        lines.append("Its shape is that of the inputs, broadcast against each other.")
    else:
        lines.append("Its shape follows from the steps above, applied to the shapes of the inputs.")
    return lines


def _kind(value: ast.expr) -> str:
    if isinstance(value, ast.Tuple):
        return f"a tuple of {len(value.elts)} values"
    if isinstance(value, ast.Dict):
        return f"a dictionary of {len(value.keys)} values"
    if isinstance(value, ast.List | ast.ListComp):
        return "a list of values"
    return "one value"


def _interface(class_name: str, constructor: FunctionNode | None, forward: FunctionNode | None) -> list[str]:
    return [
        f"A class `{class_name}New` that extends the module class of PyTorch.",
        f"Its constructor takes {_listed(_arguments(constructor))}, with the same order and defaults.",
        f"Its forward takes {_listed(_arguments(forward))}, with the same order and defaults.",
        "Parameters and buffers have the names, shapes and initial values of the original.",
        "The state of the original can be loaded into it.",
    ]


def _behaviour(class_name: str, operations: Sequence[Operation]) -> list[str]:
    lines = [
        f"For the same inputs and parameters the result equals that of `{class_name}`.",
        "The tolerance is the usual one of the data type.",
        "Shape, data type and device of the result are those of the original; inputs are left unchanged.",
    ]
    names = {operation.name.lower() for operation in operations}
    if any(name.startswith(_RANDOM) for name in names):
        lines.append("Random steps act in training mode alone; in evaluation mode they hand their input on.")
    if any(name.startswith(_TRAINED) for name in names):
        lines.append(
            "Normalisation uses batch statistics in training mode and the running ones in evaluation mode."
        )
    if any(name.endswith("_") and not name.startswith("_") for name in names):
        lines.append("A step that works in place has the same visible effect.")
    return lines


def _arguments(function: FunctionNode | None) -> list[str]:
    if function is None:
        return []
    arguments = function.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args)][1:]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [one.arg for one in arguments.kwonlyargs]
    return names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def _defaults(function: FunctionNode | None) -> dict[str, str]:
    if function is None:
        return {}
    arguments = function.args
    ordered = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(reversed(ordered), reversed(arguments.defaults), strict=False))
    found = {}
    for argument, default in [*pairs, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        if default is not None:
            try:
                found[argument.arg] = in_words(plain(default, {}))
            except Unknown:
                found[argument.arg] = "as in the original"
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) if names else "no arguments"
