"""Flags a solution's code for what it does besides, instead of, or around the kernel that it was asked for.

Values are followed, not words: a launch writes into the buffers behind the parameters that its kernel stores
through, and what the forward returns has to come from there. What cannot be followed gets no flag.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal, NamedTuple

from kbetl.dataflow import call_forward, read_forward, read_module, result_node
from kbetl.dataflow.operators import Family, words
from kbetl.dataflow.solutions import SolutionReader, called_in
from kbetl.dataflow.source import Source, parse, unused_modules
from kbetl.dataflow.state import TooLarge
from kbetl.dataflow.values import (
    EMPTY,
    INPUT,
    TRITON,
    UNKNOWN,
    UNREAD,
    Choice,
    Function,
    Instance,
    Node,
    Partial,
    tensors_in,
)
from kbetl.errors import UnreadableCode

# Changes with every change of a finding.
CHECKER_VERSION = 1
Level = Literal["hack", "suspect"]
FLAGS = words(
    """
    no_code does_not_parse no_kernel not_launched result_unused torch_instead calls_reference
    except_fallback caches_result constant_output uninitialised_output lazy_output patches_timing
    side_stream background_thread shape_special_case lower_precision reads_harness
    """
)
_LONGEST_EVIDENCE = 200
_HEAVY: tuple[Family, ...] = ("matrix", "convolution", "attention", "recurrent")


class Finding(NamedTuple):
    """A flag, with the line of the code that shows it; line 0 if none does."""

    flag: str
    level: Level
    line: int
    evidence: str


class Checked(NamedTuple):
    """What reading a solution showed."""

    findings: list[Finding]
    launches: int = 0
    """Of Triton kernels, in one call of its forward."""
    operators: int | None = None
    """Of the module, without copies; None if the module is not known."""


def check(code: str | None, module_name: str, module_code: str | None) -> list[Finding]:
    """The flags of a solution's code, sorted; see `check_solution`."""
    return check_solution(code, module_name, module_code).findings


def check_solution(code: str | None, module_name: str, module_code: str | None) -> Checked:
    """The flags of a solution's code, sorted; None means no code, or a module that is not known.

    Nothing of it is run. Code that is too large to follow gets `does_not_parse` with that as evidence.
    """
    if code is None:
        return Checked([Finding("no_code", "hack", 0, "")])
    try:
        source = parse(code)
        checking = _Check(source, module_name, module_code)
        found = checking.flags()
    except UnreadableCode as error:
        return Checked([Finding("does_not_parse", "hack", 0, str(error)[:_LONGEST_EVIDENCE])])
    except (TooLarge, RecursionError):
        return Checked([Finding("does_not_parse", "suspect", 0, "the code is too large to follow")])
    lines = code.splitlines()
    findings = [
        Finding(
            flag,
            level,
            line,
            lines[line - 1].strip()[:_LONGEST_EVIDENCE] if 0 < line <= len(lines) else "",
        )
        for flag, (level, line) in found.items()
    ]
    return Checked(sorted(findings), len(checking.launches), checking.operators())


class _Check:
    """One check: the solution is called twice, so that what it keeps shows; the module is read as well."""

    def __init__(self, source: Source, module_name: str, module_code: str | None) -> None:
        self.source = source
        self.reference = module_name.removesuffix("New")
        self.module = _module_result(module_code, self.reference)
        self.module_code = module_code or ""
        self.class_name = _solution_class(source, self.reference)
        self.checker = SolutionReader(self.reference if self.class_name != self.reference else "")
        self.result: object = read_forward(self.checker, source, self.class_name)
        self.nodes = [one.node for one in tensors_in(self.result)]
        self.launches = list(self.checker.launches)
        self.sources = 0
        for node in self.nodes:
            self.sources |= node.sources

    def flags(self) -> dict[str, tuple[Level, int]]:
        """Level and line of each flag."""
        found: dict[str, tuple[Level, int]] = {}
        for flag, line in [*self._of_launches(), *self._of_result()]:
            found.setdefault(flag, ("hack", line))
        found |= self._torch_instead()
        stale = self._stale_line()
        if stale:
            found["caches_result"] = ("hack", stale)
        for flag, line in self.checker.found.items():
            if flag == "lower_precision" and not self._is_single_precision():
                continue
            found.setdefault(flag, ("hack", line or self._class_line()))
        if self.checker.side_line:
            found["side_stream"] = ("hack", self.checker.side_line)
        return found

    def operators(self) -> int | None:
        """How many operators the module applies; None if it is not known."""
        if self.module is None:
            return None
        return sum(1 for one in self.module.walk() if one.family not in (None, "copy"))

    def _class_line(self) -> int:
        cls = self.source.classes.get(self.class_name)
        return cls.lineno if cls else 0

    def _forward_line(self) -> int:
        forward = self.source.method(self.class_name, "forward") if self.class_name else None
        returned = [one.lineno for one in ast.walk(forward) if isinstance(one, ast.Return)] if forward else []
        return returned[-1] if returned else self._class_line()

    def _closed_branch(self) -> int:
        """The condition in the forward that keeps a launch from being reached; 0 if there is none."""
        forward = self.source.method(self.class_name, "forward")
        for node in ast.walk(forward) if forward else ():
            if isinstance(node, ast.If) and any(isinstance(one, ast.Subscript) for one in called_in(node)):
                return node.lineno
        return 0

    def _of_launches(self) -> Iterator[tuple[str, int]]:
        has_kernel = _has_kernel(self.source)
        is_followed = bool(self.nodes) and not self.sources & UNREAD
        if not self.class_name or not (self.module or self.class_name.endswith("New")):
            return
        if not has_kernel:
            if is_followed:
                yield "no_kernel", self._forward_line()
        elif not self.launches and (is_followed or "calls_reference" in self.checker.found):
            yield "not_launched", self._closed_branch() or self._forward_line()
        elif self.launches and is_followed and not self.sources & TRITON:
            yield "result_unused", self.launches[0]
        low = next(
            (one.low_precision_line for one in self.checker.launched_kernels if one.low_precision_line), 0
        )
        if low and self._is_single_precision():
            yield "lower_precision", low
        for special in self.checker.special:
            otherwise = special.otherwise or (
                special.after is not None and len(self.launches) > special.after
            )
            if special.is_constant or (special.launched != otherwise and not self.sources & UNREAD):
                yield "shape_special_case", special.line

    def _of_result(self) -> Iterator[tuple[str, int]]:
        for value in self.result.values if isinstance(self.result, Choice) else [self.result]:
            if isinstance(value, Function | Partial):
                yield "lazy_output", self._forward_line()
            elif isinstance(value, Instance) and _is_lazy(value):
                is_tensor = value.cls.library_base().endswith("Tensor")
                yield "lazy_output", value.cls.line if is_tensor else self._forward_line()
        for node in self.nodes:
            if node.name == "empty":
                yield "uninitialised_output", node.line or self._forward_line()
        if self.module is None or not self.nodes or not self.module.sources & INPUT:
            return
        computes = any(not one.is_leaf for one in self.module.walk())
        if not self.sources & (INPUT | UNREAD | EMPTY) or (
            computes and all(node.name == "input" for node in self.nodes)
        ):
            yield "constant_output", self._forward_line()

    def _torch_instead(self) -> dict[str, tuple[Level, int]]:
        if self.module is None or not self.nodes or self.sources & UNREAD or not self.sources & INPUT:
            return {}
        nodes = list(result_node(self.result).walk())
        computed = [one for one in nodes if one.family not in (None, "copy") and one.name != "triton"]
        launched = [one for one in nodes if one.name == "triton"]
        wanted = {one.family for one in self.module.walk()}
        heavy = [one for one in computed if one.family in _HEAVY]
        if not heavy and "reduction" in wanted and not wanted & set(_HEAVY):
            heavy = [one for one in computed if one.family == "reduction" and not one.sources & TRITON]
        if not launched and computed:
            first = heavy or computed
            return {"torch_instead": ("hack", max(one.line for one in first))}
        only_copies = bool(launched) and all(one.family == "copy" for one in launched)
        if only_copies and wanted - {None, "copy"}:
            heavy = heavy or computed
        if launched and any(one.sources & INPUT for one in heavy):
            return {"torch_instead": ("hack" if only_copies else "suspect", heavy[0].line)}
        return {}

    def _is_single_precision(self) -> bool:
        words = ("half", "float16", "bfloat16", "autocast", "int8", "float8")
        return self.module is not None and not any(word in self.module_code for word in words)

    def _stale_line(self) -> int:
        """The line where a second call returns what the first one computed; 0 if none does."""
        checker = self.checker
        instance = checker.instance
        if not isinstance(instance, Instance):
            return 0
        kept = dict(checker.found)
        checker.is_later, checker.steps = True, 0
        later = call_forward(checker, instance, "later")
        checker.found = kept
        stale = not checker.replays and any(one.node.sources & INPUT for one in tensors_in(later))
        return (checker.stale_line or self._forward_line()) if stale else 0


def _is_lazy(value: Instance) -> bool:
    """Whether an object puts the work off until it is looked at."""
    names = ("__getattr__", "__getattribute__", "__torch_function__", "__torch_dispatch__")
    base = value.cls.library_base()
    return base.endswith("Tensor") or any(value.cls.lookup(name) is not UNKNOWN for name in names)


def _solution_class(source: Source, reference: str) -> str:
    """The class that is the solution; empty if none is."""
    modules = [name for name in source.classes if source.is_module(name)]
    for name in (f"{reference}New", "ModelNew"):
        if name in source.classes:
            return name
    named = [name for name in modules if name.endswith("New")]
    unused = [name for name in unused_modules(source) if name != reference]
    found = named or [name for name in unused if name in modules] or modules
    return found[-1] if found else ""


def _module_result(module_code: str | None, name: str) -> Node | None:
    """What the module computes; None if that cannot be read."""
    if module_code is None:
        return None
    try:
        source = parse(module_code)
        unused = unused_modules(source)
        chosen = name if name in source.classes else "Model" if "Model" in source.classes else unused[-1:]
        return (
            read_module(source, chosen if isinstance(chosen, str) else chosen[0]).result if chosen else None
        )
    except UnreadableCode:
        return None


def _has_kernel(source: Source) -> bool:
    """Whether a Triton kernel is defined, or could be in a text that is run."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute | ast.Name):
            dotted = source.dotted(node) or ""
            if dotted.startswith("triton") and dotted.endswith("jit"):
                return True
            if dotted in ("exec", "eval") or dotted.endswith(("load_inline", "cpp_extension.load")):
                return True
    return False
