"""`kbetl tasks test`: the exact requests for a few samples, and what a model answers to just these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from kbetl.inference.dry_run import estimate_run
from kbetl.inference.plan import Plan, Say
from kbetl.inference.run import run_plan
from kbetl.store.answers import NewOutcome, newest_answers
from kbetl.text import plain_text


class Trial(NamedTuple):
    """What came of one sample."""

    sample_hash: str
    status: str
    value: str | None
    reason: str | None
    content: str | None

    def lines(self) -> list[str]:
        """Answer and value, one under the other."""
        said = _lines(self.content or "")
        read = self.value if self.status == "ok" else f"{self.status}: {self.reason}"
        return [f"--- {self.sample_hash[:15]}", f"answer: {said}", f"value: {plain_text(read or '')}"]


def show_requests(plan: Plan, say: Say) -> Iterator[str]:
    """Yields the lines of a plan's requests as they would be sent, and of what they would cost."""
    for chunk in plan.requests(plan.select()):
        for question in chunk:
            yield f"--- {question.sample_hash[:15]}"
            if question.request is None:
                yield plain_text(f"cannot be asked: {question.failure}")
                continue
            for message in question.request.messages:
                yield f"[{message['role']}]"
                yield _lines(str(message["content"]))
            parameters = json.dumps(dict(question.request.parameters), ensure_ascii=False)
            yield f"model {question.request.model}, parameters {parameters}"
    yield "---"
    yield from estimate_run(plan, say).lines()


def _lines(text: str) -> str:
    return "\n".join(map(plain_text, text.split("\n")))


def ask_requests(plan: Plan, say: Say) -> list[Trial]:
    """Asks the samples of a plan; returns answer and value of each. Answers are stored, outcomes are not.

    A run that asks the same later uses the answers, and a task that is tried out does not come into use.
    """
    found: list[NewOutcome] = []
    run_plan(replace(plan, try_out=found.extend), say)
    outcomes = {outcome.sample_hash: outcome for outcome, _ in found}
    asked = [(each.request_hash, each.attempt) for each in outcomes.values() if each.request_hash]
    answers = newest_answers(plan.store, asked)
    trials = []
    for (key,) in plan.store.rows("inference/samples_in_order", {"hashes": json.dumps(list(outcomes))}):
        one = outcomes[key]
        answer = answers.get((one.request_hash or "", one.attempt))
        content = None if answer is None else answer.completion.content
        trials.append(Trial(key, one.status, one.value, one.reason, content))
    return trials
