"""Which files hold rows, and the rows of one: by what its name says, and compressed by what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kbetl.errors import SourceError
from kbetl.lines import Raw, Readable, raw_lines, unpacked

_KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_PACKINGS = (".gz", ".zst", ".zstd")
KINDS_IN_WORDS = ".jsonl, .json, .csv and .parquet, also with .gz or .zst"


def kind_of(path: str | Path) -> str | None:
    """`jsonl`, `json`, `csv` or `parquet` by the name of a file; None for any other name."""
    name = Path(path).name.lower()
    for packing in _PACKINGS:
        name = name.removesuffix(packing)
    return _KINDS.get(Path(name).suffix)


def rows_of_file(path: Path, name: str) -> Iterator[Raw]:
    """The rows of a file. Raises SourceError where it cannot be opened."""
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{name}: it cannot be opened: {error.strerror}") from None
    with file:
        yield from rows_of_stream(file, name)


rows_of_pipe = rows_of_file


def rows_of_stream(file: Readable, name: str) -> Iterator[Raw]:
    return raw_lines(unpacked(file))


def features_of(path: Path) -> Any:
    return None


def why_no_rows(path: Path) -> str | None:
    """Why a file in a folder is left aside; None where it is to be read."""
    if kind_of(path) is None:
        return f"not one of {KINDS_IN_WORDS}"
    return None
