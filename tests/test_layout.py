"""The rules of the architecture: import layers, sizes of files, where SQL is written."""

from __future__ import annotations

import ast
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import clean_environment

from kbetl.resources import SQL, queries, sql, sql_names
from kbetl.store import Store
from kbetl.store.connection import attach_other
from kbetl.store.generated_views import make_dataset_view

PACKAGE = Path(__file__).parents[1] / "kbetl"
MODULES = sorted(PACKAGE.rglob("*.py"))

_TABLE_ROW = re.compile(r"^\| (\d+) \| ([a-z_ ]+) \|$", re.MULTILINE)
ARCHITECTURE = PACKAGE / "docs" / "architecture.md"
LAYERS = {int(row): parts.split() for row, parts in _TABLE_ROW.findall(ARCHITECTURE.read_text("utf-8"))}
"""The table of the architecture: a part imports parts of lower rows alone."""

LAYER = {part: number for number, parts in LAYERS.items() for part in parts}

HOMES = {
    "click": {"cli"},
    "rich": {"cli"},
    "sqlite_utils": {"store", "query", "api"},
    "pandas": {"api"},
    "tabulate": {"query"},
    "aiohttp": {"client"},
    "multidict": {"client"},
    "yarl": {"client"},
    "tenacity": {"client", "hub"},
    "transformers": {"lengths"},
    "tokenizers": {"lengths"},
    "datasets": {"ingest", "hub"},
    "huggingface_hub": {"huggingface", "ingest", "hub", "lengths"},
    "jinja2": {"lengths"},
    "pyarrow": {"readers", "dataset", "export", "hub"},
    "numpy": {"dataset"},
    "zstandard": {"ingest", "readers", "export"},
    "orjson": {
        "dataset",
        "json_codec",
        "records",
        "client",
        "readers",
        "ingest",
        "inference",
        "export",
        "rollouts",
        "synth",
        "batch",
    },
    "jsonschema": {"tasks"},
    "yaml": {"hub"},
    "dotenv": {"config"},
    "genai_prices": {"prices"},
}
LAZY = {
    "rich",
    "sqlite_utils",
    "pandas",
    "tabulate",
    "tenacity",
    "transformers",
    "tokenizers",
    "jinja2",
    "datasets",
    "huggingface_hub",
    "pyarrow",
    "numpy",
    "zstandard",
    "jsonschema",
    "yaml",
    "dotenv",
    "genai_prices",
}
"""Imported inside the function that needs them, so that no other command waits for them."""

MAX_LINES = 500
MAX_BYTES = 24 * 1024


class Import(NamedTuple):
    """One import: of what, and whether it happens when the module is imported."""

    module: str
    at_once: bool


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[Import]:
    """All imports of a file but those for type checkers alone."""
    found = []
    for node, at_once in _imports(tree(path), at_once=True):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, at_once) for alias in node.names]
        elif node.module == "kbetl":
            found += [Import(f"kbetl.{alias.name}", at_once) for alias in node.names]
        else:
            assert node.level == 0, f"{name(path)} imports relatively"
            found.append(Import(node.module or "", at_once))
    return found


def _imports(node: ast.AST, *, at_once: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_once
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imports(other, at_once=at_once)
        else:
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_once=at_once and not in_function)


def ours(path: Path) -> set[str]:
    """The parts that a file imports from, its own left out."""
    names = [found.module.split(".") for found in imports(path)]
    parts = {each[1] for each in names if each[0] == "kbetl" and len(each) > 1}
    return parts - {part(path), "__version__"}


def test_every_part_has_its_layer_and_imports_downwards():
    package = PACKAGE / "__init__.py"
    assert [each.module for each in imports(package) if each.at_once] == ["typing"]
    upwards = {
        name(path): above
        for path in MODULES
        if path != package and (above := {other for other in ours(path) if LAYER[other] >= LAYER[part(path)]})
    }
    assert upwards == {}


def misplaced(path: Path, found: Import) -> Iterator[str]:
    """What the table of libraries says against an import."""
    library = found.module.split(".")[0]
    if library == "kbetl" or library in sys.stdlib_module_names:
        return
    if library not in HOMES:
        yield f"{name(path)}: {library} has no home"
    elif part(path) not in HOMES[library]:
        yield f"{name(path)}: {library} lives in {HOMES[library]}"
    if found.at_once and library in LAZY:
        yield f"{name(path)} imports {library} at once"


def test_every_library_is_at_home():
    """Nothing outside the table, nothing outside its part, nothing heavy at once."""
    faults = [fault for path in MODULES for found in imports(path) for fault in misplaced(path, found)]
    assert faults == []


PURE = (
    "kbetl.samples.parse",
    "kbetl.samples.rollout_facts",
    "kbetl.samples.conversation",
    "kbetl.records",
    "kbetl.tasks.task",
    "kbetl.offline",
)
"""What other machines may map over rows: `docs/scale.md` names its functions."""


def test_what_is_pure_has_no_store_no_network_and_no_clock():
    code = f"import sys, {', '.join(PURE)}; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert set(PURE) < loaded
    assert loaded & {"kbetl.store", "sqlite3", "aiohttp"} == set()
    modules = {
        path: ".".join(("kbetl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in MODULES
    }
    clocks = {
        module
        for path, module in modules.items()
        if module in loaded and {"time", "datetime"} & {found.module for found in imports(path)}
    }
    assert clocks == set()


def test_no_file_is_too_large():
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}
    assert [name(path) for path in MODULES if path.stat().st_size > MAX_BYTES] == []


def test_every_module_says_what_it_is():
    assert [name(path) for path in MODULES if not ast.get_docstring(tree(path))] == []


# SQL

_STATEMENT = re.compile(r"\s*(select|with|insert into|update|delete from|create|drop|alter)\b")
MAKES_SQL = {"store/migrations.py", "store/user_sql.py", "store/generated_views.py"}
"""Identifiers of our own views; the user's own SQL on the guarded connection."""


def test_no_sql_is_built_from_strings():
    """An f-string that is a statement; pragmas take no parameters, so their constants may be written in."""
    built = [
        f"{name(path)}: {ast.unparse(node)}"
        for path in MODULES
        if name(path) not in MAKES_SQL
        for node in ast.walk(tree(path))
        if isinstance(node, ast.JoinedStr)
        and node.values
        and isinstance(node.values[0], ast.Constant)
        and _STATEMENT.match(str(node.values[0].value))
    ]
    assert built == []


def test_no_exception_is_swallowed_unnamed():
    caught = [
        f"{name(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and (not node.type or ast.unparse(node.type) == "Exception")
    ]
    assert caught == []


QUERIES = {
    f"{module}/{block}": text for module in sql_names("queries") for block, text in queries(module).items()
}
MAKES_TEMPORARY = "\ncreate temp "


def test_every_query_is_used():
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    assert [name for name in QUERIES if f'"{name}"' not in code] == []


def test_a_query_has_one_place():
    """A name stands in one file; what a file owns is asked for by that file's name."""
    blocks = [name.partition("/")[2] for name in QUERIES]
    assert sorted(set(blocks)) == sorted(blocks)


class _AnyValue(dict[str, None]):
    def __missing__(self, key: str) -> None:
        return None


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A fresh store with all that queries make for a while, and another one attached as `merge` does."""
    folder = tmp_path_factory.mktemp("layout")
    Store.open(folder / "other.db").close()
    with Store.open(folder / "kbetl.db") as store:
        attach_other(store.connection, folder / "other.db")
        for text in QUERIES.values():
            if MAKES_TEMPORARY in text:
                store.connection.execute(text)
        make_dataset_view(store.connection, "filtered")
        yield store.connection


def test_every_query_prepares(connection):
    """Against a fresh store, with the comment that says what it returns."""
    faults = []
    for query, text in QUERIES.items():
        if not text.startswith("--"):
            faults.append(f"{query} does not say what it returns")
        if MAKES_TEMPORARY not in text:
            try:
                connection.execute(f"explain {text}", _AnyValue())
            except sqlite3.Error as error:
                faults.append(f"{query}: {error}")
    assert faults == []


def test_every_view_is_named_like_its_file():
    texts = {view: sql(f"views/{view}") for view in sql_names("views")}
    assert [view for view, text in texts.items() if not text.startswith("--")] == []
    named = {
        view for view, text in texts.items() if re.search(rf"^create view {view} as$", text, re.MULTILINE)
    }
    assert named == set(texts)


def test_every_column_is_commented():
    """Each on a line of its own, with a comment behind it."""
    lines = [
        f"{migration}: {line}"
        for migration in sql_names("migrations")
        for line in sql(f"migrations/{migration}").splitlines()
        if re.match(r"  \w+ (text|integer|real|blob|any)\b", line)
    ]
    assert [line for line in lines if "  -- " not in line] == []


def test_a_fresh_store_has_every_column_that_the_migrations_comment(connection):
    """So that no column hides in a line that the test above does not see."""
    written = sum(
        len(re.findall(r"^  \w+ (?:text|integer|real|blob|any)\b", sql(f"migrations/{name}"), re.MULTILINE))
        for name in sql_names("migrations")
    )
    tables = [
        row[0] for row in connection.execute("select name from main.sqlite_schema where type = 'table'")
    ]
    there = sum(len(connection.execute(f"pragma main.table_info({table})").fetchall()) for table in tables)
    assert there == written


_UPPER_CASE = re.compile(r"\b(?:SELECT|FROM|WHERE|JOIN|INSERT|UPDATE|CREATE|AND|OR|NOT|NULL)\b")
_UNSAFE = re.compile(r"select\s+\*|insert or ignore")


def test_sql_is_written_in_lower_case():
    faults = []
    for path in sorted(SQL.rglob("*.sql")):
        text = re.sub(r"--[^\n]*|'[^']*'", "", path.read_text(encoding="utf-8"))
        faults += [(path.name, word) for word in _UPPER_CASE.findall(text) + _UNSAFE.findall(text)]
    assert faults == []


_POSSESSIVE_GROUP = re.compile(r"\)[*+?]\+|\(\?>")


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Before Python 3.11.5 such a pattern matches too much: code would have another hash there."""
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if _POSSESSIVE_GROUP.search(line)
    ]
    assert found == []


def test_the_architecture_names_files_that_there_are() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    there = {path.name for path in MODULES} | {name(path) for path in MODULES}
    named = re.findall(r"`(?:kbetl/)?([a-z_]+(?:/[a-z_]+)*\.py)`", text)
    assert [each for each in named if each not in there and not (PACKAGE.parent / each).exists()] == []
    assert len(named) > 30
