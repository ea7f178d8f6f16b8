"""What every fault must come to, in a hundred samples: for the tests and for `tests/bench/faults.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from enrich_case import module_of
from fake_llm import FAULTS, Asked, Order
from fake_schedule import ByContent

LABELS = ("low", "medium", "high")


class Expected(NamedTuple):
    """The outcome of a sample: its status, and its value where that is ok."""

    status: str
    value: str | None = None


OWN = Expected("ok", "own")
"""The rating that the sample's question gets from a server without a fault."""

PASSING = (
    *("429", "429 retry-after", "429 ms", "429 date", "429 headers", "503", "503 html", "529"),
    *("error 200 rate", "500", "500 html", "502", "504", "408", "409", "error 200", "reset", "reset body"),
    *("silence", "silence body", "cut body", "cut json", "invalid json", "html", "empty body", "not http"),
    *("broken gzip", "no gzip", "empty choices", "no choices", "no message", "choice error"),
    *("number content", "drop", "400 max_tokens"),
)
"""Faults that a later try does not meet."""

HOLDS = frozenset({"429 date"})
"""Those of them for which nothing is sent for a second."""

LASTING = {
    **dict.fromkeys(("gzip", "wrong type", "slow drip", "no usage", "odd usage", "reasoning_content"), OWN),
    **dict.fromkeys(("nul", "escape codes", "lone surrogates"), Expected("ok", "low")),
    "not utf-8": OWN,
    "list content": Expected("ok", "low"),
    "upper case": Expected("ok", "high"),
    "fenced": Expected("ok", "medium"),
    "tag in think and after": Expected("ok", "high"),
    "large": Expected("ok", "low"),
    **dict.fromkeys(("two tags", "no tag", "tag in think"), Expected("unparsed")),
    **dict.fromkeys(("refusal", "content_filter"), Expected("refused")),
    "length": Expected("truncated"),
    **dict.fromkeys(("400", "400 context", "413", "422", "500 ever", "cut body ever"), Expected("failed")),
    "null content": Expected("failed"),
}
"""Faults that every try meets, and what they come to."""

FOR_ALL = ("401", "402", "403", "404", "429 quota", "redirect", "400 temperature")
"""Faults that end the run; `400 temperature` is for all, and learned."""


def rating_of(asked: Asked) -> str:
    """A good answer: by the number of the module, so that a test can tell it without the server."""
    return f"<difficulty>{own_label(module_of(asked))}</difficulty>"


def own_label(number: int) -> str:
    return LABELS[number * 7 % 3]


def one_of_each(asked: Asked, met: dict[int, int]) -> Order:
    """Every other module gets a fault, the next one of the lists; `met` counts the requests of each."""
    number = module_of(asked)
    fault = fault_of(number)
    met[number] = met.get(number, 0) + 1
    if fault is None or (fault in PASSING and met[number] > 1):
        return None
    return fault.removesuffix(" ever")


def fault_of(number: int) -> str | None:
    """The fault that `one_of_each` gives a module: all but HOLDS, which take their time."""
    faults = (*(fault for fault in PASSING if fault not in HOLDS), *LASTING)
    return faults[number // 2] if number % 2 == 0 and number // 2 < len(faults) else None


def drawn_mix(seed: int) -> ByContent:
    """A quarter of the questions meets a fault that passes, another quarter one that lasts."""
    lasting = {fault: 0.25 / len(LASTING) for fault in LASTING if not fault.endswith(" ever")}
    shares = {**{fault: 0.25 / len(PASSING) for fault in PASSING}, **lasting, "500+500+500": 0.005}
    return ByContent(shares, seed=seed, times=dict.fromkeys([*lasting, "500+500+500"]))


def expected_of(fault: str | None, number: int) -> Expected:
    """What a sample must come to whose questions met a fault."""
    found = OWN if fault is None or fault in PASSING else LASTING.get(fault, Expected("failed"))
    return Expected("ok", own_label(number)) if found == OWN else found


def faults_not_covered() -> Iterable[str]:
    """Every fault is in one of the lists."""
    return set(FAULTS) - {*PASSING, *LASTING, *FOR_ALL}
