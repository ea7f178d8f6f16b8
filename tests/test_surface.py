"""The public surface, as users type, query and script on it, compared with `tests/data/surface/`.

`python tests/test_surface.py` writes the files anew; the test names the first line that differs. Each line is
one fact, in order of its name, so that two branches that add options or columns merge.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from kbetl import records
from kbetl.batch.files import custom_id
from kbetl.cli import cli
from kbetl.cli import run as run_command
from kbetl.errors import LEFT_OVER, KbetlError, exit_status_after
from kbetl.store import Store
from kbetl.tasks import builtin_names, load_task
from kbetl.tasks.task import KEYS

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "data" / "surface"
_LENGTHS = ("lengths", "--tokenizer", str(ROOT / "data" / "tokenizer"))
JSON_OF = {
    "status": ("status", "--json"),
    "dedupe": ("dedupe", "--json"),
    "lengths": (*_LENGTHS, "--json"),
    "batch status": ("batch", "status", "--offline", "--json"),
}
_CODE = "class A:  # a\n    pass\n"
_VARIABLE = re.compile(r"(?:KBETL|PRIME|HF|DATASET|FILTERED|UNIQUE|SYNTHETIC|TEST)_[A-Z_]*[A-Z]")


def commands() -> Iterator[str]:
    """Every parameter of every command: spelling, type, default."""
    yield from _commands_of(cli, "kbetl")


def _commands_of(command: click.Command, name: str) -> Iterator[str]:
    for parameter in command.params:
        told = parameter.to_info_dict()
        kind = told["type"]
        facts = {
            "type": kind.get("name") or kind["param_type"],
            "choices": kind.get("choices"),
            "nargs": parameter.nargs if parameter.nargs != 1 else None,
            "multiple": told["multiple"] or None,
            "flag": told.get("is_flag") or None,
            "required": told["required"] or None,
            "hidden": told.get("hidden") or None,
            "default": _plain(parameter.default),
        }
        spelled = " ".join([*told["opts"], *told["secondary_opts"]])
        words = [f"{key}={value}" for key, value in facts.items() if value is not None]
        yield f"{name} {told['param_type_name']} {spelled}: {parameter.name}; {', '.join(words)}"
    if isinstance(command, click.Group):
        yield from (
            line
            for each in command.commands
            for line in _commands_of(command.commands[each], f"{name} {each}")
        )


def _plain(default: object) -> str | None:
    """A default as text; None without one (click has a mark of its own for that)."""
    return str(default) if isinstance(default, str | int | float | tuple | list | Path) else None


def schema() -> Iterator[str]:
    """Tables and views with their columns, and the settings, of a new store."""
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "kbetl.db") as store:
        found = store.connection.execute(
            'select m.type, m.name, c.name, c.type, c."notnull", c.pk from sqlite_master as m, '
            "pragma_table_xinfo(m.name) as c where m.type in ('table', 'view') and m.name not like 'sqlite%' "
            "order by m.type, m.name, c.name"
        )
        for kind, name, column, type_, is_needed, key in found:
            more = (
                f" {type_.lower()}{' not null' if is_needed else ''}{' key' if key else ''}"
                if kind == "table"
                else ""
            )
            yield f"{kind} {name}.{column}{more}"
        for name, value in store.rows("card/all_settings"):
            yield f"setting {name}: {value}"


def names() -> Iterator[str]:
    """Exit statuses, variables, keys and forms that others rely on."""
    yield f"exit status, something left over: {LEFT_OVER}"
    yield f"exit status, interrupted: {exit_status_after(KeyboardInterrupt())}"
    yield from sorted(f"exit status, {kind.__name__}: {kind.exit_status}" for kind in _kinds(KbetlError))
    yield from (f"variable {name}" for name in sorted(_variables()))
    yield from (f"not content: {path}" for path in sorted(records.NOT_CONTENT))
    yield from (f"key of a task file: {key}" for key in sorted(KEYS))
    yield from (f"task {name}: {', '.join(load_task(name).about)}" for name in builtin_names())
    request = records.Request("m", [{"role": "user", "content": "é"}], {"max_tokens": 1})
    yield f"hash of a sample: {records.sample_hash({'prompt': 'é', 'generation_ms': 1, 'reward': 1.0})}"
    yield f"hash of code: {records.code_hash(_CODE)}"
    yield f"hash of a request: {request.hash}"
    yield f"custom_id: {custom_id('r1:' + '0f' * 32, 2)}"


def _kinds(kind: type[KbetlError]) -> Iterator[type[KbetlError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def _variables() -> set[str]:
    """Names of variables among the texts of our code."""
    found = set()
    for path in (ROOT / "kbetl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and _VARIABLE.fullmatch(node.value)
            ):
                found.add(node.value)
    return found | {"KBETL_DATABASE"}


def printed() -> Iterator[str]:
    """Keys of what `--json` prints on a small store, and the hashes that are in it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copy(ROOT / "data" / "sample.jsonl", "rows.jsonl")
        _kbetl("ingest", "rows.jsonl")
        _kbetl("enrich", "-m", "offline")
        _kbetl(*_LENGTHS)
        _kbetl("batch", "write", "prompts", "b", "-m", "m")
        for name, arguments in JSON_OF.items():
            found = sorted(set(_paths(json.loads(_kbetl(*arguments)))))
            yield from (f"{name}: {path}" for path in found)
        kinds = json.loads(_kbetl("query", _HASHES))
        yield from (f"prefix {each['place']}: {each['prefix']}" for each in kinds)


_HASHES = " union ".join(
    f"select distinct '{place}' as place, substr({place.partition('.')[2]}, 1, 3) as prefix "
    f"from {place.partition('.')[0]}"
    for place in (
        "samples.hash",
        "samples.code_hash",
        "tasks.hash",
        "answers.request_hash",
        "lengths.template_hash",
    )
)


def _paths(value: Any, path: str = "$") -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(each, f"{path}.{'*' if path.endswith('.settings') else key}")
    elif isinstance(value, list):
        yield f"{path}[]"
        for each in value:
            yield from _paths(each, f"{path}[]")
    else:
        yield path


def _kbetl(*arguments: str) -> str:
    """What a command prints; its status must be 0 or 3."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run_command(list(arguments))
    said = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
    assert status in (0, LEFT_OVER), said[1]
    return str(said[0])


SURFACE = {"commands": commands, "schema": schema, "names": names, "json": printed}


@pytest.mark.parametrize("name", SURFACE)
def test_the_public_surface_is_what_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [
        each for each in os.environ if each.startswith(("KBETL_", "PRIME_", "TEST_MODE", "DATASET_"))
    ]:
        monkeypatch.delenv(variable)
    there = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    differs = [
        line
        for line in difflib.unified_diff(there, list(SURFACE[name]()), n=0, lineterm="")
        if line[:2] not in ("--", "++", "@@")
    ]
    first = differs[0] if differs else None
    assert first is None, (
        f"{len(differs)} lines of {name} differ, the first: {first}; see this file's docstring"
    )


def main() -> None:
    """Writes the files anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, facts in SURFACE.items():
        (FOLDER / f"{name}.txt").write_text("".join(f"{line}\n" for line in facts()), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
