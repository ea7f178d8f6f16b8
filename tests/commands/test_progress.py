"""What is shown while a command works: what a narrow terminal keeps, rates, kinds of terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import clean_environment
from enrich_case import DEADLINE_S, Case, rollouts
from hypothesis import given
from hypothesis import strategies as st

from kbetl.cli.progress import Rate, Shown, shown_measuring, shown_reading, shown_run
from kbetl.inference import RunProgress
from kbetl.lengths import MeasureProgress
from kbetl.row_writer import ReadProgress

pytest_plugins = ["enrich_fixtures"]

NARROWEST = 40

run_tallies = st.builds(
    RunProgress,
    waiting=st.integers(100_001, 999_999),
    statuses=st.dictionaries(
        st.sampled_from(["ok", "unparsed", "refused", "truncated", "failed"]),
        st.integers(1, 20_000),
        min_size=1,
    ).map(Counter),
    cost_usd=st.none() | st.floats(0, 4999),
    computed_pusd=st.integers(0, 5000 * 10**12),
    prompt_tokens=st.integers(0, 10**10),
    hold_s=st.floats(0, 3600).map(lambda seconds: lambda: seconds),
)


@given(tally=run_tallies, rate_per_s=st.floats(3, 10_000), width=st.integers(NARROWEST, 160))
def test_a_narrow_terminal_keeps_counts_money_and_time_left(tally, rate_per_s, width):
    line = shown_run(tally, rate_per_s).text(width)
    assert len(line) <= width
    assert f"{tally.asked}/{tally.waiting}" in line
    assert re.search(r"\d:\d\d left", line)
    assert ("$" in line) == (tally.cost_text() is not None)


@given(
    rows=st.integers(0, 10**7),
    size_bytes=st.integers(10**6, 10**12),
    share=st.floats(0.01, 0.99),
    source=st.text("abc/:", max_size=200),
    width=st.integers(NARROWEST, 160),
)
def test_reading_and_measuring_keep_counts_and_time_left(rows, size_bytes, share, source, width):
    done = int(size_bytes * share)
    reading = ReadProgress(source, size_bytes, done, rows)
    measuring = MeasureProgress(waiting=size_bytes // 1000, done=done // 1000, tokens=size_bytes)
    for shown in (
        shown_reading(reading, 1e4, size_bytes / 3600),
        shown_measuring(measuring, size_bytes / 3_600_000, 1e6),
    ):
        line = shown.text(width)
        assert len(line) <= width
        assert re.search(r"\d left", line)
        assert shown.text().startswith((f"{source}: {rows:,} rows", f"{done // 1000:,}/"))


def test_a_wide_terminal_shows_everything_in_reading_order():
    tally = RunProgress(waiting=100, statuses=Counter(ok=7, failed=2, unparsed=1), cost_usd=0.5)
    tally.computed_pusd = 25 * 10**10
    tally.count_in_flight = lambda: 64
    tally.hold_s = lambda: 12.0
    shown = shown_run(tally, 2.0)
    assert shown.text() == (
        "10/100 done, 2.0/s, 64 in flight, 0 tokens, nothing sent for 12 s, "
        "$0.5000 + $0.2500 by tokens and price, failed 2, unparsed 1, 0:45 left"
    )
    assert shown.text(48) == "10/100, held 12 s, $0.7500, 3 not ok, 0:45 left"
    assert shown.text(NARROWEST) == "10/100, held 12 s, $0.7500, 0:45 left"


def looks(rate: Rate, now_s: float, count: int, times: int, per_look: int, every_s: float = 0.5):
    """A look at a count every so often; it grows by so much from one to the next."""
    found = 0.0
    for _ in range(times):
        now_s += every_s
        count += per_look
        found = rate.per_s(now_s, count)
    return now_s, count, found


@pytest.mark.parametrize("outage_s", [0.5, 30, 600, 7200])
def test_the_rate_is_the_true_one_a_minute_after_an_outage(outage_s):
    """The average since the start would be 6.3/s after 10 minutes of work and two hours of nothing."""
    rate = Rate()
    now_s, count, found = looks(rate, 1000.0, 0, times=1200, per_look=40)
    assert found == pytest.approx(80)
    now_s, count, _ = looks(rate, now_s, count, times=int(outage_s * 2), per_look=0)
    now_s, count, found = looks(rate, now_s, count, times=121, per_look=40)
    assert found == pytest.approx(80)


def test_a_slow_run_has_a_rate_between_its_answers():
    rate = Rate()
    now_s, count = 0.0, 0
    for _ in range(30):  # an answer every 5 minutes
        now_s, count, found = looks(rate, now_s, count + 1, times=600, per_look=0)
    assert found == pytest.approx(1 / 300, rel=0.15)


def test_a_count_that_begins_anew_has_a_rate_of_its_own():
    rate = Rate()
    looks(rate, 0.0, 0, times=200, per_look=100)
    *_, found = looks(rate, 100.0, 0, times=3, per_look=4)
    assert found == pytest.approx(8)


def test_what_came_before_the_first_look_counts():
    """A run may have all its first answers before it is shown for the first time."""
    assert Rate(100.0).per_s(104.0, 8) == pytest.approx(2)


def test_a_count_that_stands_still_tells_no_time_left():
    tally = RunProgress(waiting=100, statuses=Counter(ok=10))
    assert isinstance(shown_run(tally, 0.0), Shown)
    assert "left" not in shown_run(tally, 0.0).text()


@contextmanager
def on_terminal(case: Case, columns: int, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`kbetl enrich` whose stderr is a terminal so wide; gives it and our end of the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "kbetl", "enrich", "-b", case.llm.url, "-m", "m", "-c", "4"],
        cwd=case.folder,
        env=clean_environment(HOME=str(case.folder), **variables),
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def lines_until(ours: int, what: str) -> list[str]:
    """What the terminal shows, without its codes, up to the first whole line that matches."""
    shown, end_s = b"", time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s and select.select([ours], [], [], DEADLINE_S)[0]:
        shown += os.read(ours, 4096)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))
        lines = re.split(r"[\r\n]+", text)
        if any(re.search(what, line) for line in lines[:-1]):
            return lines[:-1]
    raise AssertionError(f"it showed {shown!r}")


def settled(case: Case) -> None:
    """40 rollouts of which 8 are answered; the server says nothing more to the others."""
    case.ingest(rollouts(40))
    case.llm.tells_cost = True
    case.llm.faults = lambda asked: None if asked.index < 8 else "silence"


KINDS = [(term, 80) for term in ("xterm-256color", "vt100", "linux", "")]


@pytest.mark.parametrize(("term", "columns"), [*KINDS, ("xterm", 40), ("xterm", 60), ("xterm", 132)])
def test_a_terminal_shows_how_far_a_run_is_in_one_line(case, term, columns):
    settled(case)
    with on_terminal(case, columns, TERM=term) as (process, ours):
        lines = lines_until(ours, r"8/40( done)?, .*left$")
        process.send_signal(signal.SIGINT)
    progress = [line.strip() for line in lines if "/40" in line]
    assert "asking 40 samples: new" in lines
    assert [line for line in progress if len(line) > columns] == []
    assert re.search(r"8/40( done)?.*, \$0\.\d+.*, \d+:\d\d left", progress[-1])


NO_LIVE = [
    {"TERM": "dumb"},
    {"TERM": "unknown"},
    {"TTY_COMPATIBLE": "0"},
    {"TTY_INTERACTIVE": "0"},
    {"FORCE_COLOR": ""},
]


@pytest.mark.parametrize("variables", NO_LIVE, ids=lambda given: "=".join(*given.items()))
def test_a_terminal_whose_cursor_cannot_go_back_shows_lines(case, variables):
    """Rich then shows nothing live."""
    settled(case)
    with on_terminal(case, 80, **{"TERM": "xterm", **variables}) as (process, ours):
        lines = lines_until(ours, r"\d/40 done")
        stored = case.rows("select count(*) from outcomes")[0][0]
        process.send_signal(signal.SIGINT)
    progress = [line for line in lines if "/40 done" in line]  # the line of what is asked may come after it
    assert progress
    shown = [re.match(r"(\d+)/40 done, ", line) for line in progress]
    # what a line counts is stored by then
    assert all(found and int(found[1]) <= stored <= 8 for found in shown), lines
