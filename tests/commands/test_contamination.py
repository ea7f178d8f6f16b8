"""`kbetl contamination`: samples that are problems of a benchmark, and what a person says of them."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from evals_rows import evals_row

from kbetl.cli import run
from kbetl.contamination import find_contamination
from kbetl.dataflow.fingerprints import PART_BYTES, VERSION, Fingerprint, fingerprint
from kbetl.store import Store

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
LINEAR = (
    f"{HEAD}class Model(nn.Module):\n    def __init__(self, n):\n        super().__init__()\n"
    "        self.fc = nn.Linear(n, n)\n    def forward(self, x):\n        return F.relu(self.fc(x)) * 2.0\n"
)
SOFTMAX = (
    f"{HEAD}class Model(nn.Module):\n    def forward(self, x):\n        return torch.softmax(x, dim=1)\n"
)
COPY = LINEAR.replace("Model", "Gate").replace("self.fc", "self.inner")
RESIZED = COPY.replace("2.0", "0.5").replace("F.relu(self.inner(x))", "torch.relu(self.inner(x))")
INSIDE = COPY.replace("return F.relu(self.inner(x)) * 2.0", "return (F.relu(self.inner(x)) * 2.0).sum(1)")
OTHER = COPY.replace("F.relu", "F.gelu")
MODULES = {"Copy": COPY, "Resized": RESIZED, "Inside": INSIDE, "Other": OTHER}
PROBLEMS = [
    {"level": 2, "problem_id": 7, "name": "7_Linear", "code": LINEAR},
    {"level": 1, "problem_id": 23, "name": "23_Softmax", "code": SOFTMAX},
]
PAIRS = """
select module_name, problem, how, parts, settings_differ, verdict
from contamination join samples on hash = sample_hash
order by module_name, problem
"""


def rows(query: str) -> list[tuple[Any, ...]]:
    """What plain SQLite reads."""
    with contextlib.closing(sqlite3.connect("kbetl.db")) as connection:
        return connection.execute(query).fetchall()


def write(name: str, lines: list[Any]) -> None:
    Path(name).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("modules.jsonl", [{"module_name": name, "python_code": code} for name, code in MODULES.items()])
    write("bench.jsonl", PROBLEMS)
    assert run(["ingest", "modules.jsonl", "-q"]) == 0


def test_pairs_and_verdicts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are found under other names; a verdict outlives another reading."""
    assert rows("select count(*) from selectable where contaminated") == [(0,)]
    assert run(["contamination", "--against", "bench.jsonl"]) == 0
    assert "bench: 2 problems" in capsys.readouterr().out
    assert rows(PAIRS) == [
        ("Copy", "2/7", "renamed", 3, 0, None),
        ("Inside", "2/7", "inside", 3, 0, None),
        ("Resized", "2/7", "dataflow", 3, 1, None),
    ]
    assert rows("select module_name from selectable where not contaminated") == [("Other",)]

    assert run(["contamination", "review", "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)
    assert [one["how"] for one in pairs] == ["renamed", "dataflow", "inside"]
    assert run(["contamination", "review", "-n", "1"]) == 0
    assert "=     def __init__(self, n):" in capsys.readouterr().out

    assert run(["contamination", "verdict", pairs[1]["pair"], "different", "--note", "another scale"]) == 0
    lines = [json.dumps({"pair": pairs[0]["pair"], "verdict": "same"})]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert run(["contamination", "verdict", "-"]) == 0
    assert [row[-1] for row in rows(PAIRS)] == ["same", None, "different"]
    assert rows("select count(*) from decontaminated") == [(2,)]

    write("bench.jsonl", [*PROBLEMS, {"name": "other", "code": OTHER}])
    assert run(["contamination", "--against", "bench.jsonl"]) == 0
    assert [row[-1] for row in rows(PAIRS) if row[0] != "Other"] == ["same", None, "different"]
    assert ("Other", "other", "code", 3, 0, None) in rows(PAIRS)

    capsys.readouterr()
    assert run(["contamination", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["read"] == 0
    reviewed = {one["how"]: (one["reviewed"], one["confirmed"]) for one in report["pairs"]}
    assert (reviewed["renamed"], reviewed["dataflow"]) == ((1, 1), (1, 0))
    assert run(["contamination", "verdict", "ffffffff@bench:2/7", "same"]) == 2
    assert "the nearest: " in capsys.readouterr().err


BAD = {
    "no file": (None, 1, "no file bench.jsonl"),
    "empty": ([], 1, "no problem can be read"),
    "no code": (
        [{"name": "a", "text": "b"}],
        1,
        "bench.jsonl:1: no code in code or python_code; it has name",
    ),
    "one of two": ([{"name": "a"}, PROBLEMS[0]], 3, "bench.jsonl:1: no code"),
    "no Python": (
        [PROBLEMS[0], {"name": "a", "code": "def f(:"}],
        3,
        "bench.jsonl:2: problem a: the code does not parse",
    ),
    "no Unicode": ([PROBLEMS[0], {"name": "a", "code": "\ud800"}], 3, "bench.jsonl:2: a lone surrogate"),
    "too deep": ([PROBLEMS[0], {"code": json.loads("[" * 900 + "]" * 900)}], 3, "bench.jsonl:2: "),
}


@pytest.mark.parametrize(("lines", "status", "said"), BAD.values(), ids=BAD)
def test_bad_benchmarks_are_named(
    lines: list[Any] | None, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With file and line; what can be read is read."""
    Path("bench.jsonl").unlink()
    if lines is not None:
        write("bench.jsonl", lines)
    assert run(["contamination", "--against", "bench.jsonl"]) == status
    captured = capsys.readouterr()
    assert said in captured.err + captured.out


def test_a_map_says_where_the_code_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of any columns are judged, and shown, by the code that their map names."""
    write(
        "pairs.jsonl", [{"q": "faster", "a": "no", "src": COPY.replace("Gate", "Gatter"), "called": "Gatter"}]
    )
    names = [("prompt", "q"), ("completion", "a"), ("python_code", "src"), ("module_name", "called")]
    maps = [word for name, path in names for word in ("--map", f"{name}={path}")]
    assert run(["ingest", "pairs.jsonl", "-q", *maps]) == 0
    assert run(["contamination", "--against", "bench.jsonl"]) == 0
    assert [row[1:3] for row in rows(PAIRS) if row[0] == "Gatter"] == [("2/7", "renamed")]
    capsys.readouterr()
    assert run(["contamination", "review", "--json"]) == 0
    assert all("class Gat" in one["module_code"] for one in json.loads(capsys.readouterr().out)[:1])


def test_a_newer_reading_reads_problems_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of two versions are never compared: without --against the stored problems are read again."""
    assert run(["contamination", "--against", "bench.jsonl"]) == 0
    before = rows(PAIRS)
    monkeypatch.setattr("kbetl.contamination.VERSION", VERSION + 1)
    monkeypatch.setattr("kbetl.contamination.fingerprint", lambda code: newer(fingerprint(code)))
    assert run(["contamination"]) == 0
    assert rows("select distinct version from fingerprints") == [(VERSION + 1,)]
    assert rows(PAIRS) == before


def newer(known: Fingerprint) -> Fingerprint:
    """What another version would say: other hashes throughout."""
    hashes = {
        name: None if value is None else "f" + value[1:]
        for name, value in known._asdict().items()
        if name.endswith("_hash")
    }
    parts = bytes(byte | 0xF0 if at % PART_BYTES == 0 else byte for at, byte in enumerate(known.parts))
    return known._replace(**hashes, parts=parts)


def test_what_is_not_compared_yet_is_neither_clean_nor_contaminated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that comes later, and all samples if the comparing of a benchmark was cut off."""
    export = ["export", "filtered", "-o", "out.jsonl", "--decontaminated"]
    by_name = "select module_name, contaminated from selectable order by module_name"
    assert rows("select distinct contaminated from selectable") == [(None,)]
    assert run(["contamination", "--against", "bench.jsonl"]) == 0
    write("later.jsonl", [{"module_name": "Model", "python_code": LINEAR}])
    assert run(["ingest", "later.jsonl", "-q"]) == 0
    assert rows(by_name) == [("Copy", 1), ("Inside", 1), ("Model", None), ("Other", 0), ("Resized", 1)]
    capsys.readouterr()
    assert run(export) == 2
    assert "1 codes are not compared with the benchmarks yet" in capsys.readouterr().err
    assert run(["contamination"]) == 0
    assert ("Model", 1) in rows(by_name)

    with monkeypatch.context() as patch, Store.open(Path("kbetl.db")) as opened:
        patch.setattr("kbetl.contamination._judge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            find_contamination(opened, Path("bench.jsonl"), None)
    assert rows("select distinct contaminated from selectable") == [(None,)]
    assert run(export) == 2
    assert run(["contamination"]) == 0
    assert [row for row in rows(by_name) if row[1] is None] == []


def interrupted(*_: object) -> None:
    """As Ctrl-C."""
    raise KeyboardInterrupt


SAID = {
    "a note that is none": ('{"pair": "%s", "verdict": "same", "note": [1]}', "line 2: "),
    "no verdict": ('{"pair": "%s"}', "line 2: "),
    "a verdict that is none": ('{"pair": "%s", "verdict": "equal"}', "line 2: "),
    "no JSON": ("%s", "line 2: "),
    "no such pair": ('{"pair": "ffff%s", "verdict": "same"}', "line 2: no pair is named"),
}


@pytest.mark.parametrize(("line", "said"), SAID.values(), ids=SAID)
def test_many_verdicts_are_stored_together_or_not_at_all(
    line: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that is wrong is named; a problem that stands twice in its file is one pair."""
    write("bench.jsonl", [*PROBLEMS, PROBLEMS[0]])
    assert run(["contamination", "--against", "bench.jsonl"]) == 0
    capsys.readouterr()
    assert run(["contamination", "review", "--json"]) == 0
    pair = json.loads(capsys.readouterr().out)[0]["pair"]
    good = json.dumps({"pair": pair, "verdict": "same"})
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{good}\n{line.replace('%s', pair)}\n"))
    assert run(["contamination", "verdict", "-"]) == 2
    assert said in capsys.readouterr().err
    assert rows("select count(*) from verdicts") == [(0,)]
    monkeypatch.setattr("sys.stdin", io.StringIO(good))
    assert run(["contamination", "verdict", "-"]) == 0
    assert rows("select verdict from verdicts") == [("same",)]


def test_without_a_benchmark_it_says_how_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to compare with."""
    assert run(["contamination"]) == 2
    assert "--against FILE" in capsys.readouterr().err


def test_export_leaves_out_what_is_like_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    """With a condition of the user's as well; without a benchmark it is refused."""
    rollouts = [evals_row(at, name, 1.0 + at, code) for at, (name, code) in enumerate(MODULES.items())]
    write("rollouts.jsonl", rollouts)
    assert run(["ingest", "rollouts.jsonl", "-q"]) == 0
    export = ["export", "evals", "-o", "out.jsonl", "--decontaminated"]
    assert run(export) == 2
    assert "--against FILE" in capsys.readouterr().err
    assert run(["contamination", "--against", "bench.jsonl"]) == 0
    assert run([*export, "--where", "reward > 0 -- all"]) == 0
    written = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["info"]["module_name"] for row in written] == ["Other"]
