"""A tokenizer with its chat template: renders conversations and counts their tokens, as a trainer would."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from kbetl.errors import BadRow, ConfigError
from kbetl.lengths.files import TokenizerFiles
from kbetl.lengths.reaching import unreached, with_marks
from kbetl.lines import plain_text
from kbetl.samples.conversation import Conversation

REASON_CHARACTERS = 300

# For one rendering, which takes milliseconds; a template from elsewhere may never end.
TEMPLATE_TIMEOUT_S = 10


class Rendered(NamedTuple):
    """A rendered conversation in parts that are cut into tokens apart from each other.

    `head + prompt` is the prompt with the generation prompt, `head + whole` the whole conversation. The cut
    is in front of a special token, where every text is cut anyway, so that nothing is counted twice.
    """

    head: str
    prompt: str
    whole: str
    unreached: tuple[str, ...]
    """Fields whose text the whole lacks."""

    def in_one(self) -> Rendered:
        """The same, not cut."""
        return Rendered("", self.head + self.prompt, self.head + self.whole, self.unreached)


class Tokens(NamedTuple):
    """What a trainer sees of a conversation, in tokens; prompt + completion = total."""

    prompt: int
    completion: int
    total: int


class Chat:
    """A loaded tokenizer. Runs no code that came with it."""

    def __init__(self, files: TokenizerFiles) -> None:
        """Loads it. Raises ConfigError where it cannot be loaded, or has no chat template."""
        self._tokenizer = _load(files)
        _check_template(files, self._tokenizer.chat_template)
        self._name = files.name
        self._watch = _Watch()
        self._refusals = _template_errors()
        self._backend = self._tokenizer.backend_tokenizer if self._tokenizer.is_fast else None
        self._cuts: tuple[str, ...] = ()
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
            self._cuts = _cutting_tokens(self._backend)

    def render(self, conversation: Conversation) -> Rendered:
        """Renders one; raises BadRow with the reason where the template refuses it."""
        prompt = [message.body(parsed=True) for message in conversation.prompt]
        completion = [message.body(parsed=True) for message in conversation.completion]
        tools = conversation.tools
        try:
            whole = self._text([*prompt, *completion], tools)
            asked = self._text(prompt, tools, add_generation_prompt=True) if prompt else ""
            marked = with_marks(conversation, whole)
            missing = unreached(marked, self._text(marked.messages, marked.tools))
            lost = tuple(dict.fromkeys((*conversation.lost, *missing)))
        except TemplateTimeout:
            raise ConfigError(
                f"the chat template of {self._name} did not end within {TEMPLATE_TIMEOUT_S} s; "
                "nothing more is measured with it"
            ) from None
        except self._refusals as error:
            reason = plain_text(f"{type(error).__name__}: {error}")
            raise BadRow(f"the chat template refuses it: {reason[:REASON_CHARACTERS]}") from None
        cut = self._cut(asked, whole)
        return Rendered(whole[:cut], asked[cut:], whole[cut:], lost)

    def count(self, conversations: Sequence[Rendered]) -> list[Tokens]:
        """The tokens of each, as `apply_chat_template(tokenize=True)` would count them."""
        if self._backend is None:
            conversations = [each.in_one() for each in conversations]
        texts = [text for each in conversations for text in each[:3]]
        lengths = iter(self._lengths(texts))
        return [_tokens(*each) for each in zip(lengths, lengths, lengths, strict=True)]

    def agrees(self, conversation: Conversation, rendered: Rendered) -> bool:
        """Whether `count` sees the token ids that `apply_chat_template(tokenize=True)` gives."""
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

    def go_slowly(self) -> None:
        """From now on cuts no text and uses the tokenizer's own call alone, as `apply_chat_template` does."""
        self._backend, self._cuts = None, ()

    def _text(self, messages: list[dict[str, Any]], tools: Any, **options: bool) -> str:
        with self._watch:
            text: str = self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **options)
        return text

    def _official_ids(self, messages: list[dict[str, Any]], tools: Any, **options: bool) -> list[int]:
        found = self._tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=True, return_dict=False, **options
        )
        return list(found)

    def _cut(self, asked: str, whole: str) -> int:
        """The last place where a special token begins in both, up to which they are the same; else 0."""
        ends = {(asked.rfind(token), len(token)) for token in self._cuts}
        for place, size in sorted(ends, reverse=True):
            if place > 0 and whole.startswith(asked[: place + size]):
                return place
        return 0

    def _lengths(self, texts: list[str]) -> list[int]:
        if self._backend is None:
            return [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]
        return [len(each) for each in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _ids(self, text: str) -> list[int]:
        assert self._backend is not None
        return list(self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _tokens(head: int, prompt: int, whole: int) -> Tokens:
    """Where nothing follows the prompt, there is no generation prompt in the whole, and no completion."""
    total = head + whole
    asked = min(head + prompt, total)
    return Tokens(asked, total - asked, total)


def _cutting_tokens(backend: Any) -> tuple[str, ...]:
    """The added tokens in front of which every text is cut, whatever stands around them.

    Not those that swallow blanks or are looked for in normalised text, nor those that overlap another.
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


# What transformers raises for files that hold something else than it expects.
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
    """Raises ConfigError for a tokenizer without a chat template that every row could be rendered with."""
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


class _Watch:
    """Ends the template that runs inside `with`, once it has run for TEMPLATE_TIMEOUT_S.

    A template is Python code made by Jinja: the exception comes at its next step.
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
    """What comes out of a template: its own refusals, and Python's about values it did not expect."""
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
