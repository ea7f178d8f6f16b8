"""Finds the files of a tokenizer, and its identity, without loading it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbetl.errors import ConfigError, SourceError
from kbetl.huggingface import connection_failures, explain, quiet_imports
from kbetl.records import content_hash
from kbetl.samples.conversation import MAPPING_VERSION
from kbetl.text import plain_text

PATTERNS = (
    "tokenizer.json",
    "tokenizer.*.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "config.json",
)
"""The files that decide how a text is rendered and tokenized; no weights."""

_CONFIG = "tokenizer_config.json"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken", "tekken.json")
_HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+")


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The files of a tokenizer: its name as given, their folder, and the hash of them and our mapping."""

    name: str
    folder: Path
    template_hash: str
    revision: str | None
    """The commit on the Hub; None for a folder."""


def find(name: str) -> TokenizerFiles:
    """Returns the tokenizer files of a folder, or of NAME or NAME@REVISION on the Hub.

    Files in Hugging Face's cache are used without a request to the Hub; others are downloaded. Raises
    ConfigError if it is no tokenizer, SourceError if the Hub does not give it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return TokenizerFiles(name, folder, template_hash(folder), None)
    repo, _, revision = name.partition("@")
    if folder.exists() or name.startswith((".", "/", "~")) or not _HUB_NAME.fullmatch(repo):
        raise ConfigError(
            f"--tokenizer {plain_text(name)!r} is neither a folder nor a name on the Hub (OWNER/NAME)"
        )
    folder = _cached(repo, revision or None) or _fetched(repo, revision or None)
    return TokenizerFiles(name, folder, template_hash(folder), folder.name)


def template_hash(folder: Path) -> str:
    """Returns `l1:` and a SHA-256 of the names and contents of the files, and of the field mapping."""
    contents = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(folder, PATTERNS)
    }
    return content_hash("l1", {"files": contents, "mapping": MAPPING_VERSION})


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(path for path in folder.glob(pattern) if path.is_file())


def _check_folder(folder: Path) -> None:
    if not any(_files(folder, (_CONFIG, *_VOCABULARIES))):
        raise ConfigError(f"--tokenizer {folder}: no tokenizer in this folder, that is, no {_CONFIG}")


def _is_complete(folder: Path) -> bool:
    """Whether a snapshot has all files of a tokenizer with a chat template."""
    if not (folder / _CONFIG).is_file() or not any(_files(folder, _VOCABULARIES)):
        return False
    has_template_file = any(_files(folder, ("chat_template.*", "additional_chat_templates/*.jinja")))
    return has_template_file or '"chat_template"' in (folder / _CONFIG).read_text(encoding="utf-8")


def _cached(repo: str, revision: str | None) -> Path | None:
    quiet_imports()
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, _CONFIG, revision=revision)
    except HFValidationError as error:
        raise ConfigError(f"--tokenizer {plain_text(repo)!r}: {plain_text(str(error))}") from None
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and _is_complete(folder) else None


def _fetched(repo: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(PATTERNS)))
    except connection_failures() as error:
        name = f"{repo}@{revision}" if revision else repo
        raise SourceError(f"tokenizer {name}: {_why(error, repo, revision)}") from None
    if not _is_complete(folder):  # without a network the incomplete cache is returned
        raise SourceError(
            f"tokenizer {repo}: no whole tokenizer with a chat template in the cache, nor on the Hub "
            "(if it was reached); connect, set HF_TOKEN if it is private, or name a folder with its files"
        )
    return folder


def _why(error: BaseException, repo: str, revision: str | None) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            "it is not in the cache and the Hub cannot be reached; "
            "connect, set HF_TOKEN if it is private, or name a folder that holds its files"
        )
    missing = "no such folder, and no such repository"
    return explain(error, page=repo, missing=missing, revision=revision, refused="it cannot be fetched")
