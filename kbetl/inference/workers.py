"""The worker pool: as many workers as requests may be in flight, one feed of requests, one writer."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from kbetl.errors import Interrupted, KbetlError, RequestFailed, RunStopped, Undecided
from kbetl.inference.backends import Backend
from kbetl.inference.begin import BegunTask
from kbetl.inference.breaker import NOTHING, Breaker, Earlier
from kbetl.inference.budget import TryReservation
from kbetl.inference.event_loop import new_event_loop, raise_faults, signals_to
from kbetl.inference.report import RunProgress
from kbetl.inference.requests import Generate, PreparedRequest, RequestFeed
from kbetl.inference.writer import AnswerWriter, WriteItem
from kbetl.records import Completion, ParsedAnswer, Request
from kbetl.store.answers import InUse, fail_again
from kbetl.store.samples import GeneratedRollout

# Samples that may wait for one answer; further ones keep their worker until it is stored.
MAX_DUPLICATES = 1000
# a commit lasts as long as some ten requests: without extra workers, which send while the answers of others
# become durable, the server would wait for our disk. Few of them: a slow disk slows down the requests, and a
# kill loses little
REQUESTS_PER_EXTRA_WORKER, EXTRA_WORKERS_FROM = 8, 32
# How often a run looks whether its lock file is still there.
LOCK_CHECK_S = 0.1
Key = str | tuple[str, int]
"""See `PreparedRequest.key`."""
# How long SIGTERM, or a fault that ends the run, waits for requests in flight.
TERMINATION_GRACE_S = 12.0
_SAY_STOP_AFTER_S = 0.2
# Requests whose refusal may stay undecided, as all others may get it too; then each counts as their own.
MAX_UNDECIDED = 1000


@dataclass(frozen=True)
class InferenceJob:
    """A task under its locks, and the backend that answers it."""

    started: BegunTask
    backend: Backend
    concurrency: int
    """Requests in flight at most; the backend keeps to it."""
    tally: RunProgress
    say: Callable[[str], None]
    """Shows the user one line, such as what Ctrl-C waits for."""
    earlier: Earlier = NOTHING
    """Outcomes of the same question before this run."""
    generate: Generate | None = None
    """Makes a rollout of an answer, stored with it; None: answers are only read."""


def run_job(job: InferenceJob) -> None:
    """Asks every waiting sample of the job and stores what comes back.

    Every answer is durable before its worker begins the next sample. SIGINT and SIGTERM stop new requests,
    store the answers of those in flight and raise Interrupted; a second one ends at once. Raises RunStopped
    for what would hit every sample, StoreError if nothing can be stored; earlier answers are stored.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(WorkerPool(job).run())


@dataclass(eq=False)
class InFlight:
    """A request in flight, with the other samples that ask the same."""

    question: PreparedRequest
    duplicates: list[PreparedRequest] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    undecided: str | None = None
    """The reason of its refusal, while it is open whether all requests get it; else None."""


@dataclass(eq=False)
class RecentAnswer:
    """An answer of this run, for samples that were looked up in the store before it was there."""

    item: WriteItem
    reading: ParsedAnswer


class _PauseGate:
    """The meter of a run without a budget: nothing is sent while answers cannot be stored."""

    def __init__(self, writer: AnswerWriter, ended: Callable[[], bool]) -> None:
        self._writer = writer
        self._ended = ended

    async def before_send(self) -> None:
        await self._writer.may_pay.wait()
        if self._ended():
            raise RunStopped("the run is over")

    def not_billed(self) -> None:
        return None

    def finished(self) -> None:
        return None


class WorkerPool:
    def __init__(self, job: InferenceJob) -> None:
        self._job = job
        self._plan, self._budget, self._lock = job.started.plan, job.started.budget, job.started.lock
        self._read = self._plan.asked.task.read
        self._feed = RequestFeed(job.started.selection, self._plan.prepare(job.started.run.id))
        self._in_flight: dict[Key, InFlight] = {}
        self._recent: dict[Key, RecentAnswer] = {}
        self._recent_by_lookup: deque[tuple[int, Key, RecentAnswer]] = deque()
        """Each with the last lookup that may have missed it in the store."""
        self._undecided: list[InFlight] = []
        self._breaker = Breaker(job.earlier, job.say, keep_going=self._plan.options.keep_going)
        self._ending: KbetlError | None = None
        self._is_interrupted = False
        self._workers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        job = self._job
        job.tally.count_in_flight = lambda: job.backend.in_flight
        job.tally.hold_s = lambda: job.backend.hold_s
        self._writer = AnswerWriter(
            self._plan.store.another(), job.started.run.id, self._say_use, self._plan.try_out
        )
        self._pause_gate = _PauseGate(self._writer, self._has_ended)
        with signals_to(self._interrupt):
            try:
                self._watch_lock()
                async with job.backend:
                    self._workers = [
                        asyncio.create_task(self._work()) for _ in range(worker_count(job.concurrency))
                    ]
                    raise_faults(await asyncio.gather(*self._workers, return_exceptions=True))
                    await self._end_undecided()
            finally:
                self._feed.close()
                await asyncio.to_thread(self._writer.close)
        if self._ending is not None:
            raise self._ending

    def _watch_lock(self) -> None:
        """Ends the run if its lock file is removed."""
        try:
            self._lock.check_in_place()
        except KbetlError as error:
            self._stop(error)
            return
        asyncio.get_running_loop().call_later(LOCK_CHECK_S, self._watch_lock)

    def _unstored(self) -> int:
        """How many requests were sent, or are about to be, whose answers are not durable yet."""
        recent = self._recent.values()
        return len(self._in_flight) + sum(
            not (each.item.committed and each.item.committed.done()) for each in recent
        )

    def _has_ended(self) -> bool:
        return self._ending is not None

    def _say_use(self, in_use: InUse) -> None:
        if self._job.generate is None:  # rollouts are samples themselves, whoever made them
            self._job.say(in_use.as_text())

    async def _work(self) -> None:
        try:
            while self._ending is None:
                # neighbours may be alike: requests from the end show sooner whether all are refused
                is_in_doubt = bool(self._undecided)
                found = await self._feed.next(from_end=is_in_doubt)
                if found is None:
                    return
                if not is_in_doubt:  # those before it may be of an earlier lookup
                    self._drop_recent(found.lookup)
                await self._handle(found.question)
        except RunStopped as error:
            self._stop(error)
        except KbetlError as error:
            self._end(error)
            self._cancel()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._cancel()
            raise

    async def _handle(self, question: PreparedRequest) -> None:
        if question.request is None:
            await self._fail_unsent(question)
            return
        key = question.key
        asked = self._in_flight.get(key)
        if asked is not None and len(asked.duplicates) < MAX_DUPLICATES:
            asked.duplicates.append(question)
            return
        if asked is not None and asked.undecided is not None:
            await self._decide()
        if asked is not None:
            await asked.ended.wait()
        recent = self._recent.get(key)
        if recent is not None:
            await self._reuse_answer(question, recent.reading, recent.item)
        elif question.stored is not None:
            await self._reuse_answer(question, self._read(question.stored.completion), None)
        elif question.is_in_batch_file:
            self._job.tally.handed_out += 1
        else:
            await self._ask(question, key)

    async def _ask(self, question: PreparedRequest, key: Key) -> None:
        """Sends one request and stores what came, for this sample and for those that ask the same."""
        request = question.request
        assert request is not None
        asked = self._in_flight[key] = InFlight(question)
        completion: Completion | None = None
        meter = (
            None
            if self._budget is None
            else TryReservation(self._budget, request, self._writer.submit, question.attempt)
        )
        try:
            completion = await self._completion(question, request, meter)
            reading = self._read(completion)
        except RequestFailed as error:
            reading = ParsedAnswer("refused" if error.is_declined else "failed", None, str(error))
            if meter is not None:
                meter.finished()
            if isinstance(error, Undecided):
                asked.undecided = str(error)
        finally:
            if asked.undecided is None:
                self._end_asking(key, asked)
        if asked.undecided is not None:
            await self._set_aside(asked)
            return
        await self._store(asked, reading, completion, meter)
        if completion is not None and self._undecided:
            await self._decide()

    def _end_asking(self, key: Key, asked: InFlight) -> None:
        del self._in_flight[key]
        asked.ended.set()

    async def _store(
        self,
        asked: InFlight,
        reading: ParsedAnswer,
        completion: Completion | None = None,
        meter: TryReservation | None = None,
    ) -> None:
        """Stores the answer or the failure of a request, for its sample and for those that ask the same."""
        question, key = asked.question, asked.question.key
        request, completions = question.request, () if completion is None else (completion,)
        assert request is not None
        samples = [question, *asked.duplicates]
        item = WriteItem(
            [self._plan.outcome(each, reading) for each in samples],
            request,
            completions,
            attempt=question.attempt,
            rollouts=self._rollouts(samples, completions, reading),
        )
        if meter is not None and completion is not None:
            item.in_same_transaction = meter.charge(completion)
        if completion is not None and (stop := self._breaker.came(reading.status, request)) is not None:
            self._stop(stop)
        recent = self._recent[key] = RecentAnswer(item, reading)
        tally = self._job.tally
        self._count(completions, request.model)
        await self._writer.submit(item)
        self._recent_by_lookup.append((self._feed.lookups, key, recent))
        tally.reused += len(asked.duplicates)
        tally.count_outcome(reading.status, reading.reason, len(samples))

    async def _set_aside(self, asked: InFlight) -> None:
        """Sets a refusal aside: the next success makes it the request's own, a stop of the run drops it."""
        self._undecided.append(asked)
        if len(self._undecided) >= MAX_UNDECIDED or len(asked.duplicates) >= MAX_DUPLICATES:
            await self._decide()

    async def _end_undecided(self) -> None:
        """Stores undecided refusals if nothing is left to ask; a stop of the run stores none of them.

        But samples that had failed before have failed once more, so that a few that are refused for ever are
        parked in the end, and do not stop every run.
        """
        if self._ending is None:
            await self._decide()
        elif isinstance(self._ending, RunStopped) and self._undecided:
            questions = [each for asked in self._undecided for each in (asked.question, *asked.duplicates)]
            samples = [(each.sample_hash, each.attempt) for each in questions]
            task_hash = self._plan.asked.hash
            await self._writer.submit(
                WriteItem([], in_same_transaction=lambda store: fail_again(store, task_hash, samples))
            )

    async def _decide(self) -> None:
        """Stores each undecided refusal as the request's own: others succeed, or there are no others."""
        undecided, self._undecided = self._undecided, []
        for asked in undecided:
            reading = ParsedAnswer("failed", None, asked.undecided)
            self._end_asking(asked.question.key, asked)
            await self._store(asked, reading)

    async def _completion(
        self, question: PreparedRequest, request: Request, meter: TryReservation | None
    ) -> Completion:
        """Sends a request as soon as it may be sent; returns its answer."""
        await self._breaker.admit(request)
        try:
            on_billed_failure = partial(self._store_billed_failure, request, question.attempt, meter)
            return await self._job.backend.complete(question, on_billed_failure, meter or self._pause_gate)
        finally:
            self._breaker.leave()

    async def _store_billed_failure(
        self, request: Request, attempt: int, meter: TryReservation | None, completion: Completion | None
    ) -> None:
        """Stores a try without a usable answer, which may have been billed, before the next is sent."""
        if completion is not None:
            self._count([completion], request.model)
            item = WriteItem([], request, [completion], attempt=attempt)
            if meter is not None:
                item.in_same_transaction = meter.charge(completion)
            await self._writer.submit(item)
        elif meter is not None:
            meter.finished()

    def _count(self, completions: Sequence[Completion], model: str) -> None:
        """Counts answers; says so at the first one of another model than was asked."""
        tally = self._job.tally
        is_first = not tally.served
        tally.count_answers(completions, model)
        if is_first and tally.served:
            (served, _), _ = tally.served.most_common(1)[0]
            self._job.say(f"{model} was asked, and {served} answers; answers.served_model keeps who did")

    async def _reuse_answer(
        self, question: PreparedRequest, reading: ParsedAnswer, recent: WriteItem | None
    ) -> None:
        """Decides a sample by an answer of this run (`recent`), or by the one found in the store."""
        stored = question.stored if recent is None else None
        completions = recent.completions if recent else (stored.completion,) if stored else ()
        outcome = self._plan.outcome(question, reading, stored.try_number if stored else None)
        rollouts = self._rollouts([question], completions, reading)
        item = WriteItem([outcome], reused_from=recent, try_number=outcome.try_number, rollouts=rollouts)
        await self._writer.submit(item)
        host = stored.completion.host if stored else None
        tally = self._job.tally
        tally.reused += 1
        tally.reused_elsewhere += host is not None and host not in self._job.backend.hosts
        tally.count_outcome(reading.status, reading.reason)

    async def _fail_unsent(self, question: PreparedRequest) -> None:
        reading = ParsedAnswer("failed", None, question.failure)
        await self._writer.submit(WriteItem([self._plan.outcome(question, reading)]))
        self._job.tally.count_outcome("failed", question.failure)

    def _rollouts(
        self, questions: Sequence[PreparedRequest], completions: Sequence[Completion], reading: ParsedAnswer
    ) -> Sequence[GeneratedRollout]:
        """The rollouts that an answer is, one for each sample; none if answers are only read."""
        generate = self._job.generate
        if generate is None or not completions or reading.status == "failed":
            return ()
        return [generate(each, completions[-1]) for each in questions]

    def _drop_recent(self, lookup: int) -> None:
        """Drops the answers that every request from this lookup on has found in the store."""
        while self._recent_by_lookup and self._recent_by_lookup[0][0] < lookup:
            _, key, recent = self._recent_by_lookup.popleft()
            if self._recent.get(key) is recent:
                del self._recent[key]

    def _interrupt(self, number: signal.Signals, status: int) -> None:
        if self._is_interrupted:
            self._cancel()
            return
        self._is_interrupted = True
        is_held = not self._writer.may_pay.is_set()
        self._end(Interrupted(f"{number.name} ended the run", status))
        again = "; press Ctrl-C again to end at once" if number == signal.SIGINT else ""
        in_flight = self._job.backend.in_flight
        if is_held:
            unstored = self._unstored()
            self._job.say(f"{number.name}: waiting for the store, to keep up to {unstored} answers{again}")
        elif in_flight:
            self._job.say(f"{number.name}: waiting for {in_flight} requests in flight{again}")
        if number == signal.SIGTERM:
            asyncio.get_running_loop().call_later(TERMINATION_GRACE_S, self._cancel)

    def _stop(self, error: KbetlError) -> None:
        """Ends the run for a fault: says at once why, and waits for what is in flight, but not for long."""
        is_first = self._ending is None
        self._end(error)
        if not is_first:
            return
        loop = asyncio.get_running_loop()
        # by then what waited to be sent has ended, and most runs are over
        loop.call_later(_SAY_STOP_AFTER_S, self._say_stop, error)
        loop.call_later(TERMINATION_GRACE_S, self._cancel_requests)  # what came back is stored all the same

    def _say_stop(self, error: KbetlError) -> None:
        if in_flight := self._job.backend.in_flight:
            self._job.say(
                f"the run ends: {error}. Waiting for {in_flight} requests in flight, "
                f"{TERMINATION_GRACE_S:.0f} s at most"
            )

    def _end(self, error: KbetlError) -> None:
        """Ends new requests; the first error is the one that is raised."""
        if self._ending is None:
            self._ending = error
        self._job.tally.is_ending = True
        self._job.backend.stop(str(error))
        self._writer.may_pay.set()  # whoever waits there sees that it is over
        self._breaker.close()
        if self._budget is not None:
            self._budget.close(RunStopped(str(error)))

    def _cancel(self) -> None:
        self._writer.give_up()
        self._cancel_requests()

    def _cancel_requests(self) -> None:
        for worker in self._workers:
            worker.cancel()


def worker_count(concurrency: int) -> int:
    """How many workers keep so many requests in flight."""
    return concurrency + max(0, concurrency - EXTRA_WORKERS_FROM) // REQUESTS_PER_EXTRA_WORKER
