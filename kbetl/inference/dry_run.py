"""Estimates what a run of a task would ask: `--dry-run`."""

from __future__ import annotations

from kbetl.inference.begin import choose_samples
from kbetl.inference.budget import output_limit
from kbetl.inference.plan import Plan, Say
from kbetl.inference.report import CHARACTERS_PER_TOKEN, DryReport, Estimator
from kbetl.inference.run import reason_text, skipped_note
from kbetl.store.answers import tasks_named, usage_of


def estimate_run(plan: Plan, say: Say) -> DryReport:
    """What a run would ask, why, and about how many tokens; asks nothing and records nothing."""
    store, asked = plan.store, plan.asked
    selection = choose_samples(plan, say)
    estimator = Estimator(plan.budget(), plan.price())
    groups = selection.groups(asked.task.name)
    stored = tasks_named(store, asked.task.name)
    answered = impossible = requests = characters = 0
    handed_out = selection.handed_out
    for chunk in plan.requests(selection):
        for question in chunk:
            if question.request is None:
                impossible += 1
            elif question.is_in_batch_file and question.stored is None:
                handed_out += 1
            elif question.stored is not None or not selection.is_first(
                question.request.hash, question.attempt
            ):
                answered += 1
            else:
                requests += 1
                characters += len(question.request.text)
                estimator.add(question.request)
    usage = usage_of(store, asked.model)
    per_character = usage.tokens_per_character or 1 / CHARACTERS_PER_TOKEN
    output = output_limit(asked.parameters)
    prompt_tokens = round(characters * per_character)
    return DryReport(
        task=asked.task.name,
        model=asked.model,
        task_hash=asked.hash,
        chosen=selection.chosen * selection.attempts,
        waiting=sum(group.samples for group in groups),
        groups=tuple(reason_text(group, asked, stored) for group in groups),
        requests=requests,
        answered=answered,
        impossible=impossible,
        handed_out=handed_out,
        prompt_tokens=prompt_tokens,
        completion_tokens=None if output is None else output * requests,
        is_measured=usage.tokens_per_character is not None,
        estimate=estimator.estimate(prompt_tokens, output, usage),
        what="samples" if plan.generate is None else "rollouts",
        notes=skipped_note(selection.empty),
    )
