"""Output of `vllm run-batch` and of the OpenAI Batch API, joined with the request that each line answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbetl.errors import BadRow
from kbetl.fields import Row
from kbetl.rollouts.traces import Built
from kbetl.samples.conversation import stored_message

_NOT_SAMPLING = ("model", "messages", "tools", "stream", "metadata", "user", "store")


def rollouts_of_batch(line: Row, request: Row | None) -> list[Built]:
    """A rollout for each choice; for a request that failed or expired, one without a completion.

    `request` is the body that was sent, None where no input file has it. Raises BadRow without it (the
    prompt would be unknown), and for answers that are no chat completions.
    """
    if request is None:
        raise BadRow(f"no input file has the request {line['custom_id']!r}; name that file with --input")
    response = line.get("response")
    response = response if isinstance(response, Mapping) else {}
    body = response.get("body")
    body = body if isinstance(body, Mapping) else {}
    error = _error(line.get("error") or body.get("error"), response.get("status_code"))
    if error is not None:
        return [Built({**_common(line, request, body), "completion": [], "error": error})]
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadRow("neither a chat completion nor an error")
    return [_choice(line, request, body, choice) for choice in choices]


def _choice(line: Row, request: Row, body: Row, choice: Any) -> Built:
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise BadRow("a choice without a message: no chat completion")
    finish_reason = choice.get("finish_reason")
    row = {
        **_common(line, request, body),
        "completion": [stored_message(message)],
        "finish_reason": finish_reason,
        "is_truncated": finish_reason == "length",
        "usage": _usage(body, is_shared=len(body["choices"]) > 1),
    }
    return Built(row)


def _common(line: Row, request: Row, body: Row) -> dict[str, Any]:
    messages = request.get("messages")
    if not isinstance(messages, list):
        raise BadRow(f"the request {line['custom_id']!r} has no messages: no chat completion")
    return {
        "example_id": line["custom_id"],
        "prompt": [stored_message(each) for each in messages if isinstance(each, Mapping)],
        "model": body.get("model") or request.get("model"),
        "tools": request.get("tools") or None,
        "sampling": {key: value for key, value in request.items() if key not in _NOT_SAMPLING} or None,
    }


def _usage(body: Row, *, is_shared: bool) -> Row | None:
    """The counts of an answer; of several choices only the prompt's are of each."""
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return None
    found = {
        "prompt_tokens": usage.get("prompt_tokens"),
        "cached_tokens": _detail(usage, "prompt_tokens_details", "cached_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "reasoning_tokens": _detail(usage, "completion_tokens_details", "reasoning_tokens"),
    }
    kept = list(found)[:2] if is_shared else list(found)
    return {key: found[key] for key in kept if found[key] is not None}


def _detail(usage: Row, place: str, key: str) -> Any:
    details = usage.get(place)
    return details.get(key) if isinstance(details, Mapping) else None


def _error(error: Any, status_code: Any) -> Row | None:
    """An error as vLLM nests it, as OpenAI has it, or as plain text; a status that is none of success."""
    if isinstance(error, Mapping) and isinstance(error.get("error"), Mapping | str):
        error = error["error"]
    failed = isinstance(status_code, int) and status_code >= 400
    if not error and not failed:
        return None
    status = {"status_code": status_code} if isinstance(status_code, int) else {}
    if isinstance(error, Mapping):
        kind = next(
            (text for key in ("type", "code") if isinstance(text := error.get(key), str) and text), None
        )
        return {"type": kind or f"status {status_code}", "message": error.get("message"), **status}
    return {"type": f"status {status_code}", "message": error or None, **status}
