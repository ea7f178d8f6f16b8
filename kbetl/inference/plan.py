"""Which samples a run is about, and the question to each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kbetl import offline
from kbetl.client import Limits
from kbetl.client.endpoint import endpoint_at
from kbetl.errors import BadRow, ConfigError, MissingField
from kbetl.inference.backends import Backend, ServerBackend
from kbetl.inference.budget import Budget
from kbetl.inference.budget_history import BudgetLimits, BudgetScope, open_budget
from kbetl.inference.coordination import effective_limit
from kbetl.inference.find_task import find_task
from kbetl.inference.options import OFFLINE, RETRIABLE, EnrichOptions
from kbetl.inference.requests import Generate, PreparedRequest, PrepareRequests
from kbetl.json_codec import stored_value
from kbetl.prices import Price, find_price
from kbetl.records import Completion, Outcome, ParsedAnswer, Request, RequestTemplate
from kbetl.samples.reading import FieldMap, stored_map
from kbetl.store import Store, select_samples
from kbetl.store.answers import StoredAnswer, StoredTask, newest_answers, tasks_named
from kbetl.store.batches import any_handed_out, pending_request
from kbetl.store.datasets import source_ids
from kbetl.store.selection import PendingSample, Selection
from kbetl.tasks import Task
from kbetl.tasks.answer_formats import check_unicode

REWARD_ABOVE = "reward > :min_reward"


@dataclass(frozen=True)
class ModelTask:
    """A task put to a model. `hash` is that of the task whose outcomes are set; the parameters go out."""

    task: Task
    """With the parameters that belong to its identity."""
    model: str
    hash: str
    parameters: Mapping[str, Any]

    @property
    def question_hash(self) -> str:
        """The identity of what is asked, with the parameters that go out."""
        return self.task.question_hash(self.model, self.parameters)

    def row(self) -> dict[str, Any]:
        """The columns of `tasks`."""
        from kbetl.json_codec import canonical_json

        task = self.task
        return {
            "hash": self.hash,
            "name": task.name,
            "about": ",".join(task.about),
            "model": self.model,
            "parameters": canonical_json(dict(task.parameters)).decode(),
            "restriction": task.where,
            "reader": task.reader_spec,
            "closing": task.closing,
            "system": task.system,
            "template": task.template,
        }


def resolve_task(store: Store, options: EnrichOptions, task: Task | None = None) -> ModelTask:
    """The task as this run asks it; `task` in place of the one that the options name.

    With `retry` and other parameters the outcomes stay with the task that has them: the parameters go
    out, but make no new task.
    """
    task = task or find_task(store, options.task)
    model = model_name(options.model, task.name)
    changed = task.with_parameters(options.parameters)
    if options.retry:
        kept = _task_to_retry(tasks_named(store, task.name), changed, model)
        if kept is not None:
            task = _with_just(task, kept.parameters)
            sent = task.with_parameters(options.parameters)
            return ModelTask(task, model, kept.hash, sent.parameters)
    return ModelTask(changed, model, changed.hash(model), changed.parameters)


def model_name(model: str, task_name: str) -> str:
    """`offline` becomes `offline/<version>`, which answers the built-in tasks alone."""
    check_unicode(model, "the model's name")
    if not model.strip():
        raise ConfigError("the model's name is blank; name one with -m")
    if model.startswith("-"):
        raise ConfigError(f"-m {model!r} is an option, not the name of a model; name one with -m")
    if model not in (OFFLINE, offline.MODEL):
        return model
    if task_name not in offline.TASKS:
        raise ConfigError(
            f"the offline model answers {' and '.join(offline.TASKS)}, not {task_name!r}; "
            "choose another with -m"
        )
    return offline.MODEL


def _task_to_retry(stored: list[StoredTask], task: Task, model: str) -> StoredTask | None:
    """The stored task that asks the same of the same model: with just these parameters, in use, or newest."""
    same = [
        each
        for each in stored
        if (each.model, each.system, each.template) == (model, task.system, task.template)
    ]
    exact = [each for each in same if each.hash == task.hash(model)]
    return next(iter(exact or same), None)


def _with_just(task: Task, parameters: Mapping[str, Any]) -> Task:
    without = {name: None for name in task.parameters if name not in parameters}
    return task.with_parameters({**without, **parameters})


class RolloutWishes(NamedTuple):
    """What a run wants besides one answer about each sample."""

    attempts: int = 1
    """Answers about each."""
    rollouts: bool = False
    """Whether an answer is to be a rollout too."""
    prompts: bool = False
    """Whether bare prompts, without code, may be chosen."""


def select(
    store: Store,
    options: EnrichOptions,
    asked: ModelTask,
    *,
    limit: int | None,
    wanted: RolloutWishes | None = None,
) -> Selection:
    """Chooses the samples that the task is about and, among them, those that this run asks."""
    wanted = wanted or RolloutWishes()
    selection = Selection(store, asked.hash, wanted.attempts)
    conditions = [each for each in (asked.task.where, options.where) if each is not None]
    if options.min_reward is not None and REWARD_ABOVE not in conditions:
        conditions.append(REWARD_ABOVE)
    parameters = {"min_reward": min_reward(store, options)}
    is_any_module = wanted.prompts or not asked.task.needs_code
    with store.guarded() as guarded:
        selection.choose(
            select_samples(guarded, asked.task.about, conditions, parameters, with_prompts=is_any_module)
        )
    if options.sources:
        selection.restrict_to_sources(source_ids(store, options.sources))
    if asked.task.needs_completion:
        selection.drop_without_completion()
    fill_selection(selection, options, limit=limit, wants_rollouts=wanted.rollouts)
    return selection


def fill_selection(
    selection: Selection, options: EnrichOptions, *, limit: int | None, wants_rollouts: bool
) -> None:
    """Finds what a run with these options asks of the samples that were chosen."""
    selection.fill(
        options.retry or ("failed",),
        wants_new=not options.retry,
        wants_rollouts=wants_rollouts,
        limit=limit,
        before_run=options.retry_since_run,
        takes_back=options.takes_back,
    )


def min_reward(store: Store, options: EnrichOptions) -> float:
    """The reward above which a run asks: its own option, else the setting."""
    return options.min_reward if options.min_reward is not None else float(store.setting("min_reward"))


def check_options(options: EnrichOptions) -> None:
    """Raises ConfigError for a status that cannot be asked again, and for a reward that is no number."""
    if options.min_reward is not None and not math.isfinite(options.min_reward):
        raise ConfigError(f"--min-reward {options.min_reward} is no finite number; the usual one is 0.85")
    for status in options.retry:
        if status not in RETRIABLE:
            raise ConfigError(f"--retry {status!r}: choose from {', '.join(RETRIABLE)}")


class PromptSource(NamedTuple):
    """What a question is made from."""

    row: Mapping[str, Any]
    """Fills the template."""
    facts: Mapping[str, Any] | None = None
    """What a rollout is to say of the problem."""
    messages: Sequence[Mapping[str, Any]] | None = None
    """The question itself, in place of the template; None: the template asks."""
    field_map: FieldMap | None = None
    """How the row is read."""


def _own_row(waiting: PendingSample) -> PromptSource:
    return PromptSource(stored_value(waiting.row), field_map=stored_map(waiting.field_map))


def prepare_requests(
    store: Store,
    asked: ModelTask,
    options: EnrichOptions,
    run_id: int | None,
    problem_of: Callable[[PendingSample], PromptSource] | None = None,
) -> PrepareRequests:
    """What turns waiting samples into questions: renders them, and looks for answers that are there.

    The template is filled from the sample's own row, or from what `problem_of` gives in its place.
    An answer that failed, or that has a status to be asked again, settles nothing unless it came in this
    run (None: there is none) or in one that this goes on with.
    """
    is_offline = asked.model == offline.MODEL
    form = RequestTemplate(asked.model, asked.task.first_messages, dict(asked.parameters))
    again = {"failed", *options.retry}
    may_be_out = not options.takes_back and any_handed_out(store)
    since = run_id if options.retry_since_run is None else options.retry_since_run

    def question(waiting: PendingSample) -> PreparedRequest:
        try:
            problem = _own_row(waiting) if problem_of is None else problem_of(waiting)
            if problem.messages is not None:
                return asked_as_it_is(waiting, problem, problem.messages)
            fields = asked.task.fields(problem.row, waiting.reward, problem.field_map)
            request = form.request(asked.task.prompt(fields))
        except (MissingField, BadRow) as error:
            return PreparedRequest(waiting.sample_hash, None, {}, str(error), attempt=waiting.attempt)
        return PreparedRequest(
            waiting.sample_hash,
            request,
            fields if is_offline else {},
            attempt=waiting.attempt,
            prompt_source=problem.facts,
        )

    def asked_as_it_is(
        waiting: PendingSample, problem: PromptSource, messages: Sequence[Mapping[str, Any]]
    ) -> PreparedRequest:
        request = Request(asked.model, messages, dict(asked.parameters))
        return PreparedRequest(
            waiting.sample_hash, request, {}, attempt=waiting.attempt, prompt_source=problem.facts
        )

    def with_answer(question: PreparedRequest, stored: StoredAnswer) -> PreparedRequest:
        is_earlier = since is None or stored.run_id < since
        settles = not (is_earlier and asked.task.read(stored.completion).status in again)
        return replace(question, stored=stored if settles else None)

    def marked(question: PreparedRequest) -> PreparedRequest:
        is_out = question.request and pending_request(store, question.request.hash, question.attempt)
        return replace(question, is_handed_out=True) if is_out else question

    def prepare(chunk: Sequence[PendingSample]) -> list[PreparedRequest]:
        questions = [question(waiting) for waiting in chunk]
        if may_be_out:  # before answers are looked up: a result that is read now is found as one or the other
            questions = [marked(each) for each in questions]
        keys = [("" if each.request is None else each.request.hash, each.attempt) for each in questions]
        stored = newest_answers(store, keys)
        return [
            with_answer(each, stored[key]) if key in stored else each
            for each, key in zip(questions, keys, strict=True)
        ]

    return prepare


@dataclass(frozen=True)
class Plan:
    """What a run asks, whom, and what becomes of the answers."""

    asked: ModelTask
    select: Callable[[int | None], Selection]
    """Chooses the samples, and of them so many to ask at most."""
    prepare: Callable[[int | None], PrepareRequests]
    """What makes the questions of a run by its id; of none for a dry run."""
    server: Callable[[Limits, Say], Backend]
    """Whom to ask, within which limits; raises KbetlError where a key is missing."""
    generate: Callable[[int], Generate] | None = None
    """What makes the samples that the answers of a run are; called in a transaction."""
    report: Callable[[int], Sequence[str]] = lambda _: ()
    """What there is to say after a run besides."""
    what: str = "samples chosen"
    """What a report calls the answers that are wanted."""
    counts: Callable[[], Mapping[str, Any]] = dict
    """What `runs.counts` is to hold besides."""


Say = Callable[[str], None]


def plan_of(store: Store, options: EnrichOptions) -> Plan:
    """What `enrich` asks with these options."""
    asked = resolve_task(store, options)
    return Plan(
        asked,
        select=lambda limit: select(store, options, asked, limit=limit),
        prepare=lambda run_id: prepare_requests(store, asked, options, run_id),
        server=lambda limits, say: ServerBackend(
            endpoint_at(options.base_url, options.api_key_var, options.headers), limits, say
        ),
    )


_NO_RUN = 0


def batch_plan(store: Store, options: EnrichOptions, command: str) -> BatchPlan:
    """The questions of `enrich` with these options; raises ConfigError as it does."""
    check_options(options)
    return batch_plan_of(store, plan_of(store, options), options, command)


def batch_plan_of(store: Store, plan: Plan, options: EnrichOptions, command: str) -> BatchPlan:
    """The questions of a plan."""
    task, generate = plan.asked.task, plan.generate
    return BatchPlan(
        command=command,
        options=options.as_json(),
        task_row=plan.asked.row(),
        parser_version=task.parser_version,
        question_hash=plan.asked.question_hash,
        read=task.read,
        select=lambda: plan.select(effective_limit(options.limit)),
        prepare=plan.prepare(None),
        budget=lambda: budget_of(store, options, plan.asked),
        price=price_of(options, plan.asked),
        generate=None if generate is None else lambda: generate(_NO_RUN),
    )


def billed_there_too(at_service: int) -> str:
    """What to say of requests that were taken back while a service answers them; nothing of none."""
    return f"; {at_service} of them are at a service, and paid for there too" if at_service else ""


@dataclass(frozen=True)
class BatchPlan:
    """The questions of one command about one task."""

    command: str
    options: Mapping[str, Any]
    """For `runs.options`."""
    task_row: Mapping[str, Any]
    """The columns of `tasks`."""
    parser_version: str
    question_hash: str
    """The identity of what is asked, which its lock goes by."""
    read: Callable[[Completion], ParsedAnswer]
    select: Callable[[], Selection]
    """Chooses what is asked; called once, when the task's lock is held."""
    prepare: PrepareRequests
    budget: Callable[[], Budget | None] = lambda: None
    """What the task may still take; called under its lock, raises ConfigError where it cannot be kept."""
    price: Price | None = None
    """Of the model; None where none is known."""
    generate: Callable[[], Generate] | None = None
    """What makes the rollouts that answers are; called in a transaction."""

    @property
    def task_name(self) -> str:
        """The task's name, which its lock goes by."""
        return str(self.task_row["name"])

    @property
    def task_hash(self) -> str:
        """The task whose outcomes are set."""
        return str(self.task_row["hash"])

    @property
    def model(self) -> str:
        """The model that is asked."""
        return str(self.task_row["model"])

    def questions(self, selection: Selection) -> Iterator[list[PreparedRequest]]:
        """The questions of a selection in order, by chunks, so that memory does not grow with rows."""
        after = 0
        while chunk := selection.next(after):
            after = chunk[-1].position
            yield self.prepare(chunk)

    def outcome(self, question: PreparedRequest, reading: ParsedAnswer) -> Outcome:
        """What is concluded about a question's sample without asking."""
        return Outcome(
            sample_hash=question.sample_hash,
            task_hash=self.task_hash,
            attempt=question.attempt,
            status=reading.status,
            value=reading.value,
            reason=reading.reason,
            request_hash=question.request.hash if question.request else None,
            try_number=question.stored.try_number if question.stored else None,
            parser_version=self.parser_version,
        )


def budget_of(store: Store, options: EnrichOptions, asked: ModelTask) -> Budget | None:
    """What the task may still take; None without a limit, and for the offline model, which costs nothing.

    Raises ConfigError where a limit cannot be kept.
    """
    if asked.model == offline.MODEL:
        return None
    asking = BudgetScope(asked.task.name, asked.model, asked.parameters, options.base_url)
    return open_budget(store, asking, BudgetLimits(options.max_cost_usd, options.max_tokens_total))


def price_of(options: EnrichOptions, asked: ModelTask) -> Price | None:
    """The price of the run's model at the address that it asks; None where none is known."""
    return None if asked.model == offline.MODEL else find_price(asked.model, options.base_url)
