"""Takes the run's own secrets out of what a server sends, so that no echo of a key is kept or shown."""

from __future__ import annotations

import re
from collections.abc import Collection

SHORTEST = 8
"""Characters below which a value is no secret: it would be found in any text."""


class Redactor:
    """Puts *** in the place of secrets, however JSON may spell them."""

    def __init__(self, secrets: Collection[str]) -> None:
        found = sorted({text for text in secrets if len(text) >= SHORTEST}, key=len, reverse=True)
        self._plain = [text.encode() for text in found]
        self._spelled = re.compile(b"|".join(map(_spelled, found)), re.IGNORECASE) if found else None

    def __call__(self, body: bytes) -> bytes:
        for secret in self._plain:
            if secret in body:
                body = body.replace(secret, b"***")
        # only where there is an escape at all: the search by characters is a slow one
        if self._spelled is not None and (b"\\u00" in body or b"\\/" in body):
            body = self._spelled.sub(b"***", body)
        return body


def _spelled(secret: str) -> bytes:
    """A pattern of the secret with each character as it is or escaped."""
    return b"".join(
        b"(?:(?-i:%s)|\\\\u%04x%s)" % (re.escape(char).encode(), ord(char), rb"|\\/" if char == "/" else b"")
        for char in secret
    )
