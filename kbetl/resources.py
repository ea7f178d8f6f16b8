"""Finds and reads the files of `sql/` and `data/`, installed in a wheel or lying in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE if (PACKAGE / "sql").is_dir() else PACKAGE.parent
SQL = ROOT / "sql"
DATA = ROOT / "data"


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
