"""Finds samples that are problems of a benchmark, under whatever names, and keeps what people say of it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kbetl.dataflow.fingerprints import HOW, VERSION, Fingerprint, fingerprint, matches, parts_of
from kbetl.errors import LEFT_OVER, BadRow, ConfigError, SourceError
from kbetl.json_codec import read_json
from kbetl.readers import rows_of_file
from kbetl.records import code_hash
from kbetl.samples.fields import python_code
from kbetl.samples.reading import stored_row
from kbetl.store import Store, now
from kbetl.text import plain_text

# Codes that are read together: one transaction each, and some megabytes.
_PAGE = 200
_MOST_FAULTS = 20
_NEAREST = 5
CODE_COLUMNS = ("code", "python_code")
VERDICTS = ("same", "similar", "different")


class Problem(NamedTuple):
    """A problem of a benchmark, as its file has it."""

    problem: str
    code: str
    location: str
    """`FILE:LINE`."""


class HowCount(NamedTuple):
    """Pairs of one benchmark that are alike in one way."""

    benchmark: str
    how: str
    pairs: int
    samples: int
    reviewed: int
    confirmed: int
    """Of those reviewed, how many are not `different`."""


class Benchmark(NamedTuple):
    """A benchmark of the store."""

    id: int
    name: str
    revision: str
    problems: int


class Pair(NamedTuple):
    """A module and a problem that it is like."""

    code_hash: str
    benchmark: str
    problem: str
    how: str
    parts: int
    settings_differ: int
    verdict: str | None
    problem_code_hash: str
    problem_code: str
    module_code: str

    @property
    def name(self) -> str:
        """By which `verdict` knows it."""
        return f"{self.code_hash[3:11]}@{self.benchmark}:{self.problem}"


@dataclass(frozen=True, slots=True)
class ContaminationReport:
    """What was read and found."""

    read: int
    """Codes that were read now."""
    benchmarks: Sequence[Benchmark]
    counts: Sequence[HowCount]
    faults: Sequence[str] = field(default_factory=list)
    """Problems that cannot be read, each with its location."""

    @property
    def exit_status(self) -> int:
        """3 if a problem could not be read."""
        return LEFT_OVER if self.faults else 0

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "read": self.read,
            "benchmarks": [one._asdict() for one in self.benchmarks],
            "pairs": [one._asdict() for one in self.counts],
            "faults": list(self.faults),
            "exit_status": self.exit_status,
            "next": ["kbetl contamination review"] if self.counts else [],
        }

    def lines(self) -> list[str]:
        """For a person."""
        lines = [plain_text(fault) for fault in self.faults[:_MOST_FAULTS]]
        if len(self.faults) > _MOST_FAULTS:
            lines.append(f"... and {len(self.faults) - _MOST_FAULTS:,} more problems that cannot be read")
        lines.append(f"contamination: read {self.read:,} codes")
        for one in self.benchmarks:
            lines.append(f"{plain_text(one.name)}: {one.problems:,} problems, revision {one.revision[:12]}")
            counts = [count for count in self.counts if count.benchmark == one.name]
            for count in sorted(counts, key=lambda count: HOW.index(count.how)):
                reviewed = f", reviewed {count.reviewed:,}" if count.reviewed else ""
                precision = (
                    f", {count.confirmed / count.reviewed:.0%} of them alike" if count.reviewed else ""
                )
                numbers = f"{count.pairs:>7,} pairs, {count.samples:,} samples"
                lines.append(f"  {count.how:<10}{numbers}{reviewed}{precision}")
            if not counts:
                lines.append("  no module is like any of them")
        return lines


def read_benchmark(path: Path, column: str | None = None) -> tuple[list[Problem], list[str]]:
    """The problems of a file, and what is wrong with rows of it, each with its location `FILE:LINE`.

    Raises SourceError if no problem can be read.
    """
    if not path.is_file():
        raise SourceError(f"no file {path}; name a benchmark's .jsonl, .json, .csv or .parquet file")
    problems: list[Problem] = []
    faults: list[str] = []
    for raw in rows_of_file(path, path.name):
        location = f"{path.name}:{raw.line}"
        try:
            if raw.fault is not None:
                raise BadRow(raw.fault)
            problems.append(_problem(read_json(raw.text).value, column, location))
        except BadRow as error:
            faults.append(f"{location}: {error}")
    if not problems:
        first = f"; {faults[0]}" if faults else ": it is empty"
        raise SourceError(f"no problem can be read in {path}{first}")
    return problems, faults


def _problem(row: Any, column: str | None, location: str) -> Problem:
    if not isinstance(row, dict):
        raise BadRow("a row is an object")
    columns = (column,) if column else CODE_COLUMNS
    code = next((row[name] for name in columns if isinstance(row.get(name), str) and row[name].strip()), None)
    if code is None:
        raise BadRow(
            f"no code in {' or '.join(columns)}; it has {', '.join(sorted(row)[:12])}. See --code-column"
        )
    if "level" in row and "problem_id" in row:
        return Problem(f"{row['level']}/{row['problem_id']}", code, location)
    named = next(
        (row[name] for name in ("name", "module_name", "entry_point", "uuid") if row.get(name)), None
    )
    return Problem(str(named) if named is not None else code_hash(code)[3:11], code, location)


def find_contamination(
    store: Store, path: Path | None, name: str | None, column: str | None = None
) -> ContaminationReport:
    """Reads a benchmark if one is named, then judges all samples against all benchmarks.

    Raises ConfigError if no benchmark is named and none was read before, SourceError if it cannot be read.
    """
    read = read_benchmark(path, column) if path is not None else None
    if read is None and not store.rows("benchmarks/benchmarks"):
        raise ConfigError("no benchmark was read yet; name one with --against FILE")
    counts = {"read": 0}
    faults: list[str] = []
    with store.run("contamination", {"against": str(path or ""), "name": name}, counts=lambda: counts) as run:
        if read is not None and path is not None:
            problems, faults = read
            counts["read"] += _store_benchmark(store, name or plain_text(path.stem), path, problems, faults)
        counts["read"] += _read_problems(store) + _read_samples(store)
        if store.rows("benchmarks/unjudged_codes")[0][0]:
            for benchmark in _benchmarks(store):
                _judge(store, benchmark.id)
        with store.transaction():
            store.execute("benchmarks/judged_codes")
            store.execute("benchmarks/judged_benchmarks")
        found = [HowCount(*row) for row in store.rows("benchmarks/counts_by_how")]
        report = ContaminationReport(counts["read"], _benchmarks(store), found, faults)
        run.status = report.exit_status
    return report


def _benchmarks(store: Store) -> list[Benchmark]:
    return [Benchmark(*row) for row in store.rows("benchmarks/benchmarks")]


def _store_benchmark(
    store: Store, name: str, path: Path, problems: Sequence[Problem], faults: list[str]
) -> int:
    """Stores problems and their fingerprints, in place of an older revision; gives how many codes."""
    known: dict[str, Fingerprint] = {}
    for one in problems:
        key = code_hash(one.code)
        if key not in known:
            known[key] = fingerprint(one.code)
            if known[key].reason:
                faults.append(f"{one.location}: problem {one.problem}: {known[key].reason}")
    said = [(one.problem, one.code) for one in problems]
    revision = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    with store.transaction():
        store.execute_many("benchmarks/add_fingerprint", map(_columns, known, known.values()))
        described = {"name": name, "uri": plain_text(str(path)), "revision": revision, "read_at": now()}
        store.execute("benchmarks/add_benchmark", described)
        benchmark_id = store.rows("benchmarks/benchmark_named", {"name": name})[0][0]
        store.execute("benchmarks/drop_pairs", {"benchmark_id": benchmark_id})
        store.execute("benchmarks/drop_problems", {"benchmark_id": benchmark_id})
        store.execute_many(
            "benchmarks/add_problem",
            (
                {
                    "benchmark_id": benchmark_id,
                    "position": position,
                    "problem": one.problem,
                    "code_hash": code_hash(one.code),
                    "code": one.code,
                }
                for position, one in enumerate(problems)
            ),
        )
    return len(known)


def _read_problems(store: Store) -> int:
    """Reads the codes of problems that were read by another version; gives how many."""
    unread = {
        key: fingerprint(code) for key, code in store.rows("benchmarks/unread_problems", {"version": VERSION})
    }
    with store.transaction():
        store.execute_many("benchmarks/add_fingerprint", map(_columns, unread, unread.values()))
    return len(unread)


def _read_samples(store: Store) -> int:
    """Reads the codes of samples that were not read by this version; gives how many."""
    read, after = 0, ""
    store.connection.execute("pragma temp_store = file")
    with store.transaction(writes=False):
        store.execute("benchmarks/drop_unread_codes")
        store.execute("benchmarks/unread_codes_table")
        store.execute("benchmarks/unread_codes_found", {"version": VERSION})
    while page := store.rows("benchmarks/unread_codes", {"after": after, "limit": _PAGE}):
        found = [(key, fingerprint(_module_code(text, map_))) for key, text, map_ in page]
        with store.transaction():
            store.execute_many("benchmarks/add_fingerprint", (_columns(*one) for one in found))
        read += len(found)
        after = page[-1][0]
    return read


def _module_code(row: str, field_map: str | None) -> str:
    return python_code(stored_row(row, field_map)) or ""


def _columns(key: str, found: Fingerprint) -> dict[str, object]:
    columns = found._asdict()
    operators = columns.pop("operators")
    return {"code_hash": key, "version": VERSION, "dataflow_parts": operators, **columns}


def _judge(store: Store, benchmark_id: int) -> None:
    """Compares all codes of samples with all problems of a benchmark, in place of older pairs."""
    problems: dict[int, tuple[str, Fingerprint]] = {}
    by_trait: dict[object, set[int]] = defaultdict(set)
    parameters = {"benchmark_id": benchmark_id}
    for position, key, *columns in store.rows("benchmarks/fingerprints_of_problems", parameters):
        known = Fingerprint(*columns)
        problems[position] = (key, known)
        for trait in _traits(key, known, is_whole=True):
            by_trait[trait].add(position)

    def pairs() -> Iterator[Mapping[str, object]]:
        for key, *columns in store.rows("benchmarks/fingerprints_of_samples"):
            module = Fingerprint(*columns)
            near = {position for trait in _traits(key, module) for position in by_trait.get(trait, ())}
            for position in sorted(near):
                problem_key, problem = problems[position]
                match = matches(problem, module, is_same_code=key == problem_key)
                if match is not None:
                    yield {**match._asdict(), **parameters, "position": position, "code_hash": key}

    found = list(pairs())
    with store.transaction():
        store.execute("benchmarks/drop_pairs", parameters)
        store.execute_many("benchmarks/add_pair", found)


def _traits(key: str, known: Fingerprint, *, is_whole: bool = False) -> Iterator[object]:
    """What two codes must share to be alike at all; of a problem only its whole dataflow."""
    yield key
    yield known.renamed_hash or key
    yield known.shape_hash or key
    if is_whole and known.dataflow_hash:
        yield bytes.fromhex(known.dataflow_hash)[:8]
    elif not is_whole:
        yield from parts_of(known)


def pairs_to_review(store: Store, limit: int, *, is_open: bool) -> list[Pair]:
    """Pairs, strongest first, one per group of equal modules; those without a verdict if `is_open`."""
    found = store.rows("benchmarks/pairs", {"limit": limit, "open": int(is_open)})
    return [Pair._make([*columns, _module_code(text, map_)]) for *columns, text, map_ in found]


class Verdict(NamedTuple):
    """What a person says of a pair."""

    pair: str
    """Its name, as `Pair.name`."""
    verdict: str | None
    note: str | None
    location: str = ""
    """`line N: ` if there are several."""


def read_verdicts(lines: Iterable[str]) -> list[Verdict]:
    """The verdicts of lines of JSON. Raises ConfigError for a line that is none."""
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = read_json(line.encode("utf-8", "surrogateescape")).value
        except BadRow as error:
            raise ConfigError(f"line {number}: {error}") from None
        row = row if isinstance(row, dict) else {}
        pair, verdict, note = row.get("pair"), row.get("verdict"), row.get("note")
        if not (isinstance(pair, str) and isinstance(verdict, str) and isinstance(note, str | None)):
            raise ConfigError(f"line {number}: no object with `pair`, `verdict` and perhaps `note` as texts")
        found.append(Verdict(pair, verdict, note, f"line {number}: "))
    return found


def give_verdicts(store: Store, given: Sequence[Verdict]) -> list[tuple[str, str]]:
    """Stores what a person says of pairs, all or none; gives their full names, each with its verdict.

    Raises ConfigError if one names no pair, or several, or is no verdict.
    """
    found = []
    for one in given:
        if one.verdict not in VERDICTS:
            raise ConfigError(f"{one.location}a verdict on {one.pair[:80]!r} is one of {', '.join(VERDICTS)}")
        found.append((one, one.verdict, _pair_named(store, one)))
    with store.transaction():
        store.execute_many(
            "benchmarks/add_verdict",
            (
                {
                    "code_hash": key,
                    "problem_code_hash": problem_key,
                    "verdict": verdict,
                    "note": one.note,
                    "decided_at": now(),
                }
                for one, verdict, (key, problem_key, *_) in found
            ),
        )
    return [(_pair_name(*pair), verdict) for _, verdict, pair in found]


def _pair_named(store: Store, given: Verdict) -> tuple[str, str, str, str]:
    """Both codes' hashes, the benchmark and the problem. Raises ConfigError if it is not one pair."""
    prefix, _, problem = given.pair.removeprefix("c1:").partition("@")
    found: list[tuple[str, str, str, str]] = []
    near: list[tuple[str, str, str, str]] = []
    for asked in ((prefix, problem or None), (prefix, None), ("", problem or None), ("", None)):
        parameters = {"code_prefix": asked[0], "problem": asked[1], "limit": _NEAREST + 1}
        near = store.rows("benchmarks/pairs_named", parameters)
        if asked == (prefix, problem or None):
            found = near
        if near:
            break
    if len(found) == 1:
        return found[0]
    names = ", ".join(_pair_name(*row) for row in near[:_NEAREST]) or "there is none"
    which = "several pairs are" if found else "no pair is"
    raise ConfigError(f"{given.location}{which} named {given.pair[:80]!r}; the nearest: {names}")


def _pair_name(key: str, problem_key: str, benchmark: str, problem: str) -> str:
    return plain_text(f"{key[3:11]}@{benchmark}:{problem}")


def side_by_side(pair: Pair, width: int) -> list[str]:
    """A problem and a module beside each other; `=` marks lines that both have. `width` in columns."""
    left, right = (_code_lines(code) for code in (pair.problem_code, pair.module_code))
    common = {line.strip() for line in left} & {line.strip() for line in right}
    half = max((width - 5) // 2, 20)
    lines = []
    for at in range(max(len(left), len(right))):
        one, other = (held[at] if at < len(held) else "" for held in (left, right))
        marks = ["=" if line.strip() in common and line.strip() else " " for line in (one, other)]
        lines.append(f"{marks[0]} {one[:half]:<{half}}|{marks[1]} {other[:half]}".rstrip())
    return lines


def _code_lines(code: str) -> list[str]:
    return [plain_text(line) for line in code.splitlines() if line.strip()]
