"""The tokenizer that ships in `data/tokenizer`: small, whole, and with a template that leaves nothing out."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from kbetl.resources import data_path
from kbetl.samples import fields

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

FOLDER = data_path("tokenizer")
ROLLOUTS = [
    row
    for line in data_path("sample.jsonl").read_bytes().splitlines()
    if "completion" in (row := json.loads(line))
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(FOLDER), local_files_only=True)


def test_it_is_small_and_needs_no_code_of_others():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300 * 1024
    assert sorted(path.name for path in FOLDER.iterdir()) == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert "auto_map" not in json.loads((FOLDER / "tokenizer_config.json").read_text())


@pytest.mark.parametrize(
    "text", ["", "a\n\n  b\t", "naïve Ω 𝄞 \x00 \r\n", "x = 1234 + y_z  # 'tis", "<|im_end|>"]
)
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_it_is_made_for_such_texts(tokenizer):
    """Code of the sample rows takes a token for three characters or more."""
    codes = [code for row in ROLLOUTS if (code := fields.python_code(row))]
    tokens = sum(len(tokenizer.encode(code, add_special_tokens=False)) for code in codes)
    assert sum(map(len, codes)) / tokens > 3


def test_the_template_renders_reasoning_tools_and_calls(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add."},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "\nhm\n",
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Two.", "reasoning_content": "so"},
    ]
    tool = {"type": "function", "function": {"name": "add"}}
    rendered = tokenizer.apply_chat_template(messages, tools=[tool], tokenize=False)
    assert rendered == (
        "<|im_start|>system\nBe brief.\n\nThese functions can be called, one JSON object between <tool_call> "
        'tags each:\n{"type": "function", "function": {"name": "add"}}\n<|im_end|>\n'
        "<|im_start|>user\nAdd.<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nhm\n</think>\n\n"
        '\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\n2<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nso\n</think>\n\nTwo.<|im_end|>\n"
    )


def test_the_generation_prompt_begins_the_answer(tokenizer):
    question = [{"role": "user", "content": "Hi"}]
    answer = {"role": "assistant", "content": "Hello", "reasoning_content": "greet"}
    asked = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert tokenizer.apply_chat_template([*question, answer], tokenize=False).startswith(asked)


def test_an_unknown_role_is_refused(tokenizer):
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match="no such role: robot"):
        tokenizer.apply_chat_template([{"role": "robot", "content": ""}], tokenize=False)
