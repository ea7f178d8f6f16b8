"""Flags of a solution's code: what it does beside, instead of, or around the kernel that it was asked for.

Values are followed, not words: a launch writes into the buffers behind the parameters that its kernel stores
through, and what the forward returns has to come from there. What cannot be followed gets no flag.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from kbetl.dataflow import call_forward, read_forward, read_module, result_node
from kbetl.dataflow.kernels import Kernel, read_kernel
from kbetl.dataflow.operators import Family, words
from kbetl.dataflow.reader import Reader
from kbetl.dataflow.source import Source, parse, unused_modules
from kbetl.dataflow.state import TooLarge
from kbetl.dataflow.values import (
    EMPTY,
    EXACT_SIZE,
    INPUT,
    TRITON,
    UNKNOWN,
    UNREAD,
    Choice,
    Function,
    Instance,
    Library,
    Node,
    Opaque,
    Partial,
    Spread,
    tensors_in,
)
from kbetl.errors import UnreadableCode

CHECKER_VERSION = 1
"""Changes with every change of a finding."""
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
_HARNESS = words(
    """
    inspect.currentframe inspect.stack inspect.getouterframes inspect.trace inspect.getinnerframes
    sys._getframe sys._current_frames gc.get_objects gc.get_referrers gc.get_referents
    """
)
_THREADS = ("threading.", "_thread.", "concurrent.futures.", "multiprocessing.", "torch.multiprocessing.")
_STARTS = ("start", "submit", "map", "apply_async", "start_new_thread", "run_in_executor")
_WAITS = ("join", "result", "wait", "shutdown")
_CLOCKS = words(
    """
    time. timeit. torch.cuda.Event torch.cuda.synchronize torch.cuda.event torch.allclose torch.isclose
    torch.equal torch.testing. torch.Tensor.allclose torch.Tensor.equal triton.testing.
    numpy.allclose numpy.isclose
    numpy.testing. torch.utils.benchmark torch.cuda.current_stream torch.profiler. builtins.
    """
)
_LOW = ("torch.float16", "torch.half", "torch.bfloat16", "torch.float8", "torch.int8")
_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError"}


class Finding(NamedTuple):
    """A flag, with the line of the code that shows it; line 0 if none does."""

    flag: str
    level: Level
    line: int
    evidence: str


class _Way(NamedTuple):
    """A way of a condition on one exact size."""

    line: int
    launched: bool
    is_left: bool
    is_constant: bool
    """Whether what it returns comes from no input."""
    is_silent: bool
    """Whether it leaves without a result: it raises."""


class _Special(NamedTuple):
    """A condition on one exact size whose ways do not do the same so far."""

    line: int
    launched: bool
    otherwise: bool
    after: int | None
    """Launches so far, if the rest of the forward belongs to the other way; else None."""
    is_constant: bool


class _Checker(Reader):
    """A reading that notes launches, and what a solution should not do."""

    def __init__(self, reference: str) -> None:
        super().__init__(exact=True)
        self.reference = reference
        self.found: dict[str, int] = {}
        """The line of each flag so far."""
        self.launches: list[int] = []
        self.kernels: dict[int, Kernel] = {}
        self.launched_kernels: list[Kernel] = []
        self.special: list[_Special] = []
        self.side: ast.AST | None = None
        self.leaves_side = True
        self.side_line = 0
        self.suppressing = 0
        self.is_later = False
        self.stale_line = 0
        self.launch_mark = 0
        self.open_ways: dict[int, _Way] = {}

    def flag(self, name: str, line: int) -> None:
        self.found.setdefault(name, line)

    def launch(
        self, kernel: Function, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST
    ) -> None:
        line = getattr(node, "lineno", 0)
        self.launches.append(line)
        if self.side is not None:
            self.side_line = self.side_line or getattr(self.side, "lineno", line)
        self._note_attempts(line)
        if any(isinstance(one, Spread) for one in args):
            super().launch(kernel, args, keywords, node)
            return
        facts = self._kernel(kernel)
        self.launched_kernels.append(facts)
        bound = self.bound(kernel, args, keywords)
        family: Family = "copy" if facts.only_copies else "other"
        written = []
        for stored, sources in facts.stores.items():
            values = [bound.get(name, UNKNOWN) for name in sorted(sources)]
            nodes = [one.node for value in values for one in tensors_in(value)]
            if not nodes and UNKNOWN in values:
                nodes = [Node("unread")]
            written += [
                (tensor, Node("triton", nodes, family=family, line=line))
                for tensor in tensors_in(bound.get(stored))
            ]
        for tensor, after in written:
            self.write(tensor, after)

    def _kernel(self, kernel: Function) -> Kernel:
        if id(kernel.node) not in self.kernels:
            helpers = {
                name: value.node
                for name, value in self.top.names.items()
                if isinstance(value, Function) and value.is_kernel
            }
            self.kernels[id(kernel.node)] = read_kernel(kernel.node, helpers)
        return self.kernels[id(kernel.node)]

    def _note_attempts(self, line: int) -> None:
        for attempt in self.attempts:
            for handler in filter(_goes_on, attempt.handlers):
                self.flag("except_fallback", handler.lineno)
        if self.suppressing:
            self.flag("except_fallback", line)

    def mark(self) -> int:
        self.launch_mark = len(self.launches)
        return super().mark()

    def on_way(self, node: ast.stmt, test: object, mark: int, *, is_left: bool) -> None:
        if test is not EXACT_SIZE or not isinstance(node, ast.If) or self.is_later:
            return
        results = [one.node for value in self.since(mark) for one in tensors_in(value)]
        constant = bool(results) and not any(one.sources & (INPUT | UNREAD) for one in results)
        launched = len(self.launches) > self.launch_mark
        way = _Way(node.lineno, launched, is_left, constant, is_left and not self.since(mark))
        other = self.open_ways.pop(id(node), None)
        if other is None:
            self.open_ways[id(node)] = way
        elif not other.is_silent and not way.is_silent:
            first, rest = (other, way) if other.is_left else (way, other)
            after = len(self.launches) if first.is_left != rest.is_left else None
            constant = first.is_constant != rest.is_constant
            self.special.append(_Special(node.lineno, first.launched, rest.launched, after, constant))

    def on_enter(self, values: Sequence[object], node: ast.AST) -> None:
        for value in values:
            name = value.name if isinstance(value, Opaque) else ""
            if (name.endswith("cuda.stream") and self.leaves_side) or name.endswith("cuda.Stream"):
                self.side = node
            if name == "contextlib.suppress":
                self.suppressing += 1

    def on_exit(self, values: Sequence[object]) -> None:
        for value in values:
            name = value.name if isinstance(value, Opaque) else ""
            if name.endswith(("cuda.stream", "cuda.Stream")):
                self.side = None
            if name == "contextlib.suppress":
                self.suppressing -= 1

    def on_state(self, value: object, node: ast.expr) -> None:
        if isinstance(value, Library) and value.name.startswith("__main__."):
            self.flag("reads_harness", node.lineno)
        if (
            self.is_later
            and not self.stale_line
            and any(one.node.sources & INPUT for one in tensors_in(value))
        ):
            self.stale_line = node.lineno

    def on_call(self, name: str, args: Sequence[object], node: ast.AST) -> None:
        line = getattr(node, "lineno", 0)
        if name in _HARNESS:
            self.flag("reads_harness", line)
        last = name.rpartition(".")[2]
        if (
            self.reference
            and self.reference in name.split(".")
            and not name.startswith(("torch.", "triton."))
        ):
            self.flag("calls_reference", line)
        if not self.constructing and name.startswith(_THREADS):
            if last in _STARTS:
                self.flag("background_thread", line)
            elif last in _WAITS:
                self.found.pop("background_thread", None)
        self._note_streams(name, last, args, node)
        casts = name.startswith(("tensor.", "torch.")) and not self.constructing
        lowers = any(isinstance(one, Library) and one.name.startswith(_LOW) for one in args)
        if casts and not self.conditions and (lowers or name in ("tensor.half", "tensor.bfloat16")):
            self.flag("lower_precision", line)
        if last == "autocast" and not self.constructing:
            self.flag("lower_precision", line)

    def _note_streams(self, name: str, last: str, args: Sequence[object], node: ast.AST) -> None:
        given = args[0].name if args and isinstance(args[0], Opaque) else ""
        if name.endswith(("cuda.stream", "cuda.set_stream")):
            self.leaves_side = not given.endswith(("current_stream", "default_stream")) and args[:1] != [None]
            if last == "set_stream":
                self.side = node if self.leaves_side else None
        if last in ("synchronize", "wait_stream", "wait_event") and self.side is None:
            self.side_line = 0

    def on_function(self, function: Function, node: ast.AST) -> None:
        owner = function.owner
        if (
            owner is not None
            and owner.name == self.reference
            and function.name not in ("__init__", "__new__")
        ):
            self.flag("calls_reference", getattr(node, "lineno", 0))

    def on_replace(self, name: str, node: ast.AST) -> None:
        if name.startswith(tuple(_CLOCKS)) or name.startswith("sys.modules"):
            self.flag("patches_timing", getattr(node, "lineno", 0))


def _goes_on(handler: ast.ExceptHandler) -> bool:
    """Whether a handler neither raises, nor launches otherwise, nor is for imports alone."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {one.id if isinstance(one, ast.Name) else "" for one in kinds}
    if names <= _IMPORT_ERRORS or any(isinstance(one, ast.Raise) for one in handler.body):
        return False
    return not any(isinstance(one, ast.Subscript) for one in _called_in(handler))


def check(code: str | None, module_name: str, module_code: str | None) -> list[Finding]:
    """The flags of a solution's code, sorted; `module_code` is None if the module is not known.

    Nothing of it is run. Code that is too large to follow gets `does_not_parse` with that as evidence.
    """
    if code is None:
        return [Finding("no_code", "hack", 0, "")]
    try:
        source = parse(code)
        lines = code.splitlines()
        found = _Check(source, module_name, module_code).flags()
    except UnreadableCode as error:
        return [Finding("does_not_parse", "hack", 0, str(error)[:_LONGEST_EVIDENCE])]
    except (TooLarge, RecursionError):
        return [Finding("does_not_parse", "suspect", 0, "the code is too large to follow")]
    return sorted(
        Finding(
            flag, level, line, lines[line - 1].strip()[:_LONGEST_EVIDENCE] if 0 < line <= len(lines) else ""
        )
        for flag, (level, line) in found.items()
    )


class _Check:
    """One check: the solution is called twice, so that what it keeps shows; the module is read beside it."""

    def __init__(self, source: Source, module_name: str, module_code: str | None) -> None:
        self.source = source
        self.reference = module_name.removesuffix("New")
        self.module = _module_result(module_code, self.reference)
        self.module_code = module_code or ""
        self.class_name = _solution_class(source, self.reference)
        self.checker = _Checker(self.reference if self.class_name != self.reference else "")
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

    def _class_line(self) -> int:
        cls = self.source.classes.get(self.class_name)
        return cls.lineno if cls else 0

    def _forward_line(self) -> int:
        forward = self.source.method(self.class_name, "forward") if self.class_name else None
        returned = [one.lineno for one in ast.walk(forward) if isinstance(one, ast.Return)] if forward else []
        return returned[-1] if returned else self._class_line()

    def _closed_way(self) -> int:
        """The condition in the forward that keeps a launch from being reached; 0 if there is none."""
        forward = self.source.method(self.class_name, "forward")
        for node in ast.walk(forward) if forward else ():
            if isinstance(node, ast.If) and any(isinstance(one, ast.Subscript) for one in _called_in(node)):
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
            yield "not_launched", self._closed_way() or self._forward_line()
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
        """Where a second call gives what the first one computed; 0 if it does not."""
        checker = self.checker
        instance = checker.instance
        if not isinstance(instance, Instance):
            return 0
        kept = dict(checker.found)
        checker.is_later, checker.steps = True, 0
        later = call_forward(checker, instance, "later")
        checker.found = kept
        stale = any(one.node.sources & INPUT for one in tensors_in(later))
        return (checker.stale_line or self._forward_line()) if stale else 0


def _called_in(node: ast.AST) -> Iterator[ast.expr]:
    return (one.func for one in ast.walk(node) if isinstance(one, ast.Call))


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
