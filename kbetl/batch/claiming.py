"""`batch write` beside those who pay online: what they have under way is not handed out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from kbetl.asking.company import LOOK_EVERY_S, SAY_AFTER_S, waiting_line
from kbetl.asking.starting import who_asks
from kbetl.records import Request
from kbetl.store import Claims, Store


class Claiming:
    """The requests that this command may hand out."""

    def __init__(self, store: Store, claims: Claims, say: Callable[[str], None]) -> None:
        self._store = store
        self._claims = claims
        self._say = say

    @property
    def is_shared(self) -> bool:
        """Whether somebody else may pay too, so that each request has to be claimed."""
        return self._claims.is_shared

    def begin(self) -> None:
        """To be called before answers are looked up. Waits until who pays alone has made room."""
        self._claims.begin()
        began_s, is_said = time.monotonic(), False
        while self._claims.is_shared and self._claims.is_held_back():
            if not is_said and time.monotonic() - began_s > SAY_AFTER_S:
                is_said = True
                self._say(waiting_line(who_asks(self._store, self._claims.holder_of_all())))
            time.sleep(LOOK_EVERY_S)

    def look_round(self, under_way: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """Makes room where somebody waits for it; `under_way` gives what is claimed and not recorded yet."""
        self._claims.check_in_place()
        if not self._claims.is_shared and self._claims.has_company():
            self._claims.share(under_way())

    def claim(self, request: Request, attempt: int) -> bool:
        """Whether this command alone may hand a request out now."""
        return self._claims.claim(request.hash, attempt)

    def release(self, request: Request, attempt: int) -> None:
        """A claimed request was not handed out."""
        self._claims.release(request.hash, attempt)

    def recorded(self) -> None:
        """All that was claimed is recorded as handed out."""
        if self._claims.is_shared:
            self._claims.release_all()
