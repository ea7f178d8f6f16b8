"""Plans what a run asks: which samples, and the request about each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kbetl import config, offline
from kbetl.client import Limits
from kbetl.errors import BadRow, ConfigError, MissingField
from kbetl.inference.backends import Backend
from kbetl.inference.budget import Budget
from kbetl.inference.budget_history import BudgetLimits, BudgetScope, open_budget
from kbetl.inference.find_task import find_task
from kbetl.inference.options import OFFLINE, RETRIABLE, EnrichOptions
from kbetl.inference.requests import Generate, PreparedRequest, PrepareRequests
from kbetl.json_codec import stored_value
from kbetl.prices import Price, find_price
from kbetl.records import Outcome, ParsedAnswer, Request, RequestTemplate
from kbetl.samples.reading import FieldMap, stored_map
from kbetl.store import Store, select_samples
from kbetl.store.answers import NewOutcome, StoredAnswer, StoredTask, newest_answers, tasks_named
from kbetl.store.batches import any_handed_out, pending_request
from kbetl.store.datasets import source_ids
from kbetl.store.selection import PendingSample, Selection
from kbetl.tasks import Task
from kbetl.tasks.answer_formats import check_unicode

REWARD_ABOVE = "reward > :min_reward"


@dataclass(frozen=True)
class ModelTask:
    """A task and the model that is asked. `hash` is that of the task whose outcomes are set."""

    task: Task
    """With the parameters that belong to its identity."""
    model: str
    hash: str
    parameters: Mapping[str, Any]
    """As they are sent."""

    @property
    def question_hash(self) -> str:
        """The hash of what is asked, with the parameters that are sent."""
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
            "reader": task.format_spec,
            "closing": task.closing,
            "system": task.system,
            "template": task.template,
        }


def resolve_task(store: Store, options: EnrichOptions, task: Task | None = None) -> ModelTask:
    """The task as this run asks it; `task` instead of the one that the options name.

    With `retry` and other parameters the outcomes stay with the task that has them: the parameters are
    sent, but make no new task.
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
    """What a run asks for besides one answer for each sample."""

    attempts: int = 1
    """Answers for each."""
    rollouts: bool = False
    """Whether each answer becomes a rollout."""
    prompts: bool = False
    """Whether bare prompts, without code, may be chosen."""


ONE_ANSWER = RolloutWishes()


def select(
    store: Store,
    options: EnrichOptions,
    asked: ModelTask,
    wanted: RolloutWishes = ONE_ANSWER,
) -> Selection:
    """Chooses the samples that the task is about and, among them, those that this run asks."""
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
    fill_selection(selection, options, wants_rollouts=wanted.rollouts)
    return selection


def fill_selection(selection: Selection, options: EnrichOptions, *, wants_rollouts: bool) -> None:
    """Finds what a run with these options asks of the samples that were chosen; a few under TEST_MODE."""
    limit = options.limit
    if config.is_test_mode():
        limit = config.TEST_MODE_LIMIT if limit is None else min(limit, config.TEST_MODE_LIMIT)
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
    """Raises ConfigError for a status that cannot be asked again, and a reward that is not finite."""
    if options.min_reward is not None and not math.isfinite(options.min_reward):
        raise ConfigError(f"--min-reward {options.min_reward} is no finite number; the usual one is 0.85")
    for status in options.retry:
        if status not in RETRIABLE:
            raise ConfigError(f"--retry {status!r}: choose from {', '.join(RETRIABLE)}")


class PromptSource(NamedTuple):
    """What a prompt is made from."""

    row: Mapping[str, Any]
    """Fills the template."""
    facts: Mapping[str, Any] | None = None
    """What a new rollout records of the problem."""
    messages: Sequence[Mapping[str, Any]] | None = None
    """The messages, if they are not made by the template; else None."""
    field_map: FieldMap | None = None
    """The map that the row is read by; None for none."""


def _own_row(waiting: PendingSample) -> PromptSource:
    return PromptSource(stored_value(waiting.row), field_map=stored_map(waiting.field_map))


def prepare_requests(
    store: Store,
    asked: ModelTask,
    options: EnrichOptions,
    run_id: int | None,
    source_of: Callable[[PendingSample], PromptSource] | None = None,
) -> PrepareRequests:
    """Returns what prepares requests of pending samples: renders the prompts, and looks up stored answers.

    The template is filled from the sample's own row, or from what `source_of` gives instead. A stored answer
    that failed, or whose status is asked again, decides a sample only if it came in this run (None: there is
    none) or in one that this goes on with.
    """
    is_offline = asked.model == offline.MODEL
    form = RequestTemplate(asked.model, asked.task.first_messages, dict(asked.parameters))
    again = {"failed", *options.retry}
    may_be_out = not options.takes_back and any_handed_out(store)
    since = run_id if options.retry_since_run is None else options.retry_since_run

    def question(waiting: PendingSample) -> PreparedRequest:
        try:
            problem = _own_row(waiting) if source_of is None else source_of(waiting)
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
        decides = not (is_earlier and asked.task.read(stored.completion).status in again)
        return replace(question, stored=stored if decides else None)

    def marked(question: PreparedRequest) -> PreparedRequest:
        is_out = question.request and pending_request(store, question.request.hash, question.attempt)
        return replace(question, is_in_batch_file=True) if is_out else question

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


Say = Callable[[str], None]
"""Shows the user one line."""


@dataclass(frozen=True)
class Plan:
    """What one command asks: which samples, which question, which server, and what it may cost."""

    store: Store
    command: str
    """For `runs.command`, such as `enrich` or `batch write enrich`."""
    options: EnrichOptions
    asked: ModelTask
    select: Callable[[], Selection]
    """Chooses the samples; called once, under the task's lock."""
    backend: Callable[[Limits, Say], Backend]
    """Makes the backend that answers, within these limits; raises KbetlError if a key is missing."""
    prompt_source: Callable[[PendingSample], PromptSource] | None = None
    """Makes what a prompt is filled from; None: the sample's own row."""
    generate: Callable[[], Generate] | None = None
    """Makes what turns an answer into a rollout; called in a transaction. None: answers are only read."""
    notes: Callable[[], Sequence[str]] = tuple
    """Lines for the end of the run's report."""
    try_out: Callable[[Sequence[NewOutcome]], None] | None = None
    """Gets what is concluded, which the store does not keep then; None: the store records it."""
    what: str = "samples chosen"
    """What a report calls the answers that are wanted."""
    counts: Callable[[], Mapping[str, Any]] = dict
    """Entries for `runs.counts`."""

    def prepare(self, run_id: int | None) -> PrepareRequests:
        """What prepares the requests of a run; None: of a command whose answers come later, or never."""
        return prepare_requests(self.store, self.asked, self.options, run_id, self.prompt_source)

    def requests(self, selection: Selection) -> Iterator[list[PreparedRequest]]:
        """The prepared requests of a selection in order, by chunks: memory does not grow with the rows."""
        prepare, after = self.prepare(None), 0
        while chunk := selection.next(after):
            after = chunk[-1].position
            yield prepare(chunk)

    def outcome(
        self, question: PreparedRequest, reading: ParsedAnswer, try_number: int | None = None
    ) -> Outcome:
        """The outcome of a question's sample; `try_number` is that of a stored answer, else None."""
        return Outcome(
            sample_hash=question.sample_hash,
            task_hash=self.asked.hash,
            attempt=question.attempt,
            status=reading.status,
            value=reading.value,
            reason=reading.reason,
            request_hash=question.request.hash if question.request else None,
            try_number=try_number,
            parser_version=self.asked.task.parser_version,
        )

    @property
    def is_free(self) -> bool:
        """Whether the offline model answers, which costs nothing."""
        return self.asked.model == offline.MODEL

    def budget(self) -> Budget | None:
        """The budget of the task; None without a limit, and for the offline model.

        Raises ConfigError for a limit that cannot be kept. Call it under the task's lock.
        """
        if self.is_free:
            return None
        asked, options = self.asked, self.options
        scope = BudgetScope(asked.task.name, asked.model, asked.parameters, options.base_url)
        return open_budget(self.store, scope, BudgetLimits(options.max_cost_usd, options.max_tokens_total))

    def price(self) -> Price | None:
        """The price of the model at the address that is asked; None if it is not known, or free."""
        return None if self.is_free else find_price(self.asked.model, self.options.base_url)
