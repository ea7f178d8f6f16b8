"""`kbetl tasks test`: the exact requests for a few samples, and what a model answers to just these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from kbetl.inference.dry_run import estimate_run
from kbetl.inference.plan import Plan, Say
from kbetl.inference.run import run_plan
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
    """Asks the samples of a plan; returns answer and value of each. The answers stay, the outcomes do not.

    A run that asks the same later uses the answers, and a task that is tried out does not come into use.
    """
    store = plan.store
    run_plan(plan, say)
    run = store.last_run(plan.asked.task.name)
    assert run is not None
    key = {"run_id": run.id, "task_hash": run.task_hash}
    found = [Trial(*row) for row in store.rows("inference/outcomes_of_trial", key)]
    with store.transaction():
        store.execute("inference/drop_trial", key)
        store.execute("inference/retire_trial", key)
        store.remake_views()
    return found
