"""Converts output of `vllm run-batch` and the OpenAI Batch API to rows, given the request of each line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbetl.errors import BadRow
from kbetl.rollouts.traces import BuiltRow
from kbetl.samples.conversation import stored_message
from kbetl.samples.fields import Row
from kbetl.samples.messages import ending_of
from kbetl.usage import read_usage

_NOT_SAMPLING = ("model", "messages", "tools", "stream", "metadata", "user", "store")


def rollouts_of_batch(line: Row, request: Row | None) -> list[BuiltRow]:
    """Returns a rollout for each choice; one with an empty completion if the request failed or expired.

    `request` is the body that was sent. Raises BadRow if it is None, because the prompt would be unknown,
    and for a response that is no chat completion.
    """
    if request is None:
        raise BadRow(f"no input file has the request {line['custom_id']!r}; name that file with --input")
    response = line.get("response")
    response = response if isinstance(response, Mapping) else {}
    body = response.get("body")
    body = body if isinstance(body, Mapping) else {}
    status_code = response.get("status_code")
    error = _error(line.get("error") or body.get("error"), status_code, is_empty=not body)
    if error is not None:
        return [BuiltRow({**_common(line, request, body), "completion": [], "error": error})]
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadRow("neither a chat completion nor an error")
    return [_choice(line, request, body, choice) for choice in choices]


def _choice(line: Row, request: Row, body: Row, choice: Any) -> BuiltRow:
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise BadRow("a choice without a message: no chat completion")
    finish_reason = choice.get("finish_reason")
    ending = ending_of(finish_reason if isinstance(finish_reason, str) else None)
    broken = (
        {"type": finish_reason, "message": "the server broke the answer off"} if ending == "broken" else None
    )
    row = {
        **_common(line, request, body),
        "completion": [stored_message(message)],
        "finish_reason": finish_reason,
        "is_truncated": ending == "cut",
        "error": _error(choice.get("error"), None, is_empty=False) or broken,
        "usage": _usage(body, is_shared=len(body["choices"]) > 1),
    }
    return BuiltRow(row)


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
    """Returns the token counts of a choice; of several choices only the prompt's, the rest is shared."""
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return None
    found = read_usage(usage)._asdict()
    del found["cost_usd"]
    names = list(found)[:2] if is_shared else list(found)
    return {key: found[key] for key in names if found[key] is not None}


def _error(error: Any, status_code: Any, *, is_empty: bool) -> Row | None:
    """Returns the error of a result: nested as by vLLM, plain as by OpenAI, text, or a failed status.

    None if there is no error. A result without error and body (`is_empty`) is an error too.
    """
    if isinstance(error, Mapping) and isinstance(error.get("error"), Mapping | str):
        error = error["error"]
    failed = isinstance(status_code, int) and not 200 <= status_code < 300
    if not error and not failed and not is_empty:
        return None
    status = {"status_code": status_code} if isinstance(status_code, int) else {}
    if isinstance(error, Mapping):
        kind = next(
            (text for key in ("type", "code") if isinstance(text := error.get(key), str) and text), None
        )
        return {
            "type": kind or (f"status {status_code}" if status else "error"),
            "message": error.get("message"),
            **status,
        }
    kind = f"status {status_code}" if status else "no answer"
    return {"type": kind, "message": error or None, **status}
