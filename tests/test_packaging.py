"""kbetl as people get it: a wheel in a clean environment, an editable install, a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import kbetl
from kbetl import resources
from kbetl.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
TREES = ("sql", "data")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, built without the network."""
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--sdist",
        "--no-isolation",
        "--outdir",
        str(out),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def shipped() -> set[str]:
    """The files of sql/ and data/ as the checkout has them."""
    return {
        path.relative_to(ROOT).as_posix()
        for tree in TREES
        for path in (ROOT / tree).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_carries_sql_and_data(built):
    """All of it, inside the package, and nothing but the package."""
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"kbetl-{kbetl.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"kbetl/{name}" for name in shipped()} <= names
    assert {name.split("/")[0] for name in names} == {"kbetl", f"kbetl-{kbetl.__version__}.dist-info"}
    package = [*(ROOT / "kbetl").rglob("*.py"), *(ROOT / "kbetl" / "docs").glob("*.md")]
    assert {path.relative_to(ROOT).as_posix() for path in package} <= names


def test_the_source_distribution_can_be_tested(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        names = {name.partition("/")[2] for name in sources.getnames()}
    assert shipped() <= names
    top = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "constraints.txt"}
    assert {*top, "tests/test_packaging.py"} <= names


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed, without its dependencies."""
    target = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*command, "--target", str(target), str(wheel)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return target


def in_wheel(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`kbetl` from the wheel, with the dependencies of this environment; the checkout is not found."""
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "kbetl", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_wheel_finds_its_own_files(installed, tmp_path):
    code = (
        "import kbetl, kbetl.resources as r;"
        "print(kbetl.__file__, r.ROOT, len(r.sql_names('views')), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    file, root, views = done.stdout.splitlines()
    assert Path(file) == installed / "kbetl" / "__init__.py"
    assert Path(root) == installed / "kbetl"
    assert int(views) == len(resources.sql_names("views"))


def test_the_wheel_says_its_version(installed, tmp_path):
    done = in_wheel(installed, tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"kbetl, version {kbetl.__version__}\n")


def test_the_wheel_ingests_and_answers(installed, tmp_path):
    """The rows in data/ come in, and a query counts them; nothing of the checkout is used."""
    sample = installed / "kbetl" / "data" / "sample.jsonl"
    rows = len(sample.read_text(encoding="utf-8").splitlines())
    done = in_wheel(installed, tmp_path, "ingest", str(sample))
    assert done.returncode == 0, done.stderr
    done = in_wheel(installed, tmp_path, "query", "select sum(rows) as n from source_counts", "--nl")
    assert json.loads(done.stdout) == {"n": rows}
    done = in_wheel(installed, tmp_path, "check")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "all is well")


def test_the_wheel_shows_its_documentation(installed, tmp_path):
    done = in_wheel(installed, tmp_path, "docs", "architecture")
    assert (done.returncode, done.stdout) == (0, resources.document("architecture"))


@pytest.mark.skipif(
    "export" not in {command.name for command in COMMANDS}, reason="this checkout has no kbetl export"
)
def test_the_wheel_exports(installed, tmp_path):
    """What was ingested comes out again, row by row."""
    sample = installed / "kbetl" / "data" / "sample.jsonl"
    assert in_wheel(installed, tmp_path, "ingest", str(sample)).returncode == 0
    done = in_wheel(installed, tmp_path, "export", "evals", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    wanted = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    wanted = [row for row in wanted if row.get("completion") is not None]
    assert [
        json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    ] == wanted


def test_a_checkout_finds_its_files():
    """Also an editable install, which is this checkout on the path."""
    assert resources.ROOT == ROOT
    assert {path.name for path in resources.ROOT.iterdir()} >= set(TREES)


def test_a_checkout_runs_without_an_install(tmp_path):
    """`python -m kbetl` with the checkout on the path, from any folder."""
    done = in_wheel(ROOT, tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"kbetl, version {kbetl.__version__}\n")


# files of the project


def test_constraints_name_exact_versions_alone():
    """No index, no address, no path, no kbetl; every dependency has its version."""
    import tomllib

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not pin.partition("==")[2] or set(pin) & set("/@: ")] == []
    pinned = {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {name.split(">")[0].split("[")[0].lower().replace("_", "-") for name in wanted}
    assert names - pinned == set()
    assert "kbetl" not in pinned


def test_env_example_is_commented_and_empty():
    """Every variable that kbetl knows, without a value, with a word on what it is for."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    names = [line.removesuffix("=") for line in lines if line.endswith("=") and not line.startswith("#")]
    assert [line for line in lines if line and not line.startswith("#") and not line.endswith("=")] == []
    assert set(names) == {
        "PRIME_API_KEY",
        "PRIME_TEAM_ID",
        "HF_TOKEN",
        "TEST_MODE",
        "DATASET_PATH",
        "FILTERED_DATASET_PATH",
        "UNIQUE_DATASET_PATH",
        "SYNTHETIC_DATASET_PATH",
        "KBETL_DATABASE",
    }


def test_ci_runs_the_command_of_the_readme():
    """It takes the line from the README, so that the two cannot differ."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "pytest" not in text
    assert "<!-- test command -->" in text


def test_the_readme_has_the_test_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if not readme.strip():
        pytest.skip("the README is not written yet")
    block = readme.partition("<!-- test command -->\n```")[2].partition("```")[0]
    assert block.partition("\n")[2].strip() == (
        "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[dev]' && .venv/bin/pytest"
    )
