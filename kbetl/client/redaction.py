"""Replaces the run's own secrets in what a server sends, so that no echo of a key is stored or shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from multidict import CIMultiDict

SHORTEST = 8
"""Characters that a secret has at least: a shorter value would be found in any text."""


# Escapes by which JSON may spell a printable ASCII character.
_ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|([/\"\\]))")


class Redactor:
    """Replaces secrets by ***, also where JSON spells them with escapes."""

    def __init__(self, secrets: Collection[str]) -> None:
        found = sorted({text for text in secrets if len(text) >= SHORTEST}, key=len, reverse=True)
        self._plain = [text.encode() for text in found]
        self._spelled = re.compile(b"|".join(map(_spelled, found)), re.IGNORECASE) if found else None

    def __call__(self, body: bytes) -> bytes:
        """Returns the body without secrets."""
        for secret in self._plain:
            if secret in body:
                body = body.replace(secret, b"***")
        # the pattern is slow, so it runs only if unescaping the body shows a secret
        first = body.find(b"\\")
        if self._spelled is None or first < 0 or not _ESCAPE.search(body, first):
            return body
        return self._spelled.sub(b"***", body) if self._is_in(_ESCAPE.sub(_unescaped, body)) else body

    def _is_in(self, text: bytes) -> bool:
        return any(secret in text for secret in self._plain)

    def headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Returns the headers without secrets in names and values."""
        if not any(
            self._is_in(f"{name}\n{value}".encode("utf-8", "replace")) for name, value in headers.items()
        ):
            return headers
        return CIMultiDict((self._text(name), self._text(value)) for name, value in headers.items())

    def _text(self, text: str) -> str:
        return self(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escape[1].decode()) if escape[1] else escape[2]


def _spelled(secret: str) -> bytes:
    """Returns a pattern for the secret, each character plain or escaped."""
    return b"".join(
        b"(?:(?-i:%s)|\\\\u%04x%s)"
        % (
            re.escape(char).encode(),
            ord(char),
            rb"|\\" + re.escape(char).encode() if char in '/"\\' else b"",
        )
        for char in secret
    )
