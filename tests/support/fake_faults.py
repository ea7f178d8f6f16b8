"""Every way in which `fake_llm` can fail, by name: add a line to FAULTS, and each test can order it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in."""

    index: int
    at: float
    """`time.monotonic()` of the process that serves."""
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    raw: bytes

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out for one request, down to how the connection ends."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut_after: int | None = None
    """Only so many bytes of the body are sent, then the connection ends as `ending` says."""
    ending: str = "close"
    """How the connection ends after `cut_after`: `close`, `reset`, or `silence`: it says no more."""
    instead: str | None = None
    """`reset`: the connection is reset before any byte; `silence`: nothing ever comes."""
    drip_s: float = 0.0
    """The body goes out in DRIPS parts with so much time between two of them; 0: at once."""
    drops: bool = False
    """The connection is closed after this reply, though it said nothing of the kind."""
    raw: bytes | None = None
    """Sent as it is in place of all the above, then the connection is closed."""


DRIPS = 10
"""Parts of a body that drips."""
LARGE_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply that was delivered whole."""

    index: int
    at: float
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Billed:
    """What a request would have cost: a completion was made for it, whether it was delivered or not."""

    index: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


Fault = Callable[[Asked, dict[str, Any]], Reply]
"""Spoils a reply: from the request and the good completion that it would have got."""
Order = str | Reply | Fault | None
"""A fault by its name in FAULTS, one of one's own, or None for a good answer."""


def error_reply(status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """An error as providers word it; `more` are `code`, `type`, `param`."""
    error = {"message": message, "type": None, "param": None, "code": None, **more}
    return Reply(orjson.dumps({"error": error}), status, headers or {})


def json_reply(body: Any, **more: Any) -> Reply:
    return Reply(orjson.dumps(body), **more)


def _error(status: int, message: str, **more: Any) -> Fault:
    reply = error_reply(status, message, **more)
    return lambda asked, good: reply


def _message(**fields: Any) -> Fault:
    """A completion whose message has these fields in place of the good ones."""

    def fault(asked: Asked, good: dict[str, Any]) -> Reply:
        choice = good["choices"][0]
        spoilt = {**choice, "message": {**choice["message"], **fields}}
        return json_reply({**good, "choices": [spoilt]})

    return fault


def _choice(**fields: Any) -> Fault:
    """A completion whose first choice has these fields in place of the good ones."""
    return lambda asked, good: json_reply({**good, "choices": [{**good["choices"][0], **fields}]})


def _whole(**fields: Any) -> Fault:
    """A completion with these fields in place of the good ones."""
    return lambda asked, good: json_reply({**good, **fields})


def _bytes(change: Callable[[bytes], Reply]) -> Fault:
    """What becomes of the bytes of a good completion."""
    return lambda asked, good: change(orjson.dumps(good))


def _raw_body(change: Callable[[bytes], bytes], **more: Any) -> Fault:
    """The bytes of a good completion, changed."""
    return lambda asked, good: Reply(change(orjson.dumps(good)), **more)


def refuse_parameter(name: str, other: str | None = None) -> Fault:
    """400 to requests with a parameter, as GPT-5-class models answer; a good answer to those without."""

    def fault(asked: Asked, good: dict[str, Any]) -> Reply:
        if name not in asked.body:
            return json_reply(good)
        hint = f" Use '{other}' instead." if other else ""
        return error_reply(
            400,
            f"Unsupported parameter: '{name}' is not supported with this model.{hint}",
            type="invalid_request_error",
            code="unsupported_parameter",
            param=name,
        )

    return fault


def first_refused(*faults: Fault) -> Fault:
    """The first of several faults whose reply is an error; the good answer where none is."""

    def fault(asked: Asked, good: dict[str, Any]) -> Reply:
        for each in faults:
            reply = each(asked, good)
            if reply.status != 200:
                return reply
        return json_reply(good)

    return fault


_SURROGATE = b'"content":"\\ud800<difficulty>low</difficulty>\\udc00"'


def _with_surrogates(body: bytes) -> bytes:
    start = body.index(b'"content":"')
    return body[:start] + _SURROGATE + body[body.index(b'"', start + len(b'"content":"')) + 1 :]


FAULTS: dict[str, Fault] = {
    "400": _error(400, "Invalid value for 'messages'", type="invalid_request_error"),
    "400 context": _error(
        400, "This model's maximum context length is 512 tokens.", code="context_length_exceeded"
    ),
    "400 max_tokens": refuse_parameter("max_tokens", "max_completion_tokens"),
    "400 temperature": _error(
        400,
        "Unsupported value: 'temperature' does not support 0.1 with this model. Only the default (1) value "
        "is supported.",
        type="invalid_request_error",
        code="unsupported_value",
        param="temperature",
    ),
    "401": _error(401, "Incorrect API key provided", code="invalid_api_key"),
    "402": _error(402, "Payment required"),
    "403": _error(403, "Your team has no access to this model"),
    "404": _error(404, "The model `nope` does not exist.", type="NotFoundError", code=404, param="model"),
    "408": _error(408, "Request timeout"),
    "409": _error(409, "Conflict"),
    "413": _error(413, "Payload too large"),
    "422": _error(422, "Unprocessable"),
    "429": _error(429, "Rate limit reached", type="requests", code="rate_limit_exceeded"),
    "429 retry-after": _error(429, "Slow down", headers={"Retry-After": "0.05"}),
    "429 ms": _error(429, "Slow down", headers={"Retry-After-Ms": "30"}),
    "429 date": _error(
        429,
        "Slow down",
        headers={
            "Date": formatdate(1_000_000, usegmt=True),
            "Retry-After": formatdate(1_000_001, usegmt=True),
        },
    ),
    "429 headers": _error(
        429,
        "Slow down",
        headers={"X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "40ms"},
    ),
    "429 quota": _error(
        429,
        "Insufficient balance (including overdraft).",
        type="insufficient_quota",
        code="insufficient_funds",
    ),
    "500": _error(500, "Internal server error", type="InternalServerError", code=500),
    "500 html": lambda asked, good: Reply(b"<html><h1>Oops</h1></html>", 500, content_type="text/html"),
    "502": lambda asked, good: Reply(b"<html><h1>Bad gateway</h1></html>", 502, content_type="text/html"),
    "503": _error(503, "Loading model"),
    "503 html": lambda asked, good: Reply(
        b"<html><h1>Down for a moment</h1></html>", 503, content_type="text/html"
    ),
    "504": lambda asked, good: Reply(b"", 504),
    "529": _error(529, "Overloaded", type="overloaded_error"),
    "redirect": lambda asked, good: Reply(b"", 307, {"Location": "http://127.0.0.1:9/elsewhere?key=1"}),
    "reset": lambda asked, good: Reply(instead="reset"),
    "reset body": _bytes(lambda body: Reply(body, cut_after=len(body) // 2, ending="reset")),
    "silence": lambda asked, good: Reply(instead="silence"),
    "silence body": _bytes(lambda body: Reply(body, cut_after=len(body) // 2, ending="silence")),
    "slow drip": _bytes(lambda body: Reply(body, drip_s=0.02)),
    "drop": _bytes(lambda body: Reply(body, drops=True)),
    "gzip": _bytes(lambda body: Reply(gzip.compress(body), headers={"Content-Encoding": "gzip"})),
    "broken gzip": _bytes(
        lambda body: Reply(gzip.compress(body)[:-20] + b"x" * 20, headers={"Content-Encoding": "gzip"})
    ),
    "no gzip": _bytes(lambda body: Reply(body, headers={"Content-Encoding": "gzip"})),
    "not http": lambda asked, good: Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "cut body": lambda asked, good: Reply(orjson.dumps(good), cut_after=len(orjson.dumps(good)) // 2),
    "cut json": _raw_body(lambda body: body[: len(body) // 2]),
    "invalid json": _raw_body(lambda body: body.replace(b'"choices":', b"'choices':")),
    "html": lambda asked, good: Reply(b"<html>Welcome</html>", content_type="text/html"),
    "empty body": lambda asked, good: Reply(b""),
    "wrong type": _raw_body(bytes, content_type="text/plain"),
    "error 200": lambda asked, good: replace(
        error_reply(502, "Provider returned error", code=502), status=200
    ),
    "error 200 rate": lambda asked, good: replace(
        error_reply(429, "Rate limited upstream", code="rate_limit_exceeded"), status=200
    ),
    "empty choices": _whole(choices=[]),
    "no choices": lambda asked, good: json_reply({"id": "x", "object": "chat.completion"}),
    "no message": _choice(message=None),
    "choice error": _choice(error={"message": "upstream died", "code": 502}, finish_reason="error"),
    "null content": _message(content=None, reasoning="I thought about it."),
    "number content": _message(content=7),
    "list content": _message(
        content=[{"type": "text", "text": "<difficulty>"}, {"type": "text", "text": "low</difficulty>"}]
    ),
    "reasoning_content": _message(reasoning_content="Old spelling."),
    "refusal": _message(content=None, refusal="I cannot help with that."),
    "content_filter": _choice(finish_reason="content_filter"),
    "length": _choice(finish_reason="length"),
    "two tags": _message(content="<difficulty>low</difficulty> or <difficulty>high</difficulty>"),
    "no tag": _message(content="It is rather hard."),
    "upper case": _message(content="<DIFFICULTY>HIGH</DIFFICULTY>"),
    "fenced": _message(content="```xml\n<difficulty>medium</difficulty>\n```"),
    "tag in think": _message(content="<think><difficulty>low</difficulty>?</think>No idea."),
    "tag in think and after": _message(
        content="<think><difficulty>low</difficulty>?</think><difficulty>high</difficulty>"
    ),
    "large": _message(content="x" * LARGE_BYTES + "<difficulty>low</difficulty>"),
    "nul": _message(content="<difficulty>low</difficulty>\x00"),
    "escape codes": _message(content="\x1b[2J<difficulty>low</difficulty>"),
    "lone surrogates": _raw_body(_with_surrogates),
    "not utf-8": _raw_body(lambda body: body.replace(b"<difficulty>", b"\xff<difficulty>")),
    "no usage": _whole(usage=None),
    "odd usage": _whole(
        usage={"prompt_tokens": -1, "completion_tokens": 7.0, "prompt_tokens_details": None, "cost": "much"}
    ),
}
"""Every fault by its name."""
