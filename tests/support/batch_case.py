"""What the tests of batches share: result files in the shapes of the services and of vLLM."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_NUMBERS = itertools.count()

Line = dict[str, Any]


def lines_of(*files: Path) -> list[Line]:
    """The JSON lines of files."""
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def completion(content: str | None, **changes: Any) -> Line:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, **changes.pop("message", {})}
    return {
        "id": f"chatcmpl-{next(_NUMBERS)}",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": changes.pop("finish_reason", "stop")}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
        **changes,
    }


def openai_result(asked: Line, body: Line, status: int = 200) -> Line:
    """As the OpenAI Batch API writes it, in its output and its error file."""
    number = next(_NUMBERS)
    return {
        "id": f"batch_req_{number}",
        "custom_id": asked["custom_id"],
        "response": {"status_code": status, "request_id": f"req_{number}", "body": body},
        "error": None,
    }


def openai_expired(asked: Line) -> Line:
    """What it did not get to in its 24 hours."""
    error = {
        "code": "batch_expired",
        "message": "This request could not be executed before the window ended.",
    }
    return {
        "id": f"batch_req_{next(_NUMBERS)}",
        "custom_id": asked["custom_id"],
        "response": None,
        "error": error,
    }


def vllm_result(asked: Line, body: Line | None, error: Any = None, status: int = 200) -> Line:
    """As vLLM's run-batch writes it: errors stand beside a response without a body."""
    number = next(_NUMBERS)
    response = {"status_code": status, "request_id": f"vllm-batch-{number}", "body": body}
    return {"id": f"vllm-{number}", "custom_id": asked["custom_id"], "response": response, "error": error}


def rated(asked: Line) -> Line:
    """A good answer."""
    return openai_result(asked, completion("<difficulty>low</difficulty>"))


def answer_file(source: Path, target: Path, answer: Callable[[Line], Line] = rated) -> list[Line]:
    """Answers every line of an input file; gives the results."""
    results = [answer(line) for line in lines_of(source)]
    write_lines(target, results)
    return results


def main(source: str, target: str) -> None:
    """Answers an input file, as the README's example wants it."""
    labels = itertools.cycle(("low", "high", "medium"))
    answer_file(
        Path(source),
        Path(target),
        lambda asked: vllm_result(asked, completion(f"<difficulty>{next(labels)}</difficulty>")),
    )


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
