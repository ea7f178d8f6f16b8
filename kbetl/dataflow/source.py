"""A module's source as a syntax tree: which classes, functions and imports it has, which class is meant.

The source is parsed, never executed or imported. `ast` changes between versions of Python: what is hashed is
spelled by this package.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from kbetl.errors import UnreadableCode

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
# Far more than a module has. Without a limit a chain of classes is read in the square of its length.
_MOST_ANCESTORS = 64


@dataclass(frozen=True)
class Source:
    """The definitions at the top of a source text; the last definition of a name wins, as in Python."""

    tree: ast.Module
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    functions: dict[str, FunctionNode] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    """Local name to dotted name, for example `F` to `torch.nn.functional`."""
    constants: dict[str, ast.expr] = field(default_factory=dict)

    def dotted(self, node: ast.expr) -> str | None:
        """The full dotted name of `a.b.c` with imports resolved; None for any other expression."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        return ".".join([self.imports.get(node.id, node.id), *reversed(names)])

    def torch_name(self, node: ast.expr) -> str | None:
        """The last name of something of PyTorch (`nn.Linear` gives `Linear`), else None.

        Without their imports `torch`, `nn` and `F` are read as what they always are.
        """
        dotted = self.dotted(node)
        if dotted is None or not isinstance(node, ast.Attribute | ast.Name):
            return None
        root, _, rest = dotted.partition(".")
        known = root in ("torch", "functional") or (root in ("nn", "F") and root not in self.imports)
        return rest.rpartition(".")[2] if known and rest else None

    def ancestry(self, name: str) -> Iterator[ast.ClassDef]:
        """The class and its bases as far as this source defines them, nearest first."""
        waiting, seen = [name], set[str]()
        while waiting and len(seen) < _MOST_ANCESTORS:
            current = waiting.pop(0)
            if current in seen or current not in self.classes:
                continue
            seen.add(current)
            yield self.classes[current]
            waiting += [base.id for base in self.classes[current].bases if isinstance(base, ast.Name)]

    def method(self, class_name: str, method: str, after: str | None = None) -> FunctionNode | None:
        """A method by the classes of `ancestry`; with `after`, only from the bases of that class."""
        passed = after is None
        for cls in self.ancestry(class_name):
            if passed:
                for node in reversed(cls.body):
                    if isinstance(node, FunctionNode) and node.name == method:
                        return node
            passed = passed or cls.name == after
        return None

    def torch_base(self, class_name: str) -> str | None:
        """The layer of PyTorch that the class extends, such as `Linear`; None for a plain `Module`."""
        for cls in self.ancestry(class_name):
            for base in cls.bases:
                name = self.torch_name(base)
                if name and name != "Module":
                    return name
        return None

    def is_module(self, class_name: str) -> bool:
        """Whether the class can be called like a module: it has a `forward`, or extends a layer."""
        return self.method(class_name, "forward") is not None or self.torch_base(class_name) is not None


# Parsing them needs up to 0.2 s.
MOST_CHARACTERS = 200_000


def parse(python_code: str) -> Source:
    """Reads a source text. Raises UnreadableCode if it is no Python that can be read, or too large."""
    if len(python_code) > MOST_CHARACTERS:
        raise UnreadableCode("the code is too large to follow")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes such as "\d" are the sample's affair
            tree = ast.parse(python_code)
    except SyntaxError as error:
        raise UnreadableCode(f"the code does not parse: line {error.lineno}: {error.msg}") from None
    except ValueError as error:
        raise UnreadableCode(f"the code does not parse: {error}") from None
    except (RecursionError, MemoryError):
        raise UnreadableCode("the code does not parse: it nests too deep") from None
    source = Source(tree)
    for node in _statements(tree.body):
        _note(source, node)
    return source


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, and of the `if`, `try` and `with` around some of them."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _statements(getattr(node, inner, []))


def _note(source: Source, node: ast.stmt) -> None:
    if isinstance(node, ast.ClassDef):
        source.classes[node.name] = node
    elif isinstance(node, FunctionNode):
        source.functions[node.name] = node
    elif isinstance(node, ast.Import | ast.ImportFrom):
        source.imports.update(imported_names(node))
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            _note_constant(source, target, node.value)


def imported_names(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, with the dotted name that it means."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, f"{'.' * node.level}{node.module or ''}.{alias.name}"
        else:
            bound = alias.asname or alias.name.partition(".")[0]
            yield bound, alias.name if alias.asname else bound


def _note_constant(source: Source, target: ast.expr, value: ast.expr) -> None:
    if isinstance(target, ast.Name):
        source.constants[target.id] = value
    elif (
        isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts)
    ):
        for one, its in zip(target.elts, value.elts, strict=True):
            _note_constant(source, one, its)


def chosen_class(source: Source, module_name: str) -> str:
    """The class that is meant: `module_name`, else `Model`, else the only module that no other one uses.

    Raises UnreadableCode if that is no module, or if several could be meant.
    """
    modules = [name for name in source.classes if source.is_module(name)]
    if not modules:
        raise UnreadableCode("the code holds no class with a forward method; nothing to judge")
    if module_name in source.classes:
        if module_name not in modules:
            raise UnreadableCode(
                f"class {module_name} has no forward method and extends no layer; nothing to judge"
            )
        return module_name
    if "Model" in modules:
        return "Model"
    unused = unused_modules(source)
    if len(unused) != 1:
        candidates = ", ".join(unused[:5])
        raise UnreadableCode(
            f"the code has no class {module_name[:80]!r}; any of {candidates} could be meant"
        )
    return unused[0]


def unused_modules(source: Source) -> list[str]:
    """The modules that no other class mentions; all of them if each is mentioned."""
    modules = [name for name in source.classes if source.is_module(name)]
    if len(modules) < 2:
        return modules
    users: dict[str, set[str]] = {}
    for cls in source.classes.values():
        for node in ast.walk(cls):
            if isinstance(node, ast.Name) and node.id in source.classes:
                users.setdefault(node.id, set()).add(cls.name)
    return [name for name in modules if not users.get(name, set()) - {name}] or modules


_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_MARKED = re.compile(r"BEGIN_PYTHON[^\n]*\n(.*?)(?:END_PYTHON|\Z)", re.DOTALL)
_DEFINES = re.compile(r"^(?:class|def|async def|@)\s*\w", re.MULTILINE)


def solution_code(completion: str) -> str | None:
    """The code of a solution in a model's text; None if it holds none.

    It is the last fenced block that defines a class or a function, else the text between BEGIN_PYTHON and
    END_PYTHON, else the whole text if that is Python which defines something. A block that is never closed
    goes to the end.
    """
    blocks = [block for block in _FENCED.findall(completion) if _DEFINES.search(block)]
    if blocks:
        return str(blocks[-1])
    marked = _MARKED.findall(completion)
    if marked:
        return str(marked[-1])
    if _DEFINES.search(completion):
        try:
            parse(completion)
        except UnreadableCode:
            return None
        return completion
    return None
