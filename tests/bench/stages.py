"""What is measured: each stage is a command of `kbetl`, its floor, its peers, and what is to be reached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.bench import workload

Command = Sequence[str]
ROOT = Path(__file__).parents[2]
KBETL = (sys.executable, "-m", "kbetl")
FLOORS = (sys.executable, "-m", "tests.bench.floors")
START = (sys.executable, "-c", "import click; click.echo('a  1')")
"""The least that any command does."""
SMALL_SCALE = 0.05
TELLING = (
    "select difficulty, count(*) from filtered group by difficulty"  # a row per label, from indexes alone
)


class Measured(NamedTuple):
    """What a process took, with its children."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(command: Command, folder: Path) -> Measured:
    """Runs a command to its end. Raises RuntimeError, with what it said, where it does not end with 0."""
    said = folder / "said.txt"
    with said.open("w") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {process.returncode}: {said.read_text()[-2000:]}")
    return Measured(used.ru_utime + used.ru_stime, wall_s, used.ru_maxrss / 1024)


@dataclass
class Bench:
    """A folder with the rows, and the stores that stages begin with, each made when first asked for."""

    folder: Path
    rows: int
    text_scale: float
    tokenizer: Path
    concurrency: int
    reply_s: float
    urls: dict[float, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @cached_property
    def source(self) -> str:
        workload.write(self.folder / "rows.jsonl", self.rows, self.text_scale)
        return self.path("rows.jsonl")

    @cached_property
    def small_source(self) -> str:
        workload.write(self.folder / "small.jsonl", self.rows, self.text_scale * SMALL_SCALE)
        return self.path("small.jsonl")

    @cached_property
    def filled(self) -> str:
        """A store with all rows."""
        measure([*KBETL, "ingest", self.source, "-q", "-d", self.path("filled.db")], self.folder)
        return self.path("filled.db")

    @cached_property
    def labelled(self) -> str:
        """The same with an answer about each good row."""
        copied = self.fresh("labelled.db", self.filled)
        measure([*KBETL, *self.asking(copied)], self.folder)
        return copied

    @cached_property
    def counted(self) -> str:
        """The same with the length of each row."""
        copied = self.fresh("counted.db", self.labelled)
        measure([*KBETL, *self.counting(copied)], self.folder)
        return copied

    @cached_property
    def exported(self) -> str:
        """The rows with a label as JSONL."""
        target = self.path("exported.jsonl")
        measure([*KBETL, "export", "filtered", "-q", "-d", self.labelled, "-o", target], self.folder)
        return target

    def asking(self, database: str, reply_s: float = 0.0) -> Command:
        address = ("-b", self.url(reply_s), "-m", "m", "-c", str(self.concurrency))
        return ("enrich", "-q", "-d", database, *address)

    def counting(self, database: str) -> Command:
        return ("lengths", "-q", "-d", database, "--tokenizer", str(self.tokenizer))

    def fresh(self, name: str, like: str = "") -> str:
        """The path of a file that is not there, or is a copy of another."""
        for suffix in ("", "-wal", "-shm", "-journal", "-lock"):
            Path(self.path(name) + suffix).unlink(missing_ok=True)
        shutil.rmtree(self.path(f"{name}.cache"), ignore_errors=True)
        if like:
            shutil.copyfile(like, self.path(name))
        return self.path(name)

    def url(self, reply_s: float) -> str:
        return f"http://127.0.0.1:{self.urls[reply_s]}/v1"


@contextmanager
def serving(reply_s: float) -> Iterator[str]:
    """A server of its own; gives its port."""
    command = [sys.executable, "-m", "tests.bench.server", str(reply_s)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@dataclass(frozen=True)
class Stage:
    """One line of the table. The commands are made anew for each round."""

    kbetl: Callable[[Bench], Command]
    floor: Callable[[Bench], Command]
    to_reach: str
    peers: tuple[str, ...] = ()
    """Names in `tests.bench.peers`; they get the arguments that the floor has."""
    is_wall: bool = False
    """Whether wall time is compared, and not CPU time."""


def _ingest(bench: Bench) -> Command:
    return ("ingest", bench.source, "-q", "-d", bench.fresh("new.db"))


def _ask_floor(bench: Bench, reply_s: float = 0.0) -> Command:
    kept = () if reply_s else (bench.fresh("floor.db"),)
    return (*FLOORS, "ask", bench.source, bench.url(reply_s), str(bench.concurrency), *kept)


_INGEST_PEERS = ("ingest_sqlite_utils", "ingest_datasets", "ingest_duckdb")

STAGES = {
    "ingest": Stage(
        _ingest, lambda b: (*FLOORS, "ingest", b.source, b.fresh("floor.db")), "<= 1.75x", _INGEST_PEERS
    ),
    "ingest-small": Stage(
        lambda b: ("ingest", b.small_source, "-q", "-d", b.fresh("new.db")),
        lambda b: (*FLOORS, "ingest", b.small_source, b.fresh("floor.db")),
        "<= 0.1 ms a row + 5 s per GB",
        _INGEST_PEERS,
    ),
    "ingest-again": Stage(
        lambda b: ("ingest", b.source, "-q", "-d", b.filled),
        lambda b: (*FLOORS, "hash_lines", b.source),
        "<= 1.1 s per GB",
    ),
    "enrich": Stage(lambda b: b.asking(b.fresh("new.db", b.filled)), _ask_floor, "<= 1.75x", ("ask_openai",)),
    "enrich-slow": Stage(
        lambda b: b.asking(b.fresh("new.db", b.filled), b.reply_s),
        lambda b: _ask_floor(b, b.reply_s),
        "<= 1.05x at 256 and 1,024, 1.15x at 2,048",
        ("ask_openai",),
        is_wall=True,
    ),
    "enrich-again": Stage(lambda b: b.asking(b.labelled), lambda _: START, "< 0.5 s"),
    "lengths": Stage(
        lambda b: b.counting(b.fresh("new.db", b.filled)),
        lambda b: (*FLOORS, "tokens", b.source, str(b.tokenizer)),
        "<= 1.1x",
        ("tokens_transformers",),
    ),
    "lengths-again": Stage(lambda b: b.counting(b.counted), lambda _: START, "< 1 s at 1,000,000 rows"),
    "export-jsonl": Stage(
        lambda b: ("export", "filtered", "-q", "-d", b.labelled, "-o", b.fresh("new.jsonl")),
        lambda b: (*FLOORS, "copy", b.exported, b.fresh("floor.jsonl")),
        "<= 1.3x",
        ("jsonl_datasets",),
    ),
    "export-parquet": Stage(
        lambda b: ("export", "filtered", "-q", "-d", b.labelled, "-o", b.fresh("new.parquet")),
        lambda b: (*FLOORS, "parquet", b.exported, b.fresh("floor.parquet")),
        "<= 4 s per GB",
        ("parquet_datasets", "parquet_pandas"),
    ),
    "help": Stage(lambda _: ("--help",), lambda _: START, "<= 80 ms"),
    "status": Stage(lambda b: ("status", "-d", b.labelled), lambda _: START, "<= 120 ms"),
    "query": Stage(lambda b: ("query", TELLING, "-d", b.labelled), lambda _: START, "<= 90 ms"),
    "check": Stage(
        lambda b: ("check", "-q", "-d", b.labelled), lambda b: (*FLOORS, "hash_lines", b.source), "< 60 s"
    ),
}
