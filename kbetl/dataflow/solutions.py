"""One reading of a solution: its launches, and what it does that a solution should not do."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kbetl.dataflow.kernels import Kernel, read_kernel
from kbetl.dataflow.operators import Family, words
from kbetl.dataflow.reader import Reader
from kbetl.dataflow.values import (
    EXACT_SIZE,
    INPUT,
    UNKNOWN,
    UNREAD,
    Function,
    Library,
    Node,
    Opaque,
    Spread,
    tensors_in,
)

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


class _Branch(NamedTuple):
    """A branch of a condition on one exact size."""

    line: int
    launched: bool
    is_left: bool
    is_constant: bool
    """Whether what it returns comes from no input."""
    is_silent: bool
    """Whether it leaves without a result: it raises."""


class Special(NamedTuple):
    """A condition on one exact size whose branches do not do the same so far."""

    line: int
    launched: bool
    otherwise: bool
    after: int | None
    """Launches so far, if the rest of the forward belongs to the other branch; else None."""
    is_constant: bool


class SolutionReader(Reader):
    """A reading that notes launches, and what a solution should not do."""

    def __init__(self, reference: str) -> None:
        super().__init__(exact=True)
        self.reference = reference
        self.found: dict[str, int] = {}
        """The line of each flag so far."""
        self.launches: list[int] = []
        self.kernels: dict[int, Kernel] = {}
        self.launched_kernels: list[Kernel] = []
        self.special: list[Special] = []
        self.side: ast.AST | None = None
        self.leaves_side = True
        self.side_line = 0
        self.suppressing = 0
        self.is_later = False
        self.stale_line = 0
        self.replays = False
        """Whether a graph is replayed: what it fills again cannot be followed."""
        self.launch_mark = 0
        self.open_branches: dict[int, _Branch] = {}

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
        if not facts.is_followed:
            super().launch(kernel, args, keywords, node)
            return
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

    def on_unread(self, name: str, args: Sequence[object], node: ast.AST) -> None:
        """A launch that is not followed may write to all that it is given, another call to fresh memory."""
        is_launch = isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)
        held = [one for value in args for one in tensors_in(value)]
        written = Node("unread", [one.node for one in held])
        for one in held:
            if is_launch or one.node.name == "empty":
                self.write(one, written)

    def _kernel(self, kernel: Function) -> Kernel:
        if id(kernel.node) in self.kernels:
            return self.kernels[id(kernel.node)]
        helpers = {
            name: value.node
            for name, value in self.top.names.items()
            if isinstance(value, Function) and value.is_kernel
        }
        return read_kernel(kernel.node, helpers, self.kernels)

    def _note_attempts(self, line: int) -> None:
        for attempt in self.attempts:
            for handler in filter(_goes_on, attempt.handlers):
                self.flag("except_fallback", handler.lineno)
        if self.suppressing:
            self.flag("except_fallback", line)

    def mark(self) -> int:
        self.launch_mark = len(self.launches)
        return super().mark()

    def on_branch(self, node: ast.stmt, test: object, mark: int, *, is_left: bool) -> None:
        if test is not EXACT_SIZE or not isinstance(node, ast.If) or self.is_later:
            return
        results = [one.node for value in self.since(mark) for one in tensors_in(value)]
        constant = bool(results) and not any(one.sources & (INPUT | UNREAD) for one in results)
        launched = len(self.launches) > self.launch_mark
        branch = _Branch(node.lineno, launched, is_left, constant, is_left and not self.since(mark))
        other = self.open_branches.pop(id(node), None)
        if other is None:
            self.open_branches[id(node)] = branch
        elif not other.is_silent and not branch.is_silent:
            first, rest = (other, branch) if other.is_left else (branch, other)
            after = len(self.launches) if first.is_left != rest.is_left else None
            constant = first.is_constant != rest.is_constant
            self.special.append(Special(node.lineno, first.launched, rest.launched, after, constant))

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
        self.replays = self.replays or name.endswith("CUDAGraph.replay")
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
    return not any(isinstance(one, ast.Subscript) for one in called_in(handler))


def called_in(node: ast.AST) -> Iterator[ast.expr]:
    return (one.func for one in ast.walk(node) if isinstance(one, ast.Call))
