"""Finds what a SOURCE on the command line is: a file, a folder, a pipe, standard input, the Hub."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from kbetl import readers
from kbetl.errors import ConfigError, SourceError
from kbetl.ingest.source import IngestOptions, Part, Source
from kbetl.readers.lines import printable_path
from kbetl.store.samples import SourceInfo

STDIN = "-"
DEFAULT_SPLIT = "train"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_sources(texts: Sequence[str], options: IngestOptions) -> list[Source | SourceError]:
    """What each SOURCE is, or why it cannot be read; nothing is read but folders and the Hub's listing.

    Raises ConfigError for options that do not go together.
    """
    if options.name is not None and len(texts) != 1:
        raise ConfigError(f"--as names one source; {len(texts)} are given")
    if options.name is not None and not options.name.strip():
        raise ConfigError("--as is empty; give the source a name, or leave --as out")
    if options.name is not None and not options.name.isprintable():
        raise ConfigError(f"--as {options.name!r} has line breaks or control characters; leave them out")
    if not all(texts):
        raise ConfigError("a SOURCE is empty; name a file, a folder (. for this one), - or OWNER/NAME")
    found: list[Source | SourceError] = []
    for text in texts:
        try:
            found.append(_find(text, options))
        except SourceError as error:
            found.append(error)
    return found


def _find(text: str, options: IngestOptions) -> Source:
    if text == STDIN:
        _refuse_hub_options(text, options)
        return _stdin(options)
    path = Path(text).expanduser()
    mode = _mode(path)
    if mode is None and _is_hub_name(text):
        from kbetl.ingest import hub_source

        return hub_source.find(text, options)
    _refuse_hub_options(text, options)
    if mode is None:
        raise SourceError(
            f"{printable_path(text)}: no such file or folder; a dataset on the Hub is named OWNER/NAME"
        )
    if stat.S_ISDIR(mode):
        return _folder(text, path, options)
    if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
        return _file(text, path, options, is_pipe=stat.S_ISFIFO(mode))
    raise SourceError(f"{printable_path(text)} is a device or socket, not a file with rows")


def _mode(path: Path) -> int | None:
    """The file mode at a path, links followed; None if nothing is there."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            target = printable_path(os.readlink(path))
            raise SourceError(f"{printable_path(path)} is a link to {target}, which does not exist") from None
        return None
    except NotADirectoryError:
        return None
    except (OSError, ValueError) as error:
        raise SourceError(f"{printable_path(path)} cannot be read: {_words(error)}") from None


def _words(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _is_hub_name(text: str) -> bool:
    return _HUB_NAME.fullmatch(text) is not None and readers.kind_of(text) is None


def _refuse_hub_options(text: str, options: IngestOptions) -> None:
    for option, value in (("--split", options.split), ("--revision", options.revision)):
        if value is not None:
            raise ConfigError(f"{option} is for datasets on the Hub; {printable_path(text)} is none")


def _stdin(options: IngestOptions) -> Source:
    origin = SourceInfo(options.name or "stdin", STDIN, "stdin")
    return Source(
        origin, [Part("stdin", lambda: readers.rows_of_stream(sys.stdin.buffer, "stdin"), is_stream=True)]
    )


def _file(text: str, path: Path, options: IngestOptions, *, is_pipe: bool) -> Source:
    name = printable_path(text)
    origin = SourceInfo(options.name or _normal(name), name, "file")
    if is_pipe:
        return Source(origin, [Part(name, lambda: readers.rows_of_pipe(path, name), is_stream=True)])
    if readers.kind_of(text) is None:
        raise SourceError(f"{name}: not a kind of file that holds rows; those are {readers.KINDS_IN_WORDS}")
    return Source(origin, [_part(name, path)], size_bytes=path.stat().st_size)


def _part(name: str, path: Path) -> Part:
    return Part(name, lambda: readers.rows_of_file(path, name), lambda: readers.features_of(path))


def _folder(text: str, path: Path, options: IngestOptions) -> Source:
    name = printable_path(text)
    parts: list[Part] = []
    notes: list[str] = []
    size_bytes = 0
    for file in _files_below(path, notes):
        file_name = printable_path(os.path.join(text, file.relative_to(path)))
        why_not = readers.why_no_rows(file)
        if why_not is not None:
            notes.append(f"{file_name}: skipped, {why_not}")
            continue
        parts.append(_part(file_name, file))
        size_bytes += file.stat().st_size if file.exists() else 0
    if not parts:
        raise SourceError(f"folder {name} holds no file with rows; those are {readers.KINDS_IN_WORDS}")
    return Source(SourceInfo(options.name or _normal(name), name, "folder"), parts, notes, size_bytes)


def _files_below(folder: Path, notes: list[str]) -> list[Path]:
    """All files in order of their path; hidden ones left out, links to folders noted and not followed."""
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise SourceError(f"folder {printable_path(error.filename)} cannot be read: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=refuse):
        for name in list(folders):
            below = Path(parent, name)
            if name.startswith("."):
                folders.remove(name)
            elif below.is_symlink():
                notes.append(f"{printable_path(below)}: skipped, a link to a folder")
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda file: file.relative_to(folder).parts)


def _normal(name: str) -> str:
    return os.path.normpath(name)
