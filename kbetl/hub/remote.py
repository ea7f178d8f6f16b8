"""Reads a dataset on the Hub: its head, files and card; translates errors of the Hub."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kbetl.errors import HubBusy, HubError, UnreadableFile
from kbetl.hub.parquet_files import column_types, described
from kbetl.hub.readme import read_readme
from kbetl.huggingface import connection_failures, explain, quiet_imports
from kbetl.text import plain_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi

README = "README.md"
TYPE = "dataset"
# Statuses after which a retry may succeed: conflicts, throttling, errors of the server.
_AGAIN = (408, 409, 412, 429, 500, 502, 503, 504)
SHARD = re.compile(r"data/(?P<split>[^/]+)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")
"""Names of data files, as kbetl and `datasets` write them."""
_DATA_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".arrow", ".gz", ".zst", ".zip")


class RemoteFile(NamedTuple):
    """A file on the Hub; `sha256` is None for one that is not in LFS."""

    size_bytes: int
    git_oid: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Remote:
    """A dataset on the Hub at its head."""

    repo: str
    sha: str
    is_private: bool
    files: Mapping[str, RemoteFile]
    readme: str
    """Its README.md; empty if there is none."""


class RemoteSchema(NamedTuple):
    """The schema of a dataset on the Hub, by its card and files."""

    columns: Mapping[str, str] | None
    """Types by column; None if they cannot be known."""
    splits: Sequence[str]
    configs: Sequence[str]
    """Names of its configurations other than the default one."""
    data_files: Sequence[str]
    """Paths of files that look like data, of any format."""
    patterns: Sequence[str]
    """Data file patterns of its default configuration other than `data/SPLIT-*`."""
    download_bytes: int | None
    """Bytes of the files of its splits; None if the card does not say."""


def make_api(*, is_quiet: bool) -> HfApi:
    """Returns the Hub's client; `is_quiet` disables progress bars."""
    quiet_imports(is_quiet=is_quiet)
    from huggingface_hub import HfApi

    return HfApi(library_name="kbetl")


def read_remote(api: HfApi, repo: str) -> Remote | None:
    """Returns a dataset at its head; None if none is visible to us. Raises HubError and HubBusy."""
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    with translate_errors(repo):
        try:
            about = api.dataset_info(repo)
        except RepositoryNotFoundError:
            return None
        if about.sha is None:
            raise HubError(f"{repo}: the Hub names no commit of it")
        entries = api.list_repo_tree(repo, recursive=True, revision=about.sha, repo_type=TYPE)
        files = {
            entry.path: RemoteFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
            for entry in entries
            if isinstance(entry, RepoFile)
        }
        readme = _readme(api, repo, about.sha) if README in files else ""
    return Remote(repo, about.sha, bool(about.private), files, readme)


def _readme(api: HfApi, repo: str, sha: str) -> str:
    path = api.hf_hub_download(repo, README, repo_type=TYPE, revision=sha)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise HubError(f"{repo}: its README.md is not UTF-8; mend it on the Hub") from None


def read_schema(api: HfApi, remote: Remote) -> RemoteSchema:
    """Returns columns, splits and configurations, by the card and the names of files. Raises HubError."""
    values = read_readme(remote.readme, f"{remote.repo}: README.md").values
    info = _default_of(values.get("dataset_info"))
    tables = _tables(values.get("configs"))
    configs = [str(config.get("config_name", "default")) for config in tables]
    configs += [str(each.get("config_name", "default")) for each in _tables(values.get("dataset_info"))]
    named = [each for config in tables if _is_default(config) for each in _patterns(config)]
    splits = [str(split.get("name")) for split in _tables(info.get("splits"))]
    splits += [split for split, _ in named if split]
    splits += [found["split"] for found in map(SHARD.fullmatch, sorted(remote.files)) if found]
    patterns = [pattern for split, pattern in named if pattern != f"data/{split}-*"]
    data = [path for path in sorted(remote.files) if path.endswith(_DATA_SUFFIXES) and path.count("/") <= 1]
    parquet = [path for path in data if path.endswith(".parquet")]
    columns = column_types(info.get("features"))
    if columns is None and parquet:
        columns = column_types(described(_footer(api, remote, parquet[0])))
    others = [name for name in dict.fromkeys(configs) if name not in ("default", "None")]
    size = info.get("download_size")
    download_bytes = size if isinstance(size, int) else None
    return RemoteSchema(columns, list(dict.fromkeys(splits)), others, data, patterns, download_bytes)


def _is_default(config: Mapping[str, Any]) -> bool:
    return config.get("config_name", "default") in ("default", None) or config.get("default") is True


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str | None, str]]:
    """Yields split, None if it is not named, and pattern of all data files of a configuration."""
    if config.get("data_dir"):
        yield None, f"{config['data_dir']}/"
    files = config.get("data_files")
    if isinstance(files, Mapping):
        files = [{"split": split, "path": path} for split, path in files.items()]
    for each in files if isinstance(files, list) else [files] if files else []:
        split, paths = (each.get("split"), each.get("path")) if isinstance(each, Mapping) else (None, each)
        for path in paths if isinstance(paths, list) else [paths]:
            yield None if split is None else str(split), str(path)


def _default_of(info: Any) -> Mapping[str, Any]:
    """Returns the `dataset_info` of the default configuration; a card has one, or a list of them."""
    for each in _tables(info) or [info]:
        if isinstance(each, Mapping) and each.get("config_name", "default") == "default":
            return each
    return {}


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _footer(api: HfApi, remote: Remote, path: str) -> Any:
    """Returns the schema of a Parquet file, downloading only its end."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem

    name = f"datasets/{remote.repo}@{remote.sha}/{path}"
    with translate_errors(remote.repo):
        try:
            with HfFileSystem(endpoint=api.endpoint).open(name, "rb", block_size=2**16) as file:
                return pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise UnreadableFile(
                f"{remote.repo}: {path} is no Parquet file: {plain_text(str(error))}"
            ) from None


def git_oid(content: bytes) -> str:
    """Returns the id of a git blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def translate_errors(repo: str, *, may_have_happened: bool = False) -> Iterator[None]:
    """Translates errors of the Hub into HubBusy if a retry may succeed, else into HubError.

    `may_have_happened`: a lost connection leaves open whether the Hub did it, so that it is retried.
    """
    try:
        yield
    except connection_failures(RuntimeError, ValueError) as error:
        # a failed upload is a RuntimeError whose cause is the server's error
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise _translated(repo, cause, may_have_happened=may_have_happened) from None


def _translated(repo: str, error: BaseException, *, may_have_happened: bool) -> HubError:
    from huggingface_hub import errors

    from kbetl.client.retry_after import retry_after_s

    what = explain(error, page=f"datasets/{repo}", missing=None, refused="the Hub does not take it")
    if isinstance(error, errors.HfHubHTTPError):
        if error.response.status_code in _AGAIN:
            return HubBusy(f"{repo}: {what}", retry_after_s(error.response.headers) or 0.0)
    elif may_have_happened and not isinstance(error, errors.OfflineModeIsEnabled | ValueError | RuntimeError):
        return HubBusy(f"{repo}: the connection to the Hub was lost; {what}")
    return HubError(f"{repo}: {what}")
