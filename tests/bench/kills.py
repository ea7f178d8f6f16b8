"""What kills, signals, stops, power cuts and a second process cost: a table of figures.

    python tests/bench/kills.py                 everything, some six minutes, mostly waiting
    python tests/bench/kills.py kills cuts      some of it

600 samples, 16 requests at once, replies after 200 ms, transient faults, moments drawn from a seed. An
answer is delivered when the server has written it; it is lost when a store that is opened after the kill
does not have it. The last answer lost was delivered `youngest lost` to `oldest lost` ms before its kill.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from disk import Disk, changes, compiled, watched
from enrich_case import Case, ended, rollouts, started, until
from fake_llm import Asked, FakeLlm

SAMPLES = 600
AT_ONCE = 16
REPLY_S = 0.2
KEPT_WITHIN_S = 0.05
FAULTS = ("500", "cut json", "empty choices", "503", "429 retry-after", "reset", "cut body")
CALM = 3
"""Of these faults, those after which the client goes on at the speed it had."""
FAULT_SHARE = 0.08
HANGS_S = 600.0


@dataclass
class Figures:
    """What was counted over all kills of one kind."""

    kills: int = 0
    delivered: int = 0
    lost: int = 0
    lost_late: int = 0
    """Lost although they were delivered more than KEPT_WITHIN_S before."""
    oldest_lost_ms: float = 0.0
    twice: int = 0
    """Rows that are there more than once, or answers kept twice."""
    wrong: int = 0
    requests: int = 0
    asked_again: int = 0
    """Requests for what was delivered and lost."""
    rerun_requests: int = 0
    ended_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def line(self, name: str) -> str:
        took = f"{max(self.ended_s):5.2f}" if self.ended_s else "    -"
        statuses = " ".join(f"{number}:{count}" for number, count in sorted(self.statuses.items()))
        per_kill = self.lost / max(self.kills, 1)
        return (
            f"{name:<22}{self.kills:>6}{self.delivered:>11}{self.lost:>6}{per_kill:>10.2f}"
            f"{self.lost_late:>9}{self.oldest_lost_ms:>10.1f}{self.twice:>7}{self.wrong:>7}"
            f"{self.rerun_requests:>7}{took:>9}  {statuses}"
        )


HEADER = (
    f"{'':<22}{'kills':>6}{'delivered':>11}{'lost':>6}{'per kill':>10}{'> 50 ms':>9}{'oldest ms':>10}"
    f"{'twice':>7}{'wrong':>7}{'rerun':>7}{'ended s':>9}  exit status"
)


class Server(FakeLlm):
    """Fails some requests, as their content and the number of times they came say; answers most."""

    def __init__(self, seed: int, **options: object) -> None:
        super().__init__(self._fault, latency_s=REPLY_S, seed=seed, **options)
        self.faults_at_hand = FAULTS
        self._times: Counter[str] = Counter()
        self._spoilt: set[int] = set()

    def _fault(self, asked: Asked) -> str | None:
        self._times[asked.prompt] += 1
        luck = random.Random(f"{self.seed}:{asked.prompt}:{self._times[asked.prompt]}")
        if luck.random() >= FAULT_SHARE or self._times[asked.prompt] > 2:
            return None
        self._spoilt.add(asked.index)
        return luck.choice(self.faults_at_hand)

    def good(self) -> list[tuple[float, str]]:
        """When each usable answer was delivered, and to which question."""
        return [
            (each.at, self.requests[each.index].prompt)
            for each in self.answered
            if each.status == 200 and each.index not in self._spoilt
        ]

    def label(self, prompt: str) -> str:
        """The right answer."""
        import orjson

        message = [{"role": "user", "content": prompt}]
        digest = hashlib.sha256(b"%d" % self.seed + orjson.dumps(message)).digest()
        return ("low", "medium", "high")[digest[0] % 3]


@contextlib.contextmanager
def prepared(seed: int, samples: int | None = None) -> Iterator[Case]:
    """A store with samples, and its server."""
    with tempfile.TemporaryDirectory() as folder, Server(seed) as server:
        case = Case(Path(folder).resolve(), server)
        case.ingest(rollouts(SAMPLES if samples is None else samples))
        yield case


def arguments(case: Case, *more: object) -> list[object]:
    return ["enrich", "-q", "-b", case.llm.url, "-m", "m", "-c", AT_ONCE, *more]


def kept(path: Path) -> Counter[str]:
    """The questions with a usable answer; the store is sound."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []
        found = connection.execute(
            "select request ->> '$.messages[0].content' from answers where fault is null"
        )
        return Counter(prompt for (prompt,) in found)


def count_lost(
    figures: Figures, delivered: Sequence[tuple[float, str]], there: Counter[str], killed_at: float
) -> None:
    """Compares what the server delivered with what a store has."""
    missing = Counter(prompt for _, prompt in delivered) - there
    for at, prompt in sorted(delivered, reverse=True):
        if missing[prompt] > 0:
            missing[prompt] -= 1
            figures.lost += 1
            figures.lost_late += killed_at - at > KEPT_WITHIN_S
            figures.oldest_lost_ms = max(figures.oldest_lost_ms, (killed_at - at) * 1000)


def finish(figures: Figures, case: Case) -> None:
    """Asks the rest; every row once, none wrong; a rerun asks nothing."""
    server = case.llm
    assert isinstance(server, Server)
    server.latency_s = 0.0
    assert case.enrich("-q", "-c", AT_ONCE).status == 0
    figures.delivered += len(server.good())
    figures.requests += server.counts["requests"]
    rows = case.rows(
        "select request ->> '$.messages[0].content', value, status from outcomes "
        "join answers using (request_hash, attempt, try)"
    )
    assert len(rows) == len({prompt for prompt, _, _ in rows})
    figures.twice += len(rows) - case.rows("select count(distinct sample_hash) from outcomes")[0][0]
    figures.twice += sum(count - 1 for count in kept(case.folder / "kbetl.db").values())
    expected = case.rows("select count(*) from samples")[0][0]
    figures.wrong += expected - sum(
        status == "ok" and value == server.label(prompt) for prompt, value, status in rows
    )
    figures.rerun_requests += case.enrich("-q").requests


def kills(number: signal.Signals, count: int, longest_s: float, seed: int) -> Figures:
    """So many signals at moments up to `longest_s` after a start, store after store until they are done."""
    figures, luck = Figures(), random.Random(seed)
    while figures.kills < count:
        with prepared(luck.randrange(1_000_000)) as case:
            lost_before: Counter[str] = Counter()
            is_done = False
            while figures.kills < count and not is_done:
                with started(case.folder, *arguments(case)) as process:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=luck.uniform(0.25, longest_s))
                    is_done = process.poll() is not None
                    killed_at = time.monotonic()
                    process.send_signal(number)
                    done = ended(process)
                if is_done:
                    assert done.status == 0, done.err
                    continue
                figures.kills += 1
                figures.statuses[done.status] += 1
                figures.ended_s.append(time.monotonic() - killed_at)
                before = figures.lost
                there = kept(case.folder / "kbetl.db") + lost_before
                delivered = case.llm.good()
                count_lost(figures, delivered, there, killed_at)
                if figures.lost > before:
                    lost_before += Counter(prompt for _, prompt in delivered) - there
            finish(figures, case)
    return figures


def hanging(numbers: Sequence[signal.Signals], count: int) -> Figures:
    """Signals one after the other while nothing comes back: how long until the process has ended."""
    figures = Figures()
    for turn in range(count):
        with prepared(turn, 60) as case:
            case.llm.latency_s = lambda index: 0.0 if index < 20 else HANGS_S
            case.llm.faults = lambda asked: None
            with started(case.folder, *arguments(case)) as process:
                until(lambda: case.llm.in_flight == AT_ONCE)
                for number in numbers:
                    time.sleep(0.3)
                    killed_at = time.monotonic()
                    process.send_signal(number)
                figures.statuses[ended(process).status] += 1
                figures.ended_s.append(time.monotonic() - killed_at)
            figures.kills += 1
            count_lost(figures, case.llm.good(), kept(case.folder / "kbetl.db"), killed_at)
            finish(figures, case)
    return figures


def stopped(count: int, seed: int) -> Figures:
    """SIGSTOP for two to four seconds, then SIGCONT: nothing is lost and nothing asked again."""
    figures, luck = Figures(), random.Random(seed)
    with prepared(seed) as case:
        case.llm.faults = lambda asked: None
        with started(case.folder, *arguments(case)) as process:
            for _ in range(count):
                time.sleep(luck.uniform(0.9, 1.5))
                if process.poll() is not None:
                    break
                process.send_signal(signal.SIGSTOP)
                time.sleep(luck.uniform(2, 4))
                process.send_signal(signal.SIGCONT)
                figures.kills += 1
            figures.statuses[ended(process).status] += 1
        figures.asked_again = case.llm.counts["requests"] - SAMPLES
        count_lost(figures, case.llm.good(), kept(case.folder / "kbetl.db"), time.monotonic())
        finish(figures, case)
    return figures


def cuts(count: int, seed: int) -> tuple[Figures, Figures]:
    """The power cut at so many moments of one run: what was synced alone, and with part of the rest."""
    synced, lucky, luck = Figures(), Figures(), random.Random(seed)
    with prepared(seed) as case, tempfile.TemporaryDirectory() as folder:
        log, target = Path(folder) / "log", Path(folder) / "cut"
        assert isinstance(case.llm, Server)
        case.llm.faults_at_hand = FAULTS[:CALM]
        disk = Disk(case.folder)
        variables = watched(compiled(Path(folder)), case.folder, log)
        with started(case.folder, *arguments(case), **variables) as process:
            assert ended(process).status == 0
        seen, delivered, at = changes(log), case.llm.good(), 0
        for cut_at in sorted(luck.uniform(delivered[0][0], seen[-1].at) for _ in range(count)):
            while seen[at].at < cut_at:
                disk.do(seen[at])
                at += 1
            early = [each for each in delivered if each[0] < cut_at]
            for figures, chance in ((synced, None), (lucky, luck)):
                there = kept(disk.cut(target, chance) / "kbetl.db")
                figures.kills += 1
                figures.delivered += len(early)
                figures.twice += sum(count - 1 for count in there.values())
                count_lost(figures, early, there, cut_at)
    return synced, lucky


def together(seed: int) -> Figures:
    """Two tasks that ask the same, at the same time: one is refused. Somebody holds the store for 8 s."""
    figures = Figures()
    with prepared(seed) as case:
        case.llm.faults = lambda asked: None
        for name in ("one", "two"):
            (case.folder / f"{name}.md").write_text(
                f'+++\nname = "{name}"\nabout = "rollout"\nanswer = {{ tag = "difficulty" }}\n+++\n'
                "Rate {{ module_name }}."
            )
        begun = time.monotonic()
        with (
            started(case.folder, *arguments(case, "--task", "one.md")) as one,
            started(case.folder, *arguments(case, "--task", "two.md")) as two,
        ):
            until(lambda: case.llm.counts["requests"] > 100)
            with contextlib.closing(
                sqlite3.connect(case.folder / "kbetl.db", isolation_level=None)
            ) as holder:
                holder.execute("begin immediate")
                time.sleep(8)
                holder.execute("commit")
            for process in (one, two):
                figures.statuses[ended(process).status] += 1
        figures.ended_s.append(time.monotonic() - begun)
        figures.delivered = len(case.llm.good())
        figures.twice = sum(
            count - 1 for count in Counter(each.prompt for each in case.llm.requests).values()
        )
        for name in ("one", "two"):
            figures.rerun_requests += case.enrich("-q", "--task", f"{name}.md").requests
        figures.wrong = 2 * SAMPLES - case.rows("select count(*) from outcomes where status = 'ok'")[0][0]
    return figures


def measure(wanted: Sequence[str]) -> Iterator[str]:
    """The lines of the table, one by one."""
    single: list[tuple[str, str, Callable[[], Figures]]] = [
        ("kills", "SIGKILL", lambda: kills(signal.SIGKILL, 8, 2.2, 1)),
        ("kills", "SIGKILL, many", lambda: kills(signal.SIGKILL, 100, 1.5, 2)),
        ("signals", "SIGTERM", lambda: kills(signal.SIGTERM, 8, 2.2, 3)),
        ("signals", "SIGINT", lambda: kills(signal.SIGINT, 8, 2.2, 4)),
        ("hanging", "SIGTERM, no replies", lambda: hanging([signal.SIGTERM], 1)),
        ("hanging", "SIGINT x 2, no replies", lambda: hanging([signal.SIGINT] * 2, 5)),
        ("stops", "SIGSTOP, SIGCONT", lambda: stopped(3, 5)),
        ("two", "two tasks, same asked", lambda: together(6)),
    ]
    for group, name, run in single:
        if group in wanted:
            yield run().line(name)
    if "cuts" in wanted:
        synced, lucky = cuts(300, 7)
        yield synced.line("power cut, synced")
        yield lucky.line("power cut, by luck")


def main() -> None:
    groups = ("kills", "signals", "hanging", "stops", "two", "cuts")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(groups))
    wanted = parser.parse_args().groups or groups
    print(HEADER, flush=True)
    for line in measure(wanted):
        print(line, flush=True)


if __name__ == "__main__":
    main()
