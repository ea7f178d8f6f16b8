"""Makes the report: reads the store once, in one transaction, and returns the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from kbetl.atomic_files import atomic_file
from kbetl.config import command_line
from kbetl.errors import ConfigError, ExportFailed
from kbetl.report import sections
from kbetl.report.markup import Markup, cut, details, inert, join, paragraph, table, tag
from kbetl.report.page import DOCTYPE, Figures, Section, document, queries_used
from kbetl.show import Shown, short_hash
from kbetl.status import Status, read_status
from kbetl.store import Store

# Bytes of HTML that a text of one rollout may have: eight rollouts stay below 180 KB, the page below 300.
PROBLEM_BYTES, REASONING_BYTES, ANSWER_BYTES = 5_000, 5_000, 10_000
# Rollouts to read, and runs that did not finish, at most; the newest of these.
_READ, _RUNS = 8, 5

State = Literal["good", "wait", "none"]
_WORDS: dict[State, str] = {"good": "done", "wait": "left over", "none": "not begun"}


class Light(NamedTuple):
    """How a stage stands, and the command that mends it; None if nothing is to be done."""

    stage: str
    state: State
    text: str
    command: str | None = None


def write_report(database: Path, output: Path) -> int:
    """Writes the report on a store to a file, whole or not at all; returns its size in bytes.

    Raises ConfigError if `output` is anything but a new file or a report, StoreError if there is no store
    to read, ExportFailed if the file cannot be written.
    """
    try:
        _refuse_all_but_reports(output)
        page = make_report(database)
        with atomic_file(output.resolve()) as file:
            file.write(page)
    except OSError as error:
        raise ExportFailed(f"{output} cannot be written: {error.strerror or error}") from error
    return len(page)


def _refuse_all_but_reports(output: Path) -> None:
    """Raises ConfigError for a store, rows, a device: the report would replace them."""
    if not output.exists():
        return
    if output.is_file():
        with output.open("rb") as file:
            if file.read(len(DOCTYPE)) in (b"", DOCTYPE):
                return
    raise ConfigError(f"-o {output} is there and is no report; name another file")


def make_report(database: Path) -> bytes:
    """Returns the report on a store as HTML in UTF-8; the same store gives the same bytes."""
    status = read_status(database)
    with Store.read(database) as store, store.transaction(writes=False):
        figures = Figures(store)
        parts = [
            sections.flow(figures),
            sections.reward(figures, status.settings["min_reward"]),
            sections.labels(figures),
            sections.lengths(figures),
            sections.duplicates(figures),
            sections.money(figures, status.reserved),
            sections.left_over(figures, database),
            _reading(figures),
        ]
        made = join((*sections.provenance(figures, status.settings), tag("h3", "SQL of every figure")))
        parts.append(Section("How it was made", join((made, queries_used(figures.asked)))))
        return document(f"Report on {database.name}", _head(status, figures, database), parts)


def _head(status: Status, figures: Figures, database: Path) -> Markup:
    row = figures.row("report/report_flow")
    sources = len(status.sources)
    sentence = (
        f"{row['samples']:,} samples from {sources:,} source{'' if sources == 1 else 's'}: "
        f"{row['rollouts']:,} rollouts, {row['good']:,} of them above reward "
        f"{status.settings['min_reward']:g}, {row['filtered']:,} in filtered, {row['best']:,} in unique."
    )
    return join(
        (
            tag("h1", f"Report on {database.name}"),
            paragraph(sentence),
            tag("ul", *map(_light, _lights(status, figures, database)), class_="lights"),
            paragraph("Next: ", tag("code", status.next)),
        )
    )


def _light(light: Light) -> Markup:
    command = None if light.command is None else tag("code", light.command)
    word = tag("span", _WORDS[light.state], class_=f"light {light.state}")
    return tag("li", word, tag("b", light.stage), tag("span", light.text), command)


def _lights(status: Status, figures: Figures, database: Path) -> Iterator[Light]:
    """A light for each stage, in their order; the runs that are not finished last."""
    if not status.samples:
        yield Light("read", "none", "no sample yet", command_line(database, "ingest"))
        return
    rejected = figures.row("report/report_flow")["rejected"]
    counts = ", ".join(f"{kind.samples:,} {kind.kind}s" for kind in status.samples)
    if rejected:
        shown = command_line(database, "query", "select location, reason from rejected_rows", "-t")
        yield Light("read", "wait", f"{counts}; {rejected:,} rows rejected", shown)
    else:
        yield Light("read", "good", counts)
    tasks = dict.fromkeys(("difficulty", *(label.task for label in status.labels)))
    yield from (_task_light(status, task, database) for task in tasks)
    yield _lengths_light(figures, database)
    yield _splits_light(figures, status, database)
    ended = [run for run in status.unfinished if not run.is_running]
    if len(ended) > _RUNS:
        older = f"{len(ended) - _RUNS:,} more that did not finish"
        yield Light("older runs", "wait", older, command_line(database, "status"))
    for run in ended[-_RUNS:]:
        what = f"{run.command}{f' of {run.task}' if run.task else ''}, begun {run.started_at}"
        how = "was killed" if run.status is None else f"ended with {run.status}"
        yield Light(f"run {run.run_id}", "wait", f"{what}, {how}", run.resume)


def _task_light(status: Status, task: str, database: Path) -> Light:
    """What a task has labelled, what it would ask, and what is not ok."""
    pending = sum(row.samples for row in status.pending if row.task == task)
    failures = [row for row in status.failures if row.task == task]
    ok = sum(label.outcomes.get("ok", 0) for label in status.labels if label.task == task and label.in_use)
    asking = sections.asking(task)
    if not ok and not pending and not failures:
        return Light(task, "none", "nothing asked yet", command_line(database, *asking))
    parts = [f"{ok:,} ok"]
    if pending:
        parts.append(f"{pending:,} to be asked")
    if failures:
        parts.append(f"{sum(row.samples for row in failures):,} not ok")
    retry = () if pending or not failures else ("--retry", failures[0].status)
    command = command_line(database, *asking, *retry) if pending or failures else None
    return Light(task, "wait" if command else "good", ", ".join(parts), command)


def _lengths_light(figures: Figures, database: Path) -> Light:
    measured = figures.rows("report/report_template")
    if not measured:
        return Light("lengths", "none", "no length measured", command_line(database, "lengths"))
    return Light("lengths", "good", f"{measured[0]['samples']:,} samples measured")


def _splits_light(figures: Figures, status: Status, database: Path) -> Light:
    """Whether what keeps rows together is on one side of the splits alone, as it should be."""
    kept_by = status.settings["split_by"]
    leaks = [row for row in figures.rows("report/report_leaks") if row["kind"] == kept_by]
    if leaks:
        command = command_line(database, "query", "select * from split_leaks", "-t")
        return Light("splits", "wait", f"{leaks[0]['total']:,} {kept_by}s are on both sides", command)
    return Light("splits", "good", f"no {kept_by} is on both sides")


def _reading(figures: Figures) -> Section:
    """A few rollouts as text, each chosen for a reason; the only rows that are read whole."""
    chosen: dict[str, list[str]] = {}
    for row in figures.rows("report/report_reading", **sections.template_of(figures)):
        chosen.setdefault(row["hash"], []).append(row["why"])
    for sample_hash in sections.disagreed(figures):
        chosen.setdefault(sample_hash, []).append("two models disagree")
    if not chosen:
        return Section("To read", paragraph("No rollout is in filtered yet."))
    shown = list(chosen.items())[:_READ]
    return Section("To read", join(_article(figures.store, each, whys) for each, whys in shown))


def _article(store: Store, sample_hash: str, whys: Sequence[str]) -> Markup:
    shown = Shown.read(store, sample_hash, with_datasets=False)
    name = cut(shown.sample["module_name"] or "(no name)", 80)
    labels = [
        (row["task"], row["status"], cut(row["value"] or row["reason"], 200), row["model"], row["cost_usd"])
        for row in shown.labels
    ]
    return tag(
        "article",
        tag("h3", f"{name}: {', '.join(whys)}"),
        table(f"Sample {short_hash(sample_hash)}", ["what", "value"], shown.facts()),
        table("Labels", ["task", "status", "label", "model", "US dollars"], labels),
        _folded("Problem", shown.problem, PROBLEM_BYTES),
        _folded("Reasoning", shown.reasoning, REASONING_BYTES),
        tag("pre", excerpt(shown.completion or "(no answer)", ANSWER_BYTES)),
        paragraph(
            "All of it: ",
            tag("code", command_line(store.path, "show", short_hash(sample_hash))),
            class_="soft",
        ),
    )


def _folded(title: str, text: str | None, limit: int) -> Markup | None:
    if text is None:
        return None
    return details(f"{title}, {len(text):,} characters", tag("pre", excerpt(text, limit)))


def excerpt(text: str, limit: int) -> str:
    """Returns the beginning of a text that is at most so many bytes of HTML, and how much is left out."""
    kept = text[:limit]
    while (size := len(inert(kept).encode())) > limit:
        kept = kept[: min(len(kept) - 1, len(kept) * limit // size)]
    hidden = len(text) - len(kept)
    return f"{kept}\n... {hidden:,} more characters" if hidden else kept
