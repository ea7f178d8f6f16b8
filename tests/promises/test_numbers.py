"""Numbers and names that no store can hold are wrong usage, whichever command they are given to."""

from __future__ import annotations

import pytest
from conftest import Run

HUGE = "99999999999999999999999"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ingest", "rows.jsonl", "-n", HUGE),
        ("enrich", "-m", "m", "-n", HUGE),
        ("batch", "write", "enrich", "out", "-m", "m", "--max-mb", "nan"),
        ("batch", "write", "enrich", "out", "-m", "m", "--max-mb", "inf"),
        ("batch", "write", "synth", "out", "-m", "m", "--rollouts", HUGE),
        ("batch", "submit", "--settle", "nan"),
        ("synth", "run", "-m", "m", "-b", "http://127.0.0.1:9/v1", "--rollouts", HUGE),
        ("synth", "record", "rows.jsonl", "--follow", "--idle-s", "nan"),
        ("synth", "record", "rows.jsonl", "--idle-s", "inf"),
        ("synth", "record", ""),
    ],
    ids=" ".join,
)
def test_what_no_store_can_hold_is_wrong_usage(tmp_path, run: Run, arguments):
    """The option is named with its value, and nothing is made."""
    (tmp_path / "rows.jsonl").write_text('{"module_name": "A", "python_code": "x = 1"}\n')
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    assert arguments[-1] in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_a_file_of_a_batch_may_be_of_any_finite_size(tmp_path, run: Run):
    """More bytes than a disk has are no limit."""
    (tmp_path / "rows.jsonl").write_text('{"module_name": "A", "python_code": "x = 1"}\n')
    run("ingest", "rows.jsonl")
    result = run("batch", "write", "prompts", "out", "-m", "m", "--max-mb", "1e308")
    assert result.returncode == 0, result.stderr
    assert "handed out 1 requests in 1 files" in result.stdout


def test_a_blank_name_is_no_name_of_a_source(tmp_path, run: Run):
    """`--as ""` of an unset variable does not quietly mean the usual name."""
    (tmp_path / "rows.jsonl").write_text('{"module_name": "A", "python_code": "x = 1"}\n')
    run("ingest", "rows.jsonl")
    result = run("synth", "run", "-m", "m", "-b", "http://127.0.0.1:9/v1", "--as", "")
    assert result.returncode == 2, result.stderr
    assert result.stderr == "kbetl: --as is empty; give the source a name, or leave --as out\n"
