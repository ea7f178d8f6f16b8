"""What `kbetl` takes, beside the least that the work takes, and beside other tools: a table of figures.

    python -m tests.bench                            every stage, 18,162 rows of 54 KB
    python -m tests.bench ingest status --rows 100000 1000000 --text-scale 0.02
    python -m tests.bench --peers --json figures.json

Each command runs as its users run it, as a process, in turn with its floor and its peers. CPU-seconds are
medians over rounds; a ratio is the median of the ratios within each round, with the lowest and highest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.stages import FLOORS, KBETL, ROOT, STAGES, Bench, Measured, Stage, measure, serving

_VERSIONED = (
    "kbetl",
    "orjson",
    "aiohttp",
    "tokenizers",
    "pyarrow",
    "sqlite-utils",
    "datasets",
    "duckdb",
    "openai",
)


def main() -> None:
    options = _options()
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ports = {reply_s: stack.enter_context(serving(reply_s)) for reply_s in (0.0, options.reply_s)}
        for rows in options.rows:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
            bench = Bench(
                folder,
                rows,
                options.text_scale,
                options.tokenizer,
                options.concurrency,
                options.reply_s,
                ports,
            )
            for name in options.stages or STAGES:
                found.append(_line(name, bench, options.rounds, with_peers=options.peers))
                print(_shown(found[-1]), flush=True)
    for line in _growth(found):
        print(line)
    if options.json:
        options.json.write_text(json.dumps({"machine": _machine(), "lines": found}, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--rows", type=int, nargs="+", default=[18_162], help="several: the growth is shown")
    parser.add_argument("--text-scale", type=float, default=1.0, help="1: 54 KB a row")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="other tools too, those that are installed")
    parser.add_argument("--concurrency", type=int, default=256, help="requests in flight")
    parser.add_argument("--reply-s", type=float, default=2.0, help="median of a reply in enrich-slow")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "data" / "tokenizer", help="a folder")
    parser.add_argument("--folder", type=Path, help="where rows and stores are made; for a while")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    options = parser.parse_intermixed_args()
    unknown = set(options.stages) - set(STAGES)
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    return options


def _line(name: str, bench: Bench, rounds: int, *, with_peers: bool) -> dict[str, Any]:
    """The figures of a stage."""
    stage = STAGES[name]
    kinds = ["kbetl", "floor", *(peer for peer in stage.peers if with_peers and _is_installed(peer))]
    taken: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for kind in kinds:
            try:
                taken[kind].append(measure(_command(stage, bench, kind), bench.folder))
            except RuntimeError as error:  # a peer may fail where kbetl must not
                if kind in ("kbetl", "floor"):
                    raise
                failed[kind] = str(error).strip().splitlines()[-1]
    of = 1 if stage.is_wall else 0
    ratios = [own[of] / least[of] for own, least in zip(taken["kbetl"], taken["floor"], strict=True)]
    return {
        "stage": name,
        "rows": bench.rows,
        "text_scale": bench.text_scale,
        "input_bytes": _input_bytes(stage.floor(bench)),
        "concurrency": bench.concurrency,
        "to_reach": stage.to_reach,
        "ratio": [median(ratios), min(ratios), max(ratios)],
        "is_wall": stage.is_wall,
        "rounds": {kind: [each._asdict() for each in rounds] for kind, rounds in taken.items()},
        "failed": failed,
    }


def _command(stage: Stage, bench: Bench, kind: str) -> Sequence[str]:
    if kind == "kbetl":
        return [*KBETL, *stage.kbetl(bench)]
    floor = stage.floor(bench)
    peer = [sys.executable, "-m", "tests.bench.peers", kind, *floor[len(FLOORS) + 1 :]]
    return floor if kind == "floor" else peer


def _input_bytes(floor: Sequence[str]) -> int | None:
    """The size of the file that the floor reads; None where it reads none."""
    return Path(floor[len(FLOORS) + 1]).stat().st_size if floor[2] == FLOORS[2] else None


def _is_installed(peer: str) -> bool:
    return importlib.util.find_spec(peer.partition("_")[2]) is not None


def _middle(line: dict[str, Any], kind: str, figure: str) -> float:
    return median([each[figure] for each in line["rounds"][kind]])


def _shown(line: dict[str, Any]) -> str:
    middle, least, most = line["ratio"]
    parts = [f"{line['stage']:15}{line['rows']:>9,} rows"]
    for kind in line["rounds"]:
        if line["rounds"][kind]:
            cpu_s, wall_s, peak_mb = (_middle(line, kind, figure) for figure in Measured._fields)
            parts.append(f"{kind} {cpu_s:.3f} CPU-s, {wall_s:.2f} s, {peak_mb:.0f} MB")
    if line["input_bytes"]:
        per_gb = _middle(line, "kbetl", "cpu_s") / line["input_bytes"] * 1e9
        parts.append(f"{line['input_bytes'] / 1e6:.1f} MB, {per_gb:.2f} CPU-s per GB")
    parts += [f"{kind} failed: {why}" for kind, why in line["failed"].items()]
    what = "wall" if line["is_wall"] else "CPU"
    return "; ".join(
        [*parts, f"{what} {middle:.2f}x ({least:.2f} to {most:.2f}); to reach {line['to_reach']}"]
    )


def _growth(found: Sequence[dict[str, Any]]) -> list[str]:
    """How CPU time grew from the fewest rows to the most, for each stage."""
    lines = []
    for name in dict.fromkeys(line["stage"] for line in found):
        ordered = sorted((line for line in found if line["stage"] == name), key=lambda line: line["rows"])
        first, last = ordered[0], ordered[-1]
        if last["rows"] > first["rows"]:
            grown = _middle(last, "kbetl", "cpu_s") / _middle(first, "kbetl", "cpu_s")
            lines.append(f"{name:15} {last['rows'] / first['rows']:.1f}x the rows: {grown:.1f}x the CPU time")
    return lines


def _machine() -> dict[str, Any]:
    versions = {}
    for name in _VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": versions,
    }


if __name__ == "__main__":
    main()
