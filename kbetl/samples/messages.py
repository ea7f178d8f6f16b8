"""What a message says and how it ended, in every dialect that servers and tools write.

Three questions, for every reader of a message: which of its fields and parts hold what (`read_message`),
where in a text the model talks to itself (`split_thoughts`), and what its finish reason means (`ending_of`).
All are pure.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

THOUGHT_TAGS = (
    "think",
    "thinking",
    "thought",
    "thoughts",
    "reasoning",
    "scratchpad",
    "antml:thinking",
    "mm:think",
    "seed:think",
    "longcat_think",
)
"""Tags `<NAME>` .. `</NAME>` around what a model says to itself, in any letter case, with any attributes."""

_PAIRS = (
    (r"\[THINK\]", r"\[/THINK\]"),  # Mistral
    ("◁think▷", "◁/think▷"),  # Kimi
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # Sky-T1, OpenThinker
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<\|channel>(?:[ \t]*(?:thought|thinking|analysis)\b)?", r"<channel\|>"),  # Gemma 4
    (r"<unused94>(?:thought\b)?", r"<unused95>"),  # MedGemma
)
"""Marks of other spellings, as patterns: the one that begins a thought, and the one that ends it."""

_ATTRIBUTES = r"""(?:\s++[\w:.-]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>=]++))*"""
_TAG = rf"(?<=<)\s*+(?P<end>/?)\s*+(?P<tag>{'|'.join(THOUGHT_TAGS)}){_ATTRIBUTES}\s*+(?P<alone>/?)\s*+>"
_FENCE = re.compile(r"^[ \t]*+(```++|~~~++)([^`\n]*+)$", re.MULTILINE)


def _behind(mark: str) -> str:
    """The pattern of a mark behind its first character, which `_MARK` finds first."""
    size = 2 if mark[0] == "\\" else 1
    return rf"(?<={mark[:size]}){mark[size:]}"


_MARKS = "|".join(
    [_TAG]
    + [
        f"(?P<b{number}>{_behind(begin)})|(?P<e{number}>{_behind(end)})"
        for number, (begin, end) in enumerate(_PAIRS)
    ]
)
# a set of characters in front lets `re` skip to the candidates, 20 times faster than the alternatives do
_MARK = re.compile(rf"[<\[◁](?:{_MARKS})", re.IGNORECASE | re.ASCII)
# In every mark of a thought there is one of these: looking for them costs a hundredth of looking for marks.
_MARK_WORDS = ("think", "thought", "reasoning", "scratchpad", "inner_", "channel>", "channel|", "<unused9")
_HARMONY = re.compile(r"<\|(start|channel|constrain|message|end|return|call)\|>", re.IGNORECASE)
_HARMONY_NAME = re.compile(r"\s*(analysis|commentary|final|\w+)?", re.IGNORECASE)
_HARMONY_BARE = re.compile(r"\s*analysis(?P<thought>.*)assistant\s*final", re.DOTALL)
"""gpt-oss's channels where a server dropped the special tokens: `analysisWe need ..assistantfinalLow.`"""
_QUOTES = "\"'`"


class Split(NamedTuple):
    """A text, taken apart."""

    answer: str
    """What is said to the reader: the text as it is where it holds no mark of a thought, else stripped."""
    thoughts: str | None
    """What the model says to itself, by a blank line where there are several; None if it says nothing."""
    unclosed: str | None
    """The mark of a thought that never ends: all behind it is thought. None if each one ends."""


@lru_cache(maxsize=2)  # a row's text is asked about several times in a row; more would hold long texts
def split_thoughts(text: str) -> Split:
    """Takes a text apart into what is said to the reader and what the model says to itself.

    Openings nest. A thought that is never closed goes to the end; a closing without an opening (the
    prompt held it) makes all before it a thought. Of gpt-oss's channels `final` alone is the answer. A mark
    in quotes is text, and so is one inside a closed code fence, unless it begins a line there.

    >>> split_thoughts("<think>Is it low?</think>Low.")
    Split(answer='Low.', thoughts='Is it low?', unclosed=None)
    """
    if "<|" in text and any(_is_channel(text, mark) for mark in _HARMONY.finditer(text)):
        return _split_channels(text)
    if text.lstrip().startswith("analysis") and (bare := _HARMONY_BARE.match(text)):
        return _joined([text[bare.end() :]], [bare["thought"]], None)
    return _split_marks(text)


def mark_in(text: str) -> str | None:
    """The first mark of a thought in a text, quoted or within code as it may be; None if there is none."""
    found = _MARK.search(text) or next((mark for mark in _HARMONY.finditer(text)), None)
    return None if found is None else found[0].strip()


def _split_marks(text: str) -> Split:
    lowered = text.lower()
    if not any(word in lowered for word in _MARK_WORDS):
        return Split(text, None, None)
    pieces: list[tuple[str, bool]] = []
    """Each with whether it is thought."""
    depth: Counter[str] = Counter()
    opened = ""
    start = 0
    first = 0
    """Of the pieces that may be answer: what is before it a closing made thought."""
    for mark in _marks(text, depth):
        pieces.append((text[start : mark.start], depth.total() > 0))
        start = mark.end
        if not mark.is_end:
            opened = opened if depth.total() else text[mark.start : mark.end]
            depth[mark.name] += 1
        elif depth[mark.name]:
            depth[mark.name] -= 1
        else:
            first = len(pieces)
    if not start:
        return Split(text, None, None)
    pieces.append((text[start:], depth.total() > 0))
    answer = (piece for piece, is_thought in pieces[first:] if not is_thought)
    thoughts = (piece for number, (piece, is_thought) in enumerate(pieces) if is_thought or number < first)
    return _joined(answer, thoughts, opened.strip() if depth.total() else None)


class _Mark(NamedTuple):
    name: str
    is_end: bool
    start: int
    end: int


def _marks(text: str, depth: Counter[str]) -> Iterator[_Mark]:
    """The marks that count, given how deep in thoughts the reader is; `<think/>` opens and ends one."""
    fences = list(_FENCE.finditer(text)) if "```" in text or "~~~" in text else []
    bare = [each for each in fences if not each[2].strip()]
    code_end = 0
    for token in sorted([*_MARK.finditer(text), *fences], key=lambda each: each.start()):
        start, end = token.span()
        if token.re is _FENCE:
            if start >= code_end and not depth.total():
                code_end = _end_of_code(token, bare)
            continue
        if start and end < len(text) and text[start - 1] == text[end] and text[end] in _QUOTES:
            continue
        if start < code_end and not depth.total() and not _begins_line(text, start):
            continue
        yield from _of_token(token)


def _begins_line(text: str, start: int) -> bool:
    """Whether only blanks, and not very many, stand before it on its line."""
    before = text[max(0, start - 200) : start].rpartition("\n")
    return not before[2].strip() and (bool(before[1]) or start < 200)


def _of_token(token: re.Match[str]) -> Iterator[_Mark]:
    start, end = token.span()
    if token["tag"] is None:
        kind = token.lastgroup or ""
        yield _Mark(kind[1:], kind.startswith("e"), start, end)
        return
    name = token["tag"].lower()
    yield _Mark(name, bool(token["end"]), start, end)
    if token["alone"] and not token["end"]:
        yield _Mark(name, True, end, end)


def _end_of_code(fence: re.Match[str], bare: list[re.Match[str]]) -> int:
    """Where the code of a fence ends; 0 where none of the next bare ones closes it: then it is no fence."""
    first = bisect_right(bare, fence.start(), key=lambda each: each.start())
    closing = next((each for each in bare[first : first + 20] if each[1].startswith(fence[1])), None)
    return 0 if closing is None else closing.end()


def _is_channel(text: str, mark: re.Match[str]) -> bool:
    is_quoted = mark.start() > 0 and text[mark.start() - 1] in _QUOTES
    return mark[1].lower() == "channel" and not is_quoted


class _Body(NamedTuple):
    """What stands between two of gpt-oss's marks."""

    channel: str | None
    """In lower case; None for text outside all channels."""
    text: str
    is_cut: bool
    """Whether it is the end of a message whose beginning, and channel, the prompt held."""


def _split_channels(text: str) -> Split:
    """gpt-oss's messages, `<|start|>assistant<|channel|>NAME<|message|>BODY<|end|>`: `final` is the answer.

    Where there is none, what stands outside the channels is.
    """
    bodies = list(_bodies(text))
    channels = [body.channel for body in bodies if body.channel is not None]
    has_final = "final" in channels
    answer: list[str] = []
    thoughts: list[str] = []
    unclosed = None if has_final else f"<|channel|>{channels[-1]}"
    for body in bodies:
        if body.channel != "final" and (has_final or body.channel is not None or body.is_cut):
            thoughts.append(body.text)
            continue
        inner = _split_marks(body.text)
        answer.append(inner.answer)
        thoughts.append(inner.thoughts or "")
        unclosed = unclosed or inner.unclosed
    split = _joined(answer, thoughts, unclosed)
    return split if has_final or not split.answer else split._replace(unclosed=None)


def _bodies(text: str) -> Iterator[_Body]:
    channel: str | None = None
    start = 0
    is_header = False
    is_first = True
    for mark in [*_HARMONY.finditer(text), None]:
        kind = "" if mark is None else mark[1].lower()
        if not is_header or kind not in ("message", "constrain", "channel"):
            body = text[start : len(text) if mark is None else mark.start()]
            yield _Body(channel, body, is_first and kind in ("start", "end", "return", "call"))
        is_first = False
        if mark is None:
            return
        start = mark.end()
        if kind == "channel":
            name = _HARMONY_NAME.match(text, start)
            channel = (name[1] or "").lower() if name else ""
            start = name.end() if name else start
        elif kind in ("start", "end", "return", "call"):
            channel = None
        is_header = kind in ("start", "channel", "constrain")


def _joined(answer: Iterable[str], thoughts: Iterable[str], unclosed: str | None) -> Split:
    told = "\n".join(answer).strip()
    said = "\n\n".join(stripped for each in thoughts if (stripped := each.strip()))
    return Split(told, said or None, unclosed)


class Said(NamedTuple):
    """What a message holds; its text is as it came, thoughts in it and all."""

    text: str | None
    """None if it has no text at all, which is not the same as an empty one."""
    reasoning: str | None
    """What its fields and parts set apart as thoughts; None if that is nothing."""
    refusal: str | None
    """Why the model declined; None if it does not say so."""
    others: tuple[str, ...] = ()
    """Kinds of parts that are none of these, such as `image_url`."""


REASONING_FIELDS = ("reasoning", "reasoning_content", "reasoning_details", "thinking_blocks", "thinking")
"""Where messages keep their thoughts apart; the first that is not blank counts, then parts of the content."""


def read_message(message: Mapping[str, Any]) -> Said:
    """What a message of any server or tool says. Raises ValueError where its content is no text or list."""
    content = message.get("content")
    if not (content is None or isinstance(content, str | list)):
        raise ValueError(f"its content is a {type(content).__name__}, not a text")
    found = _NO_PARTS
    if isinstance(content, list):
        found = _Parts()
        found.take(content)
    text = content if isinstance(content, str) else "".join(found.texts) if found.texts else None
    fields = [_thoughts_of(message[name]) for name in REASONING_FIELDS if name in message]
    told = [each for each in (*fields, "".join(found.thoughts)) if each]
    reasoning = next((each for each in told if each.strip()), told[0] if told else None)
    refusal = message.get("refusal")
    refusal = refusal if isinstance(refusal, str) and refusal else "".join(found.refusals)
    return Said(text, reasoning, refusal or None, tuple(found.others))


class _Parts:
    """The texts of a list of parts, by what they are."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.refusals: list[str] = []
        self.others: list[str] = []

    def take(self, parts: Iterable[Any]) -> None:
        for part in parts:
            if isinstance(part, str):
                self.texts.append(part)
            elif isinstance(part, Mapping):
                self._take_part(part)
            elif part is not None:
                self.others.append(type(part).__name__)

    def _take_part(self, part: Mapping[str, Any]) -> None:
        kind = part.get("type", "text")
        kind = kind if isinstance(kind, str) else "text"
        if part.get("thought") is True or kind.startswith(_THOUGHT_KINDS):
            self.thoughts.append(_thoughts_of(part))
        elif kind in ("text", "output_text", "input_text"):
            value = _first_text(part, ("text", kind, "content"))
            self.texts.extend([] if value is None else [value])
        elif kind == "refusal":
            self.refusals.append(_first_text(part, ("refusal", "text")) or "")
        else:
            self.others.append(kind)


_NO_PARTS = _Parts()
_THOUGHT_KINDS = ("thinking", "reasoning", "thought", "redacted_thinking", "summary_text")
_THOUGHT_KEYS = ("thinking", "reasoning", "text", "summary", "content", "thought")


def _first_text(part: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    """The first of the fields that holds a text, or a list of parts with text."""
    for key in keys:
        value = part.get(key)
        if isinstance(value, list):
            inner = _Parts()
            inner.take(value)
            value = "".join([*inner.texts, *inner.thoughts])
        if isinstance(value, str):
            return value
    return None


def _thoughts_of(value: Any) -> str:
    """The text of a reasoning field or part: a text, an object with one, or a list of these.

    Details with numbers of their own are paragraphs; all others go on where the one before ended.
    Encrypted ones have no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _first_text(value, _THOUGHT_KEYS) or ""
    if not isinstance(value, list):
        return ""
    texts: list[str] = []
    before: Any = None
    for part in value:
        text = _thoughts_of(part)
        number = part.get("index") if isinstance(part, Mapping) else None
        if text:
            is_other = None not in (before, number) and before != number
            texts.append(f"\n\n{text}" if texts and is_other else text)
            before = number
    return "".join(texts)


Ending = Literal["done", "cut", "declined", "broken", "unknown"]
"""How an answer ended: whole; at a limit; by the model's or a filter's will; by a fault; who knows how."""

_ENDINGS: dict[Ending, tuple[str, ...]] = {
    "done": (
        *("", "null", "none", "stop", "stopped", "eos", "eos_token", "eos_found", "eog", "end", "end_turn"),
        *(
            "end_of_text",
            "stop_sequence",
            "stop_token",
            "complete",
            "completed",
            "done",
            "finished",
            "success",
        ),
        *("tool_calls", "tool_call", "function_call", "tool_use"),
    ),
    "cut": (
        *("length", "max_length", "model_length", "max_tokens", "max_token", "max_output_tokens"),
        *("max_completion_tokens", "max_new_tokens", "token_limit", "error_limit", "incomplete", "truncated"),
        *("context_length", "context_length_exceeded", "context_window_exceeded"),
        *("model_context_window_exceeded", "repetition"),
    ),
    "declined": (
        *("content_filter", "content_filtered", "sensitive", "refusal", "refused", "safety", "image_safety"),
        *("prohibited_content", "recitation", "blocklist", "blocked", "spii", "language", "error_toxic"),
        *("guardrail", "guardrails", "guardrail_intervened", "moderation", "flagged", "policy_violation"),
    ),
    "broken": (
        *("error", "network_error", "server_error", "internal_error", "connection_error", "timeout"),
        *("insufficient_system_resource", "abort", "aborted", "cancelled", "canceled", "interrupted"),
        *("malformed_function_call", "unexpected_tool_call", "preempted", "overloaded"),
    ),
}
_ENDING = {word: ending for ending, words in _ENDINGS.items() for word in words}
_TELLING: tuple[tuple[Ending, tuple[str, ...]], ...] = (
    ("declined", ("filter", "safety", "sensitive", "prohibit", "policy", "moderat", "guardrail", "refus")),
    ("cut", ("max_", "_limit", "length", "truncat", "exceed")),
    ("broken", ("error", "fail", "timeout", "timed_out", "abort", "cancel", "interrupt", "unavailable")),
)
"""What a word that the table lacks is known by."""


def ending_of(finish_reason: str | None) -> Ending:
    """What a finish reason means, in any letter case, also spelled as Gemini's `FinishReason.MAX_TOKENS`.

    None and `""` are `done`: whoever reads a stream must have seen its end. A word that nobody knows is
    `unknown`: what such an answer holds may be a part of it.
    """
    word = (finish_reason or "").strip().lower().replace("-", "_").replace(" ", "_")
    word = word.rpartition(".")[2].removeprefix("finish_reason_")
    if word in _ENDING:
        return _ENDING[word]
    return next((ending for ending, parts in _TELLING if any(part in word for part in parts)), "unknown")
