"""What the tests of hostile files share: good rows around a bad one, and what ingest makes of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

CSV = "module_name,python_code,stars\n"
GOOD = '{"module_name": "Good", "python_code": "class Good: pass"}'


def module(name: str) -> dict[str, Any]:
    return {"module_name": name, "python_code": f"class {name}: pass"}


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class Seen(NamedTuple):
    """What a store holds after an ingest."""

    names: list[str | None]
    """Of the modules, in the order of their source."""
    rejected: list[tuple[str, str]]
    """FILE:LINE and reason."""


def seen(folder: Path) -> Seen:
    with sqlite3.connect(folder / "kbetl.db") as store:
        names = store.execute(
            "select module_name from source_samples join samples on hash = sample_hash"
            " order by source_id, position"
        ).fetchall()
        rejected = store.execute("select location, reason from rejected_rows order by source_id, position")
        return Seen([name for (name,) in names], rejected.fetchall())


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> bytes:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
    return path.read_bytes()
