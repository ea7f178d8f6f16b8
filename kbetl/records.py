"""Defines the values that modules exchange, and the functions that compute their hashes."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import orjson

from kbetl.code_identity import canonical_code
from kbetl.json_codec import Leaves, canonical_json

Kind = Literal["module", "rollout", "record"]
Status = Literal["ok", "unparsed", "refused", "truncated", "failed"]

NOT_CONTENT = (
    # timings of prime-rl `synthesize` and verifiers
    "generation_ms",
    "scoring_ms",
    "total_ms",
    "timing",
    # drawn or clocked per step in verifiers 0.1.10 to 0.3
    "trajectory[].trajectory_id",
    "trajectory[].response.id",
    "trajectory[].response.created",
    # verifiers traces: an episode has `traces`, a bare trace has `nodes`
    "id if traces",
    "group if traces",
    "run if traces",
    "traces[].id",
    "traces[].timing",
    "traces[].agent.runtime",
    "traces[].nodes[].timestamp",
    "traces[].calls[].time",
    "id if nodes",
    "agent.runtime if nodes",
    "nodes[].timestamp",
    "calls[].time",
    # batch output of vLLM and OpenAI
    "id if custom_id",
    "response.request_id if custom_id",
    "response.body.id if custom_id",
    "response.body.created if custom_id",
)
"""Fields of a row that are not hashed: timings, and ids that a tool draws at random. The index of pandas is
not hashed either, see `_is_index`.

An entry is a path of keys, with `[]` for the elements of a list. `PATH if KEY` applies only to rows with KEY
at the top, because a plain row's `id` is content. The stored row has these fields as they were first seen.
"""


def _tree(paths: Sequence[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for step in path.replace("[]", ".[]").split("."):
            node = node.setdefault(step, {})
    return tree


_ALWAYS = [path for path in NOT_CONTENT if " if " not in path]
_WHERE_KEY = [tuple(path.split(" if ")) for path in NOT_CONTENT if " if " in path]
_PLAIN_TREE = _tree(_ALWAYS)
_TREES = {
    key: _tree([*_ALWAYS, *(path for path, marker in _WHERE_KEY if marker == key)])
    for key in {marker for _, marker in _WHERE_KEY}
}


_INDEX = re.compile(r"(__index_level_\d+__)|Unnamed: 0(?:\.\d+)*")


def _is_index(key: str, value: Any) -> bool:
    """Whether a field is the index that pandas writes by default, the number of a row in some table.

    In Parquet it is `__index_level_0__`. In CSV it is a column without a name (`Unnamed: 0` for pandas) that
    holds integers. An index with a name is content.
    """
    found = _INDEX.fullmatch(key)
    if found is None:
        return False
    return found[1] is not None or (isinstance(value, int) and not isinstance(value, bool))


def excluded_paths(row: Mapping[str, Any], *, counts_index: bool = False) -> Leaves:
    """Returns the keys of this row that are not hashed, as a tree for `canonical_json`.

    `counts_index`: whether the index of pandas is hashed, as in samples of older stores.
    """
    tree = next((tree for key, tree in _TREES.items() if row.get(key) is not None), _PLAIN_TREE)
    likely = () if counts_index else [key for key in row if key[:2] in ("__", "Un")]
    index = [key for key in likely if _is_index(key, row[key])]
    return {**tree, **{key: {} for key in index}} if index else tree


def sample_hash(row: Mapping[str, Any], *, counts_index: bool = False) -> str:
    """Returns the identity of a sample: `s1:` and the SHA-256 of its canonical content.

    Hashed: every field of the row, at any depth. Left out: NOT_CONTENT, the index of pandas (unless
    `counts_index`, for samples of older stores), keys whose value is null, source, position, time, spelling
    and key order. NaN and Infinity count as null.
    """
    excluded = excluded_paths(row, counts_index=counts_index)
    return "s1:" + hashlib.sha256(canonical_json(row, excluded)).hexdigest()


def code_hash(python_code: str) -> str:
    """Returns `c1:` and a SHA-256 of PyTorch source without comments, blank lines and extra white space."""
    return "c1:" + _sha256(canonical_code(python_code))


def hash_point(*candidates: str | None) -> int:
    """Returns a 31-bit integer from the SHA-256 of the first text that is not None, used by `splits`.

    Raises ValueError if all are None.
    """
    for text in candidates:
        if text is not None:
            return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
    raise ValueError("a point needs a text")


def content_hash(prefix: str, content: Any) -> str:
    """Returns `PREFIX:` and the SHA-256 of the canonical JSON of `content`, without keys that are null."""
    return f"{prefix}:" + hashlib.sha256(canonical_json(content)).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Sample:
    """A row as it is stored. `reward` is None if the row has no finite reward."""

    hash: str
    kind: Kind
    module_name: str | None
    code_hash: str | None
    code_point: int
    name_point: int
    reward: float | None
    nonfinite: str | None
    """JSON list of the SQLite paths of numbers that were NaN or infinite; None if there were none."""
    row: str
    """The row's own JSON text."""


@dataclass(frozen=True)
class Request:
    """A request to a model. Its identity is model, messages and parameters, and nothing else.

    Left out: address, key, time, row order, file names, concurrency, timeouts, and changes for parameters
    that the model does not support (they are in `answers.sent`).
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]

    @cached_property
    def body(self) -> dict[str, Any]:
        """The body of the chat-completions request."""
        return {"model": self.model, "messages": list(self.messages), **self.parameters}

    @cached_property
    def text(self) -> str:
        """The canonical JSON of the body."""
        return canonical_json(self.body).decode()

    @cached_property
    def hash(self) -> str:
        """`r1:` and the SHA-256 of `text`."""
        return "r1:" + _sha256(self.text)

    @cached_property
    def sent_body(self) -> bytes:
        """The body as it is sent, with keys in their order, on which a JSON schema may depend."""
        try:
            return orjson.dumps(self.body)
        except (orjson.JSONEncodeError, TypeError):  # an integer beyond 64 bit
            return self.text.encode()


def request_from_text(text: str) -> Request:
    """The request of a stored body, as `Request.text` spells it."""
    body = json.loads(text)
    return Request(body.pop("model"), body.pop("messages"), body)


class RequestTemplate:
    """Makes requests that differ only in their last message; everything else is serialised once.

    `before` are the messages before it, such as the system prompt. The result equals `Request(...)` and
    needs a third of the time.
    """

    def __init__(
        self, model: str, before: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
    ) -> None:
        self._model, self._before, self._parameters = model, before, parameters
        all_else = repr((model, before, parameters))
        placeholder = next(mark for number in itertools.count() if (mark := f"<{number}>") not in all_else)
        template = self._plain(placeholder)
        serialised = orjson.dumps(placeholder)
        self._text = template.text.encode().split(serialised)
        self._sent = template.sent_body.split(serialised)

    def request(self, prompt: str) -> Request:
        """Returns the request whose last message is the user's `prompt`."""
        request = self._plain(prompt)
        content = orjson.dumps(prompt)
        text = content.join(self._text)
        # The values that cached_property would compute and store under these names.
        request.__dict__["text"] = text.decode()
        request.__dict__["hash"] = "r1:" + hashlib.sha256(text).hexdigest()
        request.__dict__["sent_body"] = content.join(self._sent)
        return request

    def _plain(self, prompt: str) -> Request:
        messages = [*self._before, {"role": "user", "content": prompt}]
        return Request(self._model, messages, self._parameters)


@dataclass(frozen=True, slots=True)
class Completion:
    """The response to one try; a field is None if the response does not have it."""

    response: str
    """The complete body as text; bytes that are not UTF-8 are replaced."""
    host: str
    latency_ms: float
    """From the request sent to the body read, without retries and waits."""
    content: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    sent: str | None = None
    """The body that was sent; None if it is that of the request."""
    fault: str | None = None
    """Why the body is no usable completion (truncated JSON, no choices); None if it is one."""
    served_model: str | None = None
    """The model that the response names; None if it names none."""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The result of parsing a completion. `reason` is None if and only if `status` is ok."""

    status: Status
    value: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a task for a sample."""

    sample_hash: str
    task_hash: str
    attempt: int
    status: Status
    value: str | None
    reason: str | None
    request_hash: str | None
    """The request whose answer decided it; None if none was sent (a missing field)."""
    try_number: int | None
    parser_version: str


MOST_FIELDS = 100
"""Columns that a JSON label may have; SQLite has 2,000 for all of a view."""


def schema_fields(schema: Any) -> list[str]:
    """The properties of a JSON Schema that are columns of its labels, in order; none if it has none.

    Left out is what no column can be called: nothing, a name with NUL, `value`, `sample_hash`, and a name
    that differs from an earlier one in letter case alone.
    """
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return []
    fields: dict[str, str] = {}
    for name in properties:
        if name and "\0" not in name and name.lower() not in ("value", "sample_hash"):
            fields.setdefault(name.lower(), name)
    return list(fields.values())[:MOST_FIELDS]
