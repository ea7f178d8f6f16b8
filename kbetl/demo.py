"""Runs the stages one after the other: `demo` on the rows that ship with the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from kbetl import resources
from kbetl.dataset.dataset import Dataset
from kbetl.enrich import plan_of
from kbetl.errors import ConfigError, StoreError
from kbetl.export.export import ExportOptions as Exporting
from kbetl.export.export import export
from kbetl.export.target import atomic_file
from kbetl.inference import EnrichOptions, run_plan
from kbetl.ingest import IngestOptions as Reading
from kbetl.ingest import find_sources, ingest_into
from kbetl.lengths import choose, measure
from kbetl.row_writer import ReadProgress
from kbetl.store import COMMAND_LINE, Store

DEMO_DATABASE = Path("kbetl-demo.db")
DEMO_EXPORT = Path("kbetl-demo")
DEMO_ROWS = Path("rollouts.jsonl")
OFFLINE = "offline"

Say = Callable[[str], None]

_BESIDE = ("", "-wal", "-shm", "-lock")


def demo(database: Path, say: Say) -> None:
    """Runs every stage but the push on `data/sample.jsonl` with the offline model, in a store made anew."""
    _remove(database)
    with Store.open(database) as store:
        run_id = store.begin_run("demo", {})
        COMMAND_LINE.set(())  # its stages are gone on with by their own commands
        for line in _stages(store):
            say(line)
        store.end_run(run_id, 0, {})


def sizes(database: Path) -> dict[str, int]:
    """How many rows the tables that a run adds to hold; empty if there is no store yet."""
    if not database.exists():
        return {}
    with Store.read(database) as store:
        return dict(store.rows("status/row_counts"))


def write_configuration(folder: Path) -> list[str]:
    """Writes a commented `kbetl.toml` and `.env.example` if there are none; returns a line for each."""
    lines = []
    for name, shipped in (("kbetl.toml", "kbetl.toml"), (".env.example", "env.example")):
        try:
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(resources.data_path(shipped).read_text(encoding="utf-8"))
        except FileExistsError:
            lines.append(f"{name} is there already; it was left as it is")
        except OSError as error:
            raise ConfigError(f"{folder / name} cannot be written: {error.strerror}") from None
        else:
            lines.append(f"{name} written")
    return lines


def _stages(store: Store) -> Iterator[str]:
    database = store.path
    yield f"1. ingest: thirty rows that ship with kbetl, into {database}"
    yield from _ingest(database)
    yield "2. enrich: the offline model rates rollouts with a reward above 0.85"
    yield from _asked(store, "difficulty")
    yield "3. prompts: the offline model writes a specification of each module"
    yield from _asked(store, "prompts")
    yield "4. enrich again: asks what is missing, and nothing else"
    yield from _asked(store, "difficulty")
    yield "5. dedupe: the best rollout of each module"
    yield from _table(store)
    yield "6. lengths: tokens as a trainer sees them, with a small tokenizer of our own"
    yield from _lengths(store)
    yield f"7. export: the best rollouts, for a trainer, into {DEMO_EXPORT}/"
    yield from _exported(database)
    has_left_rows = _leave_rows(DEMO_ROWS)
    rows = DEMO_ROWS if has_left_rows else "YOUR.jsonl"
    yield f"8. {DEMO_ROWS}: {'the thirty rows' if has_left_rows else 'a file of yours, left as it is'}"
    yield "Next:"
    yield f'  kbetl query -d {database} -t "select module_name, reward, difficulty from filtered"'
    yield f"  kbetl status -d {database}"
    yield f"  kbetl ingest {rows} && kbetl enrich -m {OFFLINE} --dry-run"


def _ingest(database: Path) -> Iterator[str]:
    options = Reading(name="sample")
    sources = find_sources([str(resources.data_path("sample.jsonl"))], options)
    for report in ingest_into(database, sources, options, ReadProgress()):
        yield f"   {report.as_text()}"


def _asked(store: Store, task: str) -> Iterator[str]:
    report = run_plan(plan_of(store, EnrichOptions(task=task, model=OFFLINE), "demo"), _quiet)
    for line in report.lines():
        yield f"   {line}"


def _lengths(store: Store) -> Iterator[str]:
    report = measure(store, str(resources.data_path("tokenizer")), choose(store, "filtered", (), None))
    shown = ", ".join(f"{each.percentile:g} %: {each.total_tokens:,}" for each in report.percentiles)
    yield f"   {report.measured_now} samples measured; tokens that cover {shown}"
    for fault in report.unreached:
        yield f"   no advice: {fault.what} of {fault.samples} samples does not reach the rendered text"
    for advice in report.advice:
        yield f"   seq_len {advice.seq_len:,} covers {advice.percentile:g} %"


def _exported(database: Path) -> Iterator[str]:
    report = export(database, Exporting(Dataset("unique", splits=True), str(DEMO_EXPORT), format="messages"))
    yield f"   {report.as_text()}"


def _leave_rows(path: Path) -> bool:
    """Writes the shipped rows to `path`; False if something else is there already, which stays."""
    rows = resources.data_path("sample.jsonl").read_bytes()
    if path.exists():
        return path.is_file() and path.read_bytes() == rows
    with atomic_file(path) as file:
        file.write(rows)
    return True


def _table(store: Store) -> Iterator[str]:
    for module_name, reward, difficulty in store.rows("status/best_per_module"):
        yield f"   {module_name:<18} reward {reward:<5} {difficulty}"


def _quiet(_line: str) -> None:
    return None


def _remove(database: Path) -> None:
    """Removes the store of an earlier demo; anything else of that name stays, and is an error."""
    if not database.exists():
        return
    if database.stat().st_size:
        with Store.read(database, checks_schema=False, checks_views=False) as store:
            first = store.rows("status/first_run")
            is_unused = not first and store.rows("status/row_counts")[0] == ("samples", 0)
        if first != [("demo",)] and not is_unused:
            raise StoreError(
                f"{database} is not the store of an earlier demo; move it away, or name another with -d"
            )
    for suffix in _BESIDE:
        Path(f"{database}{suffix}").unlink(missing_ok=True)
