"""Finds and reads the files of `sql/`, `data/` and `docs/`, installed in a wheel or lying in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE if (PACKAGE / "sql").is_dir() else PACKAGE.parent
SQL = ROOT / "sql"
DATA = ROOT / "data"
DOCS = PACKAGE / "docs"


@cache
def sql(name: str) -> str:
    """The text of `sql/NAME.sql`, for example `sql("queries/waiting")`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def sql_names(folder: str) -> list[str]:
    """The names, without `.sql`, of the files in `sql/FOLDER`, sorted."""
    return sorted(path.stem for path in (SQL / folder).glob("*.sql"))


def data_path(name: str) -> Path:
    """Where `data/NAME` lies."""
    return DATA / name


def topics() -> list[str]:
    """The topics of the documentation, sorted: the names of the files in `docs/`, without `.md`."""
    return sorted(path.stem for path in DOCS.glob("*.md"))


def document(topic: str) -> str:
    """The Markdown of one topic."""
    return (DOCS / f"{topic}.md").read_text(encoding="utf-8")
