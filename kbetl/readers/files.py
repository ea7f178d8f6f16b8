"""Reads the rows of a file by the format that its name says; detects compression by its first bytes."""

from __future__ import annotations

import contextlib
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from kbetl.errors import BadRow, SourceError
from kbetl.readers import arrow_rows, parquet_rows, text_rows
from kbetl.readers.lines import RawRow, Readable, decompressed, peek, read_lines
from kbetl.readers.text_rows import raw_values
from kbetl.samples.parse import looks_like_a_row

_KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_COMPRESSIONS = (".gz", ".zst", ".zstd")
_PARQUET_MARK = b"PAR1"
# Only a smaller .json file can be the settings of a tool.
_SETTINGS_BYTES = 2**20
KINDS_IN_WORDS = ".jsonl, .json, .csv, .parquet and .arrow, also with .gz or .zst"


def kind_of(path: str | Path) -> str | None:
    """Returns `jsonl`, `json`, `csv`, `parquet` or `arrow` by the name of a file; None for other names."""
    name = Path(path).name.lower()
    for suffix in _COMPRESSIONS:
        name = name.removesuffix(suffix)
    return _KINDS.get(Path(name).suffix)


def rows_of_file(path: Path, name: str) -> Iterator[RawRow]:
    """Yields the rows of a file. Raises SourceError if nothing of it can be read."""
    kind = kind_of(name) or "jsonl"
    with _opened(path, name) as file:
        if kind in _BINARY:
            yield from _from_disk(path, file, name, kind)
        else:
            yield from _TEXT[kind](decompressed(file), name)


def rows_of_stream(file: Readable, name: str) -> Iterator[RawRow]:
    """Yields the rows of a pipe: JSONL, JSON, Parquet or Arrow by its first bytes, also compressed."""
    first, chunks = peek(decompressed(file), len(arrow_rows.FILE_MARK))
    kind = next((kind for mark, kind in _MARKS.items() if first.startswith(mark)), None)
    if kind is None:
        yield from _json(chunks, name)
    else:
        with _spooled(chunks, name) as spool:
            yield from _BINARY[kind].raw_rows(spool, name)


def rows_of_pipe(path: Path, name: str) -> Iterator[RawRow]:
    """Yields the rows of a named pipe, as `rows_of_stream`."""
    with _opened(path, name) as file:
        yield from rows_of_stream(file, name)


def features_of(path: Path) -> Any:
    """Returns the declared column types as JSON; None if the file declares none."""
    kind = _KINDS.get(path.suffix.lower(), "")
    return _BINARY[kind].features(path) if kind in _BINARY else None


def why_no_rows(path: Path) -> str | None:
    """Returns why a file of a folder is skipped; None if it is read, or has to be reported as unreadable."""
    kind = kind_of(path)
    if kind is None:
        return f"not one of {KINDS_IN_WORDS}"
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return "a folder, pipe or device"
        if kind == "arrow":
            return arrow_rows.why_no_rows(path)
        if path.suffix.lower() == ".json" and path.stat().st_size <= _SETTINGS_BYTES:
            return _why_no_row_in(path.read_bytes())
    except OSError:
        return None
    return None


def _why_no_row_in(content: bytes) -> str | None:
    """Returns why a .json file is skipped: settings of tools are one object without a field of a row."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if isinstance(value, dict) and not looks_like_a_row(value):
        return "one object without the fields of a row"
    return None


def _opened(path: Path, name: str) -> IO[bytes]:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{name}: it cannot be opened: {error.strerror}") from None


def _jsonl(chunks: Iterator[bytes], name: str) -> Iterator[RawRow]:
    """Yields the lines, or the elements of a list if the file begins with a bracket."""
    head, chunks = _until_text(chunks)
    return raw_values(chunks) if head.startswith(b"[") else read_lines(chunks)


def _until_text(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Returns the start from the first byte that is no white space, and an iterator over all bytes."""
    size_bytes = 1
    while True:
        head, chunks = peek(chunks, size_bytes)
        text = head.lstrip()
        if text or len(head) < size_bytes:
            return text, chunks
        size_bytes = len(head) + 1


def _json(chunks: Iterator[bytes], name: str) -> Iterator[RawRow]:
    """Yields the rows of a list, of one object, or of JSONL, if the first line is a complete object."""
    head, chunks = _until_line_end(chunks)
    line = head.lstrip().partition(b"\n")[0].rstrip()
    read = read_lines if line.startswith(b"{") and line.endswith(b"}") else raw_values
    return read(chunks)


def _until_line_end(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Returns the start up to the end of the first line, of a list just its bracket, and all bytes."""
    size_bytes = 1
    while True:
        head, chunks = peek(chunks, size_bytes)
        text = head.lstrip()
        if b"\n" in text or text.startswith(b"[") or len(head) < size_bytes:
            return head, chunks
        size_bytes = 2 * len(head) + 1


_TEXT = {"jsonl": _jsonl, "json": _json, "csv": text_rows.raw_records}


_BINARY = {"parquet": parquet_rows, "arrow": arrow_rows}
_MARKS = {
    _PARQUET_MARK: "parquet",
    arrow_rows.FILE_MARK: "arrow",
    arrow_rows.STREAM_MARK: "arrow",
}


def _from_disk(path: Path, file: IO[bytes], name: str, kind: str) -> Iterator[RawRow]:
    """Yields the rows of Parquet or Arrow; a compressed file is first decompressed into a temporary one."""
    if path.suffix.lower() in _KINDS:
        yield from _BINARY[kind].raw_rows(path, name)
        return
    with _spooled(decompressed(file), name) as spool:
        yield from _BINARY[kind].raw_rows(spool, name)


@contextlib.contextmanager
def _spooled(chunks: Iterator[bytes], name: str) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(prefix="kbetl-") as spool:
        try:
            for chunk in chunks:
                spool.write(chunk)
        except BadRow as error:
            raise SourceError(f"{name}: {error}; nothing could be read") from None
        spool.seek(0)
        yield spool
