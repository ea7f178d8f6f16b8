"""Rewards for rollouts that are stored already, from a file."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbetl.errors import BadRow, ConfigError, SourceError, exit_status_for
from kbetl.json_codec import LARGEST_INTEGER, read_json
from kbetl.readers import rows_of_file, rows_of_pipe, rows_of_stream
from kbetl.readers.lines import RawRow, printable_path
from kbetl.row_writer import Rejections
from kbetl.samples.fields import meant_words, type_name
from kbetl.store import Store, now
from kbetl.text import plain_text

STDIN = "-"
SHOWN_REASONS = 20
"""More than of rows that are stored: of these nothing is kept."""
_FIELDS = {"example": "example_id", "attempt": "attempt", "source": "source"}
"""How a row of a file calls what an example is looked up by."""


@dataclass
class ScoreReport:
    """What came of a file of rewards; read = new + known + refused."""

    name: str
    read: int = 0
    new: int = 0
    known: int = 0
    """Rewards that are the newest known already, and repeats."""
    refused: int = 0
    refusals: Rejections = field(default_factory=lambda: Rejections("refused rows", SHOWN_REASONS))
    without: int = 0
    """Rollouts of the store that still have no reward."""

    @property
    def exit_status(self) -> int:
        """3 if a row was refused, also by a repeat.

        A refused row is not known as such: whether it counts hangs on the store, and it may name a rollout
        that has come since. Each invocation tries it anew, and left it over itself.
        """
        return exit_status_for(self.refused)

    def remarks(self) -> list[str]:
        """What was refused, a line for each reason."""
        return self.refusals.lines()

    def lines(self) -> list[str]:
        """For a person."""
        counts = f"read {self.read}, new {self.new}, known {self.known}, refused {self.refused}"
        rest = f"; rollouts without a reward: {self.without}" if self.without else ""
        return [f"{self.name}: {counts}{rest}"]


def score(store: Store, path: Path, source: str | None = None) -> ScoreReport:
    """Stores the rewards of a file: of `sample_hash`, or of `example_id` with `attempt` and `source`.

    Every row that names exactly one rollout counts; any other is refused by its line. A reward that is
    the newest known already is not stored again. `source` holds for rows that name none. Raises
    SourceError where nothing of the file can be read, ConfigError for an unknown source.
    """
    _check_source(store, source)
    report = ScoreReport("stdin" if str(path) == STDIN else printable_path(path))
    names = ("read", "new", "known", "refused")
    given = {"file": report.name, "source": source}
    with store.run(
        "synth score", given, counts=lambda: {name: getattr(report, name) for name in names}
    ) as run:
        _Scores(store, report, source).read(path)
        with store.transaction():
            kept = store.execute("synth/keep_scores", {"scored_at": now(), "run_id": run.id}).rowcount
        report.new, report.known = kept, report.read - report.refused - kept
        report.without = store.rows("synth/unrewarded_rollouts")[0][0]
        run.status = report.exit_status
    return report


def _check_source(store: Store, source: str | None) -> None:
    if source is not None and not store.rows("samples/source_id", {"name": source}):
        raise ConfigError(f"no source {source!r}; kbetl status lists them")


class _Scores:
    """Reads the rewards of one file into a temp table."""

    def __init__(self, store: Store, report: ScoreReport, source: str | None) -> None:
        self._store = store
        self._report = report
        self._source = source
        self._has_examples = False
        with store.translate_errors():
            for query in ("synth/drop_scored", "synth/scored_table", "synth/drop_examples"):
                store.execute(query)

    def read(self, path: Path) -> None:
        """Reads all rows; a wrong one is reported by its line."""
        with self._store.transaction(writes=False):
            for raw in _rows(path, self._report.name):
                self._report.read += 1
                try:
                    self._add(raw)
                except BadRow as bad:
                    self._refuse(raw, str(bad))
        if not self._report.read:
            raise SourceError(f"{self._report.name}: no rows in it")

    def _add(self, raw: RawRow) -> None:
        if raw.fault is not None:
            raise BadRow(raw.fault)
        parsed = read_json(raw.text)
        if not isinstance(parsed.value, dict):
            raise BadRow(f"the row is {type_name(parsed.value)}, not an object with fields")
        reward = _reward(parsed.value, is_nonfinite="$.reward" in parsed.nonfinite)
        rollout = self._rollout(parsed.value)
        row = {"sample_hash": rollout, "reward": reward, "line": raw.line}
        stored, line = self._store.execute("synth/add_scored", row).fetchone()
        if stored != reward:
            raise BadRow(f"rollout {rollout} has the reward {stored} in line {line}, and {reward} here")

    def _refuse(self, raw: RawRow, reason: str) -> None:
        self._report.refused += 1
        self._report.refusals.add(f"{self._report.name}:{raw.line}", plain_text(reason))

    def _rollout(self, row: Mapping[str, Any]) -> str:
        """The hash of the one rollout that a row names."""
        named = row.get("sample_hash")
        if named is None:
            return self._rollout_of_example(row)
        if not isinstance(named, str):
            raise BadRow(f"field 'sample_hash' is {type_name(named)}, not text")
        found = self._store.execute("synth/kind_of_sample", {"sample_hash": named}).fetchone()
        if found is None:
            raise BadRow(f"no rollout {named[:80]} in the store")
        if found[0] != "rollout":
            raise BadRow(f"{named} is a {found[0]}, not a rollout")
        return named

    def _rollout_of_example(self, row: Mapping[str, Any]) -> str:
        example, attempt, source = row.get("example_id"), row.get("attempt"), row.get("source")
        if example is None:
            meant = meant_words(row, ("sample_hash", "example_id"))
            raise BadRow(f"no field 'sample_hash' or 'example_id'; it has {', '.join(list(row)[:12])}{meant}")
        if isinstance(example, bool) or not isinstance(example, str | int | float):
            raise BadRow(f"field 'example_id' is {type_name(example)}, not a number or text")
        attempt = _whole(attempt)
        if attempt is not None and (type(attempt) is not int or attempt < 0):
            raise BadRow(f"field 'attempt' is {attempt!r}, not a number from 0")
        if source is not None and not isinstance(source, str):
            raise BadRow(f"field 'source' is {type_name(source)}, not text")
        if attempt is not None and attempt > LARGEST_INTEGER:
            raise BadRow(f"field 'attempt' is larger than {LARGEST_INTEGER}")
        text = str(_whole(example))
        wanted = {"example": text, "attempt": attempt, "source": source or self._source}
        return self._only_one(wanted)

    def _only_one(self, wanted: Mapping[str, Any]) -> str:
        if not self._has_examples:
            self._has_examples = True
            self._store.execute("synth/examples_table")
            self._store.execute("synth/fill_examples")
        found = self._store.execute("synth/rollouts_of_example", wanted).fetchall()
        if len(found) == 1:
            return str(found[0][0])
        asked = ", ".join(f"{_FIELDS[key]} {value}" for key, value in wanted.items() if value is not None)
        if not found:
            raise BadRow(self._why_none(wanted, asked))
        several = "; ".join(
            f"{rollout[:15]} in {source} at {position}" for rollout, source, position in found[:2]
        )
        more = " and more" if len(found) > 2 else ""
        missing = [f"'{key}'" for key in ("attempt", "source") if wanted[key] is None]
        hint = f", or {' and '.join(missing)}" if missing else ""
        raise BadRow(f"{asked} means several rollouts ({several}{more}): give 'sample_hash'{hint}")

    def _why_none(self, wanted: Mapping[str, Any], asked: str) -> str:
        without = {**wanted, "attempt": None}
        if (
            wanted["attempt"] is not None
            and self._store.execute("synth/rollouts_of_example", without).fetchone()
        ):
            return (
                f"no rollout with {asked}: attempts are known of those that `synth run` made alone; "
                "give 'sample_hash'"
            )
        return f"no rollout with {asked}"


def _rows(path: Path, name: str) -> Iterator[RawRow]:
    if name == "stdin" and str(path) == STDIN:
        return rows_of_stream(sys.stdin.buffer, name)
    if path.exists() and not path.is_file() and not path.is_dir():
        return rows_of_pipe(path, name)
    return rows_of_file(path, name)


def _reward(row: Mapping[str, Any], *, is_nonfinite: bool) -> float:
    if is_nonfinite:
        raise BadRow("field 'reward' is NaN or infinite; leave the row out")
    value = row.get("reward")
    if value is None:
        meant = meant_words(row, ("reward",))
        raise BadRow(f"no field 'reward'; it has {', '.join(list(row)[:12])}{meant}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(f"field 'reward' is {type_name(value)} {plain_text(str(value))[:40]!r}, not a number")
    try:
        reward = float(value)
    except OverflowError:
        raise BadRow("field 'reward' is a number beyond a double") from None
    if not math.isfinite(reward):
        raise BadRow("field 'reward' is NaN or infinite; leave the row out")
    return reward


def _whole(value: Any) -> Any:
    """An integral float as an integer: Arrow makes the one of the other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
