"""`kbetl init`: a configuration to start from."""

from __future__ import annotations

from pathlib import Path

from conftest import ROOT, Run


def test_init_writes_a_configuration_that_every_command_takes(run: Run, tmp_path: Path) -> None:
    """As written it changes nothing; with every comment taken away its options are real ones."""
    result = run("init")

    assert result.returncode == 0, result.stderr
    written = (tmp_path / "kbetl.toml").read_text()
    uncommented = [line.removeprefix("# ") for line in written.splitlines()]
    lines = [line for line in uncommented if " = " in line or line.startswith("[")]
    (tmp_path / "kbetl.toml").write_text("\n".join(lines))
    assert run("ingest", ROOT / "data" / "sample.jsonl").returncode == 0
    assert run("enrich", "-m", "offline").returncode == 0


def test_init_leaves_files_that_are_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kbetl.toml").write_text('database = "mine.db"\n')

    result = run("init")

    assert (tmp_path / "kbetl.toml").read_text() == 'database = "mine.db"\n'
    assert "kbetl.toml is there already" in result.stdout
    assert ".env.example written" in result.stdout


def test_the_example_in_the_checkout_is_the_one_that_init_writes() -> None:
    assert (ROOT / ".env.example").read_bytes() == (ROOT / "data" / "env.example").read_bytes()


def test_a_blank_variable_of_a_copied_example_says_nothing(run: Run, tmp_path: Path) -> None:
    run("init")
    (tmp_path / ".env").write_bytes((tmp_path / ".env.example").read_bytes())

    assert run("ingest", ROOT / "data" / "sample.jsonl").returncode == 0
    assert (tmp_path / "kbetl.db").exists()
