"""A Hub on 127.0.0.1: what `datasets` and `huggingface_hub` ask for to read and to push datasets.

Run the clients in a process of their own: they read `HF_ENDPOINT` when they are imported.

    with FakeHub() as hub:
        hub.commit("owner/name", {"data/train.jsonl": b"..."})
        subprocess.run([...], env={**environment, **hub.environment})

Uploads go through Git LFS (`environment` turns Xet off). A commit makes a new sha, in one step or not at all.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_token_of_the_fake_hub"
_DATE = "2026-01-01T00:00:00.000Z"
_LFS_SUFFIXES = (".parquet", ".arrow", ".gz", ".zst")


@dataclass
class Repo:
    """A dataset: its commits, newest last."""

    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    is_private: bool = False
    is_gated: bool = False

    @property
    def sha(self) -> str:
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit by its sha, or the newest as `main`; None where there is none."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class FakeHub:
    """The server and what it holds.

    `faults`: statuses that the next commits fail with, first in first out (0: none); a pair of a status and
    the seconds of its `Retry-After`; or "lost": the commit is made and the connection closed without a word.
    `requests`: what was asked, as `METHOD PATH`.
    `said`: what a fault on order says, in its headers and its body.
    `watch`: called with each request before it is answered, in the thread that answers it.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[int | str | tuple[int, int]] = []
        self.said = "a fault on order"
        self.watch: Callable[[str], None] = lambda _request: None
        self.requests: list[str] = []
        self.lock = threading.RLock()
        self.blobs: dict[str, bytes] = {}
        """LFS objects by SHA-256."""
        hub = self

        class Handler(_Handler):
            def __init__(self, *arguments: Any) -> None:
                self.hub = hub
                super().__init__(*arguments)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the clients here."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def commit(self, name: str, changes: Mapping[str, bytes | None]) -> str:
        """Adds, replaces and (None) deletes files; makes the dataset if needed; gives the new sha."""
        with self.lock:
            repo = self.repos.setdefault(name, Repo([(_sha(name, 0), {".gitattributes": b"* lfs\n"})]))
            files = {**repo.commits[-1][1]}
            for path, content in changes.items():
                if content is None:
                    files.pop(path, None)
                else:
                    files[path] = content
            repo.commits.append((_sha(name, len(repo.commits)), files))
            return repo.sha

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """All files of a dataset at a revision."""
        commit = self.repos[name].at(revision)
        assert commit is not None
        return commit[1]


class _Refusal(Exception):
    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        split = urlsplit(self.path)
        path, query = unquote(split.path), parse_qs(split.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who asked may be dead
            self._answer(path, query, body)

    def _answer(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.watch(f"{self.command} {path}")
        try:
            for method, pattern, answer in _ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method.split():
                    answer(self, body, query, **found.groupdict())
                    return
            raise _Refusal(404, "EntryNotFound", f"{path} is not answered here")
        except _Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal), **refusal.headers}
            self._reply(json.dumps({"error": str(refusal)}).encode(), headers, status=refusal.status)

    def _reply(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        status: int = 200,
        type_: str = "application/json",
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": type_, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._reply(json.dumps(value).encode(), headers)

    def _repo(self, name: str) -> Repo:
        repo = self.hub.repos.get(name)
        may_see = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.is_private and not may_see):
            raise _Refusal(404 if may_see else 401, "RepoNotFound", "Repository not found")
        if repo.is_gated:
            raise _Refusal(403, "GatedRepo", "Access to this dataset is restricted")
        return repo

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        commit = self._repo(name).at(revision)
        if commit is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # reading

    def about(self, _body: bytes, query: dict[str, list[str]], name: str, revision: str = "main") -> None:
        sha, files = self._commit(name, revision)
        with_sizes = query.get("blobs") == ["true"]
        siblings = [
            {"rfilename": path, **({"size": len(content), "blobId": _blob(content)} if with_sizes else {})}
            for path, content in sorted(files.items())
        ]
        self._json(
            {
                "_id": "0" * 24,
                "id": name,
                "author": name.partition("/")[0],
                "sha": sha,
                "lastModified": _DATE,
                "createdAt": _DATE,
                "private": self._repo(name).is_private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "cardData": _card(files.get("README.md", b"")),
                "siblings": siblings,
            },
            {"X-Repo-Commit": sha},
        )

    def tree(
        self, _body: bytes, query: dict[str, list[str]], name: str, revision: str, folder: str = ""
    ) -> None:
        sha, files = self._commit(name, revision)
        prefix = f"{folder}/" if folder else ""
        below = {path: content for path, content in files.items() if path.startswith(prefix)}
        if not below:
            raise _Refusal(404, "EntryNotFound", f'{folder} does not exist on "{sha}"')
        recursive = query.get("recursive") == ["true"]
        entries: dict[str, dict[str, Any]] = {}
        for path, content in sorted(below.items()):
            steps = path.removeprefix(prefix).split("/")
            for depth in range(1, len(steps)):
                place = prefix + "/".join(steps[:depth])
                entries[place] = {"type": "directory", "oid": _sha(place, 0), "size": 0, "path": place}
                if not recursive:
                    break
            if recursive or len(steps) == 1:
                entries[path] = _entry(path, content)
        self._json(list(entries.values()))

    def resolve(self, _body: bytes, _query: object, name: str, revision: str, path: str) -> None:
        sha, files = self._commit(name, revision)
        content = files.get(path)
        if content is None:
            refusal = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            self._reply(b"{}", {**refusal, "X-Repo-Commit": sha}, status=404)
            return
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(path, content)}"', "Accept-Ranges": "bytes"}
        if path.endswith(_LFS_SUFFIXES):
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": headers["ETag"]}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._reply(content, headers, type_="application/octet-stream")
            return
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}"
        self._reply(content[first : last + 1], headers, status=206, type_="application/octet-stream")

    def paths_info(self, body: bytes, _query: object, name: str, revision: str) -> None:
        _, files = self._commit(name, revision)
        wanted = json.loads(body)["paths"]
        self._json([_entry(path, files[path]) for path in wanted if path in files])

    # writing

    def _may_write(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refusal(401, "", "Invalid username or password.")

    def create(self, body: bytes, _query: object) -> None:
        self._may_write()
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        with self.hub.lock:
            if name in self.hub.repos:
                raise _Refusal(409, "", "You already created this dataset repo")
            self.hub.commit(name, {})
            is_private = asked.get("visibility") == "private" or asked.get(
                "private"
            )  # newer and older clients
            self.hub.repos[name].is_private = bool(is_private)
        self._json({"url": f"{self.hub.url}/datasets/{name}", "name": name, "id": "0" * 24})

    def preupload(self, body: bytes, _query: object, name: str, revision: str) -> None:
        self._may_write()
        sha, files = self._commit(name, revision)
        replies = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(_LFS_SUFFIXES) else "regular"
            reply = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            if path in files:
                reply["oid"] = _oid(path, files[path])
            replies.append(reply)
        self._json({"files": replies, "commitOid": sha})

    def lfs_batch(self, body: bytes, _query: object, name: str) -> None:
        self._repo(name)
        objects = []
        for wanted in json.loads(body)["objects"]:
            oid = wanted["oid"]
            reply: dict[str, Any] = {**wanted, "authenticated": True}
            if oid not in self.hub.blobs:
                upload = {"href": f"{self.hub.url}/_lfs/{oid}", "header": {}}
                verify = {"href": f"{self.hub.url}/_lfs_verify", "header": {}}
                reply["actions"] = {"upload": upload, "verify": verify}
            objects.append(reply)
        self._json({"transfer": "basic", "objects": objects, "hash_algo": "sha256"})

    def lfs_put(self, body: bytes, _query: object, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refusal(422, "", "the content has another SHA-256")
        self.hub.blobs[oid] = body
        self._json({})

    def lfs_verify(self, _body: bytes, _query: object) -> None:
        self._json({})

    def make_commit(self, body: bytes, _query: object, name: str, revision: str) -> None:
        self._may_write()
        with self.hub.lock:
            fault = self.hub.faults.pop(0) if self.hub.faults else 0
            if isinstance(fault, tuple):
                raise _Refusal(fault[0], "", self.hub.said, **{"Retry-After": str(fault[1])})
            if isinstance(fault, int) and fault:
                raise _Refusal(fault, "", self.hub.said)
            sha, _ = self._commit(name, revision)
            changes: dict[str, bytes | None] = {}
            for line in body.decode().splitlines():
                if line.strip():
                    self._read_operation(json.loads(line), sha, changes)
            new = self.hub.commit(name, changes)
        if fault == "lost":
            self.close_connection = True
            return
        self._json(
            {
                "success": True,
                "commitOid": new,
                "commitUrl": f"{self.hub.url}/datasets/{name}/commit/{new}",
                "hookOutput": "",
            }
        )

    def _read_operation(self, operation: dict[str, Any], sha: str, changes: dict[str, bytes | None]) -> None:
        key, value = operation["key"], operation["value"]
        if key == "header":
            if value.get("parentCommit") not in (None, sha):
                raise _Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        elif key == "file":
            changes[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            changes[value["path"]] = self.hub.blobs[value["oid"]]
        elif key == "deletedFile":
            changes[value["path"]] = None
        else:
            raise _Refusal(400, "", f"unknown operation {key}")

    def validate_yaml(self, _body: bytes, _query: object) -> None:
        self._json({"errors": [], "warnings": []})

    def whoami(self, _body: bytes, _query: object) -> None:
        self._json(
            {"type": "user", "name": "me", "fullname": "me", "orgs": [], "auth": {"type": "access_token"}}
        )


_NAME = r"(?P<name>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_API = f"/api/datasets/{_NAME}"
_ROUTES = (
    ("GET", _API, _Handler.about),
    ("GET", f"{_API}/revision/{_REVISION}", _Handler.about),
    ("GET", f"{_API}/tree/{_REVISION}(?:/(?P<folder>.+))?", lambda h, b, q, **k: h.tree(b, q, **_given(k))),
    ("POST", f"{_API}/paths-info/{_REVISION}", _Handler.paths_info),
    ("GET HEAD", f"/datasets/{_NAME}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", f"{_API}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", f"/datasets/{_NAME}[.]git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", "/_lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    ("POST", "/_lfs_verify", _Handler.lfs_verify),
    ("POST", f"{_API}/commit/{_REVISION}", _Handler.make_commit),
    ("POST", "/api/validate-yaml", _Handler.validate_yaml),
    ("GET", "/api/whoami-v2", _Handler.whoami),
)


def _given(groups: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in groups.items() if value is not None}


def _sha(name: str, number: int) -> str:
    return hashlib.sha1(f"{name} {number}".encode()).hexdigest()


def _blob(content: bytes) -> str:
    """Git's name of a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as the tree lists it; Git has a pointer in place of what is in LFS."""
    if not path.endswith(_LFS_SUFFIXES):
        return {"type": "file", "oid": _blob(content), "size": len(content), "path": path}
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()
    lfs = {"oid": oid, "size": len(content), "pointerSize": len(pointer)}
    return {"type": "file", "oid": _blob(pointer), "size": len(content), "path": path, "lfs": lfs}


def _oid(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if path.endswith(_LFS_SUFFIXES) else _blob(content)


def _card(readme: bytes) -> Any:
    found = re.match(rb"---\n(.*?)\n---\n", readme, re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}
