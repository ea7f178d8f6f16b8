"""Pushes datasets one after the other: writes files, makes the card, and commits both."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kbetl import config
from kbetl.dataset.dataset import Dataset, check_sources, open_dataset
from kbetl.dataset.registry import NAMES
from kbetl.errors import ConfigError, HubError, exit_status_for
from kbetl.export.formats import check_format, check_labels
from kbetl.export.source import DatasetSource
from kbetl.hub.card import make_card
from kbetl.hub.card_data import read_facts
from kbetl.hub.commit import (
    ALL,
    PreparedPush,
    Pushed,
    PushOptions,
    PushTarget,
    Say,
    format_of_dataset,
    push_commit,
    repo_of,
)
from kbetl.hub.parquet_files import write_files
from kbetl.hub.remote import make_api
from kbetl.huggingface import token
from kbetl.store import Store
from kbetl.store.task_labels import label_notes, labels_in_use


def push(store: Store, options: PushOptions, say: Say, done: Callable[[Pushed], None]) -> list[Pushed]:
    """Pushes datasets one after the other, each as one commit; recorded in `runs` unless it is a dry run.

    `say` is called with notes, `done` with each dataset that is pushed. Raises ConfigError for unusable
    options, HubError if the Hub fails; earlier datasets stay pushed.
    """
    names = check_ready(options, store)
    api = make_api(is_quiet=options.is_quiet)
    pushed: list[Pushed] = []
    shown: set[str] = set()
    with _recorded(store, names, options, pushed):
        for name in names:
            one = _push_one(store, PushTarget(api, name, repo_of(name, options), options), say, shown)
            if one is not None:
                pushed.append(one)
                done(one)
        if not pushed:
            raise HubError(
                f"nothing to push: no dataset of {store.path} has rows; "
                f"{config.command_line(store.path, 'status')} says why"
            )
    return pushed


def pushable(store: Store, options: PushOptions) -> list[str]:
    """Returns every dataset that has rows, with its repository, a line each."""
    lines = []
    for name in NAMES:
        with open_dataset(store, Dataset(name, options.sources, all_sources=True)) as dataset:
            if dataset.total:
                lines.append(f"{name}: {dataset.total:,} rows, to {repo_of(name, options)}")
    return lines


def check_ready(options: PushOptions, store: Store | None = None) -> list[str]:
    """Returns the names of the datasets to push, after checking what can be checked without rows.

    Raises ConfigError for unusable options, HubError for a missing token. Sources are checked only with a
    store.
    """
    names = _names(options, store)
    if not options.is_dry_run and token(is_quiet=options.is_quiet) is None:
        raise HubError("no token for the Hub; make one that may write and set HF_TOKEN, in .env for example")
    if store is not None:
        labels_in_use(store, options.with_labels)
        for name in names:
            check_sources(store, Dataset(name, options.sources, options.all_sources))
    return names


def _names(options: PushOptions, store: Store | None) -> list[str]:
    if config.is_test_mode():
        raise ConfigError("TEST_MODE is set, so nothing is pushed: its rows are a trial. Unset it to push")
    unknown = [name for name in options.datasets if name not in (*NAMES, ALL)]
    if unknown or not options.datasets:
        problem = f"no dataset {unknown[0]!r}" if unknown else "name a DATASET, or all"
        if store is None:
            raise ConfigError(f"push: {problem}; there are {', '.join(NAMES)}")
        there = "".join(f"\n  {line}" for line in pushable(store, options)) or " nothing yet"
        raise ConfigError(f"{problem}; there is to push:{there}")
    names = [name for name in NAMES if name in options.datasets or ALL in options.datasets]
    if options.repo is not None and len(names) != 1:
        raise ConfigError(f"--repo is for one dataset; {len(names)} are named")
    for name in names:
        repo_of(name, options)
        check_format(name, format_of_dataset(name, options))
        check_labels(name, format_of_dataset(name, options), options.with_labels)
    return names


@contextlib.contextmanager
def _recorded(
    store: Store, names: Sequence[str], options: PushOptions, pushed: Sequence[Pushed]
) -> Iterator[None]:
    """Records the push in `runs`, unless it is a dry run."""
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
        "format": options.format,
        "with_labels": list(options.with_labels),
    }
    with store.run("push", described, counts=lambda: _counts(pushed)) as run:
        yield
        run.status = exit_status(pushed)


def exit_status(pushed: Sequence[Pushed]) -> int:
    """Returns 3 if a format could not express some rows, else 0."""
    return exit_status_for(*(one.left_out for one in pushed))


def _counts(pushed: Sequence[Pushed]) -> dict[str, Any]:
    return {one.dataset: {"repo": one.repo, "rows": dict(one.rows), "commit": one.commit} for one in pushed}


def _push_one(store: Store, target: PushTarget, say: Say, shown: set[str]) -> Pushed | None:
    """Pushes one dataset; returns None if a dataset of `all` has no rows.

    `shown` collects notes, so that one that holds for several datasets is shown once.
    """
    options = target.options
    with _folder() as folder:
        dataset = Dataset(target.name, options.sources, options.all_sources, with_labels=options.with_labels)
        with open_dataset(store, dataset) as rows:
            if rows.total == 0:
                if ALL in options.datasets:
                    say(f"{target.name}: no rows, so it is not pushed")
                    return None
                raise HubError(
                    f"{target.name} has no rows, so there is nothing to push; "
                    f"{config.command_line(store.path, 'status')} says why"
                )
            for line in label_notes(store, rows.labels):
                say(f"{target.name}: {line}")
            source = DatasetSource(rows, format_of_dataset(target.name, options))
            built = write_files(source, Path(folder))
            facts = read_facts(rows, built.rows, built.notes)
        for line in (*built.left_out.lines(), *built.notes):
            say(f"{target.name}: {line}")
        if not built.files:
            why = built.left_out.why()
            raise HubError(f"nothing is left of the dataset {target.name} to push as {built.format}: {why}")
        pushed = push_commit(target, PreparedPush(built, make_card(facts, built)), say)
        for line in source.notes:
            if line not in shown:
                shown.add(line)
                say(line)
        return pushed


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="kbetl-push-")
    except OSError as error:
        raise HubError(f"no folder for the files to push: {error.strerror}; set TMPDIR to one") from None
