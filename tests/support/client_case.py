"""What the tests of the client share: a question, a server's endpoint, and what came of asking."""

from __future__ import annotations

import asyncio

from fake_llm import Asked, FakeLlm

from kbetl.client import Client, Endpoint, Limits
from kbetl.records import Completion, Request

KEY = "sk-very-secret-0123456789"
RATINGS = {f"<difficulty>{label}</difficulty>" for label in ("low", "medium", "high")}
FAST = Limits(backoff_s=0.0, alone_s=30.0)
"""No waits of our own; the first request goes alone until it has an answer."""


def question(text: str = "Rate this.", **parameters) -> Request:
    return Request("m", [{"role": "user", "content": text}], parameters)


def endpoint(llm: FakeLlm) -> Endpoint:
    return Endpoint(llm.url, {"Authorization": f"Bearer {KEY}"})


async def until(condition) -> None:
    """Lets the others run until it holds; nothing hangs on how long that takes."""
    while not condition():  # noqa: ASYNC110 - a condition of another thread
        await asyncio.sleep(0)


class Asking:
    """What came of asking: answers or errors in the order of the questions, and what was wasted."""

    def __init__(self, llm, requests, limits=FAST):
        self.wasted: list[Completion | None] = []
        asyncio.run(self._ask(endpoint(llm) if isinstance(llm, FakeLlm) else llm, requests, limits))

    async def _ask(self, where, requests, limits):
        async with Client(where, limits) as client:
            asked = [client.complete(request, self._keep) for request in requests]
            self.results = await asyncio.gather(*asked, return_exceptions=True)
            self.replaced = dict(client.replaced)
            self.stats = client.stats

    async def _keep(self, completion):
        self.wasted.append(completion)

    @property
    def only(self):
        (result,) = self.results
        return result


def ask_one(llm, request=None, limits=FAST) -> Completion:
    result = Asking(llm, [request or question()], limits).only
    assert isinstance(result, Completion), result
    return result


def refused(llm, kind, request=None, limits=FAST) -> str:
    result = Asking(llm, [request or question()], limits).only
    assert isinstance(result, kind), result
    assert "\n" not in str(result)
    assert KEY not in str(result)
    return str(result)


def asked_like() -> Asked:
    """A request as the server sees it."""
    with FakeLlm() as llm:
        ask_one(llm)
        return llm.requests[0]
