"""What faults cost, as a table: `python tests/bench/faults.py [NAME...]`, by hand; some take minutes.

Each line is a run of the command line in a process of its own against `fake_llm.py`, at its real times:
a minute's limit takes a minute, an outage half of one. `wrong` counts samples whose status or value is
not what the order of the server implies.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent)]

from enrich_case import Result, ended, module_of, query, rollouts, started, write_rows  # noqa: E402
from fake_llm import Allowed, Asked, FakeLlm, Outage, refuse_parameter  # noqa: E402
from fault_case import drawn_mix, expected_of, own_label, rating_of  # noqa: E402

LONGEST_S = 900.0


class Line(NamedTuple):
    """One line of the table."""

    name: str
    status: int
    took_s: float
    requests: int
    statuses: Counter[str]
    wrong: int
    figure: str


class Bench:
    """A store with rows, and a server."""

    def __init__(self, folder: Path, llm: FakeLlm, rows: int) -> None:
        self.folder, self.llm = folder, llm
        write_rows(folder / "rows.jsonl", rollouts(rows))
        with started(folder, "ingest", "rows.jsonl") as process:
            assert ended(process).status == 0

    def enrich(self, *arguments: object) -> tuple[Result, float]:
        began = time.monotonic()
        with started(self.folder, "enrich", "-b", self.llm.url, "-m", "m", *arguments) as process:
            return ended(process, LONGEST_S), time.monotonic() - began

    def found(self) -> dict[int, tuple[str, str | None]]:
        statement = (
            "select module_name, status, value from outcomes join samples on samples.hash = sample_hash"
        )
        rows = query(self.folder, statement)
        return {int(name.removeprefix("Module")): (status, value) for name, status, value in rows}

    def line(self, name: str, run: tuple[Result, float], figure: str, wrong: int | None = None) -> Line:
        found = self.found()
        if wrong is None:
            wrong = sum(found[n] != ("ok", own_label(n)) for n in found)
        statuses = Counter(status for status, _ in found.values())
        return Line(name, run[0].status, run[1], self.llm.counts["requests"], statuses, wrong, figure)


@contextmanager
def bench(rows: int, faults: object = (), **options: object) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="kbetl-faults-"))
    try:
        with FakeLlm(faults, content=rating_of, **options) as llm:  # type: ignore[arg-type]
            yield Bench(folder, llm, rows)
    finally:
        shutil.rmtree(folder)


def mixed() -> Iterator[Line]:
    """A quarter of 600 samples meets a fault that passes, a quarter one that lasts."""
    for seed in (0, 1):
        schedule = drawn_mix(seed)
        with bench(600, schedule) as made:
            run = made.enrich("-c", 16, "--timeout", 5)
            expected = {}
            for asked in made.llm.requests:
                fault = schedule.drawn(orjson.dumps(asked.body["messages"]))
                expected[module_of(asked)] = expected_of(fault, module_of(asked))
            found = made.found()
            wrong = sum(
                found.get(number) != (each.status, each.value if each.status == "ok" else None)
                for number, each in expected.items()
            )
            counted = f"asked {len(found)}: ok {sum(status == 'ok' for status, _ in found.values())}"
            adds_up = counted in run[0].out and len(found) == len(expected) == 600
            yield made.line(f"mixed, seed {seed}", run, f"counts add up: {adds_up}", wrong)


def scattered() -> Iterator[Line]:
    """600 samples, 16 at once, 0.2 s replies: nothing fails, then 8 % of the requests, twice each at most."""
    for seed in (None, 0, 1):
        met: Counter[str] = Counter()
        faults = lambda asked, seed=seed, met=met: _scattered(asked, seed, met)  # noqa: E731
        with bench(600, faults, latency_s=0.2) as made:
            run = made.enrich("-c", 16)
            yield made.line("no faults" if seed is None else f"scattered, seed {seed}", run, "")


def _scattered(asked: Asked, seed: int | None, met: Counter[str]) -> str | None:
    met[asked.prompt] += 1
    luck = random.Random(f"{seed}:{asked.prompt}:{met[asked.prompt]}")
    if seed is None or luck.random() >= 0.08 or met[asked.prompt] > 2:
        return None
    return luck.choice(("429", "500", "502", "503", "reset", "cut body"))


def rate() -> Iterator[Line]:
    """300 requests a minute are allowed, whatever way the server has to say so."""
    for says, arguments in (("seconds", ()), ("headers", ()), ("nothing", ()), ("seconds", ("--rpm", 300))):
        with bench(900, latency_s=0.2, allowed=Allowed(requests=300, says=says)) as made:
            run = made.enrich(*arguments)
            refused = made.llm.counts["answered 429"]
            share = refused / made.llm.counts["requests"]
            name = f"300 a minute, {' '.join(map(str, arguments)) or f'says {says}'}"
            yield made.line(name, run, f"{refused} refused, {share:.1%}")


def nobody() -> Iterator[Line]:
    """No server at all."""
    with bench(600) as made:
        made.llm.stop_listening()
        yield made.line("no server", made.enrich(), "")


def outage() -> Iterator[Line]:
    """Ten seconds of work, an outage of 30 s, and the rest."""
    for kind, concurrency in (("503", 16), ("refuse", 16), ("reset", 16), ("500", 16), ("503", 64)):
        rows = concurrency * 5 * 25
        with bench(rows, latency_s=0.2, outage=Outage(10, 30, kind)) as made:
            run = made.enrich("-c", concurrency)
            first = made.llm.requests[0].at
            into = sum(10 <= asked.at - first < 40 for asked in made.llm.requests)
            figure = f"{into} requests into it, full speed after {_full_speed_s(made.llm, first):.1f} s"
            yield made.line(f"outage, {kind}, {concurrency} at once", run, figure)


def _full_speed_s(llm: FakeLlm, first: float) -> float:
    """Seconds from the end of the outage until a second with nine tenths of the answers of before."""
    times = [answer.at - first for answer in llm.answered if answer.status == 200]
    before = sum(4 <= at < 9 for at in times) / 5
    for tenth in range(600):
        begin = 40 + tenth / 10
        if sum(begin <= at < begin + 1 for at in times) >= 0.9 * before:
            return tenth / 10
    return float("nan")


def funds() -> Iterator[Line]:
    """The funds end at request 100."""
    for fault, concurrency in (("402", 16), ("429 quota", 16), ("402", 256)):
        faults = lambda asked, fault=fault: fault if asked.index >= 99 else None  # noqa: E731
        with bench(600, faults, latency_s=0.2) as made:
            run = made.enrich("-c", concurrency)
            figure = f"{made.llm.counts['requests'] - 100} requests after it"
            yield made.line(f"{fault} at request 100, {concurrency} at once", run, figure)


def parameter() -> Iterator[Line]:
    """A parameter that the model refuses."""
    for concurrency in (1, 16, 256):
        rows = 50 if concurrency == 1 else 600
        faults = lambda _: refuse_parameter("max_tokens", "max_completion_tokens")  # noqa: E731
        with bench(rows, faults, latency_s=0.2) as made:
            run = made.enrich("-c", concurrency)
            extra = made.llm.counts["requests"] - rows
            yield made.line(f"refused parameter, {concurrency} at once", run, f"cost {extra} requests")


SCENES: dict[str, Callable[[], Iterator[Line]]] = {
    scene.__name__: scene for scene in (mixed, scattered, rate, nobody, outage, funds, parameter)
}


def main(names: list[str]) -> None:
    print(f"{'':38} {'exit':>4} {'took':>7} {'requests':>8} {'wrong':>5}  outcomes; figure")
    for name in names or SCENES:
        for line in SCENES[name]():
            outcomes = ", ".join(f"{status} {count}" for status, count in sorted(line.statuses.items()))
            print(
                f"{line.name:38} {line.status:>4} {line.took_s:>5.1f} s {line.requests:>8} {line.wrong:>5}"
                f"  {outcomes or 'none'}{'; ' if line.figure else ''}{line.figure}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
