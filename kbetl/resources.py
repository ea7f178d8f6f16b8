"""Finds and reads the files of `sql/`, `data/` and `docs/`, installed in a wheel or lying in a checkout."""

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
    """The text of `sql/NAME.sql`, for example `sql("views/ratings")`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def query(name: str) -> str:
    """The statement `-- name: BLOCK` of `sql/queries/MODULE.sql`, for example `query("answers/add_answer")`.

    Raises KeyError if the file has no such block, ValueError if it has one twice.
    """
    module, _, block = name.partition("/")
    return queries(module)[block]


@cache
def queries(module: str) -> Mapping[str, str]:
    """All statements of `sql/queries/MODULE.sql` by name, each with the comment that opens it."""
    head, *parts = _NAME.split(sql(f"queries/{module}"))
    names = parts[::2]
    if head.strip() or len(set(names)) < len(names):
        raise ValueError(f"sql/queries/{module}.sql has text before its first name, or a name twice")
    return dict(zip(names, parts[1::2], strict=True))


def sql_names(folder: str) -> list[str]:
    """The names, without `.sql`, of the files in `sql/FOLDER`, sorted."""
    return sorted(path.stem for path in (SQL / folder).glob("*.sql"))


@cache
def view_columns(view: str) -> tuple[str, ...]:
    """The columns that the file of a view names, in order; each ends a line as `... as NAME`."""
    return tuple(re.findall(r" as (\w+),?$", sql(f"views/{view}"), re.MULTILINE))


def data_path(name: str) -> Path:
    """Where `data/NAME` lies."""
    return DATA / name


def topics() -> list[str]:
    """The topics of the documentation, sorted: the names of the files in `docs/`, without `.md`."""
    return sorted(path.stem for path in DOCS.glob("*.md"))


def document(topic: str) -> str:
    """The Markdown of one topic."""
    return (DOCS / f"{topic}.md").read_text(encoding="utf-8")
