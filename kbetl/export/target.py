"""Where an export goes: written beside, and renamed when it is whole and on disk."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from kbetl import atomic_files
from kbetl.errors import ConfigError, ExportFailed
from kbetl.export.formats import Format
from kbetl.store.datasets import SPLITS, Split
from kbetl.store.lengths import seq_len
from kbetl.text import plain_text

FileKind = Literal["jsonl", "jsonl.gz", "parquet", "csv"]
KINDS: tuple[FileKind, ...] = ("jsonl.gz", "jsonl", "parquet", "csv")
IN_WORDS = ".jsonl, .jsonl.gz, .parquet, .csv, or a folder"
MARK = "<!-- made by kbetl export -->"
"""In a folder's README.md: that it may be replaced by another export."""
_README = "README.md"
_WRITTEN = {_README, "data", "dataset_info.json", "sft.toml"}
"""All that an export puts into a folder."""


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """A file of one kind; or, where `kind` is None, a folder."""

    path: Path
    kind: FileKind | None
    mode: int | None = None
    """The permission bits of what is written; None: as the umask has them."""

    def beside(self, split: str) -> Path:
        """The file for one split: `filtered-train.jsonl` for `filtered.jsonl`."""
        stem = self.path.name.removesuffix(f".{self.kind}")
        return self.path.with_name(f"{stem}-{split}.{self.kind}")


def target_of(output: str) -> ExportTarget:
    """What `-o` names. Raises ConfigError for a kind of file that is not written here."""
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
    """Raises ConfigError where writing the target would replace the store, or the folder that it is in."""
    store = database.resolve()
    paths = [target.path, *(target.beside(split) for split in SPLITS)]
    if any(path.resolve() == store for path in paths) or target.path.resolve() in store.parents:
        is_within = target.kind is None
        what = "the folder that the store is in" if is_within else "the store itself"
        raise ConfigError(f"-o {target.path} is {what} ({database}); name another one")


def as_open_as(database: Path, target: ExportTarget) -> ExportTarget:
    """The target with the permission bits of the store."""
    return replace(target, mode=atomic_files.mode_of(database)) if database.exists() else target


@contextlib.contextmanager
def atomic_file(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """A file that replaces `path` at once when all is written and on disk; on any error the old one stays.

    Raises ExportFailed in words where the disk does not take it.
    """
    path = path.resolve()
    _refuse_device(path)
    with _explained(path), atomic_files.whole_file(path, mode) as file:
        yield file


@contextlib.contextmanager
def atomic_folder(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A folder that replaces `path` when all is written and on disk; on any error the old one stays.

    Raises ConfigError where something else than a folder of ours, or an empty one, stands there.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"-o {path} is not a folder; name one of {IN_WORDS}")
    _refuse_foreign(path)
    with _explained(path), atomic_files.whole_folder(path, mode) as folder:
        yield folder


def _refuse_device(path: Path) -> None:
    """A device or pipe would be replaced by a file or a folder of its name."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ConfigError(f"-o {path} is a device or pipe; name one of {IN_WORDS}")


def _refuse_foreign(path: Path) -> None:
    """A folder is replaced as a whole, so it must be empty or an export of ours, with nothing else in it."""
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
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportFailed(
            f"{path} cannot be written: {error.strerror or error}; what stood there before is unchanged"
        ) from error


def data_path(split: Split) -> str:
    """Where the rows of a split stand in a folder, as `datasets` names them."""
    return f"data/{split}-00000-of-00001.parquet"


def readme(name: str, rows: Mapping[Split, int]) -> str:
    """The front matter from which `load_dataset` knows the splits, and what the folder is."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in rows:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    counts = ", ".join(f"{number:,} in {split}" for split, number in rows.items())
    return "\n".join([*lines, "---", MARK, "", f"# {name}", "", f"Rows: {counts}.", ""])


def dataset_info(name: str, format_: Format, splits: Sequence[Split], columns: Sequence[str]) -> str:
    """`dataset_info.json` of LLaMA-Factory for `sharegpt` and `alpaca`: its name for each split."""
    entry = trainer_entry(format_, columns)
    described = {f"{name}_{split}": {"file_name": data_path(split), **entry} for split in splits}
    return json.dumps(described, indent=2) + "\n"


def trainer_entry(format_: Format, columns: Sequence[str]) -> dict[str, Any]:
    """What LLaMA-Factory has to be told of rows with these columns, less where they are."""
    entry = _SHAREGPT if format_ == "sharegpt" else _ALPACA
    return {**entry, "columns": {key: name for key, name in entry["columns"].items() if name in columns}}


_SHAREGPT: dict[str, Any] = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "tools": "tools"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
}
_ALPACA: dict[str, Any] = {
    "formatting": "alpaca",
    "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"},
}


def sft_toml(folder: str, splits: Sequence[Split], longest_tokens: Mapping[str, int]) -> str:
    """`sft.toml` of prime-rl for `messages` and `prompt-completion`.

    `longest_tokens` is the longest row by tokenizer; empty where not all rows are measured.
    """
    lines = [
        "[data]",
        f"name = {json.dumps(folder, ensure_ascii=False)}",
        f"splits = {json.dumps(splits[:1])}",
    ]
    if not longest_tokens:
        lines.append("# seq_len: not all rows are measured; kbetl lengths measures them")
    for number, (tokenizer, tokens) in enumerate(longest_tokens.items()):
        lines.append(
            f"# the longest row has {tokens:,} tokens with {json.dumps(tokenizer, ensure_ascii=False)}"
        )
        lines.append(f"{'# ' if number else ''}seq_len = {seq_len(tokens)}")
    return "\n".join(lines) + "\n"
