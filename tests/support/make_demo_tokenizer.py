"""Makes `data/tokenizer/tokenizer.json`: a byte-level BPE, trained on the texts of `data/sample.jsonl`.

python tests/support/make_demo_tokenizer.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

DATA = Path(__file__).parents[2] / "data"
VOCABULARY = 4096
"""At most; the texts give out of pairs to merge at about half of it."""
SPECIAL = ("<|end|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
WORDS = r"'\w{1,2}\b|[^\r\n\w]?[^\W\d_]+|\d|_| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Words with the blank before them, digits one by one, signs, line ends, indentation."""


def texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def trained() -> Tokenizer:
    """The tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = (DATA / "sample.jsonl").read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator((text for line in lines for text in texts(json.loads(line))), trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return tokenizer


if __name__ == "__main__":
    trained().save(str(DATA / "tokenizer" / "tokenizer.json"), pretty=False)
