"""`kbetl tables`: the tables and views of a store with their rows, columns, and the comments of `sql/`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kbetl.errors import ConfigError
from kbetl.resources import sql, sql_names
from kbetl.store import Store
from kbetl.store.generated_views import count_rows
from kbetl.text import plain_text

_TABLE = re.compile(r"^create table (\w+) \((.*?)^\) strict", re.DOTALL | re.MULTILINE)
_ADDED = re.compile(r"^alter table (\w+) add column$(\n.*)", re.MULTILINE)
_COLUMN = re.compile(r"^  (\w+) (?:text|integer|real|blob|any)\b.*?-- (.*)$", re.MULTILINE)
_FIRST_SENTENCE = re.compile(r".*?[.;:](?= |$)", re.DOTALL)
_LABELS = "The labels of a task in use by sample, typed as its answers are read."


class Relation(NamedTuple):
    """A table or a view of a store."""

    name: str
    kind: str
    rows: int | None
    """None for a view in the list of all: some take long to count."""
    columns: Mapping[str, str]
    """Types by name; a view's columns have none of their own."""

    def line(self, width: int) -> str:
        """One line of the list: kind, name, rows, and what it is."""
        rows = "" if self.rows is None else f"{self.rows:,} rows"
        about = ", ".join(self.columns) if self.kind == "table" else _first_sentence(view_comment(self.name))
        return plain_text(f"{self.kind:<5}  {self.name:<{width}}  {rows:>14}  {about}").rstrip()

    def lines(self) -> list[str]:
        """What it is, and a line for each column."""
        comments = table_comments().get(self.name, {})
        width = max(map(len, self.columns))
        head = f"{self.kind} {self.name}: {self.rows:,} rows"
        about = [] if self.kind == "table" else [view_comment(self.name)]
        columns = [
            f"  {name:<{width}}  {type_:<7}  {comments.get(name, '')}".rstrip()
            for name, type_ in self.columns.items()
        ]
        return [plain_text(line) for line in (head, *filter(None, about), *columns)]


@cache
def table_comments() -> Mapping[str, Mapping[str, str]]:
    """What the migrations say of each column, by table; those that a later one added are last."""
    scripts = [sql(f"migrations/{name}") for name in sql_names("migrations")]
    found: dict[str, dict[str, str]] = {}
    for script in scripts:
        for table, body in (*_TABLE.findall(script), *_ADDED.findall(script)):
            found.setdefault(table, {}).update(_COLUMN.findall(body))
    return found


def view_comment(name: str) -> str:
    """The comment that opens a view's file; of a view made from tasks what all of them are; else empty."""
    if name not in sql_names("views"):
        return _LABELS if name.startswith("task_") else ""
    lines = sql(f"views/{name}").partition("create view")[0].splitlines()
    return " ".join(line.removeprefix("--").strip() for line in lines)


def relations(database: Path) -> list[Relation]:
    """All tables, counted, and all views."""
    with Store.read(database) as store:
        return [_relation(store, name, kind, is_counted=kind == "table") for name, kind in _names(store)]


def relation(database: Path, name: str) -> Relation:
    """One table or view, counted. Raises ConfigError, with the one probably meant, if there is none."""
    with Store.read(database) as store:
        kinds = dict(_names(store))
        if name not in kinds:
            near = difflib.get_close_matches(name.lower(), kinds, n=1)
            meant = f"did you mean {near[0]}?" if near else "kbetl tables lists them"
            raise ConfigError(f"no table or view {plain_text(name)!r} in {store.path}; {meant}")
        return _relation(store, name, kinds[name], is_counted=True)


def _names(store: Store) -> list[tuple[str, str]]:
    return store.rows("schema/relations")


def _relation(store: Store, name: str, kind: str, *, is_counted: bool) -> Relation:
    columns = dict(store.rows("schema/columns_of", {"relation": name}))
    with store.translate_errors():
        rows = count_rows(store.connection, name) if is_counted else None
    return Relation(name, kind, rows, columns)


def lines_of_all(found: list[Relation]) -> Iterator[str]:
    """The list of all, a line each, and how to see one."""
    width = max(len(each.name) for each in found)
    yield from (each.line(width) for each in found)
    yield ""
    yield "One with its columns: kbetl tables NAME"


def _first_sentence(text: str) -> str:
    found = _FIRST_SENTENCE.match(text)
    return found[0].rstrip(".;:") if found else text
