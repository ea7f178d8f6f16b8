"""Datasets on the Hub: which files a split is, at one commit, and their rows."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbetl import readers
from kbetl.errors import SourceError
from kbetl.huggingface import connection_failures, explain, quiet_imports
from kbetl.ingest.source import IngestOptions, Part, Source
from kbetl.ingest.sources import DEFAULT_SPLIT
from kbetl.readers.lines import RawRow
from kbetl.store.samples import SourceInfo
from kbetl.text import plain_text


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one split of a dataset, at one commit."""

    revision: str
    """The commit's full name."""
    paths: Sequence[str]
    """In the order of their rows."""
    features: Any
    """Column types as the dataset declares them, as JSON; None if it declares none."""


def find(repo: str, options: IngestOptions) -> Source:
    """One split of a dataset, at the commit that its revision names now; its files are fetched when read.

    Raises SourceError if the Hub cannot be reached, knows no such dataset, revision or split, or does
    not let us see it, and if the split's files are of a kind that is not read here.
    """
    split = options.split or DEFAULT_SPLIT
    listing = _listing_of_child(repo, options.revision, split)
    for path in listing.paths:
        if readers.kind_of(path) is None:
            raise SourceError(f"{repo}: {plain_text(path)} is not one of {readers.KINDS_IN_WORDS}")
    origin = SourceInfo(options.name or f"{repo}:{split}", repo, "hub", listing.revision, split)
    return Source(origin, [_part(repo, listing, path) for path in listing.paths])


def _part(repo: str, listing: Listing, path: str) -> Part:
    name = f"{repo}/{plain_text(path)}"

    def rows() -> Iterator[RawRow]:
        return readers.rows_of_file(_fetched(repo, path, listing.revision), name)

    def features() -> Any:
        return listing.features or readers.features_of(_fetched(repo, path, listing.revision))

    return Part(name, rows, features)


def _fetched(repo: str, path: str, revision: str) -> Path:
    """A file of a dataset in Hugging Face's cache, downloaded unless it is there."""
    quiet_imports()
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, path, repo_type="dataset", revision=revision))
    except connection_failures() as error:
        raise _explained(repo, error) from None


def _listing_of_child(repo: str, revision: str | None, split: str) -> Listing:
    """`list_split` in a process of its own: `datasets` uses 130 MB, which reading rows does not need."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        try:
            return child.submit(list_split, repo, revision, split).result()
        except BrokenProcessPool:
            raise SourceError(f"{repo}: the process that lists its files died; is memory short?") from None


def list_split(repo: str, revision: str | None, split: str) -> Listing:
    """Asks the Hub which commit a revision is, and `datasets` which files a split is; raises SourceError."""
    quiet_imports()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        about = HfApi().dataset_info(repo, revision=revision)
    except HFValidationError:
        raise SourceError(
            f"{plain_text(repo)} is neither a file nor a name of a dataset on the Hub"
        ) from None
    except connection_failures() as error:
        raise _explained(repo, error, revision) from None
    if about.sha is None:
        raise SourceError(f"{repo}: the Hub names no commit of it")
    paths, features = _files_by_datasets(repo, about.sha, split)
    return Listing(about.sha, paths, features)


def _files_by_datasets(repo: str, revision: str, split: str) -> tuple[list[str], Any]:
    """The paths of a split's files and its declared features, as `datasets.load_dataset` would read them.

    Of a dataset that holds its rows twice, as KernelBook does in JSON and Parquet, that is one copy.
    """
    import datasets

    datasets.logging.set_verbosity_error()
    try:
        builder = datasets.load_dataset_builder(repo, revision=revision)
    except connection_failures(ValueError, RuntimeError) as error:
        raise _explained(repo, error) from None
    by_split: Mapping[str, Sequence[str]] = builder.config.data_files or {}
    if split not in by_split:
        names = ", ".join(plain_text(str(name)) for name in by_split) or "none"
        raise SourceError(f"{repo} has no split {plain_text(split)!r}; it has {names}")
    mark = f"@{revision}/"
    paths = [file.partition(mark)[2] for file in by_split[split]]
    features = builder.info.features
    return paths, None if features is None else features.to_dict()


def _explained(repo: str, error: BaseException, revision: str | None = None) -> SourceError:
    what = explain(
        error,
        page=f"datasets/{repo}",
        missing="no such file, and no such dataset",
        revision=revision,
        refused="`datasets` cannot read it",
    )
    return SourceError(f"{repo}: {what}")
