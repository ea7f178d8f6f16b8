"""`kbetl tasks test`: the exact requests for a few samples, and what a model answers to just these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from kbetl.inference.coordination import effective_limit
from kbetl.inference.dry_run import estimate_run
from kbetl.inference.options import EnrichOptions
from kbetl.inference.plan import Say, plan_of
from kbetl.inference.run import enrich
from kbetl.store import Store
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


def show_requests(store: Store, options: EnrichOptions, say: Say) -> Iterator[str]:
    """The requests of a run with these options as they would go out, and what they would cost."""
    plan = plan_of(store, options)
    selection = plan.select(effective_limit(options.limit))
    prepare, after = plan.prepare(None), 0
    while chunk := selection.next(after):
        after = chunk[-1].position
        for question in prepare(chunk):
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
    yield from estimate_run(plan, store, options, say).lines()


def _lines(text: str) -> str:
    return "\n".join(map(plain_text, text.split("\n")))


def ask_requests(store: Store, options: EnrichOptions, say: Say) -> list[Trial]:
    """Asks just these, and shows answer and value; the answers stay, the outcomes are taken back.

    A run that asks the same later uses the answers, and a task that is tried out does not come into use.
    """
    enrich(store, options, say, command="tasks test")
    run = store.last_run(plan_of(store, options).asked.task.name)
    assert run is not None
    key = {"run_id": run.id, "task_hash": run.task_hash}
    found = [Trial(*row) for row in store.rows("inference/outcomes_of_trial", key)]
    with store.transaction():
        store.execute("inference/drop_trial", key)
        store.execute("inference/retire_trial", key)
    return found
