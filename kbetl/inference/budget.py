"""The budget of a run: reserves before each try is sent, charges its answer, and says when to end."""

from __future__ import annotations

import asyncio
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

from kbetl.errors import BudgetReached, ConfigError, RunStopped
from kbetl.inference.event_loop import retrieve_exception
from kbetl.inference.writer import WriteItem
from kbetl.prices import Price, pusd_of, usd
from kbetl.records import Completion, Request
from kbetl.store import Store
from kbetl.store.answers import last_try
from kbetl.store.reservations import MaxUsage, ToReserve, charge_in_full, release, reserve


class Budget:
    """What a task may cost in a store in all, at any concurrency; for one event loop.

    A try waits as long as those in flight may release a part of what they reserved. When nothing is in
    flight and the next request does not fit, it and all later ones get BudgetReached.
    """

    def __init__(self, balance: Balance, price: Price | None, task_name: str, run_id: int = 0) -> None:
        self.balance = balance
        self.price = price
        self._task_name = task_name
        self.run_id = run_id
        """The run that reserves; set before the first request."""
        self.orphaned_note = ""
        """What killed runs have reserved, in words; empty if they have nothing."""
        self._waiting: deque[tuple[MaxUsage, asyncio.Future[None]]] = deque()
        self._in_flight = 0
        self._closed: RunStopped | None = None

    def max_usage(self, request: Request) -> MaxUsage:
        """The most that one try of a request may use. Raises ConfigError if that is not known."""
        return max_usage(request, self.price)

    async def acquire(self, worst: MaxUsage) -> None:
        """Returns once one more try is reserved; each needs its `finish_try`."""
        if self._closed is not None:
            raise self._closed
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((worst, future))
        self._wake()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.balance.unreserve(worst)
                self.finish_try()
            raise

    def finish_try(self) -> None:
        """Ends a try: it is no longer in flight, and the balance has its usage."""
        self._in_flight -= 1
        self._wake()

    def close(self, error: RunStopped) -> None:
        """Ends reservations: each that waits, or comes later, gets this error."""
        self._closed = self._closed or error
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(self._closed)
        self._waiting.clear()

    def check_open(self) -> None:
        """Raises the error that closed it, if it is closed."""
        if self._closed is not None:
            raise self._closed

    def usage_of(self, completion: Completion) -> BilledUsage:
        """What an answer used; see `billed_usage`."""
        return billed_usage(completion, self.price)

    def check_overrun(self, worst: MaxUsage, usage: BilledUsage) -> None:
        """Ends the run if an answer used more than was reserved: price or output limit are wrong."""
        if exceeds_reservation(worst, usage):
            self.close(RunStopped(_overrun(worst, usage)))

    def _wake(self) -> None:
        while self._waiting:
            worst, future = self._waiting[0]
            if not future.done():
                if not self.balance.fits(worst):
                    break
                self.balance.reserve(worst)
                self._in_flight += 1
                future.set_result(None)
            self._waiting.popleft()
        if self._waiting and not self._in_flight:
            self.close(BudgetReached(self._reached(self._waiting[0][0])))

    def _reached(self, worst: MaxUsage) -> str:
        ceiling = self.balance.ceiling
        most = f"{worst.tokens:,} tokens" if ceiling.pusd is None else f"${usd(worst.pusd or 0):.4f}"
        return (
            f"budget reached: {self._task_name} has taken {self.balance.as_text()} in this store, "
            f"and the next request may take {most}"
            + (f"; {self.orphaned_note}" if self.orphaned_note else "")
        )


def _overrun(worst: MaxUsage, usage: BilledUsage) -> str:
    if worst.pusd is not None and (usage.pusd or 0) > worst.pusd:
        return (
            f"an answer cost ${usd(usage.pusd or 0):.6f} where at most ${usd(worst.pusd):.6f} was reserved: "
            "the price is too low, so no budget can be kept; correct it in kbetl.toml"
        )
    return (
        f"an answer took {usage.tokens:,} tokens where at most {worst.tokens:,} were reserved: the server "
        "does not keep the output limit, so no budget can be kept; ask without --max-cost and "
        "--max-tokens-total"
    )


@dataclass(eq=False)
class TryReservation:
    """Reserves for each try of one request and charges it; the client calls it at each try."""

    budget: Budget
    request: Request
    submit: Callable[[WriteItem], asyncio.Future[None]]
    attempt: int = 0
    _worst: MaxUsage | None = None
    """Of the try that is in flight; None if there is none."""
    _reservation: int = 0
    """Its id; set by the writer's thread, which does one thing after the other."""

    async def before_send(self) -> None:
        """Returns once the try's worst case is durably reserved; RunStopped if it must not be sent."""
        self.finished()
        try:
            worst = self.budget.max_usage(self.request)
        except ConfigError as error:
            raise RunStopped(str(error)) from error
        await self.budget.acquire(worst)
        self._worst = worst
        try:
            await self.submit(WriteItem([], in_same_transaction=partial(self._reserve, worst)))
            self.budget.check_open()
        except BaseException:
            self.not_billed()
            raise

    def not_billed(self) -> None:
        """Releases the reservation of a try that was not billed, or not sent."""
        if self._worst is None:
            return
        self.budget.balance.unreserve(self._worst)
        # nobody waits for this: if it fails, so does everything that is stored after it
        self.submit(WriteItem([], in_same_transaction=self._release)).add_done_callback(retrieve_exception)
        self._resolve()

    def charge(self, completion: Completion) -> Callable[[Store], None] | None:
        """Charges the answer; returns what is to be called in the transaction that stores it, or None."""
        worst = self._worst
        if worst is None:
            return None
        usage = self.budget.usage_of(completion)
        is_charged = self.budget.balance.charge(worst, usage)
        self.budget.check_overrun(worst, usage)
        self._resolve()
        return self._release if is_charged else self._keep_reserved

    def finished(self) -> None:
        """Charges a try in full, for ever, if it has ended and its usage is not known."""
        if self._worst is not None:
            self._resolve()

    def _resolve(self) -> None:
        self._worst = None
        self.budget.finish_try()

    def _reserve(self, worst: MaxUsage, store: Store) -> None:
        request = self.request
        self._reservation = reserve(
            store, ToReserve(self.budget.run_id, request.hash, self.attempt, request.model, worst)
        )

    def _release(self, store: Store) -> None:
        release(store, self._reservation)

    def _keep_reserved(self, store: Store) -> None:
        try_number = last_try(store, self.request.hash, self.attempt)
        if try_number is not None:
            charge_in_full(store, self._reservation, try_number)


class Limit(NamedTuple):
    """The most that a task may use in a store in all; None: no limit."""

    pusd: int | None
    """Picodollars."""
    tokens: int | None
    """Prompt and completion."""


class BilledUsage(NamedTuple):
    """Picodollars and tokens. None: not known, which counts as the most that it may be."""

    pusd: int | None
    tokens: int | None


@dataclass
class Balance:
    """spent + reserved never exceeds the limit, as long as no request uses more than its reservation."""

    ceiling: Limit
    spent_pusd: int = 0
    """Of requests whose usage is known."""
    spent_tokens: int = 0
    reserved_pusd: int = field(default=0)
    """Of requests that were sent and whose usage is not known yet, or never will be."""
    reserved_tokens: int = 0

    def fits(self, worst: MaxUsage) -> bool:
        """Whether a request may be sent that uses so much at most."""
        most_pusd, most_tokens = self.ceiling
        if most_pusd is not None and self.used_pusd + (worst.pusd or 0) > most_pusd:
            return False
        return most_tokens is None or self.used_tokens + worst.tokens <= most_tokens

    def reserve(self, worst: MaxUsage) -> None:
        """Reserves; only what fits."""
        self.reserved_pusd += worst.pusd or 0
        self.reserved_tokens += worst.tokens

    def unreserve(self, worst: MaxUsage) -> None:
        """Releases a reservation of which nothing was used."""
        self.reserved_pusd -= worst.pusd or 0
        self.reserved_tokens -= worst.tokens

    def charge(self, worst: MaxUsage, usage: BilledUsage) -> bool:
        """Replaces the reservation of a request by its usage.

        Returns False, and changes nothing, if the usage lacks what the limit is about: it counts in full.
        """
        if not self.has_usage(usage):
            return False
        self.unreserve(worst)
        self.spent_pusd += usage.pusd or 0
        self.spent_tokens += usage.tokens or 0
        return True

    def has_usage(self, usage: BilledUsage) -> bool:
        """Whether a usage has what the limit is about."""
        lacks_cost = self.ceiling.pusd is not None and usage.pusd is None
        lacks_tokens = self.ceiling.tokens is not None and usage.tokens is None
        return not (lacks_cost or lacks_tokens)

    @property
    def remaining(self) -> Limit:
        """What may still be reserved, below zero if more was used; None: no limit."""
        return Limit(
            None if self.ceiling.pusd is None else self.ceiling.pusd - self.used_pusd,
            None if self.ceiling.tokens is None else self.ceiling.tokens - self.used_tokens,
        )

    @property
    def used_pusd(self) -> int:
        return self.spent_pusd + self.reserved_pusd

    @property
    def used_tokens(self) -> int:
        return self.spent_tokens + self.reserved_tokens

    def as_text(self) -> str:
        """What is used of what, for people."""
        parts = []
        if self.ceiling.pusd is not None:
            reserved = f" (${usd(self.reserved_pusd):.4f} of it reserved)" if self.reserved_pusd else ""
            parts.append(f"${usd(self.used_pusd):.4f} of ${usd(self.ceiling.pusd):.4f}{reserved}")
        if self.ceiling.tokens is not None:
            reserved = f" ({self.reserved_tokens:,} of them reserved)" if self.reserved_tokens else ""
            parts.append(f"{self.used_tokens:,} of {self.ceiling.tokens:,} tokens{reserved}")
        return " and ".join(parts)


def exceeds_reservation(worst: MaxUsage, usage: BilledUsage) -> bool:
    """Whether a request used more than its price and output limit allow: then these are wrong."""
    is_dearer = worst.pusd is not None and usage.pusd is not None and usage.pusd > worst.pusd
    return is_dearer or (usage.tokens is not None and usage.tokens > worst.tokens)


def billed_usage(completion: Completion, price: Price | None) -> BilledUsage:
    """What an answer used: the larger of the cost that it names and of its tokens by the price.

    A value is None if it is not known.
    """
    prompt_tokens, completion_tokens = completion.prompt_tokens, completion.completion_tokens
    is_counted = prompt_tokens is not None and completion_tokens is not None
    tokens = (prompt_tokens or 0) + (completion_tokens or 0) if is_counted else None
    known = [] if completion.cost_usd is None else [pusd_of(completion.cost_usd)]
    if is_counted and price is not None and price.covers(prompt_tokens or 0):
        cached = min(prompt_tokens or 0, completion.cached_tokens or 0)
        known.append(price.cost_pusd((prompt_tokens or 0) - cached, cached, completion_tokens or 0))
    return BilledUsage(max(known, default=None), tokens)


# For what a chat template adds to a prompt: its markers, a system prompt of its own, the date.
ALLOWANCE_TOKENS = 1000
ALLOWANCE_TOKENS_PER_MESSAGE = 20

_LIMITS = ("max_completion_tokens", "max_tokens")
_CHOICES = ("n", "best_of")
_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def output_limit(parameters: Mapping[str, Any]) -> int | None:
    """Completion tokens that a request may bring at most, of all its choices; None if it sets no limit."""
    limits = _counts(parameters, _LIMITS)
    choices = _counts(parameters, _CHOICES)
    return max(limits) * max(choices, default=1) if limits else None


def max_prompt_tokens(request: Request) -> int:
    """Prompt tokens that a request can have at most.

    A token is at least one byte of the text that the tokenizer reads, so the bytes of the whole
    body bound them, schemas and tools among it; if the text is not ASCII, those of its longest
    normalised form. Raises ConfigError for parts that are no text: an image's tokens are not in its bytes.
    """
    if any(_has_other_parts(message.get("content")) for message in request.messages):
        raise ConfigError("a message holds parts that are no text: their tokens are not known beforehand")
    return (
        max_tokens_of_text(request.text)
        + ALLOWANCE_TOKENS
        + ALLOWANCE_TOKENS_PER_MESSAGE * len(request.messages)
    )


def max_tokens_of_text(text: str) -> int:
    """Tokens that a text can have at most, whatever the tokenizer and its normalisation."""
    if text.isascii():
        return len(text)
    longest = max(len(unicodedata.normalize(form, text).encode()) for form in _FORMS)
    return max(longest, len(text.encode()))


def max_usage(request: Request, price: Price | None) -> MaxUsage:
    """The most that one try of a request can use.

    Raises ConfigError if that is not known: no output limit, parts that are no text, or a prompt for
    which the price does not hold.
    """
    limit = output_limit(request.parameters)
    if limit is None:
        raise ConfigError(
            f"a budget needs an output limit, and {request.model} is asked without one: "
            "give -t/--max-tokens N, or -o max_completion_tokens N"
        )
    prompt_tokens = max_prompt_tokens(request)
    if price is None:
        return MaxUsage(prompt_tokens + limit, None)
    if not price.covers(prompt_tokens):
        raise ConfigError(
            f"a prompt may have {prompt_tokens:,} tokens, and {price.source} gives another price from "
            f"{price.below_prompt_tokens:,} on: put the higher one into kbetl.toml, "
            f'[prices."{request.model}"]'
        )
    return MaxUsage(prompt_tokens + limit, price.most_pusd(prompt_tokens, limit))


def _counts(parameters: Mapping[str, Any], names: Iterable[str]) -> list[int]:
    values = (parameters.get(name) for name in names)
    return [value for value in values if type(value) is int and value > 0]


def _has_other_parts(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") not in ("text", "input_text") for part in content
    )
