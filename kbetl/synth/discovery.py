"""Finds the runs below a path: which files hold rollouts, by their content, and what is said around them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from kbetl import rollouts
from kbetl.errors import BadRow, ConfigError, SourceError
from kbetl.json_codec import read_json
from kbetl.readers.lines import decompressed, printable_path, read_lines
from kbetl.rollouts import REQUESTS, Run, Tool, is_joined, shape_of, tool_of
from kbetl.rollouts.detect import SHAPES, why_no_rollout
from kbetl.samples.rollout_facts import rollout_facts
from kbetl.tasks.answer_formats import check_unicode
from kbetl.text import plain_text

METADATA = "metadata.json"
CONFIG = Path("configs", "resolved", "eval.json")
_SNIFFED_LINES = 100
_SNIFFED_BYTES = 64 * 2**20
_SETTINGS_BYTES = 2**20
_DATA = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst")
"""A file with such a name is missed where it is left aside."""


_NO_TOOL = Tool()


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """How runs are recorded. None: as their files say."""

    name: str | None = None
    model: str | None = None
    environment: str | None = None
    inputs: Sequence[Path] = ()
    """Input files of batches; those beside an output are found."""


@dataclass(frozen=True, slots=True)
class DetectedFile:
    """What the first line that is any says of a file. `shape` is None where there is no rollout."""

    shape: str | None = None
    model: str | None = None
    environment: str | None = None
    tool: Tool = _NO_TOOL
    is_empty: bool = False
    why: str = ""
    """Why its first line is no rollout."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """One run: a source of the store."""

    name: str
    uri: str
    files: Sequence[Path]
    inputs: Sequence[Path]
    run: Run
    shape: str
    notes: Sequence[str] = ()
    model_given: str | None = None
    """By an option alone: a rollout that says another one is not of this run. So below."""
    environment_given: str | None = None

    @property
    def size_bytes(self) -> int:
        """Of its files."""
        return sum(path.stat().st_size for path in self.files if path.exists())

    @property
    def run_text(self) -> str:
        """The column `sources.run`."""
        run = self.run
        settings = {
            "tool": run.tool,
            "version": run.version,
            "shape": SHAPES[self.shape].words,
            **run.settings,
        }
        return json.dumps({key: value for key, value in settings.items() if value}, ensure_ascii=False)


@dataclass(slots=True)
class RunFinder:
    """Looks for runs; remembers what files are, for those who look again and again."""

    options: RecordOptions
    notes: list[str] = field(default_factory=list)
    """What was left aside, and why, since `find` was last called."""
    _sniffed: dict[Path, DetectedFile] = field(default_factory=dict)

    def find(self, texts: Sequence[str]) -> list[RunFiles]:
        """The runs at each PATH, each once, in order of their path.

        Raises SourceError where a PATH is nothing that can be read, and ConfigError where options and
        files do not agree.
        """
        self.notes = []
        if not all(texts):
            raise ConfigError("a PATH is empty; name a file or a folder (. for this one)")
        for value, option in ((self.options.model, "--model"), (self.options.environment, "--env")):
            check_unicode(value or "", option)
        found: dict[str, RunFiles] = {}
        inputs = [*self.options.inputs, *self._inputs_among(texts)]
        for text in texts:
            for run in self._find(text, inputs):
                found.setdefault(os.path.realpath(run.uri), run)
        if not found and inputs:
            raise SourceError(_why_nothing(inputs[0], DetectedFile(REQUESTS)))
        return _named(list(found.values()), self.options.name)

    def _inputs_among(self, texts: Sequence[str]) -> list[Path]:
        files = [path for path in map(Path, texts) if path.is_file()]
        return [path for path in files if self.sniff(path).shape == REQUESTS]

    def _find(self, text: str, inputs: Sequence[Path]) -> Iterator[RunFiles]:
        path = Path(text)
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            yield from self._below(text, path, inputs)
        elif not stat.S_ISREG(mode):
            raise SourceError(f"{printable_path(text)} is no file or folder")
        elif path not in inputs:
            sniffed = self.sniff(path)
            if sniffed.shape is None or sniffed.shape == REQUESTS:
                raise SourceError(_why_nothing(path, sniffed))
            yield self._run(os.path.normpath(text), path.parent, [path], inputs, sniffed.shape)

    def _below(self, text: str, folder: Path, inputs: Sequence[Path]) -> Iterator[RunFiles]:
        is_any = False
        for below in self._folders(folder):
            files = self._rollout_files(below)
            if files:
                is_any = True
                name = os.path.normpath(os.path.join(text, below.relative_to(folder)))
                shape = self.sniff(files[0]).shape or "row"
                yield self._run(name, below, files, inputs, shape)
        if not is_any and not self.notes:
            self.notes.append(f"{printable_path(text)}: no file with rollouts in this folder")

    def _rollout_files(self, folder: Path) -> list[Path]:
        files = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or not path.is_file():
                continue
            try:
                sniffed = self.sniff(path)
            except SourceError as error:
                self.notes.append(str(error))
                continue
            if sniffed.shape not in (None, REQUESTS):
                files.append(path)
            elif sniffed.shape is None and path.name.lower().endswith(_DATA):
                why = "empty so far" if sniffed.is_empty else f"skipped, no rollouts in it ({sniffed.why})"
                self.notes.append(f"{printable_path(path)}: {why}")
        return files

    def _run(
        self, name: str, folder: Path, files: Sequence[Path], given: Sequence[Path], shape: str
    ) -> RunFiles:
        first = self.sniff(files[0])
        (metadata, note), options = _metadata(folder), self.options
        run, notes = _described(name, folder, metadata, first, options)
        found = [] if not is_joined(shape) else self._inputs_in(folder)
        inputs = list(dict.fromkeys([*given, *found])) if is_joined(shape) else []
        return RunFiles(
            printable_path(name),
            name,
            files,
            inputs,
            run,
            shape,
            [*([note] if note else []), *notes],
            None if metadata.model else options.model,
            None if metadata.environment else options.environment,
        )

    def _inputs_in(self, folder: Path) -> list[Path]:
        files = [
            path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")
        ]
        return [path for path in files if self.sniff(path).shape == REQUESTS]

    def _folders(self, folder: Path) -> Iterator[Path]:
        """A folder and all below it in order of their path; hidden ones left out, links out of it noted."""
        top = Path(os.path.realpath(folder))
        for below, folders, _ in os.walk(folder, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for path in (Path(below, name) for name in folders):
                if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
                    self.notes.append(f"{printable_path(path)}: skipped, a link to a folder elsewhere")
            yield Path(below)

    def sniff(self, path: Path) -> DetectedFile:
        """What a file holds; asked anew as long as that is nothing yet."""
        known = self._sniffed.get(path)
        if known is None or known.shape is None:
            known = self._sniffed[path] = _sniff(path)
        return known


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise SourceError(f"{printable_path(path)} cannot be read: {words}") from None


def _refuse(error: OSError) -> None:
    raise SourceError(f"folder {printable_path(error.filename)} cannot be read: {error.strerror}")


def _sniff(path: Path) -> DetectedFile:
    """What the first line with a shape says; a file of another kind is given up soon."""
    is_empty, why = True, ""
    try:
        with path.open("rb", buffering=0) as file:
            for number, raw in enumerate(read_lines(_start(decompressed(file)))):
                is_empty = False
                sniffed = _sniff_line(raw.text) if raw.fault is None else DetectedFile(why=raw.fault)
                if sniffed.shape is not None:
                    return sniffed
                why = why or f"line {raw.line}: {plain_text(sniffed.why)}"
                if number >= _SNIFFED_LINES:
                    break
    except OSError as error:
        raise SourceError(f"{printable_path(path)} cannot be read: {error.strerror}") from None
    return DetectedFile(is_empty=is_empty, why=why)


def _start(chunks: Iterator[bytes]) -> Iterator[bytes]:
    size_bytes = 0
    for chunk in chunks:
        yield chunk
        size_bytes += len(chunk)
        if size_bytes > _SNIFFED_BYTES:
            return


def _sniff_line(text: bytes) -> DetectedFile:
    try:
        parsed = read_json(text)
        shape = shape_of(parsed.value)
        if shape is None:
            return DetectedFile(why=why_no_rollout(parsed.value))
        if shape == REQUESTS:
            return DetectedFile(shape)
        tool = tool_of(parsed.value)
        if is_joined(shape):
            return DetectedFile(shape, tool=tool)
        facts = rollout_facts(rollouts.rows_of(parsed)[0].value)
    except BadRow as bad:
        return DetectedFile(why=str(bad))
    return DetectedFile(shape, facts.model, facts.environment, tool)


def _why_nothing(path: Path, sniffed: DetectedFile) -> str:
    name = printable_path(path)
    if sniffed.shape == REQUESTS:
        return f"{name} holds the requests of a batch; name its output file, and this one with --input"
    if sniffed.is_empty:
        return f"{name} is empty; with --follow it is waited for"
    hint = "" if "kbetl ingest" in sniffed.why else "; `kbetl ingest` reads modules and evals rows"
    return f"{name} holds no rollouts of a run ({sniffed.why}){hint}"


def _described(
    name: str, folder: Path, metadata: Run, first: DetectedFile, options: RecordOptions
) -> tuple[Run, list[str]]:
    """What is known of a run: from its files, else the options, else the names of its folders."""
    of_names = rollouts.run_of_names([printable_path(part) for part in folder.absolute().parts])
    model = _one_of("--model", options.model, metadata.model or first.model, name)
    environment = _one_of("--env", options.environment, metadata.environment or first.environment, name)
    run = replace(
        metadata,
        model=options.model or metadata.model or (None if model else of_names.model),
        environment=options.environment
        or metadata.environment
        or (None if environment else of_names.environment),
        tool=metadata.tool or first.tool.name,
        version=metadata.version or first.tool.version,
    )
    guessed = [
        f"{word} {guess}"
        for word, known, guess in (
            ("model", model, of_names.model),
            ("environment", environment, of_names.environment),
        )
        if not known and guess
    ]
    notes = _disagreements(name, metadata, first)
    if guessed:
        notes.append(
            f"{printable_path(name)}: {' and '.join(guessed)}, by the name of its folder; "
            "--model and --env say otherwise"
        )
    if not is_joined(first.shape) and not (model or run.model):
        notes.append(f"{printable_path(name)}: its files do not say the model; --model does")
    return run, notes


def _disagreements(name: str, metadata: Run, first: DetectedFile) -> list[str]:
    """Where run and first rollout name different models; a server may spell one out: `m`, `m-2026`."""
    if not metadata.model or not first.model or first.model.startswith(metadata.model):
        return []
    return [
        f"{printable_path(name)}: its settings say model {plain_text(metadata.model)}, its first rollout "
        f"{plain_text(first.model)}; the settings hold"
    ]


def _one_of(option: str, given: str | None, said: str | None, name: str) -> str | None:
    """What the option or the files say. Raises ConfigError where they do not agree."""
    if given and said and given != said:
        raise ConfigError(
            f"{option} {given}: the files of {printable_path(name)} say {plain_text(said)}; "
            f"leave {option} out"
        )
    return given or said


class RunMetadata(NamedTuple):
    """What stands beside the rollouts of a run. `note` says which of it could not be read."""

    run: Run
    note: str | None = None


def _metadata(folder: Path) -> RunMetadata:
    """What metadata.json or the settings beside the rollouts say."""
    readers = ((METADATA, rollouts.run_of_metadata), (CONFIG, rollouts.run_of_config))
    for name, read in readers:
        path = folder / name
        if path.exists():
            settings = _settings(path)
            if settings is not None:
                return RunMetadata(read(settings))
            return RunMetadata(Run(), f"{printable_path(path)}: no JSON object, so it does not say the model")
    return RunMetadata(Run())


def _settings(path: Path) -> Any:
    """The object that a file of settings is; None where it is none, or is being written."""
    try:
        if path.stat().st_size > _SETTINGS_BYTES:
            return None
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _named(runs: list[RunFiles], name: str | None) -> list[RunFiles]:
    """With --as all files are one source, so they must be of one model and environment."""
    if name is None or not runs:
        return runs
    if not name.strip():
        raise ConfigError("--as is empty; give the source a name, or leave --as out")
    said = {(run.run.model, run.run.environment) for run in runs}
    if len(said) > 1:
        names = ", ".join(run.name for run in runs)
        raise ConfigError(f"--as names one source; these are runs of different models: {names}")
    first = runs[0]
    files = [path for run in runs for path in run.files]
    inputs = list(dict.fromkeys(path for run in runs for path in run.inputs))
    notes = [note for run in runs for note in run.notes]
    return [replace(first, name=printable_path(name), files=files, inputs=inputs, notes=notes)]
