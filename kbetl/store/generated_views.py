"""The one place that makes SQL from names: of the views of datasets."""

from __future__ import annotations

import re
import sqlite3

from kbetl.resources import sql, sql_names

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
    """Makes the temporary view `dataset_view` of a public view, in place of the one that there was.

    Raises ValueError if no file in sql/views is named so.
    """
    if view not in sql_names("views"):
        raise ValueError(f"there is no view {view!r} in sql/views")
    connection.execute(f"drop view if exists temp.{DATASET_VIEW}")
    connection.execute(
        f"create temp view {DATASET_VIEW} as select sample_hash, reward, difficulty from {_quoted(view)}"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
