"""The frozen values that pass between the rooms, and the one function that makes each hash."""

from __future__ import annotations

import hashlib
import itertools
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
"""Fields of a row that are not its content: timings, and ids that a tool draws at random; besides these the
index of pandas, see `_is_index`.

A path of keys, `[]` for the elements of a list; `PATH if KEY` holds only for rows that have KEY at the
top, because a plain row's `id` is its content. They stay in the stored row, from the first time it was seen.
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
    """Whether a field is a row's place in somebody's table: the index that pandas writes without being asked.

    `__index_level_0__` is pandas' own name, in Parquet; `Unnamed: 0` is what it calls a column of CSV without
    a name, which holds an index where it holds whole numbers. An index that has a name is content.
    """
    found = _INDEX.fullmatch(key)
    if found is None:
        return False
    return found[1] is not None or (isinstance(value, int) and not isinstance(value, bool))


def excluded_paths(row: Mapping[str, Any], *, counts_index: bool = False) -> Leaves:
    """Which keys of this row are left out, as a tree for `canonical_json`."""
    tree = next((tree for key, tree in _TREES.items() if row.get(key) is not None), _PLAIN_TREE)
    likely = () if counts_index else [key for key in row if key[:2] in ("__", "Un")]
    index = [key for key in likely if _is_index(key, row[key])]
    return {**tree, **{key: {} for key in index}} if index else tree


def sample_hash(row: Mapping[str, Any], *, counts_index: bool = False) -> str:
    """The identity of a sample: `s1:` and the SHA-256 of its canonical content.

    In: every field of the row, at any depth. Left out: NOT_CONTENT, the index of pandas (`counts_index`:
    as samples of older stores have it), and keys whose value is null. Not in it: source, position, time,
    spelling, key order. NaN and Infinity are null here.
    """
    left_out = excluded_paths(row, counts_index=counts_index)
    return "s1:" + hashlib.sha256(canonical_json(row, left_out)).hexdigest()


def code_hash(python_code: str) -> str:
    """The identity of PyTorch source, `c1:` and a SHA-256, less comments, blank lines and idle blanks."""
    return "c1:" + _sha256(canonical_code(python_code))


def hash_point(*candidates: str | None) -> int:
    """A 31-bit integer from the SHA-256 of the first text that is not None; `splits` divides by it.

    Raises ValueError if all are None.
    """
    for text in candidates:
        if text is not None:
            return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
    raise ValueError("a point needs a text")


def content_hash(prefix: str, content: Any) -> str:
    """`PREFIX:` and the SHA-256 of the canonical JSON of `content`; nulls inside do not count."""
    return f"{prefix}:" + hashlib.sha256(canonical_json(content)).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Sample:
    """One row that came in. `reward` is None where the row has none, or none that is finite."""

    hash: str
    kind: Kind
    module_name: str | None
    code_hash: str | None
    code_point: int
    name_point: int
    reward: float | None
    nonfinite: str | None
    """JSON list of the SQLite paths whose numbers were NaN or infinite; None where there were none."""
    row: str
    """The row's own JSON text."""


@dataclass(frozen=True)
class Request:
    """The question as asked. Its identity is model, messages and parameters, and nothing else.

    Not in it: address, key, clock, row order, file names, concurrency, timeouts, and what a model
    made us change (`answers.sent` says that).
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]

    @cached_property
    def body(self) -> dict[str, Any]:
        """The body of a chat-completions call."""
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
    def wire(self) -> bytes:
        """The body as it goes out: in the order as asked, which a JSON schema may depend on."""
        try:
            return orjson.dumps(self.body)
        except (orjson.JSONEncodeError, TypeError):  # an integer beyond 64 bit
            return self.text.encode()


class RequestTemplate:
    """Requests that differ in their last message alone: all else is spelled once.

    `before` are the messages that come first, such as the system prompt. What it makes is what
    `Request` would be, at a third of the cost.
    """

    def __init__(
        self, model: str, before: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
    ) -> None:
        self._model, self._before, self._parameters = model, before, parameters
        all_else = repr((model, before, parameters))
        place = next(mark for number in itertools.count() if (mark := f"<{number}>") not in all_else)
        blank = self._plain(place)
        spelled = orjson.dumps(place)
        self._text = blank.text.encode().split(spelled)
        self._wire = blank.wire.split(spelled)

    def request(self, prompt: str) -> Request:
        """The request whose last message is the user's `prompt`."""
        request = self._plain(prompt)
        content = orjson.dumps(prompt)
        text = content.join(self._text)
        # What cached_property would compute and keep in the same place.
        request.__dict__["text"] = text.decode()
        request.__dict__["hash"] = "r1:" + hashlib.sha256(text).hexdigest()
        request.__dict__["wire"] = content.join(self._wire)
        return request

    def _plain(self, prompt: str) -> Request:
        messages = [*self._before, {"role": "user", "content": prompt}]
        return Request(self._model, messages, self._parameters)


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for one try, as far as it could be read; everything else is None."""

    response: str
    """The body as text, whole; bytes that are not UTF-8 are replaced."""
    host: str
    latency_ms: float
    """Request sent to body read; retries and waits left out."""
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
    """The body that went out, where it differs from the request as asked."""
    fault: str | None = None
    """Why the body is no completion (cut JSON, no choices); None where it is one."""
    served_model: str | None = None
    """The model that the reply names; None if it names none."""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What a task's reader made of a completion. `reason` is None just where `status` is ok."""

    status: Status
    value: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task concluded about a sample."""

    sample_hash: str
    task_hash: str
    attempt: int
    status: Status
    value: str | None
    reason: str | None
    request_hash: str | None
    """The request whose answer settled it; None where none was sent (a missing field)."""
    try_number: int | None
    parser_version: str
