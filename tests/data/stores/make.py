"""Makes the SQL of a store of the present schema, for tests of later ones: run it when a schema is released.

python tests/data/stores/make.py > tests/data/stores/schema2.sql
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from enrich_case import Case, rollout
from fake_llm import FakeLlm

from kbetl.resources import data_path

REWARDS = (1.0, 0.95, 0.9, 0.5, 1.0, 0.99)


def fill(case: Case) -> None:
    """Rows of every kind, one that is rejected; answers of every status; lengths; a setting that changed."""
    rows = [rollout(number, reward=reward) for number, reward in enumerate(REWARDS, 1)]
    rows[4]["python_code"] = "class Module5:\n    '''caf\u00e9 \0'''\n"
    rows.append({"module_name": "Module7", "python_code": "class Module7:\n    pass\n"})
    rows += [rollout(8) | {"score": float("nan")}, rows[0]]
    lines = [json.dumps(row) for row in rows]
    lines.insert(7, '{"module_name": "Broken"')
    (case.folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    case.kbetl("ingest", "rows.jsonl")
    case.llm.faults.extend([None, "no tag", "refusal", "cut json", None, "400"])  # type: ignore[union-attr]
    case.enrich("-c", 1)
    rating = case.llm.content
    case.llm.content = lambda asked: "<specification>Adds two tensors, elementwise.</specification>"
    case.enrich("-c", 1, command="prompts")
    case.llm.content = rating
    case.enrich("-c", 1, "-T", 0.5, "-n", 2)
    shutil.copytree(data_path("tokenizer"), case.folder / "tokenizer")
    case.kbetl("lengths", "--tokenizer", "tokenizer")
    case.kbetl("use", "--min-reward", "0.8")
    case.change(
        "insert into scores (sample_hash, reward, scored_at, run_id) "
        "select min(hash), 0.97, '2026-11-22T10:00:00.000Z', 1 from samples where kind = 'rollout'"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, FakeLlm() as llm:
        case = Case(Path(folder), llm)
        fill(case)
        with contextlib.closing(sqlite3.connect(Path(folder) / "kbetl.db")) as connection:
            print("\n".join(connection.iterdump()))


if __name__ == "__main__":
    main()
