"""Hashes of a module that stay when its names, its numbers or its form change.

They are spelled by this package from the syntax tree, field by field, so that every version of Python gives
the same.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from kbetl import dataflow
from kbetl.dataflow.source import FunctionNode, Source, imported_names, parse, unused_modules
from kbetl.dataflow.values import Node
from kbetl.errors import UnreadableCode

VERSION = 1
"""Changes with every change of a fingerprint, so with every change of the reading as well."""
PART_BYTES = 8
"""Of each part's hash that is kept: 10 million different parts meet by chance once in 300,000 stores."""
# Modules of one source that could be meant, of which the largest is read.
_MOST_MODULES = 8
_MAKERS = ("get_inputs", "get_init_inputs")
# Fields that say nothing of what is computed, or that not every version of Python has.
_LEFT_OUT = frozenset(
    {
        "annotation",
        "returns",
        "type_comment",
        "type_params",
        "kind",
        "ctx",
        "type_ignores",
        "simple",
        "conversion",
    }
)


class Fingerprint(NamedTuple):
    """What is known of a module's code; all but `reason` is None or empty if it cannot be read."""

    renamed_hash: str | None = None
    """Without docstrings, layout, annotations, import aliases and every name that the source chooses."""
    shape_hash: str | None = None
    """Without numbers as well, and without what makes the inputs."""
    dataflow_hash: str | None = None
    """Of the nested operators; None if none is known by what it computes."""
    settings_hash: str | None = None
    """Of the numbers and texts, in whatever order."""
    operators: int = 0
    parts: bytes = b""
    """The hashes of its parts, the whole too, `PART_BYTES` each."""
    reason: str | None = None


def fingerprint(python_code: str) -> Fingerprint:
    """The fingerprint of a module's code; nothing of it is run."""
    try:
        source = parse(python_code)
        result = _largest(source)
        syntax = list(ast.walk(source.tree))
        spelling = _Spelling(source.tree, syntax)
    except UnreadableCode as error:
        return Fingerprint(reason=str(error))
    except RecursionError:
        return Fingerprint(reason="the code is too large to follow")
    nodes = [node for node in result.walk() if not node.is_leaf]
    operators = [node for node in nodes if node.family not in (None, "copy")]
    if not any(node.family != "other" for node in operators):
        nodes = []
    parts = sorted({node.digest[:PART_BYTES] for node in nodes})
    return Fingerprint(
        spelling.hash(with_numbers=True),
        spelling.hash(with_numbers=False),
        result.digest.hex() if nodes else None,
        _settings(syntax),
        len(operators),
        b"".join(parts),
    )


def _largest(source: Source) -> Node:
    """The dataflow of the module that is meant: the largest that no other uses."""
    names = unused_modules(source)[-_MOST_MODULES:]
    if not names:
        raise UnreadableCode("the code holds no class with a forward method")
    read = [dataflow.read_module(source, name) for name in names]
    if not all(one.is_whole for one in read):
        raise UnreadableCode("the code is too large to follow")
    return max((one.result for one in read), key=lambda node: (sum(1 for _ in node.walk()), node.digest))


def _settings(syntax: Sequence[ast.AST]) -> str:
    texts = {id(node.value) for node in syntax if isinstance(node, ast.Expr)}
    values = sorted(
        repr(node.value) for node in syntax if isinstance(node, ast.Constant) and id(node) not in texts
    )
    return _hash("\n".join(values))


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


class _Spelling:
    """A syntax tree as words. Names that the source chooses begin with `@`, numbers with `#`."""

    def __init__(self, tree: ast.Module, syntax: Sequence[ast.AST]) -> None:
        imports = (node for node in syntax if isinstance(node, ast.Import | ast.ImportFrom))
        self.imports = {name: full for node in imports for name, full in imported_names(node)}
        self.names, self.attributes = _chosen(syntax)
        self.statements = [(statement, self._words_of(statement)) for statement in tree.body]

    def hash(self, *, with_numbers: bool) -> str:
        """Of all words, chosen names by the order in which they come; without numbers, without sizes too."""
        numbers: dict[str, str] = {}
        words = [
            word
            for statement, held in self.statements
            if with_numbers or not _is_about_sizes(statement)
            for word in held
        ]
        spelled = [numbers.setdefault(word, f"@{len(numbers)}") if word[0] == "@" else word for word in words]
        return _hash(
            " ".join(spelled if with_numbers else ["#" if word[0] == "#" else word for word in spelled])
        )

    def _words_of(self, statement: ast.stmt) -> list[str]:
        self.words: list[str] = []
        self.spell(statement)
        return self.words

    def spell(self, node: ast.AST) -> None:
        """Adds the words of a node and of all below it."""
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):
            return
        if isinstance(node, ast.Constant):
            is_number = isinstance(node.value, int | float | complex) and not isinstance(node.value, bool)
            self.words.append(f"#{node.value!r}" if is_number else f"'{node.value!r}")
            return
        self.words.append(type(node).__name__)
        if isinstance(node, ast.ClassDef):
            self._class(node)
        elif isinstance(node, ast.Attribute):
            self.spell(node.value)
            self.words.append(f"@.{node.attr}" if node.attr in self.attributes else node.attr)
        elif isinstance(node, ast.Call):
            self._call(node)
        else:
            for name, value in ast.iter_fields(node):
                if name not in _LEFT_OUT:
                    self._field(value)
        self.words.append(")")

    def _class(self, node: ast.ClassDef) -> None:
        """Its methods are attributes, not names."""
        self._field([node.name, *node.bases, *node.decorator_list])
        for statement in node.body:
            if isinstance(statement, FunctionNode):
                name = f"@.{statement.name}" if statement.name in self.attributes else statement.name
                self.words.append(name)
                self._field([statement.args, *statement.decorator_list, *statement.body])
            else:
                self.spell(statement)

    def _call(self, node: ast.Call) -> None:
        """Names of arguments are chosen by the source only in calls of its own functions."""
        function = node.func
        is_ours = (isinstance(function, ast.Name) and function.id in self.names) or (
            isinstance(function, ast.Attribute)
            and (function.attr in self.attributes or function.attr == "__init__")
        )
        self.spell(function)
        for argument in node.args:
            self.spell(argument)
        for keyword in node.keywords:
            name = keyword.arg or "**"
            self.words.append(f"@{name}" if is_ours and name in self.names else f"{name}=")
            self.spell(keyword.value)

    def _field(self, value: object) -> None:
        if isinstance(value, ast.AST):
            self.spell(value)
        elif isinstance(value, list):
            self.words.append("[")
            for one in value:
                self._field(one)
        elif isinstance(value, str):
            self.words.append(self.imports.get(value) or (f"@{value}" if value in self.names else value))
        elif value is not None:
            self.words.append(str(value))


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a text alone, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_about_sizes(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef):
        return statement.name in _MAKERS
    return isinstance(statement, ast.Assign | ast.AnnAssign)


class _Chosen(NamedTuple):
    """What the source itself gives names to; what PyTorch and Python call by name is not in it."""

    names: frozenset[str]
    attributes: frozenset[str]
    """With methods."""


def _chosen(syntax: Sequence[ast.AST]) -> _Chosen:
    names: set[str] = set()
    attributes: set[str] = set()
    for node in syntax:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
            attributes |= {one.name for one in node.body if isinstance(one, FunctionNode)}
        elif isinstance(node, FunctionNode):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
    fixed = {name for name in names | attributes if name.startswith("__")} | {"forward", *_MAKERS}
    return _Chosen(frozenset(names - fixed), frozenset(attributes - fixed))


class Match(NamedTuple):
    """How a module is like a problem."""

    how: str
    """The strongest of `code`, `renamed`, `shape`, `dataflow`, `inside`, `operators`."""
    parts: int
    """Operators of the problem."""
    settings_differ: bool
    """Whether the dataflow is the same, but numbers or texts are others."""


HOW = ("code", "renamed", "shape", "dataflow", "inside", "operators")
"""From the strongest to the weakest; `operators`, a part of one operator, is never enough by itself."""


def matches(problem: Fingerprint, module: Fingerprint, *, is_same_code: bool) -> Match | None:
    """How a module is like a problem; None if it is not."""
    how = "code" if is_same_code else None
    if how is None and problem.renamed_hash and problem.renamed_hash == module.renamed_hash:
        how = "renamed"
    if how is None and problem.shape_hash and problem.shape_hash == module.shape_hash:
        how = "shape"
    if how is None and problem.dataflow_hash and problem.operators:
        if problem.dataflow_hash == module.dataflow_hash:
            how = "dataflow"
        elif bytes.fromhex(problem.dataflow_hash)[:PART_BYTES] in parts_of(module):
            how = "inside" if problem.operators > 1 else "operators"
    if how is None:
        return None
    differ = how in ("shape", "dataflow") and problem.settings_hash != module.settings_hash
    return Match(how, problem.operators, differ)


def parts_of(module: Fingerprint) -> frozenset[bytes]:
    """The hashes of a module's parts."""
    held = module.parts
    return frozenset(held[at : at + PART_BYTES] for at in range(0, len(held), PART_BYTES))
