"""The user's own SQL, read only, and its rows as text for programs and for people."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from kbetl.errors import ConfigError
from kbetl.json_codec import LARGEST_INTEGER
from kbetl.store import read_only_query
from kbetl.text import inert_cell

Value = str | int | float | bytes | None
Row = tuple[Value, ...]
Form = Literal["json", "nl", "csv", "tsv", "table", "raw"]

_SPELLED_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
# control characters that JSON lets pass, line separators, and marks that turn the direction of text
_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are written. `fmt` is a table format of `tabulate`."""

    form: Form = "json"
    headers: bool = True
    """Column names above CSV, TSV and tables."""
    arrays: bool = False
    """JSON rows as lists in place of objects."""
    json_columns: bool = False
    """Text that is a JSON object or list is written as such in JSON."""
    fmt: str = "simple"


def print_query(
    database: Path, statement: str, parameters: Mapping[str, str], layout: Layout, out: BinaryIO
) -> None:
    """Writes the rows of one SQL statement to `out`, one by one (a table: all at once), as UTF-8.

    Text that is not UTF-8 is treated as a BLOB. Raises ConfigError for empty SQL, BadQuery for SQL that
    fails, StoreError where there is no store to read.
    """
    bound = {name.lstrip(":@$"): number_or_text(value) for name, value in parameters.items()}
    with read_only_query(database) as connection:
        connection.text_factory = _text_or_bytes
        cursor = connection.execute(statement, bound)
        if cursor.description is None:
            raise ConfigError('no SQL statement; for example: kbetl query "select * from filtered limit 3"')
        names = [column[0] for column in cursor.description]
        # the first row is asked for before anything is written: most errors show here
        first = list(itertools.islice(cursor, 1))
        rows: Iterator[Row] = itertools.chain(first, cursor)
        for text in _WRITERS[layout.form](names, rows, layout):
            out.write(text)
    out.flush()


def number_or_text(value: str) -> int | float | str:
    """A parameter as SQLite should see it: a number if it is spelled as JSON spells one, else text.

    As text, `0.9` would be more than any computed number: SQLite sorts text after numbers.

    >>> number_or_text("0.90"), number_or_text("007")
    (0.9, '007')
    """
    found = _SPELLED_NUMBER.fullmatch(value)
    if found is None:
        return value
    if found[2] or found[3]:
        number = float(value)
        return number if math.isfinite(number) else value
    integer = int(value) if len(value) < 20 else LARGEST_INTEGER + 1
    return integer if -LARGEST_INTEGER <= integer <= LARGEST_INTEGER else value


def _text_or_bytes(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _json(names: Sequence[str], rows: Iterator[Row], layout: Layout) -> Iterator[bytes]:
    """`[{...},` and `{...}]`: a list with one row per line, as sqlite-utils prints it."""
    spell = _row_speller(names, layout)
    before = "["
    for row in rows:
        yield f"{before}{spell(row)}".encode()
        before = ",\n "
    yield b"[]\n" if before == "[" else b"]\n"


def _lines(names: Sequence[str], rows: Iterator[Row], layout: Layout) -> Iterator[bytes]:
    spell = _row_speller(names, layout)
    for row in rows:
        yield f"{spell(row)}\n".encode()


def _row_speller(names: Sequence[str], layout: Layout) -> Callable[[Row], str]:
    spell = _json_or_text if layout.json_columns else json_value
    if layout.arrays:
        return lambda row: "[" + ", ".join(map(spell, row)) + "]"
    keys = [json_value(name) + ": " for name in _each_once(names)]
    return lambda row: "{" + ", ".join(key + spell(value) for key, value in zip(keys, row, strict=True)) + "}"


def json_value(value: Value) -> str:
    """A value as JSON; BLOBs as sqlite-utils writes them, infinity as SQLite does (9e999)."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return _UNSEEN.sub(_escaped, json.dumps(value, ensure_ascii=False))
    if isinstance(value, bytes):
        return json.dumps({"$base64": True, "encoded": base64.b64encode(value).decode()})
    if isinstance(value, float) and not math.isfinite(value):
        return "9e999" if value > 0 else "-9e999"
    return repr(value)


def _json_or_text(value: Value) -> str:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            json.loads(value, parse_constant=_no_json)
        except (ValueError, RecursionError):
            return json_value(value)
        return _UNSEEN.sub(_escaped, value.strip().translate({10: " ", 13: " ", 9: " "}))
    return json_value(value)


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _each_once(names: Sequence[str]) -> list[str]:
    """The column names; a name that is used already gets a number: `id`, `id_2`."""
    used: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in used or (number > 1 and unique in names):
            number += 1
            unique = f"{name}_{number}"
        used.append(unique)
    return used


def _delimited(names: Sequence[str], rows: Iterator[Row], layout: Layout) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, dialect="excel" if layout.form == "csv" else "excel-tab")
    for row in itertools.chain([tuple(names)] if layout.headers else [], rows):
        writer.writerow([_cell(value) for value in row])
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def _cell(value: Value) -> Value:
    if isinstance(value, bytes):
        return json_value(value)
    return inert_cell(value) if isinstance(value, str) else value


def _table(names: Sequence[str], rows: Iterator[Row], layout: Layout) -> Iterator[bytes]:
    """A table for people; control characters are shown, not sent to the terminal."""
    from tabulate import tabulate

    cells, numeric = [], [True] * len(names)
    for row in rows:
        numeric = [
            known and (value is None or isinstance(value, int | float))
            for known, value in zip(numeric, row, strict=True)
        ]
        cells.append([_shown(value) for value in row])
    text = tabulate(
        cells,
        headers=[_shown(name) for name in names] if layout.headers else (),
        tablefmt=layout.fmt,
        disable_numparse=True,
        preserve_whitespace=True,
        colalign=["right" if known else "left" for known in numeric] if cells else None,
    )
    yield f"{text}\n".encode()


def _shown(value: Value) -> str:
    if isinstance(value, str):
        return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], value.expandtabs(4))
    return "" if value is None else json_value(value)


def _raw(_names: Sequence[str], rows: Iterator[Row], _layout: Layout) -> Iterator[bytes]:
    """The first column of the first row, as it is stored."""
    for row in itertools.islice(rows, 1):
        value = row[0]
        if isinstance(value, bytes):
            yield value
        elif value is not None:
            yield str(value).encode()


_WRITERS: Mapping[Form, Callable[[Sequence[str], Iterator[Row], Layout], Iterator[bytes]]] = {
    "json": _json,
    "nl": _lines,
    "csv": _delimited,
    "tsv": _delimited,
    "table": _table,
    "raw": _raw,
}
