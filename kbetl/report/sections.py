"""The sections of a report: each asks the store and returns figures with their tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kbetl.config import command_line
from kbetl.report.figures import (
    COLOURS,
    Bar,
    Columns,
    bars,
    bins,
    columns,
    columns_table,
    curves,
    figure,
    legend,
)
from kbetl.report.markup import Content, Markup, cut, join, paragraph, table, tag
from kbetl.report.page import Figures, Section
from kbetl.store import ReportRow

# Labels in the order of their colours; others follow by name, those without a label last.
_FIRST_LABELS = ("low", "medium", "high")
_NO_LABELS = ("unparsed", "refused", "truncated", "failed", "not rated")
# Small multiples at most: more of them are no figure any more.
_MULTIPLES = 8
_DIFFERENCES = 10
_DAYS = 40


def flow(figures: Figures) -> Section:
    """What became of the rows that were read, from the source to the splits."""
    row = figures.row("report/report_flow")
    steps = [
        Bar("read", row["read"], f"{row['read']:,} rows"),
        Bar("rejected", row["rejected"], f"{row['rejected']:,}", 5),
        Bar("known", row["repeated"], f"{row['repeated']:,} again", 5),
        Bar("samples", row["samples"], f"{row['samples']:,}"),
        Bar("rollouts", row["rollouts"], f"{row['rollouts']:,}"),
        Bar("above min_reward", row["good"], f"{row['good']:,}"),
        Bar("rated ok", row["rated_ok"], f"{row['rated_ok']:,}"),
        Bar("rated, not ok", row["rated_not_ok"], f"{row['rated_not_ok']:,}", 1),
        Bar("not rated", _unrated(row), f"{_unrated(row):,}", 5),
        Bar("filtered", row["filtered"], f"{row['filtered']:,}", 2),
        Bar("unique", row["best"], f"{row['best']:,}", 2),
        Bar("train", row["train"], f"{row['train']:,} of unique", 2),
        Bar("validation", row["best"] - row["train"], f"{row['best'] - row['train']:,} of unique", 2),
    ]
    title = "Rows from the source to the splits"
    data = table(title, ["step", "rows"], [(step.name, int(step.value)) for step in steps])
    return Section("Flow", figure(title, bars(title, steps), data))


def _unrated(row: ReportRow) -> int:
    return int(row["good"] - row["rated_ok"] - row["rated_not_ok"])


def reward(figures: Figures, min_reward: float) -> Section:
    """How rewards lie, by label, by threshold, and by model and environment."""
    span = figures.row("report/report_reward_range")
    if not span["rewarded"]:
        return Section("Reward", paragraph("No rollout has a reward."))
    edges = bins(min(span["lowest"], min_reward), max(span["highest"], min_reward))
    given = {"lowest": edges[0], "width": edges[1] - edges[0], "last": len(edges) - 2}
    found = figures.rows("report/report_rewards", **given)
    series = {
        label: _counts(
            ((row["bin"], row["rollouts"]) for row in found if row["label"] == label), len(edges) - 1
        )
        for label in _in_order({row["label"] for row in found})
    }
    colours = _colours(series)
    histogram = Columns(edges, series, "reward", min_reward, colours)
    title = "Rollouts by reward and label"
    named = legend({label: f"{sum(counts):,}" for label, counts in series.items()}, colours)
    note = f"The line is min_reward, {min_reward:g}. {span['rewarded']:,} rollouts have a reward."
    thresholds = table(
        "Rollouts above other thresholds",
        ["above", "rollouts", "module names"],
        [
            (row["threshold"], row["rollouts"], row["names"])
            for row in figures.rows("report/report_thresholds")
        ],
    )
    drawn = figure(title, columns(title, histogram), columns_table(title, histogram), note, legend=named)
    return Section("Reward", join((drawn, thresholds, _multiples(figures, edges, given))))


def _multiples(figures: Figures, edges: Sequence[float], given: Mapping[str, float]) -> Markup | None:
    """A small histogram per model and environment; None if there is one alone."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for row in figures.rows("report/report_reward_models", **given):
        name = f"{row['model'] or 'unknown model'} in {row['environment'] or 'no environment'}"
        groups.setdefault(name, []).append((row["bin"], row["rollouts"]))
    if len(groups) < 2:
        return None
    largest = sorted(groups, key=lambda name: -sum(count for _, count in groups[name]))[:_MULTIPLES]
    title = "Reward by model and environment"
    small, rows = [], []
    for name in largest:
        counts = _counts(groups[name], len(edges) - 1)
        drawing = columns(name, Columns(edges, {name: counts}, "reward"), width=240, height=90)
        small.append(tag("div", paragraph(f"{cut(name, 60)}: {sum(counts):,}", class_="note"), drawing))
        rows += [(name, f"{edges[bin_]:g}", count) for bin_, count in enumerate(counts) if count]
    data = table(title, ["model and environment", "reward from", "rollouts"], rows)
    hidden = len(groups) - len(largest)
    notes = [f"The largest {len(largest)}; {hidden:,} more are in the view model_counts."] if hidden else []
    return figure(title, tag("div", *small, class_="multiples"), data, *notes)


def labels(figures: Figures) -> Section:
    """Which labels were given, by which model, and where two of them differ."""
    found = figures.rows("report/report_labels")
    if not found:
        return Section("Labels", paragraph("No task that chooses one of several labels was asked."))
    order = _in_order({row["label"] for row in found})
    title = "Labels by task and model"
    parts: list[Markup] = []
    for task_hash in dict.fromkeys(row["task_hash"] for row in found):
        rows = [row for row in found if row["task_hash"] == task_hash]
        total = sum(row["samples"] for row in rows)
        name = f"{rows[0]['task']} by {rows[0]['model']} ({'in use' if rows[0]['in_use'] else 'not in use'})"
        drawn = [
            Bar(
                row["label"],
                row["samples"],
                f"{row['samples']:,} ({row['samples'] / total:.1%})",
                order.index(row["label"]),
            )
            for row in sorted(rows, key=lambda row: order.index(row["label"]))
        ]
        data = table(
            name,
            ["label", "samples", "share"],
            [(bar.name, int(bar.value), bar.value / total) for bar in drawn],
        )
        parts.append(figure(f"{title}: {cut(name, 100)}", bars(name, drawn), data))
    return Section("Labels", join((*parts, *_agreement(figures), _label_facts(figures))))


def _agreement(figures: Figures) -> list[Markup]:
    """How two tasks of one name labelled the same samples; empty if there are no two."""
    pairs = figures.rows("report/report_label_pair")
    if not pairs:
        return []
    pair = pairs[0]
    hashes = {"one": pair["one"], "other": pair["other"]}
    counts = {
        (row["one"], row["other"]): row["samples"]
        for row in figures.rows("report/report_confusion", **hashes)
    }
    across, down = _in_order({other for _, other in counts}), _in_order({one for one, _ in counts})
    one, other = (f"{cut(pair[f'{each}_model'], 40)} ({pair[each][:11]})" for each in ("one", "other"))
    total, same = sum(counts.values()), sum(count for (a, b), count in counts.items() if a == b)
    square = table(
        f"{pair['task']}: rows by {one}, columns by {other}; "
        f"the same label for {same:,} of {total:,} ({same / total:.1%})",
        ["", *across],
        [(label, *(counts.get((label, column), 0) for column in across)) for label in down],
    )
    differing = figures.rows("report/report_differences", **hashes, limit=_DIFFERENCES)
    examples = table(
        f"Samples labelled differently: {_first_of(differing)}",
        ["sample", "module", one, other],
        [(_short(row["hash"]), row["module_name"], *_reasons(row)) for row in differing],
    )
    return [tag("h3", "Agreement of two models or templates"), square, examples]


def _reasons(row: ReportRow) -> Iterable[str]:
    return (f"{row[name]}: {cut(row[f'{name}_answer'], 150)}" for name in ("one", "other"))


def _label_facts(figures: Figures) -> Markup:
    found = figures.rows("report/report_label_facts", **template_of(figures))
    return table(
        "Ratings in use against reward and length (tokens, where measured)",
        ["label", "samples", "mean reward", "mean length"],
        [(row["label"], row["samples"], row["mean_reward"], _rounded(row["mean_tokens"])) for row in found],
    )


def lengths(figures: Figures) -> Section:
    """How long the samples are, and what an advised sequence length loses and wastes."""
    template = template_of(figures)
    if template["tokenizer"] is None:
        return Section("Lengths", paragraph("No length was measured."))
    every = figures.rows("report/report_length_curve", **template)
    shortest = min((row["tokens"] for row in every if row["up_to"]), default=0)
    found = [row for row in every if row["tokens"] >= shortest]
    if not found:
        return Section("Lengths", paragraph("The template took no row; see the view lengths."))
    advice = figures.rows("report/report_seq_len", **template)
    points: dict[str, list[tuple[int, float]]] = {}
    for row in found:
        points.setdefault(row["dataset"], []).append((row["tokens"], row["up_to"] / row["samples"]))
    totals = {row["dataset"]: f"{row['samples']:,}" for row in found}
    title = f"Share of samples up to so many tokens, by {cut(template['tokenizer'], 80)}"
    marks = sorted({row["seq_len"] for row in advice if row["seq_len"] is not None})
    data = table(
        title,
        ["dataset", "tokens", "samples up to that"],
        [(row["dataset"], row["tokens"], row["up_to"]) for row in found],
    )
    note = "The lines are the sequence lengths that are advised below."
    drawn = figure(title, curves(title, points, marks, "tokens"), data, note, legend=legend(totals))
    advised = table(
        "Advised seq_len: what it loses of longer samples and wastes on shorter ones",
        ["dataset", "covers %", "longest, tokens", "seq_len", "samples over", "tokens lost", "padding"],
        [
            (
                row["dataset"],
                row["percentile"],
                row["total_tokens"],
                row["seq_len"] or "none",
                row["samples_over"],
                row["tokens_lost"],
                f"{row['share_padding']:.0%}",
            )
            for row in advice
        ],
    )
    faults = {(row["unreached"], row["refused"]) for row in advice if row["dataset"] == "samples"}
    said = [
        paragraph(
            f"The template leaves out text of {unreached:,} samples and refuses {refused:,}; "
            "no seq_len is advised where it leaves out text."
        )
        for unreached, refused in faults
        if unreached or refused
    ]
    return Section("Lengths", join((drawn, *said, advised)))


def duplicates(figures: Figures) -> Section:
    """What deduplication drops, which names hide several codes, and what is on both sides of the splits."""
    kept = figures.row("report/report_choices")
    title = "Rows of filtered that each choice keeps"
    rows = [
        Bar("filtered", kept["rows"], f"{kept['rows']:,} rows"),
        Bar(
            "one per name",
            kept["by_name"],
            f"{kept['by_name']:,} keeps, {kept['rows'] - kept['by_name']:,} drops",
            2,
        ),
        Bar(
            "one per code",
            kept["by_code"],
            f"{kept['by_code']:,} keeps, {kept['rows'] - kept['by_code']:,} drops",
            2,
        ),
    ]
    data = table(title, ["choice", "rows"], [(bar.name, int(bar.value)) for bar in rows])
    note = f"filtered has {kept['names']:,} module names and {kept['codes']:,} different codes."
    hiding = figures.rows("report/report_names_over_codes")
    leaks = figures.rows("report/report_leaks")
    return Section(
        "Duplicates and splits",
        join(
            (
                figure(title, bars(title, rows), data, note),
                table(
                    f"Names that hide several codes: {hiding[0]['total'] if hiding else 0:,}",
                    ["name", "codes", "rows"],
                    [(row["module_name"], row["codes"], row["rows"]) for row in hiding],
                ),
                table(
                    f"On both sides of the splits: {_leak_counts(leaks) or 'nothing, as it should be'}",
                    ["what", "which", "train rows", "validation rows"],
                    [(row["kind"], row["key"], row["train"], row["validation"]) for row in leaks],
                ),
            )
        ),
    )


def _leak_counts(leaks: Sequence[ReportRow]) -> str:
    return ", ".join(
        f"{total:,} {kind}s" for kind, total in {row["kind"]: row["total"] for row in leaks}.items()
    )


def money(figures: Figures, reserved: Sequence[ReportRow]) -> Section:
    """What was paid by day, task and model, how long answers took, and what killed runs hold."""
    found = figures.rows("report/report_costs")
    if not found:
        return Section("Money and time", paragraph("Nothing was asked yet."))
    by_day: Counter[str] = Counter()
    for row in found:
        by_day[row["day"]] += row["usd"]
    days = sorted(by_day)[-_DAYS:]
    title = "US dollars by day (UTC)"
    drawn = [Bar(day, by_day[day], f"${by_day[day]:,.4f}") for day in days]
    data = table(title, ["day", "US dollars"], [(bar.name, bar.value) for bar in drawn])
    hidden = len(by_day) - len(days)
    notes = [f"The last {len(days)} days; {hidden:,} more are in the view costs."] if hidden else []
    kept = int(figures.row("report/report_flow")["filtered"])
    spent = sum(row["usd"] for row in found if row["task"] == "difficulty")
    notes.append(
        f"Ratings cost ${spent:,.4f}"
        + (f", ${1000 * spent / kept:,.4f} for 1,000 rows of filtered." if kept else ".")
    )
    waits = table(
        "How long an answer took, in ms: half of them and 95 % were there by then",
        ["task", "model", "answers", "p50, ms", "p95, ms"],
        [
            (row["task"], row["model"], row["answers"], _rounded(row["p50_ms"]), _rounded(row["p95_ms"]))
            for row in figures.rows("report/report_latency")
        ],
    )
    held = table(
        "Requests that ended runs had in flight: a budget counts them in full",
        ["run", "command", "task", "requests", "tokens at most", "US dollars at most"],
        [
            (row["run_id"], row["command"], row["task"], row["requests"], row["tokens"], row["cost_usd"])
            for row in reserved
        ],
    )
    return Section(
        "Money and time",
        join(
            (
                figure(title, bars(title, drawn), data, *notes),
                _by_model(found),
                waits,
                held if reserved else None,
            )
        ),
    )


def _by_model(found: Sequence[ReportRow]) -> Markup:
    sums: dict[tuple[str, str], Counter[str]] = {}
    for row in found:
        names = ("answers", "usd", "uncounted", "prompt_tokens", "completion_tokens")
        sums.setdefault((row["task"] or "no task", row["model"]), Counter()).update(
            {name: row[name] or 0 for name in names}
        )
    return table(
        "By task and model",
        ["task", "model", "answers", "US dollars", "of unknown cost", "prompt tokens", "completion tokens"],
        [
            (
                *key,
                each["answers"],
                f"{each['usd']:,.4f}",
                each["uncounted"],
                each["prompt_tokens"],
                each["completion_tokens"],
            )
            for key, each in sums.items()
        ],
    )


def left_over(figures: Figures, database: Path) -> Section:
    """What is not ok, by reason, with three examples each and the command that asks again or shows it."""
    outcomes = figures.rows("report/report_left_over")
    rejected = figures.rows("report/report_rejected")
    if not outcomes and not rejected:
        return Section("Left over", paragraph("Nothing: every outcome is ok, and no row was rejected."))
    shown = command_line(database, "query", "select location, reason from rejected_rows", "-t")
    return Section(
        "Left over",
        join(
            (
                table(
                    f"Outcomes that are not ok, by reason: {_first_of(outcomes)}",
                    ["task", "status", "reason", "samples", "for example", "asked again by"],
                    [
                        (
                            row["task"],
                            row["status"],
                            row["reason"],
                            row["samples"],
                            ", ".join(map(_short, json.loads(row["examples"]))),
                            _again(row, database),
                        )
                        for row in outcomes
                    ],
                )
                if outcomes
                else None,
                table(
                    f"Rejected rows, by reason: {_first_of(rejected)}",
                    ["reason", "rows", "for example"],
                    [
                        (row["reason"], row["rows"], ", ".join(json.loads(row["examples"])))
                        for row in rejected
                    ],
                )
                if rejected
                else None,
                paragraph("All of them: ", tag("code", shown)) if rejected else None,
            )
        ),
    )


def asking(task: str) -> tuple[str, ...]:
    """The words after `kbetl` that ask a task."""
    words = {"difficulty": ("enrich",), "prompts": ("prompts",), "kernels": ("synth", "run")}
    return words.get(task) or ("enrich", "--task", task)


def _again(row: ReportRow, database: Path) -> Markup:
    return tag("code", command_line(database, *asking(row["task"]), "--retry", row["status"]))


def _first_of(rows: Sequence[ReportRow]) -> str:
    total = int(rows[0]["total"]) if rows else 0
    return f"{total:,}{f', the first {len(rows)}' if total > len(rows) else ''}"


def provenance(figures: Figures, settings: Mapping[str, object]) -> list[Markup]:
    """Sources with revisions, tasks with their hashes and parameters, settings."""
    sources = [
        (row["name"], row["kind"], row["uri"], row["revision"], row["rows"], row["samples"], row["rejected"])
        for row in figures.rows("report/report_sources")
    ]
    tasks = [
        (
            row["name"],
            row["hash"],
            row["model"],
            row["parameters"],
            "yes" if row["in_use"] else "no",
            row["created_at"],
        )
        for row in figures.rows("report/report_tasks")
    ]
    return [
        table("Sources", ["name", "kind", "from", "revision", "rows", "samples", "rejected"], sources),
        table("Tasks", ["name", "hash", "model", "parameters", "in use", "first used"], tasks),
        table("Settings", ["setting", "value"], [(key, str(value)) for key, value in settings.items()]),
    ]


def template_of(figures: Figures) -> dict[str, str | None]:
    """The tokenizer and template that most samples were measured with; None if none was."""
    found = figures.rows("report/report_template")
    names = ("tokenizer", "template_hash")
    return {name: found[0][name] if found else None for name in names}


def disagreed(figures: Figures) -> list[str]:
    """The hash of a sample that two models labelled differently; empty if there is none."""
    pairs = figures.rows("report/report_label_pair")
    if not pairs:
        return []
    found = figures.rows(
        "report/report_differences", one=pairs[0]["one"], other=pairs[0]["other"], limit=_DIFFERENCES
    )
    return [row["hash"] for row in found[:1]]


def _in_order(names: Iterable[str]) -> list[str]:
    known = {name: number for number, name in enumerate((*_FIRST_LABELS, "", *_NO_LABELS))}
    return sorted(names, key=lambda name: (known.get(name, len(_FIRST_LABELS)), name))


def _colours(labels: Iterable[str]) -> list[int]:
    """The colour of each label; grey for those that were not asked for, and beyond the other colours."""
    return [
        COLOURS - 1 if label == _NO_LABELS[-1] else min(number, COLOURS - 1)
        for number, label in enumerate(labels)
    ]


def _counts(found: Iterable[tuple[int, int]], bins_: int) -> list[int]:
    counts = [0] * bins_
    for number, count in found:
        counts[number] += count
    return counts


def _short(sample_hash: str) -> str:
    return sample_hash[3:11]


def _rounded(value: float | None) -> Content:
    return None if value is None else round(value)
