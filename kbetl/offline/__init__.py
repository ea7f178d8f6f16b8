"""The built-in model that needs no network: it judges a module by its syntax tree.

It answers the two built-in tasks in the form that a hosted model is asked for. Nothing is executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kbetl import dataflow
from kbetl.dataflow.operators import Operation
from kbetl.dataflow.source import Source, chosen_class, parse
from kbetl.errors import ConfigError, MissingField, RequestFailed, UnreadableCode
from kbetl.offline.rating import rate
from kbetl.offline.specification import specification

VERSION = "2"
"""Changes with every change of an answer."""
MODEL = f"offline/{VERSION}"
TASKS = ("difficulty", "prompts")


def answer(task_name: str, fields: Mapping[str, str]) -> str:
    """The answer to a built-in task about a module, from its `module_name` and `python_code`.

    The same fields give the same text. Raises ConfigError for another task, MissingField if a field
    is absent, RequestFailed if the code does not parse or holds no module to judge.
    """
    if task_name not in TASKS:
        raise ConfigError(
            f"the offline model answers difficulty and prompts, not {task_name}; choose another model with -m"
        )
    for name in ("module_name", "python_code"):
        if name not in fields:
            raise MissingField(f"no field '{name}'; the offline model judges by it")
    try:
        source = parse(fields["python_code"])
        class_name = chosen_class(source, fields["module_name"])
        operations = dataflow.read_module(source, class_name).operations
        if task_name == "prompts":
            return f"<specification>\n{specification(source, class_name, operations)}\n</specification>"
    except UnreadableCode as error:
        raise RequestFailed(str(error)) from None
    except RecursionError:
        raise RequestFailed("the code is too large to follow") from None
    return _difficulty(source, class_name, fields["module_name"], operations)


def _difficulty(source: Source, class_name: str, module_name: str, operations: Sequence[Operation]) -> str:
    rating = rate(operations)
    named = module_name if module_name.replace("_", "a").isalnum() else "of the given name"
    meant = "" if class_name == module_name else f" (no class {named}: this one is meant)"
    evidence = f"Class {class_name}{meant}: {_counted(operations)}; {rating.why}."
    return f"{evidence}\n<difficulty>{rating.difficulty}</difficulty>"


def _counted(operations: Sequence[Operation]) -> str:
    """How often which operator was found, by family in order of appearance."""
    by_family: dict[str, Counter[str]] = {}
    for operation in operations:
        by_family.setdefault(operation.family, Counter())[operation.name] += 1
    parts = [
        f"{family} {', '.join(name if n == 1 else f'{name} x{n}' for name, n in names.items())}"
        for family, names in by_family.items()
    ]
    return "; ".join(parts) or "no operator found"
