"""What `kbetl status` says, as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kbetl.config import command_line
from kbetl.status.read import Kind, Parked, Pending, Status, Unfinished
from kbetl.store import ReportRow
from kbetl.store.selection import PARKED_AFTER
from kbetl.text import plain_text

SHOWN_FAILURES = 8


def status_lines(status: Status) -> list[str]:
    """The same for people: what is left over first, then what is there, then what to do."""
    min_reward = status.settings["min_reward"]
    samples = ", ".join(f"{kind.samples:,} {kind.kind}s" for kind in status.samples) or "no samples"
    lines = [f"{plain_text(status.database)}: {samples}, {status.size_bytes / 1e6:,.1f} MB"]
    for title, found in (
        ("missing", _pending_lines(status.pending)),
        ("handed out", [_handed_out_line(each) for each in status.handed_out]),
        ("parked", [_parked_line(row) for row in status.parked]),
        ("failed", _failure_lines(status)),
        ("not finished", [_unfinished_line(run) for run in status.unfinished]),
        ("sources", [_source_line(source) for source in status.sources]),
        ("models", _model_lines(status.models)),
        ("rewards", _reward_lines(status.samples, min_reward)),
        ("labels", _label_lines(status)),
        ("cost", [_cost_line(cost) for cost in status.costs]),
        ("served", ["{model} by {served_model}: {answers:,} answers".format(**row) for row in status.served]),
        ("reserved", [_reserved_line(row) for row in status.reserved]),
        ("settings", [", ".join(f"{key} {value}" for key, value in status.settings.items())]),
        ("next", [status.next]),
    ):
        lines += [
            f"{title:<13} {plain_text(line)}" if index == 0 else f"{'':<13} {plain_text(line)}"
            for index, line in enumerate(found)
        ]
    return lines


def _pending_lines(pending: Sequence[Pending]) -> list[str]:
    words = {"new": "to be asked", "failed": "failed, to be asked again"}
    return [f"{row.task}: {row.samples:,} {words[row.why]}" for row in pending]


def _handed_out_line(row: ReportRow) -> str:
    files = "a batch file" if row["files"] == 1 else f"{row['files']} batch files"
    return f"{row['task']}: {row['samples']:,} samples wait for {files}"


def _parked_line(row: Parked) -> str:
    runs = f"failed in {PARKED_AFTER} runs in a row"
    return f"{row.task}: {row.samples:,} {runs}; --retry failed asks them again"


def _failure_lines(status: Status) -> list[str]:
    failures = status.failures
    lines = [f"{row.task}: {row.samples:,} {row.status}: {row.reason}" for row in failures[:SHOWN_FAILURES]]
    rest = failures[SHOWN_FAILURES:]
    if rest:
        samples = sum(row.samples for row in rest)
        all_of_them = command_line(Path(status.database), "query", "select * from failures")
        lines.append(f"{samples:,} more for {len(rest):,} other reasons: {all_of_them}")
    return lines


def _unfinished_line(run: Unfinished) -> str:
    what = f"run {run.run_id}, {run.command}{f' of {run.task}' if run.task else ''}, {run.started_at}"
    if run.is_running:
        return f"{what}: running as process {run.pid}"
    ended = {None: "killed", 1: "an error", 3: "something left over", 130: "interrupted", 143: "terminated"}
    how = ended.get(run.status, f"status {run.status}")
    return f"{what}: {how}; {run.resume or 'run the same command again'}"


def _source_line(row: ReportRow) -> str:
    kinds = [f"{row[kind]:,} {kind}" for kind in ("modules", "rollouts", "records", "rejected") if row[kind]]
    return "{name}: {rows:,} rows, {samples:,} samples".format(**row) + f" ({', '.join(kinds) or 'empty'})"


def _model_lines(models: Sequence[ReportRow]) -> list[str]:
    """The sum over all sources; `--json` and the view `model_counts` have one row for each source."""
    totals: dict[str, Counter[str]] = {}
    for row in models:
        name = f"{row['model'] or 'unknown model'} in {row['environment'] or 'no environment'}"
        counted = ("rollouts", "empty", "errors")
        totals.setdefault(name, Counter()).update({"sources": 1, **{key: row[key] for key in counted}})
    return [
        f"{name}: {total['rollouts']:,} rollouts in {total['sources']:,} source{'s' * (total['sources'] > 1)}"
        + (f", {total['empty']:,} without an answer" if total["empty"] else "")
        + (f", {total['errors']:,} errors" if total["errors"] else "")
        for name, total in totals.items()
    ]


def _reward_lines(samples: Sequence[Kind], min_reward: float) -> list[str]:
    return [
        f"{kind.good:,} of {kind.samples:,} rollouts above {min_reward}"
        for kind in samples
        if kind.kind == "rollout"
    ]


def _label_lines(status: Status) -> list[str]:
    lines = []
    for label in status.labels:
        counts = ", ".join(f"{number:,} {word}" for word, number in label.outcomes.items()) or "no outcome"
        use = "in use" if label.in_use else "not in use"
        lines.append(f"{label.task} by {label.model} ({label.task_hash[:11]}), {use}: {counts}")
        if label.task == "difficulty" and label.in_use and status.difficulties:
            rated = sum(row["samples"] for row in status.difficulties)
            shares = (
                f"{row['difficulty']} {row['samples']:,} ({row['samples'] / rated:.0%})"
                for row in status.difficulties
            )
            lines.append(f"  {', '.join(shares)}")
    return lines


def _cost_line(row: ReportRow) -> str:
    """Costs as servers reported them, costs computed from prices, and reservations are named separately."""
    reported = [] if row["cost_usd"] is None else [f"${row['cost_usd']:,.4f}"]
    computed = [] if row["computed_usd"] is None else [f"${row['computed_usd']:,.4f} by tokens and price"]
    cost = " + ".join(reported + computed)
    if cost and row["uncounted"]:
        cost += f" ({row['uncounted']:,} did not tell theirs)"
    line = (
        f"{row['task'] or 'no task'} by {row['model']}: {row['answers']:,} answers, {cost or 'unknown cost'}"
    )
    if row["prompt_tokens"] is not None:
        line += f", {row['prompt_tokens']:,} + {row['completion_tokens'] or 0:,} tokens"
    if not row["reserved"]:
        return line
    most = "" if row["reserved_usd"] is None else f", ${row['reserved_usd']:,.4f} at most"
    return f"{line}; {row['reserved']:,} requests sent without an answer that tells its usage{most}"


def _reserved_line(row: ReportRow) -> str:
    most = f"{row['tokens']:,} tokens" if row["cost_usd"] is None else f"${row['cost_usd']:,.4f}"
    how = "was killed" if row["is_killed"] else "is over"
    return (
        f"{row['task']} by run {row['run_id']} ({row['command']}), which {how}: {row['requests']:,} requests "
        f"that nothing is known of count in full, {most} at most"
    )
