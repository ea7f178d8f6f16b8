"""`kbetl` in processes that begin with everything imported: fast, for tests of what it prints."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error"}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "forked",
        "kbetl.cli",
        "kbetl.inference",
        "kbetl.batch",
        "kbetl.synth",
        "kbetl.client",
        "aiohttp",
        "pyarrow.parquet",
        "transformers.models.auto.tokenization_auto",
        "tokenizers",
        "pandas",
        "genai_prices.data",
        "jinja2",
        "tabulate",
        "kbetl.demo",
    ]
)


class Ended(NamedTuple):
    """How a command ended, and what it wrote to standard output and error together."""

    status: int
    output: str


def run_forked(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> Ended:
    """Runs `kbetl ARGUMENTS` in a folder, with this environment alone and no standard input."""
    output = folder.parent / f"{os.urandom(8).hex()}.out"
    process = _CONTEXT.Process(target=_run, args=(arguments, folder, dict(environment), output))
    with _offline():
        process.start()
    process.join()
    return Ended(int(_status_path(output).read_text()), output.read_text(encoding="utf-8"))


def _run(arguments: list[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    from kbetl.cli import run

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    written = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(written, 1)
    os.dup2(written, 2)
    # not by the exit code: two threads that wait at once may each read the other's away
    _status_path(output).write_text(str(run(arguments)))


def _status_path(output: Path) -> Path:
    return output.with_suffix(".status")


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """The libraries of the Hub read these when they are imported, which is when the first process starts."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(_OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
