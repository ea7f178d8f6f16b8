"""Pushes datasets: files and card made from the store, compared with the Hub, sent as one commit."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import kbetl
from kbetl import config
from kbetl.dataset import NAMES, Dataset, Name, opened
from kbetl.errors import ConfigError, HubBusy, HubError, Interrupted, KbetlError
from kbetl.hub.card import make_card
from kbetl.hub.columns import column_types, differences
from kbetl.hub.facts import read_facts
from kbetl.hub.files import Built, DataFile, write_files
from kbetl.hub.readme import Card, merged, read_readme
from kbetl.hub.remote import (
    README,
    TYPE,
    Remote,
    RemoteFile,
    declared,
    explained,
    git_oid,
    has_token,
    make_api,
    read_remote,
)
from kbetl.store import Store

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from tenacity import RetryCallState

ALL = "all"
OWNER = "siro1"
MODEL_NAME = "glm4_7"
REPOS: Mapping[Name, str] = {
    "filtered": "{owner}/kernelbook-{model}-evals-filtered",
    "unique": "{owner}/kernelbook-{model}-evals-unique",
    "synthetic": "{owner}/kernelbook-synthetic-tasks",
    "evals": "{owner}/kernelbook-{model}-evals",
}
TRIES = 8
LONGEST_WAIT_S = 60.0
LONGEST_ASKED_WAIT_S = 900.0
"""A Hub that asks to wait longer than this is reported, not waited for."""
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_SHARD = re.compile(r"data/[^/]+-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")
"""Data files as we and `datasets` name them."""

Say = Callable[[str], None]
What = Literal["new", "changed", "unchanged", "deleted"]


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be pushed, and where to."""

    datasets: Sequence[str] = ()
    """Names, or `all` for those that have rows."""
    repo: str | None = None
    """OWNER/NAME in place of the usual one; for one dataset."""
    owner: str = OWNER
    model_name: str = MODEL_NAME
    is_private: bool = False
    is_dry_run: bool = False
    allow_schema_change: bool = False
    sources: tuple[str, ...] = ()
    all_sources: bool = False
    is_quiet: bool = False
    first_wait_s: float = 1.0
    """Seconds before the second try of a commit; they double from try to try."""


class Change(NamedTuple):
    """What a push does to one file."""

    what: What
    path: str
    size_bytes: int
    """Of the file as it would be; as it is where it is deleted."""

    def as_text(self) -> str:
        """One line."""
        return f"{self.what:<9}  {self.path}  {self.size_bytes:,} bytes"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of one dataset."""

    dataset: Name
    repo: str
    rows: Mapping[str, int]
    """By split."""
    changes: Sequence[Change]
    commit: str | None
    """The commit made; None where nothing was changed."""
    is_dry_run: bool = False

    @property
    def is_changed(self) -> bool:
        """Whether any file differs from the Hub's."""
        return any(change.what != "unchanged" for change in self.changes)

    def lines(self) -> list[str]:
        """The dataset on one line; of a dry run a line for each file too."""
        rows = ", ".join(f"{split} {number:,}" for split, number in self.rows.items())
        if self.commit is not None:
            outcome = f"commit {self.commit}"
        else:
            outcome = "would change" if self.is_changed else "unchanged"
        details = [f"  {change.as_text()}" for change in self.changes] if self.is_dry_run else []
        return [f"{self.dataset}: {self.repo}, rows {rows}: {outcome}", *details]


def push(store: Store, options: Options, say: Say, done: Callable[[Pushed], None]) -> list[Pushed]:
    """Pushes datasets, one after the other, each as one commit or none; a run in `runs`, unless dry.

    `say` takes notes, `done` each dataset as it is done. Raises ConfigError for what cannot be meant,
    HubError where the Hub cannot take it; what was done before stays done.
    """
    names = _names(store, options)
    api = make_api(is_quiet=options.is_quiet)
    if not options.is_dry_run and not has_token():
        raise HubError("no token for the Hub; make one that may write and set HF_TOKEN, in .env for example")
    pushed: list[Pushed] = []
    with _recorded(store, names, options, pushed):
        for name in names:
            one = _push_one(_Target(store, api, name, repo_of(name, options), options), say)
            if one is not None:
                pushed.append(one)
                done(one)
        if not pushed:
            raise HubError(f"nothing to push: no dataset of {store.path} has rows; kbetl status says why")
    return pushed


def repo_of(name: Name, options: Options) -> str:
    """Where a dataset goes. Raises ConfigError for what cannot be a name on the Hub."""
    repo = options.repo or REPOS[name].format(owner=options.owner, model=options.model_name)
    if _REPO.fullmatch(repo) is None or "--" in repo or ".." in repo:
        raise ConfigError(
            f"{repo!r} cannot be a dataset on the Hub; it is OWNER/NAME of letters, digits, -_."
        )
    return repo


def pushable(store: Store, options: Options) -> list[str]:
    """Every dataset that has rows, and where it would go, a line each."""
    lines = []
    for name in NAMES:
        with opened(store, Dataset(name, options.sources, all_sources=True)) as dataset:
            if dataset.total:
                lines.append(f"{name}: {dataset.total:,} rows, to {repo_of(name, options)}")
    return lines


def _names(store: Store, options: Options) -> list[Name]:
    if config.is_test_mode():
        raise ConfigError("TEST_MODE is set, so nothing is pushed: its rows are a trial. Unset it to push")
    unknown = [name for name in options.datasets if name not in (*NAMES, ALL)]
    if unknown or not options.datasets:
        problem = f"no dataset {unknown[0]!r}" if unknown else "name a DATASET, or all"
        there = "".join(f"\n  {line}" for line in pushable(store, options)) or " nothing yet"
        raise ConfigError(f"{problem}; there is to push:{there}")
    names = [name for name in NAMES if name in options.datasets or ALL in options.datasets]
    if options.repo is not None and len(names) != 1:
        raise ConfigError(f"--repo is for one dataset; {len(names)} are named")
    for name in names:
        repo_of(name, options)
    return names


@contextlib.contextmanager
def _recorded(
    store: Store, names: Sequence[Name], options: Options, pushed: Sequence[Pushed]
) -> Iterator[None]:
    """A row of `runs`; a dry run leaves none."""
    if options.is_dry_run:
        yield
        return
    described = {
        "datasets": list(names),
        "repos": [repo_of(name, options) for name in names],
        "sources": list(options.sources),
        "all_sources": options.all_sources,
        "private": options.is_private,
        "allow_schema_change": options.allow_schema_change,
    }
    run_id = store.begin_run("push", described)
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(KbetlError):
            store.end_run(run_id, _status_after(error), _counts(pushed))
        raise
    store.end_run(run_id, 0, _counts(pushed))


def _status_after(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_status if isinstance(error, KbetlError | Interrupted) else 1


def _counts(pushed: Sequence[Pushed]) -> dict[str, Any]:
    return {one.dataset: {"repo": one.repo, "rows": dict(one.rows), "commit": one.commit} for one in pushed}


# one dataset


class _Target(NamedTuple):
    """One dataset on its way to one place."""

    store: Store
    api: HfApi
    name: Name
    repo: str
    options: Options

    def is_one_of_all(self) -> bool:
        return ALL in self.options.datasets


class _Made(NamedTuple):
    """A dataset ready to be sent."""

    built: Built
    card: Card


def _push_one(target: _Target, say: Say) -> Pushed | None:
    """None where a dataset of `all` has no rows."""
    options = target.options
    with _folder() as folder:
        dataset = Dataset(target.name, options.sources, options.all_sources)
        with opened(target.store, dataset) as rows:
            if rows.total == 0:
                if target.is_one_of_all():
                    say(f"{target.name}: no rows, so it is not pushed")
                    return None
                raise HubError(
                    f"{target.name} has no rows, so there is nothing to push; kbetl status says why"
                )
            built = write_files(rows, Path(folder))
            facts = read_facts(rows, built.rows, built.notes)
        for note in built.notes:
            say(f"{target.name}: {note}")
        return _sent(target, _Made(built, make_card(facts, built)), say)


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="kbetl-push-")
    except OSError as error:
        raise HubError(f"no folder for the files to push: {error.strerror}; set TMPDIR to one") from None


def _sent(target: _Target, made: _Made, say: Say) -> Pushed:
    """Tries until the Hub takes it; each try begins with reading the head and comparing anew."""
    import tenacity

    def wait(state: RetryCallState) -> float:
        doubled: float = target.options.first_wait_s * 2 ** (state.attempt_number - 1)
        return max(_asked_wait_s(state), min(doubled, LONGEST_WAIT_S))

    def tell(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        say(f"{_error(state)}; trying again in {seconds:.1f} s")

    trying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_worth_another),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=wait,
        before_sleep=tell,
        reraise=True,
    )
    try:
        return trying(_try, target, made)
    except HubBusy as error:
        longest = error.wait_s > LONGEST_ASKED_WAIT_S
        why = f"it asks to wait {error.wait_s:.0f} s" if longest else f"{TRIES} tries were in vain"
        raise HubError(f"{error}; {why}, the dataset there is as it was. Run the same again later") from None


def _is_worth_another(error: BaseException) -> bool:
    return isinstance(error, HubBusy) and error.wait_s <= LONGEST_ASKED_WAIT_S


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked_wait_s(state: RetryCallState) -> float:
    error = _error(state)
    return error.wait_s if isinstance(error, HubBusy) else 0.0


def _try(target: _Target, made: _Made) -> Pushed:
    """Compares with the Hub as it stands now, and commits what differs on top of just that head."""
    remote = _remote(target)
    if remote is not None:
        _refuse_other_schema(target, made.built, remote)
    readme = _readme(target.repo, made.card, remote)
    changes = _changes(made.built.files, readme, remote)
    planned = Pushed(target.name, target.repo, made.built.rows, changes, None, target.options.is_dry_run)
    if target.options.is_dry_run or not planned.is_changed:
        return planned
    if remote is None:
        raise HubError(f"{target.repo}: the Hub made it and does not show it; check the rights of HF_TOKEN")
    commit = _commit(target, planned, made.built.files, readme, remote.sha)
    return Pushed(target.name, target.repo, planned.rows, changes, commit)


def _remote(target: _Target) -> Remote | None:
    """The dataset on the Hub, made there if need be; None only in a dry run, or where it cannot be seen."""
    repo, is_private = target.repo, target.options.is_private
    remote = read_remote(target.api, repo)
    if remote is None and not target.options.is_dry_run:
        with explained(repo):
            target.api.create_repo(repo, repo_type=TYPE, private=is_private or None, exist_ok=True)
        remote = read_remote(target.api, repo)
    if remote is not None and is_private and not remote.is_private:
        raise HubError(
            f"{repo} is there already and public, and --private makes new ones private alone; nothing was "
            "sent. Make it private in its settings on the Hub, or leave --private out"
        )
    return remote


def _refuse_other_schema(target: _Target, built: Built, remote: Remote) -> None:
    if target.options.allow_schema_change:
        return
    theirs = declared(target.api, remote)
    lines = [f"- split {name}" for name in theirs.splits if name not in built.splits]
    lines += [f"- configuration {name}" for name in theirs.configs]
    if theirs.columns is not None:
        lines += differences(theirs.columns, column_types(list(built.features)) or {})
    elif theirs.data_files:
        lines.append(f"- columns that cannot be known, of {', '.join(theirs.data_files)}")
    if lines:
        listed = "".join(f"\n  {line}" for line in lines)
        raise HubError(
            f"{target.repo} differs in its schema from what would be pushed (- there, + here), so nothing "
            f"was sent; --allow-schema-change replaces it:{listed}"
        )


def _readme(repo: str, card: Card, remote: Remote | None) -> bytes:
    name = f"{repo}: README.md"
    text = "" if remote is None else remote.readme
    return merged(read_readme(text, name), name, card=card).encode()


def _changes(files: Sequence[DataFile], readme: bytes, remote: Remote | None) -> list[Change]:
    there: Mapping[str, RemoteFile] = {} if remote is None else remote.files
    changes = []
    for file in files:
        changes.append(Change(_what(there.get(file.path), file.sha256), file.path, file.size_bytes))
    wanted = {file.path for file in files}
    for path in sorted(there):
        if path not in wanted and _SHARD.fullmatch(path):
            changes.append(Change("deleted", path, there[path].size_bytes))
    card = there.get(README)
    what: What = "new" if card is None else "unchanged" if card.git_oid == git_oid(readme) else "changed"
    return [*changes, Change(what, README, len(readme))]


def _what(there: RemoteFile | None, sha256: str) -> What:
    if there is None:
        return "new"
    return "unchanged" if there.sha256 == sha256 else "changed"


def _commit(target: _Target, planned: Pushed, files: Sequence[DataFile], readme: bytes, parent: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    content: dict[str, bytes | Path] = {README: readme, **{file.path: file.local for file in files}}
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    for change in planned.changes:
        if change.what == "deleted":
            operations.append(CommitOperationDelete(change.path))
        elif change.what != "unchanged":
            operations.append(CommitOperationAdd(change.path, content[change.path]))
    rows = ", ".join(f"{split} {number:,}" for split, number in planned.rows.items())
    with explained(target.repo, may_have_happened=True):
        made = target.api.create_commit(
            target.repo,
            operations,
            commit_message=f"Push {target.name} with kbetl {kbetl.__version__}: {rows} rows",
            repo_type=TYPE,
            parent_commit=parent,
        )
    return str(made.oid)
