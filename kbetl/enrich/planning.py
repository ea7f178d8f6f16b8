"""Which samples a run is about, and the question to each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kbetl import offline
from kbetl.asking import Prepare, Question
from kbetl.enrich.options import OFFLINE, RETRIABLE, Options
from kbetl.errors import BadRow, ConfigError, MissingField
from kbetl.json_text import stored_value
from kbetl.records import Request, RequestForm
from kbetl.store import Store, select_samples
from kbetl.store.datasets import source_ids
from kbetl.store.handing import any_handed_out, out_now
from kbetl.store.ledger import Selection, StoredAnswer, StoredTask, Waiting, newest_answers, tasks_named
from kbetl.tasks import Task, load_task
from kbetl.tasks.plain import check_unicode

REWARD_ABOVE = "reward > :min_reward"


@dataclass(frozen=True)
class Asked:
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
        from kbetl.json_text import canonical_json

        task = self.task
        return {
            "hash": self.hash,
            "name": task.name,
            "about": task.about,
            "model": self.model,
            "parameters": canonical_json(dict(task.parameters)).decode(),
            "restriction": task.where,
            "reader": task.reader_spec,
            "closing": task.closing,
            "system": task.system,
            "template": task.template,
        }


def asked_task(store: Store, options: Options, task: Task | None = None) -> Asked:
    """The task as this run asks it; `task` in place of the one that the options name.

    With `retry` and other parameters the outcomes stay with the task that has them: the parameters go
    out, but make no new task.
    """
    task = task or load_task(options.task)
    model = model_name(options.model, task.name)
    changed = task.with_parameters(options.parameters)
    if options.retry:
        kept = _task_to_retry(tasks_named(store, task.name), changed, model)
        if kept is not None:
            task = _with_just(task, kept.parameters)
            sent = task.with_parameters(options.parameters)
            return Asked(task, model, kept.hash, sent.parameters)
    return Asked(changed, model, changed.hash(model), changed.parameters)


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


class Wanted(NamedTuple):
    """What a run wants besides one answer about each sample."""

    attempts: int = 1
    """Answers about each."""
    rollouts: bool = False
    """Whether an answer is to be a rollout too."""
    prompts: bool = False
    """Whether bare prompts, without code, may be chosen."""


def select(
    store: Store,
    options: Options,
    asked: Asked,
    *,
    limit: int | None,
    wanted: Wanted | None = None,
) -> Selection:
    """Chooses the samples that the task is about and, among them, those that this run asks."""
    wanted = wanted or Wanted()
    selection = Selection(store, asked.hash, wanted.attempts)
    conditions = [each for each in (asked.task.where, options.where) if each is not None]
    if options.min_reward is not None and REWARD_ABOVE not in conditions:
        conditions.append(REWARD_ABOVE)
    parameters = {"min_reward": min_reward(store, options)}
    with store.guarded() as guarded:
        selection.choose(
            select_samples(guarded, asked.task.about, conditions, parameters, with_prompts=wanted.prompts)
        )
    if options.sources:
        selection.keep_sources(source_ids(store, options.sources))
    if asked.task.needs_completion:
        selection.drop_empty()
    wait_as_told(selection, options, limit=limit, wants_rollouts=wanted.rollouts)
    return selection


def wait_as_told(selection: Selection, options: Options, *, limit: int | None, wants_rollouts: bool) -> None:
    """Finds what a run with these options asks of the samples that were chosen."""
    selection.wait(
        options.retry or ("failed",),
        wants_new=not options.retry,
        wants_rollouts=wants_rollouts,
        limit=limit,
        before_run=options.retry_since_run,
        takes_back=options.takes_back,
    )


def min_reward(store: Store, options: Options) -> float:
    """The reward above which a run asks: its own option, else the setting."""
    return options.min_reward if options.min_reward is not None else float(store.setting("min_reward"))


def check_choosing(options: Options) -> None:
    """Raises ConfigError for a status that cannot be asked again, and for a reward that is no number."""
    if options.min_reward is not None and not math.isfinite(options.min_reward):
        raise ConfigError(f"--min-reward {options.min_reward} is no finite number; the usual one is 0.85")
    for status in options.retry:
        if status not in RETRIABLE:
            raise ConfigError(f"--retry {status!r}: choose from {', '.join(RETRIABLE)}")


class Problem(NamedTuple):
    """What a question is made from."""

    row: Mapping[str, Any]
    """Fills the template."""
    facts: Mapping[str, Any] | None = None
    """What a rollout is to say of the problem."""
    messages: Sequence[Mapping[str, Any]] | None = None
    """The question itself, in place of the template; None: the template asks."""


def preparer(
    store: Store,
    asked: Asked,
    options: Options,
    run_id: int | None,
    problem_of: Callable[[Waiting], Problem] | None = None,
) -> Prepare:
    """What turns waiting samples into questions: renders them, and looks for answers that are there.

    The template is filled from the sample's own row, or from what `problem_of` gives in its place.
    An answer that failed, or that has a status to be asked again, settles nothing unless it came in this
    run (None: there is none) or in one that this goes on with.
    """
    is_offline = asked.model == offline.MODEL
    form = RequestForm(asked.model, asked.task.first_messages, dict(asked.parameters))
    again = {"failed", *options.retry}
    may_be_out = not options.takes_back and any_handed_out(store)
    since = run_id if options.retry_since_run is None else options.retry_since_run

    def question(waiting: Waiting) -> Question:
        try:
            problem = Problem(stored_value(waiting.row)) if problem_of is None else problem_of(waiting)
            if problem.messages is not None:
                return asked_as_it_is(waiting, problem, problem.messages)
            fields = asked.task.fields(problem.row, waiting.reward)
            request = form.request(asked.task.prompt(fields))
        except (MissingField, BadRow) as error:
            return Question(waiting.sample_hash, None, {}, str(error), attempt=waiting.attempt)
        return Question(
            waiting.sample_hash,
            request,
            fields if is_offline else {},
            attempt=waiting.attempt,
            problem=problem.facts,
        )

    def asked_as_it_is(waiting: Waiting, problem: Problem, messages: Sequence[Mapping[str, Any]]) -> Question:
        request = Request(asked.model, messages, dict(asked.parameters))
        return Question(waiting.sample_hash, request, {}, attempt=waiting.attempt, problem=problem.facts)

    def with_answer(question: Question, stored: StoredAnswer) -> Question:
        is_earlier = since is None or stored.run_id < since
        settles = not (is_earlier and asked.task.read(stored.completion).status in again)
        return replace(question, stored=stored if settles else None)

    def marked(question: Question) -> Question:
        is_out = question.request and out_now(store, question.request.hash, question.attempt)
        return replace(question, is_handed_out=True) if is_out else question

    def prepare(chunk: Sequence[Waiting]) -> list[Question]:
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
