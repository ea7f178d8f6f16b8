"""Commits one dataset to the Hub: compares it with the head, and commits what differs on top of that head."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import kbetl
from kbetl.dataset.registry import DATASETS
from kbetl.errors import ConfigError, HubBusy, HubError, UnreadableFile
from kbetl.export.formats import format_of
from kbetl.hub.parquet_files import BuiltFiles, DataFile, column_types, differences
from kbetl.hub.readme import Card, merged, read_readme
from kbetl.hub.remote import (
    README,
    SHARD,
    TYPE,
    Remote,
    RemoteFile,
    RemoteSchema,
    git_oid,
    read_remote,
    read_schema,
    translate_errors,
)
from kbetl.text import plain_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from tenacity import RetryCallState

TRIES = 8
LONGEST_WAIT_S = 60.0
LONGEST_ASKED_WAIT_S = 900.0
"""If the Hub asks to wait longer, the push fails."""

Say = Callable[[str], None]
What = Literal["new", "changed", "unchanged", "deleted"]


class Change(NamedTuple):
    """The change that a push makes to one file."""

    what: What
    path: str
    size_bytes: int
    """Size of the new file; of the old one if it is deleted."""

    def as_text(self) -> str:
        """Returns the change as one line."""
        return f"{self.what:<9}  {plain_text(self.path)}  {self.size_bytes:,} bytes"


@dataclass(frozen=True, slots=True)
class Pushed:
    """The result of pushing one dataset."""

    dataset: str
    repo: str
    rows: Mapping[str, int]
    """Number of rows per split."""
    changes: Sequence[Change]
    commit: str | None
    """The commit that was made; None if nothing changed."""
    is_dry_run: bool = False
    left_out: int = 0
    """Number of rows that the format cannot express."""

    @property
    def is_changed(self) -> bool:
        """Whether any file differs from the Hub's."""
        return any(change.what != "unchanged" for change in self.changes)

    def lines(self) -> list[str]:
        """Returns the dataset as one line; for a dry run also a line per file."""
        rows = ", ".join(f"{split} {number:,}" for split, number in self.rows.items())
        if self.commit is not None:
            outcome = f"commit {self.commit}"
        else:
            outcome = "would change" if self.is_changed else "unchanged"
        if self.left_out:
            rows += f", left out {self.left_out:,}"
        details = [f"  {change.as_text()}" for change in self.changes] if self.is_dry_run else []
        return [f"{self.dataset}: {self.repo}, rows {rows}: {outcome}", *details]


class PushTarget(NamedTuple):
    """A dataset, and the repository that it is pushed to."""

    api: HfApi
    name: str
    repo: str
    options: PushOptions


class PreparedPush(NamedTuple):
    """The files and the card of a dataset, ready for a commit."""

    built: BuiltFiles
    card: Card


def push_commit(target: PushTarget, prepared: PreparedPush, say: Say) -> Pushed:
    """Pushes a dataset, with retries; each try reads the head and compares again.

    Raises HubError if the Hub cannot be reached or refuses the commit, or if its schema differs.
    """
    import tenacity

    def wait(state: RetryCallState) -> float:
        doubled: float = target.options.first_wait_s * 2 ** (state.attempt_number - 1)
        return max(_asked_wait_s(state), min(doubled, LONGEST_WAIT_S))

    def report(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        say(f"{_error(state)}; trying again in {seconds:.1f} s")

    trying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_worth_another),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=wait,
        before_sleep=report,
        reraise=True,
    )
    try:
        return trying(_CommitAttempt(target, prepared, say).once)
    except HubBusy as error:
        longest = error.wait_s > LONGEST_ASKED_WAIT_S
        why = f"it asks to wait {error.wait_s:.0f} s" if longest else f"{TRIES} tries were in vain"
        raise HubError(f"{error}; {why}. What is there is whole; run the same again later") from None


def _is_worth_another(error: BaseException) -> bool:
    return isinstance(error, HubBusy) and error.wait_s <= LONGEST_ASKED_WAIT_S


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked_wait_s(state: RetryCallState) -> float:
    error = _error(state)
    return error.wait_s if isinstance(error, HubBusy) else 0.0


class _CommitAttempt:
    """Tries to push one dataset; remembers whether a commit may have been made."""

    def __init__(self, target: PushTarget, prepared: PreparedPush, say: Say) -> None:
        self.target = target
        self.prepared = prepared
        self.say = say
        self.has_tried = False
        """Whether a commit was requested: it may have been made although the response was lost."""

    def once(self) -> Pushed:
        """Compares with the Hub's head, and commits what differs on top of it. Raises HubBusy, HubError."""
        target, built = self.target, self.prepared.built
        remote = _remote(target)
        if remote is not None:
            self._compare(remote)
        readme = _readme(target.repo, self.prepared.card, remote)
        changes = _changes(built.files, readme, remote)
        planned = Pushed(
            target.name,
            target.repo,
            built.rows,
            changes,
            None,
            target.options.is_dry_run,
            sum(built.left_out.reasons.values()),
        )
        if planned.is_dry_run:
            return planned
        if remote is None:
            raise HubError(
                f"{target.repo}: the Hub made it and does not show it; check the rights of HF_TOKEN"
            )
        if planned.is_changed:
            self.has_tried = True
            return replace(planned, commit=_commit(target, planned, built, readme, remote.sha))
        return replace(planned, commit=remote.sha) if self.has_tried else planned

    def _compare(self, remote: Remote) -> None:
        """Raises HubError for another schema; with --force, reports the format that is replaced."""
        target, built = self.target, self.prepared.built
        try:
            theirs = read_schema(target.api, remote)
        except UnreadableFile:
            if not target.options.allow_schema_change:
                raise
            return  # --force replaces also what cannot be read
        there = format_of(theirs.columns) if theirs.columns else built.format
        other = "" if there == built.format else f"holds rows in the format {there}, not {built.format}"
        if not target.options.allow_schema_change:
            _refuse_other_schema(target, built, remote, theirs, other)
        elif other and not self.has_tried:
            self.say(f"{target.repo} {other}; --force replaces them")


def _remote(target: PushTarget) -> Remote | None:
    """Returns the dataset on the Hub, created if needed; None in a dry run, or if it is not visible."""
    repo, is_private = target.repo, target.options.is_private
    remote = read_remote(target.api, repo)
    if remote is None and not target.options.is_dry_run:
        with translate_errors(repo):
            target.api.create_repo(repo, repo_type=TYPE, private=is_private or None, exist_ok=True)
        remote = read_remote(target.api, repo)
    if remote is not None and is_private and not remote.is_private:
        raise HubError(
            f"{repo} is there already and public, and --private makes new ones private alone; nothing was "
            "sent. Make it private in its settings on the Hub, or leave --private out"
        )
    return remote


def _refuse_other_schema(
    target: PushTarget, built: BuiltFiles, remote: Remote, theirs: RemoteSchema, other_format: str
) -> None:
    lines = [f"- split {name}" for name in theirs.splits if name not in built.splits]
    lines += [f"- configuration {name}" for name in theirs.configs]
    lines += [f"- data files {pattern}" for pattern in theirs.patterns]
    if theirs.columns is not None:
        lines += differences(theirs.columns, column_types(list(built.features)) or {})
    elif theirs.data_files:
        lines.append(f"- columns that cannot be known, of {', '.join(theirs.data_files)}")
    if not target.options.is_dry_run:  # which lists them among its changes
        lines += [f"- file {path}" for path in _of_others(remote, built, theirs)]
    if lines:
        listed = "".join(f"\n  {plain_text(line)}" for line in lines)
        raise HubError(
            f"{target.repo} {f'{other_format}; it ' if other_format else ''}differs in its schema from what "
            f"would be pushed (- there, + here), so nothing was sent; --force replaces it:{listed}"
        )


def _of_others(remote: Remote, built: BuiltFiles, theirs: RemoteSchema) -> list[str]:
    """Returns the files that would be deleted and are no part of the upload that the card describes."""
    deleted = _deleted(remote, built.files)
    shards = {path: found["split"] for path in remote.files if (found := SHARD.fullmatch(path))}
    size_bytes = sum(remote.files[path].size_bytes for path, split in shards.items() if split in built.splits)
    is_described = theirs.download_bytes == size_bytes
    return [path for path in deleted if not (is_described and shards.get(path) in built.splits)]


def _deleted(remote: Remote, files: Sequence[DataFile]) -> list[str]:
    """Returns the files to delete: shards, files that would be read as ours, and a loading script.

    `datasets` reads every `data/SPLIT-*` into the split, and refuses a script with the dataset's name.
    """
    wanted = {file.path for file in files}
    splits = {found["split"] for found in map(SHARD.fullmatch, wanted) if found}
    ours = tuple(f"data/{split}-" for split in splits)
    script = f"{remote.repo.rpartition('/')[2]}.py"
    return [
        path
        for path in sorted(remote.files)
        if path not in wanted and (SHARD.fullmatch(path) or path == script or path.startswith(ours))
    ]


def _readme(repo: str, card: Card, remote: Remote | None) -> bytes:
    name = f"{repo}: README.md"
    text = "" if remote is None else remote.readme
    return merged(read_readme(text, name), name, card=card).encode()


def _changes(files: Sequence[DataFile], readme: bytes, remote: Remote | None) -> list[Change]:
    there: Mapping[str, RemoteFile] = {} if remote is None else remote.files
    changes = []
    for file in files:
        changes.append(Change(_what(there.get(file.path), file.sha256), file.path, file.size_bytes))
    if remote is not None:
        changes += [Change("deleted", path, there[path].size_bytes) for path in _deleted(remote, files)]
    card = there.get(README)
    what: What = "new" if card is None else "unchanged" if card.git_oid == git_oid(readme) else "changed"
    return [*changes, Change(what, README, len(readme))]


def _what(there: RemoteFile | None, sha256: str) -> What:
    if there is None:
        return "new"
    return "unchanged" if there.sha256 == sha256 else "changed"


def _commit(target: PushTarget, planned: Pushed, built: BuiltFiles, readme: bytes, parent: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    content: dict[str, bytes | Path] = {README: readme, **{file.path: file.local for file in built.files}}
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    for change in planned.changes:
        if change.what == "deleted":
            operations.append(CommitOperationDelete(change.path))
        elif change.what != "unchanged":
            operations.append(CommitOperationAdd(change.path, content[change.path]))
    rows = ", ".join(f"{split} {number:,}" for split, number in planned.rows.items())
    as_format = "" if built.format == "rows" else f" as {built.format}"
    with translate_errors(target.repo, may_have_happened=True):
        commit = target.api.create_commit(
            target.repo,
            operations,
            commit_message=f"Push {target.name}{as_format} with kbetl {kbetl.__version__}: {rows} rows",
            repo_type=TYPE,
            parent_commit=parent,
        )
    return str(commit.oid)


ALL = "all"
OWNER = "siro1"
MODEL_NAME = "glm4_7"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Which datasets to push, and to which repositories."""

    datasets: Sequence[str] = ()
    """Names, or `all` for those that have rows."""
    repo: str | None = None
    """OWNER/NAME instead of the default; for one dataset only."""
    owner: str = OWNER
    model_name: str = MODEL_NAME
    is_private: bool = False
    is_dry_run: bool = False
    allow_schema_change: bool = False
    format: str = "rows"
    sources: tuple[str, ...] = ()
    all_sources: bool = False
    with_labels: tuple[str, ...] = ()
    """Tasks whose labels are columns."""
    is_quiet: bool = False
    first_wait_s: float = 1.0
    """Seconds before the second try of a commit; doubled for each further try."""


def format_of_dataset(name: str, options: PushOptions) -> str:
    """Returns the format of a dataset; of `all`, those without completions are pushed as `rows`."""
    return options.format if DATASETS[name].has_completions or ALL not in options.datasets else "rows"


def repo_of(name: str, options: PushOptions) -> str:
    """Returns the repository of a dataset. Raises ConfigError for an invalid name."""
    repo = options.repo or DATASETS[name].repository.format(owner=options.owner, model=options.model_name)
    if _REPO.fullmatch(repo) is None or "--" in repo or ".." in repo:
        raise ConfigError(
            f"{repo!r} cannot be a dataset on the Hub; it is OWNER/NAME of letters, digits, -_."
        )
    return repo
