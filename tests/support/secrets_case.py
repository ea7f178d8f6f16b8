"""A key, a server that says it back, and where to look for it afterwards."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

from enrich_case import Case

KEY = "sk-planted/Key+0123456789=="
HEADER_VALUE = "planted-header-9876543210"
LOGIN = "planted-proxy-password"
MARKERS = (KEY, HEADER_VALUE, LOGIN, KEY.replace("/", "\\/"), KEY[3:-2], "planted_Key_0123456789")


def found_in(text: str | bytes, markers: Sequence[str] = MARKERS) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    return [marker for marker in markers if marker.encode() in raw]


def leaks(folder: Path, markers: Sequence[str] = MARKERS) -> list[str]:
    """Files below a folder that hold a marker, `.env` apart; compressed ones are opened."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".env":
            raw = path.read_bytes()
            raw += gzip.decompress(raw) if path.suffix == ".gz" else b""
            found += [f"{path.name}: {marker}" for marker in found_in(raw, markers)]
    return found


def asking(*more: object) -> list[object]:
    return ["-k", "PLANTED_KEY", "--header", "X-Plain: $PLANTED_HEADER", "-v", *more]


def check_sent(case: Case) -> None:
    """The server did get the secrets: the test could find them."""
    headers = case.llm.requests[-1].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-plain"] == HEADER_VALUE


ECHO = f"you sent {KEY} and {HEADER_VALUE}"


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:  # the process has ended
        return False
    return os.access(path, os.R_OK)
