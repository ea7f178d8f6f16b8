"""How a request is called in a batch file: `custom_id`, made of its hash and attempt, and back."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

_CUSTOM_ID = re.compile(r"r1-([A-Za-z0-9_-]{43})-(0|[1-9][0-9]{0,8})")


class Key(NamedTuple):
    """A request and the how-manieth answer to it."""

    request_hash: str
    attempt: int


def custom_id(request_hash: str, attempt: int) -> str:
    """`r1-HASH-ATTEMPT`, the hash in URL-safe base64.

    In hex it would be longer than the 64 characters that some services take.

    >>> custom_id("r1:" + "0f" * 32, 2)
    'r1-Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8-2'
    """
    digest = bytes.fromhex(request_hash.removeprefix("r1:"))
    return f"r1-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-{attempt}"


def key_of(name: str) -> Key | None:
    """What a `custom_id` stands for; None where it is none of ours.

    >>> key_of("r1-Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8-2").attempt
    2
    >>> key_of("request-1")
    """
    found = _CUSTOM_ID.fullmatch(name)
    if found is None:
        return None
    try:
        digest = base64.urlsafe_b64decode(found[1] + "=")
    except binascii.Error:
        return None
    key = Key("r1:" + digest.hex(), int(found[2]))
    return key if custom_id(*key) == name else None
