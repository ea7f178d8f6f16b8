"""What the tests of asking share: rollouts, the command line in a folder, and what to wait for."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import clean_environment
from fake_llm import Asked, FakeLlm
from preloaded import Piped

from kbetl.cli import run as run_command

DEADLINE_S = 60.0
"""What a test waits for comes within milliseconds; only a fault takes so long."""
KEPT_WITHIN_S = 0.05
"""What was delivered so long before a kill is on the disk."""
SCHEDULING_S = 0.2
"""How late a machine may let a process run, on top; more only by what `Lateness` has seen."""
MODEL = "m"
PROMPT_USD, CACHED_USD, OUTPUT_USD = 2.0, 0.5, 8.0
LIMIT_TOKENS = 256
"""What the task `difficulty` asks for at most."""
PRICES = (
    "[prices.m]\n"
    f"input-usd-per-million-tokens = {PROMPT_USD}\n"
    f"cached-input-usd-per-million-tokens = {CACHED_USD}\n"
    f"output-usd-per-million-tokens = {OUTPUT_USD}\n"
)


class Result(NamedTuple):
    """What came of one command, and how many requests the server saw meanwhile."""

    status: int
    out: str
    err: str
    requests: int

    @property
    def text(self) -> str:
        return self.out + self.err


class Case:
    """The command line in `folder`, within this process, and a model server."""

    def __init__(self, folder: Path, llm: FakeLlm) -> None:
        self.folder = folder
        self.llm = llm

    def kbetl(self, *arguments: object) -> Result:
        before = len(self.llm.requests)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with contextlib.chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            status = run_command([str(each) for each in arguments])
        said = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
        return Result(status, *said, requests=len(self.llm.requests) - before)

    def enrich(self, *arguments: object, command: str = "enrich", model: str | None = MODEL) -> Result:
        named = [] if model is None else ["-m", model]
        return self.kbetl(command, "-b", self.llm.url, *named, *arguments)

    def ingest(self, rows: Iterable[dict[str, Any]], name: str = "rows.jsonl", *arguments: object) -> Result:
        write_rows(self.folder / name, rows)
        return self.kbetl("ingest", name, *arguments)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return query(self.folder, statement, *values)

    def change(self, statement: str) -> None:
        """Something that no command does to a store."""
        with closing(sqlite3.connect(self.folder / "kbetl.db", timeout=DEADLINE_S)) as connection, connection:
            connection.execute(statement)

    def prompts(self, requests: int) -> list[str]:
        """The last so many questions, sorted."""
        return sorted(asked.prompt for asked in self.llm.requests[-requests:]) if requests else []

    def statuses(self) -> dict[str, int]:
        """How many outcomes there are of each status, of all tasks."""
        return dict(self.rows("select status, count(*) from outcomes group by status"))


def rollout(number: int, *, reward: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A small rollout; its reward is no part of what `difficulty` asks."""
    row = {
        "module_name": f"Module{number}",
        "python_code": f"class Module{number}:\n    pass\n",
        "completion": [{"role": "assistant", "content": f"kernel {number}"}],
        "reward": reward,
        **changes,
    }
    return {key: value for key, value in row.items() if value is not None}


def rollouts(count: int) -> list[dict[str, Any]]:
    return [rollout(number) for number in range(count)]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def query(folder: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "kbetl.db", timeout=DEADLINE_S)) as connection:
        return connection.execute(statement, values).fetchall()


def module_of(asked: Asked) -> int:
    """The number of the module that a question is about."""
    found = re.search(r"Module(\d+)", asked.prompt)
    assert found is not None
    return int(found[1])


class Lateness:
    """Measures how late this machine runs a thread that asked to be woken, while its block runs."""

    def __init__(self) -> None:
        self._max_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        interval_s = 0.01
        while True:
            began = time.monotonic()
            is_over = self._ended.wait(interval_s)
            self._max_s = max(self._max_s, time.monotonic() - began - interval_s)
            if is_over:
                return

    @property
    def allowance_s(self) -> float:
        """What a process may be late: server, client and its writer each wait for a core in turn."""
        return KEPT_WITHIN_S + SCHEDULING_S + 3 * self._max_s


def until(condition: Callable[[], object]) -> None:
    """Looks again and again until it holds."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.005)


@contextmanager
def started(folder: Path, *arguments: object, **variables: str) -> Iterator[Piped | subprocess.Popen[str]]:
    """`kbetl ARGUMENTS` as a process of its own in `folder`; killed at the end if it still runs."""
    environment = clean_environment(HOME=str(folder), **variables)
    if "LD_PRELOAD" not in variables:
        with Piped([*map(str, arguments)], folder, environment) as forked:
            yield forked
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "kbetl", *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: Piped | subprocess.Popen[str], timeout_s: float = DEADLINE_S) -> Result:
    """Waits for a process that `started`."""
    out, err = process.communicate(timeout=timeout_s)
    return Result(process.returncode, out, err, 0)


def forget_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what would change how a command within this process behaves."""
    for name in list(os.environ):
        if name.upper().startswith(("PRIME_", "KBETL_", "TEST_MODE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
