"""Checks the output of an export, and opens it as a file or folder that is replaced atomically."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from kbetl import atomic_files
from kbetl.errors import ConfigError, ExportFailed
from kbetl.store.datasets import SPLITS, Split
from kbetl.text import plain_text

FileKind = Literal["jsonl", "jsonl.gz", "parquet", "csv"]
KINDS: tuple[FileKind, ...] = ("jsonl.gz", "jsonl", "parquet", "csv")
IN_WORDS = ".jsonl, .jsonl.gz, .parquet, .csv, or a folder"
MARK = "<!-- made by kbetl export -->"
"""Text in a folder's README.md that allows another export to replace the folder."""
_README = "README.md"
# All files that an export writes into a folder.
_WRITTEN = {_README, "data", "dataset_info.json", "sft.toml"}


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """The output of an export: a file of one kind, or a folder if `kind` is None."""

    path: Path
    kind: FileKind | None
    mode: int | None = None
    """The permission bits of what is written; None for those by the umask."""

    def beside(self, split: str) -> Path:
        """Returns the file of one split: `filtered-train.jsonl` for `filtered.jsonl`."""
        stem = self.path.name.removesuffix(f".{self.kind}")
        return self.path.with_name(f"{stem}-{split}.{self.kind}")


def target_of(output: str) -> ExportTarget:
    """Returns the file or folder that `-o` names. Raises ConfigError for an unknown kind of file."""
    if output.strip() in ("", "-"):
        raise ConfigError(f"-o {output!r} names no file or folder; to see rows on stdout: kbetl query --nl")
    path = Path(output)
    name = path.name.lower()
    _refuse_device(path)
    for kind in KINDS:
        if name.endswith(f".{kind}") and not path.is_dir():
            return ExportTarget(path, kind)
    if path.is_file():
        raise ConfigError(f"-o {output} is a file of another kind; name one of {IN_WORDS}")
    if path.is_dir() or output.endswith(os.sep) or not path.suffix:
        _refuse_foreign(path)
        return ExportTarget(path, None)
    raise ConfigError(f"-o {output}: not one of {IN_WORDS}")


def refuse_store(target: ExportTarget, database: Path) -> None:
    """Raises ConfigError if the target is the store, or a folder that the store is in."""
    store = database.resolve()
    paths = [target.path, *(target.beside(split) for split in SPLITS)]
    if any(path.resolve() == store for path in paths) or target.path.resolve() in store.parents:
        is_within = target.kind is None
        what = "the folder that the store is in" if is_within else "the store itself"
        raise ConfigError(f"-o {target.path} is {what} ({database}); name another one")


def as_open_as(database: Path, target: ExportTarget) -> ExportTarget:
    """Returns the target with the permission bits of the store."""
    return replace(target, mode=atomic_files.mode_of(database)) if database.exists() else target


@contextlib.contextmanager
def atomic_file(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Opens a file that replaces `path` when the block ends; if the block raises, `path` is unchanged.

    Raises ExportFailed if the file system fails.
    """
    path = path.resolve()
    _refuse_device(path)
    with _translate_errors(path), atomic_files.atomic_file(path, mode) as file:
        yield file


@contextlib.contextmanager
def atomic_folder(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Makes a folder that replaces `path` when the block ends; if the block raises, `path` is unchanged.

    Raises ConfigError if `path` exists and is neither an empty folder nor one that an export wrote.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"-o {path} is not a folder; name one of {IN_WORDS}")
    _refuse_foreign(path)
    with _translate_errors(path), atomic_files.atomic_folder(path, mode) as folder:
        yield folder


def _refuse_device(path: Path) -> None:
    """Raises ConfigError for a device or pipe, which a file would replace."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ConfigError(f"-o {path} is a device or pipe; name one of {IN_WORDS}")


def _refuse_foreign(path: Path) -> None:
    """Raises ConfigError for a folder with other files than an export's, because all of it is replaced."""
    names = {each.name for each in path.iterdir()} if path.is_dir() else set()
    if not names:
        return
    readme = path / _README
    if not readme.is_file() or MARK not in readme.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"-o {path} is a folder with other files in it; name a new one")
    added = sorted(names - _WRITTEN)
    if added:
        raise ConfigError(
            f"-o {path} has in it what no export wrote: {plain_text(', '.join(added)[:200])}; "
            "move that away, or name a new folder"
        )


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportFailed(
            f"{path} cannot be written: {error.strerror or error}; what stood there before is unchanged"
        ) from error


def data_path(split: Split) -> str:
    """Returns the path of a split's rows in a folder, as `datasets` names it."""
    return f"data/{split}-00000-of-00001.parquet"


def readme(name: str, rows: Mapping[Split, int]) -> str:
    """Returns the README of a folder: the front matter from which `load_dataset` reads the splits."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in rows:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    counts = ", ".join(f"{number:,} in {split}" for split, number in rows.items())
    return "\n".join([*lines, "---", MARK, "", f"# {name}", "", f"Rows: {counts}.", ""])
