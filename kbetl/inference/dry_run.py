"""What a run of a task would ask, and about how much of what: `--dry-run`."""

from __future__ import annotations

from kbetl.client.endpoint import check_address
from kbetl.inference.budget import output_limit
from kbetl.inference.coordination import effective_limit
from kbetl.inference.empty_selection import why_nothing
from kbetl.inference.options import EnrichOptions
from kbetl.inference.plan import Plan, Say, budget_of, check_options, plan_of, price_of
from kbetl.inference.report import CHARACTERS_PER_TOKEN, DryReport, Estimator
from kbetl.inference.run import reason_text, report_limits, report_parked, skipped_note
from kbetl.store import Store
from kbetl.store.answers import tasks_named, usage_of


def dry_run(store: Store, options: EnrichOptions, say: Say) -> DryReport:
    """What `enrich` would ask, why, and about how many tokens; asks nothing and records nothing."""
    check_options(options)
    check_address(options.base_url)
    return estimate_run(plan_of(store, options), store, options, say)


def estimate_run(plan: Plan, store: Store, options: EnrichOptions, say: Say) -> DryReport:
    """What a run would ask, why, and about how many tokens; asks nothing and records nothing."""
    asked = plan.asked
    report_limits(store, options, say)
    selection = plan.select(effective_limit(options.limit))
    budget = budget_of(store, options, asked)
    estimator = Estimator(budget, price_of(options, asked))
    report_parked(selection, say)
    for line in why_nothing(store, options, asked, selection):
        say(line)
    groups = selection.groups(asked.task.name)
    prepare = plan.prepare(None)
    answered = impossible = requests = characters = after = 0
    handed_out = selection.handed_out
    while chunk := selection.next(after):
        after = chunk[-1].position
        for question in prepare(chunk):
            if question.request is None:
                impossible += 1
            elif question.is_handed_out and question.stored is None:
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
        groups=tuple(reason_text(group, asked, tasks_named(store, asked.task.name)) for group in groups),
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
