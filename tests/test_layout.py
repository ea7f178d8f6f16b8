"""The house stays a house: who imports whom, how large a room is, where SQL lives."""

from __future__ import annotations

import ast
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kbetl.resources import SQL, queries, sql, sql_names
from kbetl.store import Store
from kbetl.store.generated_views import make_dataset_view

PACKAGE = Path(__file__).parents[1] / "kbetl"
MODULES = sorted(PACKAGE.rglob("*.py"))

_TABLE_ROW = re.compile(r"^\| (\d+) \| ([a-z_ ]+) \|$", re.MULTILINE)
ARCHITECTURE = PACKAGE / "docs" / "architecture.md"
LAYERS = {int(row): rooms.split() for row, rooms in _TABLE_ROW.findall(ARCHITECTURE.read_text("utf-8"))}
"""The table of the architecture: a room imports rooms of lower rows alone."""

LAYER = {room: number for number, rooms in LAYERS.items() for room in rooms}

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


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imports(path: Path) -> Iterator[Import]:
    """All imports of a file but those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node, at_once in _imports(tree, at_once=True):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, at_once)
        elif node.module == "kbetl":
            for alias in node.names:
                yield Import(f"kbetl.{alias.name}", at_once)
        else:
            assert node.level == 0, f"{name(path)} imports relatively"
            yield Import(node.module or "", at_once)


def _imports(node: ast.AST, *, at_once: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_once
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.orelse:
                yield from _imports(part, at_once=at_once)
        else:
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_once=at_once and not in_function)


def ours(path: Path) -> set[str]:
    """The rooms that a file imports from, its own left out."""
    parts = [found.module.split(".") for found in imports(path)]
    rooms = {part[1] for part in parts if part[0] == "kbetl" and len(part) > 1}
    return rooms - {room(path), "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_room_has_its_layer_and_imports_downwards(path):
    if path.parent == PACKAGE and path.name == "__init__.py":
        assert [each.module for each in imports(path) if each.at_once] == ["typing"]
        return
    upwards = {other for other in ours(path) if LAYER[other] >= LAYER[room(path)]}
    assert upwards == set(), f"{name(path)} of layer {LAYER[room(path)]} imports {upwards}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_library_is_at_home(path):
    """Nothing outside the table, nothing outside its room, nothing heavy at once."""
    for found in imports(path):
        library = found.module.split(".")[0]
        if library == "kbetl" or library in sys.stdlib_module_names:
            continue
        assert library in HOMES, f"{name(path)}: {library} has no home"
        assert room(path) in HOMES[library], f"{name(path)}: {library} lives in {HOMES[library]}"
        assert not (found.at_once and library in LAZY), f"{name(path)} imports {library} at once"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_room_is_too_large(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert path.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


# SQL

_STATEMENT = re.compile(r"\s*(select|with|insert into|update|delete from|create|drop|alter)\b")
MAKES_SQL = {"store/migrations.py", "store/user_sql.py", "store/generated_views.py"}
"""Identifiers of our own views; the user's own SQL in the guarded room."""


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_sql_is_built_from_strings(path):
    """An f-string that is a statement; pragmas take no parameters, so their constants may be written in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    built = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        and node.values
        and isinstance(node.values[0], ast.Constant)
        and _STATEMENT.match(str(node.values[0].value))
    ]
    assert built == [] or name(path) in MAKES_SQL


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_exception_is_swallowed_unnamed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    caught = [
        ast.unparse(node.type) if node.type else ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
    ]
    assert "" not in caught
    assert "Exception" not in caught


QUERIES = {
    f"{module}/{block}": text for module in sql_names("queries") for block, text in queries(module).items()
}


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
    """A fresh store with all temporary tables that queries make."""
    with Store.open(tmp_path_factory.mktemp("layout") / "kbetl.db") as store:
        for name, text in QUERIES.items():
            if name.endswith("_table"):
                store.connection.execute(text)
        make_dataset_view(store.connection, "filtered")
        yield store.connection


@pytest.mark.parametrize("query", [name for name in QUERIES if not name.endswith("_table")])
def test_every_query_prepares(connection, query):
    """Against a fresh store, with the comment that says what it returns."""
    text = QUERIES[query]
    assert text.startswith("--"), f"{query} does not say what it returns"
    connection.execute(f"explain {text}", _AnyValue())


@pytest.mark.parametrize("view", sql_names("views"))
def test_every_view_is_named_like_its_file(view):
    text = sql(f"views/{view}")
    assert text.startswith("--")
    assert re.search(rf"^create view {view} as$", text, re.MULTILINE)


@pytest.mark.parametrize("migration", sql_names("migrations"))
def test_every_column_is_commented(migration):
    """Each on a line of its own, with a comment behind it."""
    lines = sql(f"migrations/{migration}").splitlines()
    columns = [line for line in lines if re.match(r"  \w+ (text|integer|real|blob|any)\b", line)]
    assert [line for line in columns if "  -- " not in line] == []


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


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=lambda path: path.stem)
def test_sql_is_written_in_lower_case(path):
    text = re.sub(r"--[^\n]*|'[^']*'", "", path.read_text(encoding="utf-8"))
    assert re.findall(r"\b(SELECT|FROM|WHERE|JOIN|INSERT|UPDATE|CREATE|AND|OR|NOT|NULL)\b", text) == []
    assert not re.search(r"select\s+\*|insert or ignore", text)


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
