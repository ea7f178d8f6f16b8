"""An answer as a rollout: a row of the shape of the evals data. Pure."""

from __future__ import annotations

import json
from typing import Any

import orjson

from kbetl.asking import Generate, Question
from kbetl.facts import facts_of
from kbetl.json_text import Parsed
from kbetl.messages import ending_of
from kbetl.records import Completion, Request
from kbetl.sampling import sample_of
from kbetl.store.generated import Generated


def generator(source_id: int, task_hash: str, environment: str) -> Generate:
    """What makes the rollouts of one task, for one source."""

    def generate(question: Question, completion: Completion) -> Generated:
        request = question.request
        if request is None:
            raise ValueError("a question without a request has no answer")
        row = rollout_row(question, request, completion, environment)
        sample = sample_of(Parsed(row, _spelled(row), ()))
        return Generated(
            sample,
            facts_of(row),
            source_id,
            task_hash,
            question.sample_hash,
            question.attempt,
            request.hash,
        )

    return generate


def rollout_row(
    question: Question, request: Request, completion: Completion, environment: str
) -> dict[str, Any]:
    """The row: what was asked, what came back, and of which problem; no reward yet.

    Attempt, host and time are not in it: two answers in the same words are the same sample.
    """
    problem = question.problem or {}
    message = {
        "role": "assistant",
        "content": completion.content or None,
        "reasoning": completion.reasoning or None,
    }
    if completion.refusal:
        message["refusal"] = completion.refusal
    usage = {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "reasoning_tokens": completion.reasoning_tokens,
    }
    return {
        "example_id": problem.get("example_id"),
        "prompt": [dict(each) for each in request.messages],
        "completion": [message],
        "task": environment,
        "reward": None,
        "generation_ms": completion.latency_ms,
        "info": problem.get("info"),
        "model": request.model,
        "env_id": environment,
        "finish_reason": completion.finish_reason,
        "is_truncated": ending_of(completion.finish_reason) == "cut",
        "usage": usage,
    }


def _spelled(row: dict[str, Any]) -> str:
    try:
        return orjson.dumps(row).decode()
    except (orjson.JSONEncodeError, TypeError):  # an integer beyond 64 bit
        return json.dumps(row, ensure_ascii=False)
