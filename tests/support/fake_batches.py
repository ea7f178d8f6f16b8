"""A Files and Batches API on 127.0.0.1, as OpenAI's, that can be held or made to fail at each step.

    with FakeBatches() as service:
        service.hold("created")         # the batch is there, its creator has not heard of it
        ...
        service.release()

Steps, in the order in which a submission and a fetch come by: `upload received`, `uploaded`, `listed`,
`create received`, `created`, `asked`, `half a file`. `failures` has HTTP statuses to answer at a step, each
once; at `uploaded` and `created` what was asked for is done all the same. Errors end with `said`.
"""

from __future__ import annotations

import email
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

KEY = "sk-a-key-for-tests-0123456789"
DEADLINE_S = 60.0

Line = dict[str, Any]


class FakeBatches:
    """The service. `files` by id are (name, content); `batches` by id are what it tells of them."""

    def __init__(self, *, page: int = 100, keeps_metadata: bool = True) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, Line] = {}
        self.requests: Counter[str] = Counter()
        """Requests by method and path, ids left out."""
        self.failures: dict[str, list[int]] = {}
        self.said = ""
        self.hides = 0
        """How many more times it lists no batch at all."""
        self.page = page
        self.keeps_metadata = keeps_metadata
        self._held: str | None = None
        self._reached = threading.Event()
        self._go_on = threading.Event()
        self._lock = threading.Lock()
        service = self

        class Handler(_Handler):
            def __init__(self, *arguments: Any) -> None:
                self.service = service
                super().__init__(*arguments)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, step: str) -> None:
        """The next request that comes to a step stays there."""
        self._reached.clear()
        self._go_on.clear()
        self._held = step

    def wait_until_held(self) -> None:
        """Until a request is where it is held."""
        assert self._reached.wait(DEADLINE_S)

    def release(self) -> None:
        """Lets go on what is held."""
        self._held = None
        self._go_on.set()

    def passes(self, step: str) -> int | None:
        """A request has come to a step; the status to fail with, if any."""
        if self._held == step:
            self._held = None
            self._reached.set()
            assert self._go_on.wait(DEADLINE_S)
        waiting = self.failures.get(step)
        return waiting.pop(0) if waiting else None

    def add_file(self, name: str, content: bytes) -> str:
        """Keeps a file; gives its id."""
        with self._lock:
            file_id = f"file-{len(self.files) + 1}"
            self.files[file_id] = (name, content)
        return file_id

    def add_batch(self, body: Line) -> Line:
        """Begins a batch: from here on it costs."""
        with self._lock:
            number = len(self.batches) + 1
            batch = {
                "id": f"batch_{number}",
                "object": "batch",
                "endpoint": body["endpoint"],
                "input_file_id": body["input_file_id"],
                "completion_window": body["completion_window"],
                "status": "validating",
                "created_at": 1_790_000_000 + number,
                "output_file_id": None,
                "error_file_id": None,
                "errors": None,
                "metadata": body.get("metadata") if self.keeps_metadata else None,
                "request_counts": {"total": 0, "completed": 0, "failed": 0},
            }
            self.batches[batch["id"]] = batch
        return batch

    def asked(self, batch_id: str) -> list[Line]:
        """The lines of a batch's input file."""
        _, content = self.files[self.batches[batch_id]["input_file_id"]]
        return [json.loads(line) for line in content.splitlines()]

    def finish(self, batch_id: str, answer: Callable[[Line], Line | None], status: str = "completed") -> None:
        """Ends a batch: answers go into its output file, all else into its error file, None nowhere."""
        results = [result for asked in self.asked(batch_id) if (result := answer(asked)) is not None]
        good = [each for each in results if each["error"] is None and each["response"]["status_code"] == 200]
        bad = [each for each in results if each not in good]
        batch = self.batches[batch_id]
        batch["status"] = status
        for key, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                content = "".join(json.dumps(line) + "\n" for line in reversed(lines))
                batch[key] = self.add_file(f"{batch_id}_{key}", content.encode())


class _Handler(BaseHTTPRequestHandler):
    service: FakeBatches
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        body = self._chunked() if "chunked" in self.headers.get("Transfer-Encoding", "") else b""
        self._serve(body or self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _serve(self, body: bytes) -> None:
        try:
            self._answer(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        names = parts.path.removeprefix("/v1/").split("/")
        self.service.requests[" ".join([self.command, names[0], *names[2:]])] += 1
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._json(
                {"error": {"message": f"wrong key{self.service.said}", "code": "invalid_api_key"}}, 401
            )
        elif self.command == "POST" and names == ["files"]:
            self._upload(body)
        elif self.command == "POST" and names == ["batches"]:
            self._create(body)
        elif self.command == "POST" and names[2:] == ["cancel"]:
            self.service.batches[names[1]]["status"] = "cancelled"
            self._json(self.service.batches[names[1]])
        elif len(names) == 1:
            self._list(names[0], parse_qs(parts.query))
        elif names[0] == "files":
            self._content(self.service.files[names[1]][1])
        elif not self._failed("asked"):
            self._json(self.service.batches[names[1]])

    def _failed(self, step: str) -> bool:
        status = self.service.passes(step)
        if status is not None:
            self._json(
                {"error": {"message": f"failed at {step}{self.service.said}", "type": "server_error"}}, status
            )
        return status is not None

    def _upload(self, body: bytes) -> None:
        if self._failed("upload received"):
            return
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        form = email.message_from_bytes(head + body)
        fields = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        assert fields["purpose"].get_payload(decode=True) == b"batch"
        file = fields["file"]
        file_id = self.service.add_file(file.get_filename(), file.get_payload(decode=True))
        if not self._failed("uploaded"):
            self._json({"id": file_id, "object": "file", "filename": file.get_filename()})

    def _create(self, body: bytes) -> None:
        if self._failed("create received"):
            return
        batch = self.service.add_batch(json.loads(body))
        if not self._failed("created"):
            self._json(batch)

    def _list(self, what: str, query: dict[str, list[str]]) -> None:
        if self._failed("listed"):
            return
        rows = (
            list(self.service.batches.values())[::-1]
            if what == "batches"
            else [{"id": key, "filename": name} for key, (name, _) in self.service.files.items()]
        )
        if what == "batches" and self.service.hides:
            self.service.hides -= 1
            rows = []
        after = query.get("after", [None])[0]
        start = next((n + 1 for n, row in enumerate(rows) if row["id"] == after), 0)
        page = rows[start : start + self.service.page]
        self._json({"object": "list", "data": page, "has_more": start + len(page) < len(rows)})

    def _content(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if self.service.passes("half a file") is not None:
            self.close_connection = True
            return
        self.wfile.write(content[len(content) // 2 :])

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
