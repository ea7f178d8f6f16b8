"""What stands beside the rows in a folder: a README that names the splits, and settings of trainers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kbetl.dataset import Split
from kbetl.export.formats import Format
from kbetl.export.target import MARK
from kbetl.store.measures import seq_len


def data_path(split: Split) -> str:
    """Where the rows of a split stand in a folder, as `datasets` names them."""
    return f"data/{split}-00000-of-00001.parquet"


def readme(name: str, rows: Mapping[Split, int]) -> str:
    """The front matter from which `load_dataset` knows the splits, and what the folder is."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in rows:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    counts = ", ".join(f"{number:,} in {split}" for split, number in rows.items())
    return "\n".join([*lines, "---", MARK, "", f"# {name}", "", f"Rows: {counts}.", ""])


def dataset_info(name: str, format_: Format, splits: Sequence[Split], columns: Sequence[str]) -> str:
    """`dataset_info.json` of LLaMA-Factory for `sharegpt` and `alpaca`: its name for each split."""
    entry = _SHAREGPT if format_ == "sharegpt" else _ALPACA
    wanted = {key: column for key, column in entry["columns"].items() if column in columns}
    described = {
        f"{name}_{split}": {"file_name": data_path(split), **entry, "columns": wanted} for split in splits
    }
    return json.dumps(described, indent=2) + "\n"


_SHAREGPT: dict[str, Any] = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "tools": "tools"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
}
_ALPACA: dict[str, Any] = {
    "formatting": "alpaca",
    "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"},
}


def sft_toml(folder: str, splits: Sequence[Split], longest_tokens: Mapping[str, int]) -> str:
    """`sft.toml` of prime-rl for `messages` and `prompt-completion`.

    `longest_tokens` is the longest row by tokenizer; empty where not all rows are measured.
    """
    lines = [
        "[data]",
        f"name = {json.dumps(folder, ensure_ascii=False)}",
        f"splits = {json.dumps(splits[:1])}",
    ]
    if not longest_tokens:
        lines.append("# seq_len: not all rows are measured; kbetl lengths measures them")
    for number, (tokenizer, tokens) in enumerate(longest_tokens.items()):
        lines.append(
            f"# the longest row has {tokens:,} tokens with {json.dumps(tokenizer, ensure_ascii=False)}"
        )
        lines.append(f"{'# ' if number else ''}seq_len = {seq_len(tokens)}")
    return "\n".join(lines) + "\n"
