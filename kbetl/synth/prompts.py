"""Where the prompts come from: modules and a task file, the view `synthetic`, or a file of prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from kbetl import config
from kbetl.errors import BadRow, ConfigError, MissingField, SourceError
from kbetl.inference.find_task import find_task
from kbetl.inference.options import EnrichOptions
from kbetl.inference.plan import ModelTask, PromptSource, Say, fill_selection
from kbetl.json_codec import read_json
from kbetl.readers.lines import RawRow, decompressed, read_lines
from kbetl.records import Sample
from kbetl.row_writer import Rejections
from kbetl.samples import fields
from kbetl.samples.parse import parse_prompt, remember_code
from kbetl.samples.reading import stored_row
from kbetl.store import Store
from kbetl.store.answers import tasks_named
from kbetl.store.samples import SampleWriter, SourceInfo
from kbetl.store.selection import PendingSample, Selection
from kbetl.tasks import Task
from kbetl.text import plain_text

_OF_PROMPTS = "row ->> '$.prompt' is not null"
_IN_SYNTHETIC = "sample_hash in (select synthetic.sample_hash from synthetic)"
_SHORT = 16
"""Characters of the hash of the task whose specifications the prompts are."""


def synth_task(store: Store, options: GenerateOptions) -> Task:
    """The task as the options put it: with other prompts than the task file's, these are its template.

    Raises ConfigError for a task about rollouts, and where the prompts are not there.
    """
    task = find_task(store, options.task)
    if task.about != ("module",):
        raise ConfigError(
            f"task {task.name!r} is about {' and '.join(task.about)}s; "
            "`synth run` takes one about modules, such as kernels"
        )
    if options.prompts == MODULES:
        return task
    if options.prompts == SYNTHETIC:
        field = f"{SYNTHETIC}.{_specifications(store)}"
        return replace(task, template=f"{{{{ {field} }}}}", where=_both(task.where, _IN_SYNTHETIC))
    return replace(task, template="{{ prompt }}", where=_both(task.where, _OF_PROMPTS))


def _both(first: str | None, second: str) -> str:
    return second if first is None else f"({first}) and {second}"


def _specifications(store: Store) -> str:
    """Whose specifications the view shows; other ones make other prompts, and so another task."""
    in_use = next((each for each in tasks_named(store, "prompts") if each.in_use), None)
    if in_use is None:
        raise ConfigError("no synthetic prompts: `kbetl prompts` makes them first")
    return in_use.hash.partition(":")[2][:_SHORT]


def prompt_sources(
    store: Store, options: GenerateOptions, task: Task
) -> Callable[[PendingSample], PromptSource]:
    """Makes what the prompt of a pending sample is filled from."""
    if options.prompts == SYNTHETIC:
        key = task.template.strip("{} ").partition(".")[2]
        return lambda sample: _synthetic_problem(store, sample, key)
    if options.prompts == MODULES:
        return lambda sample: _module_problem(store, sample)
    return lambda sample: _prompt_problem(store, sample, task.system)


def _row_of(sample: PendingSample) -> Mapping[str, Any]:
    return stored_row(sample.row, sample.field_map)


def _module_problem(store: Store, sample: PendingSample) -> PromptSource:
    row = _row_of(sample)
    return PromptSource(row, _facts(store, sample.sample_hash, row))


def _synthetic_problem(store: Store, sample: PendingSample, key: str) -> PromptSource:
    found = store.rows("synth/synthetic_prompt", {"sample_hash": sample.sample_hash})
    if not found:
        raise MissingField("it has no synthetic prompt any more; `kbetl prompts` makes one")
    row = _row_of(sample)
    return PromptSource({SYNTHETIC: {key: found[0][0]}}, _facts(store, sample.sample_hash, row))


def _prompt_problem(store: Store, sample: PendingSample, system: str | None) -> PromptSource:
    row = _row_of(sample)
    facts = _facts(store, sample.sample_hash, row)
    if isinstance(row.get("prompt"), str):
        return PromptSource(row, facts)
    first = [{"role": "system", "content": system}] if system is not None else []
    messages = [{key: value for key, value in each.items() if value is not None} for each in row["prompt"]]
    return PromptSource(row, facts, [*first, *messages])


def _facts(store: Store, sample_hash: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What a rollout says of its problem: `example_id` and `info`, as the evals rows have them.

    Without an `example_id` of its own a problem goes by the first 52 bits of its hash.
    """
    info = {key: value for key, value in fields.info(row).items() if value is not None}
    code = fields.python_code(row)
    stored = store.rows("synth/code_of_sample", {"sample_hash": sample_hash})
    if code is not None and stored:  # its rollouts hold the same: reading it again would hold up the loop
        remember_code(code, stored[0][0])
    for key, value in (
        ("module_name", fields.module_name(row)),
        ("python_code", code),
        ("triton_code", fields.triton_code(row)),
        ("uuid", row.get("uuid")),
    ):
        if value is not None:
            info.setdefault(key, value)
    example = row.get("example_id")
    if isinstance(example, bool) or not isinstance(example, int | str):
        example = int(sample_hash.partition(":")[2][:13], 16)
    return {"example_id": example, "info": {**info, "problem": sample_hash}}


class Line(NamedTuple):
    """A line of a file of prompts."""

    location: str
    line_hash: bytes
    """SHA-256."""
    sample: Sample | None
    """None: it holds no prompt, and `reason` says why."""
    reason: str = ""


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file of prompts. Raises SourceError if it cannot be read."""
    try:
        with path.open("rb") as file:
            for raw in read_lines(decompressed(file)):
                yield _line(raw, f"{path}:{raw.line}")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


def _line(raw: RawRow, location: str) -> Line:
    line_hash = hashlib.sha256(raw.text).digest()
    try:
        if raw.fault is not None:
            raise BadRow(raw.fault)
        return Line(location, line_hash, parse_prompt(read_json(raw.text)))
    except BadRow as bad:
        return Line(location, line_hash, None, plain_text(str(bad)))


def check_prompts(path: Path, rejections: Rejections, *, has_prompts: bool) -> None:
    """Raises SourceError if a file holds no prompt."""
    if not has_prompts:
        raise SourceError("; ".join((f"{path}: no prompts in it", *rejections.lines()[:1])))


def store_prompts(store: Store, path: Path, run_id: int, counts: dict[str, int]) -> list[str]:
    """Stores the rows of a file of prompts as a source, named by the path; gives what there is to say.

    `counts` gets what became of them. Raises SourceError if the file cannot be read, or holds no prompt.
    """
    name = str(path)
    writer = SampleWriter(store, SourceInfo(name, name, "file"), run_id)
    rejections = Rejections()
    for line in lines_of(path):
        if line.sample is not None:
            writer.add_sample(line.sample, line.line_hash)
        else:
            writer.reject(line.location, line.reason, line.line_hash)
            rejections.add(line.location, line.reason)
    check_prompts(path, rejections, has_prompts=writer.has_samples)
    writer.add() if writer.counts.rejected or writer.is_of_other_command else writer.replace()
    found = writer.counts
    counts |= {"read": found.read, "new": found.new, "known": found.known, "rejected": found.rejected}
    read = ", ".join(f"{what} {count}" for what, count in counts.items())
    counts["rejected_before"] = found.rejected_before
    return [f"{name}: {read}", *rejections.lines()]


def chosen_sources(options: GenerateOptions) -> Sequence[str]:
    """The sources that a run keeps to: those that were named, and the file of prompts."""
    if options.prompts in (MODULES, SYNTHETIC):
        return options.sources
    if options.sources:
        raise ConfigError("--source chooses among the rows of the store: leave it out with a file of prompts")
    return (options.prompts,)


MODULES = "modules"
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class GenerateOptions(EnrichOptions):
    """The options of `synth run`; `limit` counts rollouts, and `min_reward` is never set."""

    task: str = "kernels"
    rollouts: int = 1
    """Wanted for each prompt."""
    prompts: str = MODULES
    """Where they come from: MODULES, SYNTHETIC, or the path of a JSONL file."""
    base_urls: tuple[str, ...] = (config.BASE_URL,)
    """One or several servers of the same model."""
    stream: bool = False
    name: str | None = None
    """Of the source that the rollouts go to; None: by task and model."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From `runs.options`."""
        found = super().from_json(stored)
        return replace(found, base_urls=tuple(found.base_urls))


class Unstored(Selection):
    """The prompts of a file, in temp tables alone."""

    rows_query = "synth/unstored_rows"

    def __init__(self, store: Store, task_hash: str, attempts: int) -> None:
        super().__init__(store, task_hash, attempts)
        with store.translate_errors():
            store.execute("synth/drop_unstored")
            store.execute("synth/unstored_table")

    def read(self, path: Path, say: Say) -> None:
        """Chooses the prompts of a file. Raises SourceError if there are none."""
        rejections, read, rejected = Rejections("rejected lines"), 0, 0
        with self.store.transaction(writes=False):
            for line in lines_of(path):
                read += 1
                if line.sample is None:
                    rejected += 1
                    rejections.add(line.location, line.reason)
                else:
                    row = {"sample_hash": line.sample.hash, "row": line.sample.row}
                    self.store.execute("synth/add_unstored", row)
            self.store.execute("synth/choose_unstored")
        say(f"{path}: read {read}, rejected {rejected}; --dry-run stores nothing")
        for remark in rejections.lines():
            say(remark)
        check_prompts(path, rejections, has_prompts=read > rejected)


def select_unstored(store: Store, options: GenerateOptions, asked: ModelTask, say: Say) -> Selection:
    """What a run about the prompts of a file would ask.

    Raises ConfigError for a condition: it is looked at where rows are stored.
    """
    if options.where is not None:
        raise ConfigError(
            "--where is about stored rows, and --dry-run stores none of a file's: leave out one of them"
        )
    selection = Unstored(store, asked.hash, options.rollouts)
    selection.read(Path(options.prompts), say)
    fill_selection(selection, options, wants_rollouts=True)
    return selection
