"""Renders conversations with a tokenizer's chat template, and counts their tokens as a trainer would."""

from __future__ import annotations

import ctypes
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from kbetl.errors import BadRow, ConfigError
from kbetl.lengths.tokenizer_files import TokenizerFiles
from kbetl.samples.conversation import Conversation, Message
from kbetl.text import plain_text

REASON_CHARACTERS = 300

# Seconds for one rendering, which needs milliseconds; a template from outside may never end.
TEMPLATE_TIMEOUT_S = 10


class Rendered(NamedTuple):
    """A rendered conversation in parts that are tokenized separately.

    `head + prompt` is the prompt with the generation prompt, `head + whole` the whole conversation. The head
    ends before a special token, where the tokenizer splits every text, so that it is tokenized only once.
    """

    head: str
    prompt: str
    whole: str
    unreached: tuple[str, ...]
    """Fields whose text is missing in the whole conversation."""

    def in_one(self) -> Rendered:
        """Returns it without a head."""
        return Rendered("", self.head + self.prompt, self.head + self.whole, self.unreached)


class Tokens(NamedTuple):
    """Token counts of a conversation; prompt + completion = total."""

    prompt: int
    completion: int
    total: int


class ChatTokenizer:
    """A loaded tokenizer; code that comes with it is never run."""

    def __init__(self, files: TokenizerFiles) -> None:
        """Loads it. Raises ConfigError if it cannot be loaded or has no chat template."""
        self._tokenizer = _load(files)
        _check_template(files, self._tokenizer.chat_template)
        self._name = files.name
        self._watchdog = _Watchdog()
        self._refusals = _template_errors()
        self._backend = self._tokenizer.backend_tokenizer if self._tokenizer.is_fast else None
        self._split_tokens: tuple[str, ...] = ()
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
            self._split_tokens = _splitting_tokens(self._backend)

    def render(self, conversation: Conversation) -> Rendered:
        """Renders a conversation. Raises BadRow, with the reason, if the template refuses it."""
        prompt = [message.body(parsed=True) for message in conversation.prompt]
        completion = [message.body(parsed=True) for message in conversation.completion]
        tools = conversation.tools
        try:
            whole = self._text([*prompt, *completion], tools)
            asked = self._text(prompt, tools, add_generation_prompt=True) if prompt else ""
            marked = mark_texts(conversation, whole)
            missing = missing_texts(marked, self._text(marked.messages, marked.tools))
            lost = tuple(dict.fromkeys((*conversation.lost, *missing)))
        except TemplateTimeout:
            raise ConfigError(
                f"the chat template of {self._name} did not end within {TEMPLATE_TIMEOUT_S} s; "
                "nothing more is measured with it"
            ) from None
        except self._refusals as error:
            reason = plain_text(f"{type(error).__name__}: {error}")
            raise BadRow(f"the chat template refuses it: {reason[:REASON_CHARACTERS]}") from None
        end = self._head_end(asked, whole)
        return Rendered(whole[:end], asked[end:], whole[end:], lost)

    def count(self, conversations: Sequence[Rendered]) -> list[Tokens]:
        """Returns the token counts of each, equal to those of `apply_chat_template(tokenize=True)`."""
        if self._backend is None:
            conversations = [each.in_one() for each in conversations]
        texts = [text for each in conversations for text in each[:3]]
        lengths = iter(self._lengths(texts))
        return [_tokens(*each) for each in zip(lengths, lengths, lengths, strict=True)]

    def matches_reference(self, conversation: Conversation, rendered: Rendered) -> bool:
        """Whether `count` has the token ids of `apply_chat_template(tokenize=True)`."""
        if self._backend is None:
            return True  # it is the same call
        prompt = [message.body(parsed=True) for message in conversation.prompt]
        whole = [*prompt, *(message.body(parsed=True) for message in conversation.completion)]
        head = self._ids(rendered.head)
        same = head + self._ids(rendered.whole) == self._official_ids(whole, conversation.tools)
        if not same or not prompt:
            return same
        official = self._official_ids(prompt, conversation.tools, add_generation_prompt=True)
        return head + self._ids(rendered.prompt) == official

    def use_reference(self) -> None:
        """From now on uses the tokenizer's own call on whole texts, as `apply_chat_template` does; slower."""
        self._backend, self._split_tokens = None, ()

    def _text(self, messages: list[dict[str, Any]], tools: Any, **options: bool) -> str:
        with self._watchdog:
            text: str = self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **options)
        return text

    def _official_ids(self, messages: list[dict[str, Any]], tools: Any, **options: bool) -> list[int]:
        found = self._tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=True, return_dict=False, **options
        )
        return list(found)

    def _head_end(self, asked: str, whole: str) -> int:
        """Returns the last start of a special token up to which both texts are equal; 0 if there is none."""
        ends = {(asked.rfind(token), len(token)) for token in self._split_tokens}
        for index, size in sorted(ends, reverse=True):
            if index > 0 and whole.startswith(asked[: index + size]):
                return index
        return 0

    def _lengths(self, texts: list[str]) -> list[int]:
        if self._backend is None:
            return [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]
        return [len(each) for each in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _ids(self, text: str) -> list[int]:
        assert self._backend is not None
        return list(self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _tokens(head: int, prompt: int, whole: int) -> Tokens:
    """Returns the counts; without a completion, the whole also lacks the generation prompt."""
    total = head + whole
    asked = min(head + prompt, total)
    return Tokens(asked, total - asked, total)


def _splitting_tokens(backend: Any) -> tuple[str, ...]:
    """Returns the added tokens at whose start every text is split, whatever the text around them.

    Tokens that strip white space, are matched in normalised text, or overlap another one are left out.
    """
    added = list(backend.get_added_tokens_decoder().values())
    plain = [
        token.content
        for token in added
        if not (token.lstrip or token.rstrip or token.single_word or token.normalized) and token.content
    ]
    return tuple(text for text in plain if not any(_overlaps(other.content, text) for other in added))


def _overlaps(other: str, text: str) -> bool:
    """Whether `text` can begin inside `other`."""
    return text in other[1:] or any(
        other.endswith(text[:end]) for end in range(1, min(len(text), len(other)))
    )


def _load(files: TokenizerFiles) -> Any:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(files.folder), local_files_only=True, trust_remote_code=False
        )
    except BaseException as error:
        # `tokenizers` raises Exception itself for a broken tokenizer.json
        if type(error) is not Exception and not isinstance(error, _BROKEN_FILES):
            raise
        reason = plain_text(" ".join(f"{type(error).__name__}: {error}".split()))[:REASON_CHARACTERS]
        raise ConfigError(f"tokenizer {files.name} cannot be loaded: {reason}") from error


# Exceptions of transformers for files with unexpected content.
_BROKEN_FILES = (
    OSError,
    ValueError,
    LookupError,
    ImportError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
)


def _check_template(files: TokenizerFiles, template: Any) -> None:
    """Raises ConfigError for a tokenizer without a default chat template."""
    if not template:
        raise ConfigError(f"tokenizer {files.name} has no chat template; name one that has")
    if isinstance(template, dict) and "default" not in template:
        names = plain_text(", ".join(map(str, template)))[:REASON_CHARACTERS]
        raise ConfigError(
            f"tokenizer {files.name} has chat templates called {names} and none called default; "
            "put the one that you train with into chat_template.jinja of a copy of its folder"
        )
    if not isinstance(template, str | dict):
        raise ConfigError(f"tokenizer {files.name} has a chat template that is no text")


class TemplateTimeout(Exception):
    """Raised into a chat template that does not end."""


class _Watchdog:
    """Raises TemplateTimeout in a `with` block that runs longer than TEMPLATE_TIMEOUT_S.

    A template is Python code made by Jinja, so the exception is raised at its next bytecode.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._thread_id = 0
        self._is_started = False

    def __enter__(self) -> None:
        if not self._is_started:
            self._is_started = True
            threading.Thread(target=self._wait, daemon=True).start()
        with self._lock:
            self._thread_id = threading.get_ident()
            self._deadline = time.monotonic() + TEMPLATE_TIMEOUT_S

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._deadline = None

    def _wait(self) -> None:
        while True:
            time.sleep(0.5)
            with self._lock:
                if self._deadline is not None and time.monotonic() > self._deadline:
                    self._deadline = None
                    thread_id = ctypes.c_ulong(self._thread_id)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, ctypes.py_object(TemplateTimeout))


def _template_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions of a template: its own refusals, and Python's errors on unexpected values."""
    from jinja2 import TemplateError

    return (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    )


_TAGS = re.compile(r"(</?(?:think|tool_call|tool_response)>)")


class Mark(NamedTuple):
    """A mark in a text, and the text before and behind it, without the white space that templates strip."""

    origin: str
    sign: str
    before: str
    behind: str


@dataclass(slots=True)
class MarkedConversation:
    """A conversation with a mark in each of its texts."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    marks: list[Mark] = field(default_factory=list)


def mark_texts(conversation: Conversation, rendered: str) -> MarkedConversation:
    """Returns the conversation with marks of a character that its rendering, `rendered`, does not have."""
    marker = _Marker(_unused_character(rendered))
    messages = [marker.message(each) for each in conversation.messages]
    tools = None
    if conversation.tools is not None:
        tools = [
            marker.named(tool, f"{conversation.tools_origin}[{index}]")
            for index, tool in enumerate(conversation.tools)
        ]
    return MarkedConversation(messages, tools, marker.marks)


def missing_texts(marked: MarkedConversation, rendered: str) -> Iterator[str]:
    """Yields the origins, each once, of the marks that the rendering of a marked conversation lacks."""
    missing = (mark.origin for mark in marked.marks if not _is_rendered(mark, rendered))
    yield from dict.fromkeys(missing)


class _Marker:
    def __init__(self, character: str) -> None:
        self.marks: list[Mark] = []
        self._character = character

    def message(self, message: Message) -> dict[str, Any]:
        """Returns the body of a message with a mark in each text."""
        body = message.body(parsed=True)
        for key in ("content", "reasoning_content"):
            if key in message.origins:
                body[key] = self._text(body[key], message.origins[key])
        if "tool_calls" in body:
            origin = message.origins["tool_calls"]
            body["tool_calls"] = [
                self._call(call, f"{origin}[{index}]") for index, call in enumerate(body["tool_calls"])
            ]
        return body

    def named(self, owner: dict[str, Any], origin: str) -> dict[str, Any]:
        """Returns a tool or a call with a mark in the name of its function."""
        function = owner["function"]
        return {**owner, "function": {**function, "name": self._piece(function["name"], origin)}}

    def _call(self, call: dict[str, Any], origin: str) -> dict[str, Any]:
        marked = self.named(call, origin)
        marked["function"]["arguments"] = self._arguments(call["function"]["arguments"], origin)
        return marked

    def _arguments(self, value: Any, origin: str) -> Any:
        if isinstance(value, str):
            return self._piece(value, origin)
        if isinstance(value, dict):
            return {key: self._arguments(each, origin) for key, each in value.items()}
        return [self._arguments(each, origin) for each in value] if isinstance(value, list) else value

    def _text(self, text: str, origin: str) -> str:
        return "".join(
            piece if _TAGS.fullmatch(piece) else self._piece(piece, origin) for piece in _TAGS.split(text)
        )

    def _piece(self, piece: str, origin: str) -> str:
        """Returns a piece of text with a mark in its middle; a blank piece unchanged."""
        core = piece.strip()
        if not core:
            return piece
        start = len(piece) - len(piece.lstrip())
        middle = (len(core) + 1) // 2
        sign = f"{self._character}{len(self.marks)}{self._character}"
        mark = Mark(origin, sign, core[:middle], core[middle:])
        self.marks.append(mark)
        return f"{piece[:start]}{mark.before}{sign}{mark.behind}{piece[start + len(core) :]}"


def _unused_character(text: str) -> str:
    """Returns a character that is not in the text, and that neither JSON escapes nor templates strip.

    DEL comes first: with it ASCII text keeps one byte per character, and rendering stays as fast.
    """
    candidates = chain("\x7f", map(chr, range(0xE000, 0xF900)))
    return next(char for char in candidates if char not in text)


def _is_rendered(mark: Mark, rendered: str) -> bool:
    """Whether the marked text is completely in the rendering, plain or escaped as in a JSON string."""
    start = rendered.find(mark.sign)
    if start < 0:
        return False
    end = start + len(mark.sign)

    def surround(before: str, behind: str) -> bool:
        return rendered.endswith(before, 0, start) and rendered.startswith(behind, end)

    return surround(mark.before, mark.behind) or surround(_in_json(mark.before), _in_json(mark.behind))


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
