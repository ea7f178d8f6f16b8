"""Makes SQL from names, as no other module does: views of datasets and tasks, columns named after labels.

Each task in use has a view `task_NAME` and columns of `selectable`; both are made from `tasks` alone.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from kbetl.errors import ConfigError
from kbetl.records import schema_fields
from kbetl.resources import sql, sql_names, view_columns

# What the file of a dataset's view says if its lengths are counted, and under which name.
_COUNTED = re.compile(r"^-- `length_counts` has it as `(\w+)`\.$", re.MULTILINE)
_COUNTS_OF_DATASET = """
union all
select
  '{dataset}',
  length_templates.number,
  lengths.total_tokens,
  count(*)
from {view}
cross join length_templates
cross join lengths
  on lengths.tokenizer = length_templates.tokenizer
  and lengths.template_hash = length_templates.template_hash
  and lengths.sample_hash = {view}.sample_hash
where lengths.total_tokens >= 0
group by length_templates.number, lengths.total_tokens"""

# Where `datasets/select_from_view` reads the rows of whichever dataset is chosen.
DATASET_VIEW = "dataset_view"

_MARK = "-- Generated from the table tasks"
"""In the text of every view made here: a view without it is somebody else's, whatever its name."""
_LABELS = "  -- labels of the tasks in use\n"
"""Where `selectable` has the labels."""
_SPELLED_WITH_ESCAPES = re.compile(r'["\\\x00-\x1f]')
_IN_USE = "select name, reader from tasks where in_use = 1 and label_name is not null order by name"


def view_text(name: str) -> str:
    """The text of a public view: its file, and for `length_counts` a part for each view that is counted."""
    text = sql(f"views/{name}").rstrip()
    if name == "length_counts":
        for dataset, view in counted_views().items():
            text += _COUNTS_OF_DATASET.format(dataset=dataset, view=view)
    return text


def counted_views() -> dict[str, str]:
    """The views of datasets whose lengths are counted, by the name of the dataset."""
    found = {view: _COUNTED.search(sql(f"views/{view}")) for view in sql_names("views")}
    return {match[1]: view for view, match in found.items() if match is not None}


def make_dataset_view(connection: sqlite3.Connection, view: str) -> None:
    """Makes the temporary view `dataset_view` of a public view; replaces the one before.

    Raises ValueError if no file in sql/views is named so.
    """
    if view not in sql_names("views"):
        raise ValueError(f"there is no view {view!r} in sql/views")
    connection.execute(f"drop view if exists temp.{DATASET_VIEW}")
    connection.execute(
        f"create temp view {DATASET_VIEW} as select sample_hash, reward, difficulty from {_quoted(view)}"
    )


def count_rows(connection: sqlite3.Connection, relation: str) -> int:
    """How many rows a table or view has, by the name that the schema has of it."""
    rows: int = connection.execute(f"select count(*) from {_quoted(relation)}").fetchone()[0]
    return rows


def wanted_views(connection: sqlite3.Connection) -> dict[str, str]:
    """The views that a store should have, by name, each with the text that SQLite keeps of it."""
    in_use = connection.execute(_IN_USE).fetchall()
    wanted = {name: as_kept(view_text(name)) for name in sql_names("views")}
    wanted["selectable"] = wanted["selectable"].replace(_LABELS, _selectable_labels(in_use) or _LABELS)
    return wanted | {_view_of(name): _label_view(name, reader) for name, reader in in_use}


def is_generated(text: str) -> bool:
    """Whether the text of a view is one that was made here."""
    return _MARK in text


def as_kept(text: str) -> str:
    """What SQLite keeps of a view's file: from `create view` on, and those two words in capitals."""
    return "CREATE VIEW" + text.partition("create view")[2].rstrip().removesuffix(";")


def check_label_columns(connection: sqlite3.Connection, name: str, reader: str) -> None:
    """Raises ConfigError if labels of a task would be columns of `selectable` that there are already."""
    fixed = [column for column in view_columns("selectable") if column != name]  # `difficulty` is its own
    owners = dict.fromkeys(fixed, "the view selectable")
    for other, other_reader in connection.execute(_IN_USE):
        if other != name:
            owners |= {
                column.name.lower(): f"the task {other}" for column in label_columns(other, other_reader)
            }
    for column in label_columns(name, reader):
        if column.name.lower() in owners:
            raise ConfigError(
                f"task {name}: its labels would be the column {column.name!r}, which is one of "
                f"{owners[column.name.lower()]}; rename the task, or the field in its JSON schema"
            )


class LabelColumn(NamedTuple):
    """A column of `selectable`, and the column of the task's own view that it shows."""

    name: str
    source: str


def label_columns(task: str, reader: str) -> list[LabelColumn]:
    """The columns of `selectable` that show the labels of a task, by how its answers are read."""
    fields = schema_fields(json.loads(reader).get("json"))
    return [LabelColumn(task, "value"), *(LabelColumn(f"{task}_{field}", field) for field in fields)]


def _selectable_labels(in_use: list[tuple[str, str]]) -> str:
    """The columns of `selectable` that show labels; of two with one name the first."""
    seen = {column.lower() for column in view_columns("selectable")}
    lines = []
    for task, reader in in_use:
        view = _quoted(_view_of(task))
        for column in label_columns(task, reader):
            if column.name.lower() not in seen:
                seen.add(column.name.lower())
                value = f"select {view}.{_quoted(column.source)} from {view}"
                lines.append(
                    f"  ({value} where {view}.sample_hash = samples.hash) as {_quoted(column.name)},\n"
                )
    return "".join(lines)


def _view_of(task: str) -> str:
    return f"task_{task}"


def _label_view(task: str, reader: str) -> str:
    """The text of `task_NAME`: the labels of one task in use, typed by how its answers are read."""
    form = json.loads(reader)
    fields = schema_fields(form.get("json"))
    columns = [("value", _value(form, fields)), *((field, _field(field)) for field in fields)]
    selected = ",\n".join(f"  {value} as {_quoted(column)}" for column, value in columns)
    return (
        f"CREATE VIEW {_quoted(_view_of(task))} as\n{_MARK}\n"
        f"select\n  outcomes.sample_hash as sample_hash,\n{selected}\n"
        "from tasks\n"
        "join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0\n"
        "  and outcomes.status = 'ok'\n"
        f"where tasks.name = {_literal(task)}\n"
        "  and tasks.in_use = 1"
    )


def _value(form: Mapping[str, Any], fields: list[str]) -> str:
    if "min" in form:
        return f"cast(outcomes.value as {'integer' if form.get('integer') else 'real'})"
    return "outcomes.value ->> '$'" if "json" in form and not fields else "outcomes.value"


def _field(name: str) -> str:
    """A field of a JSON label. A path compares keys as they are spelled in the text, with their escapes."""
    if _SPELLED_WITH_ESCAPES.search(name):
        return (
            "(select fields.value from json_each(outcomes.value) as fields "
            f"where fields.key = {_literal(name)})"
        )
    path = f'$."{name}"'
    return f"outcomes.value ->> {_literal(path)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
