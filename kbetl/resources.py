"""Finds and reads the files of `sql/`, `data/` and `docs/`, in a wheel or in a checkout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE if (PACKAGE / "sql").is_dir() else PACKAGE.parent
SQL = ROOT / "sql"
DATA = ROOT / "data"
DOCS = PACKAGE / "docs"


_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def sql(name: str) -> str:
    """Returns the text of `sql/NAME.sql`, for example `sql("views/ratings")`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def query(name: str) -> str:
    """Returns the block `-- name: BLOCK` of `sql/queries/MODULE.sql`: `query("answers/add_answer")`.

    Raises KeyError if the file has no such block, ValueError if it has two.
    """
    module, _, block = name.partition("/")
    return queries(module)[block]


@cache
def queries(module: str) -> Mapping[str, str]:
    """Returns all blocks of `sql/queries/MODULE.sql` by name, each with the comment above it."""
    head, *parts = _NAME.split(sql(f"queries/{module}"))
    names = parts[::2]
    if head.strip() or len(set(names)) < len(names):
        raise ValueError(f"sql/queries/{module}.sql has text before its first name, or a name twice")
    return dict(zip(names, parts[1::2], strict=True))


def sql_names(folder: str) -> list[str]:
    """Returns the names, without `.sql`, of the files in `sql/FOLDER`, sorted."""
    return sorted(path.stem for path in (SQL / folder).glob("*.sql"))


@cache
def view_columns(view: str) -> tuple[str, ...]:
    """The columns that the file of a view names, in order; each ends a line as `... as NAME`."""
    return tuple(re.findall(r" as (\w+),?$", sql(f"views/{view}"), re.MULTILINE))


def data_path(name: str) -> Path:
    """Returns the path of `data/NAME`."""
    return DATA / name


def topics() -> list[str]:
    """Returns the topics of the documentation, sorted: the names of the files in `docs/` without `.md`."""
    return sorted(path.stem for path in DOCS.glob("*.md"))


def document(topic: str) -> str:
    """Returns the Markdown of a topic."""
    return (DOCS / f"{topic}.md").read_text(encoding="utf-8")
