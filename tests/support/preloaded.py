"""`kbetl` in processes forked from one that has its libraries loaded: what a command costs is its own work.

No library is preloaded that reads its settings from the environment when it is imported: those of the Hub.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

PRELOADED = (
    "kbetl.cli",
    "aiohttp",
    "genai_prices.data",
    "jsonschema",
    "pyarrow.parquet",
    "tenacity",
)
Server = tuple[socket.socket, subprocess.Popen[bytes]]
_servers: list[Server] = []


def run_preloaded(
    arguments: list[str], folder: Path, environment: Mapping[str, str], input: str, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Runs `kbetl ARGUMENTS` in a folder, with this environment alone; as `subprocess.run` gives it."""
    connection, _ = _server(environment)
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(input.encode("utf-8"))
        stdin.seek(0)
        request = [arguments, str(folder), dict(environment)]
        connection.settimeout(timeout_s)
        try:
            message = json.dumps(request).encode()
            connection.sendall(len(message).to_bytes(8, "big"))
            socket.send_fds(connection, [message[:1]], [stdin.fileno(), out.fileno(), err.fileno()])
            connection.sendall(message[1:])
            status = int.from_bytes(_read(connection, 4), "big", signed=True)
        except TimeoutError:
            _stop()
            raise subprocess.TimeoutExpired(arguments, timeout_s) from None
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode("utf-8"))
    return subprocess.CompletedProcess(arguments, status, *said)


def _server(environment: Mapping[str, str]) -> Server:
    """The process that forks; one for each process of the tests."""
    if not _servers:
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = {
                key: value for key, value in environment.items() if key in ("PATH", "LANG", "LC_ALL")
            }
            server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={**inherited, **{k: v for k, v in environment.items() if k.startswith("PYTHON")}},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        _servers.append((ours, server))
        atexit.register(_stop)
    return _servers[0]


def _stop() -> None:
    while _servers:
        connection, server = _servers.pop()
        connection.close()
        server.kill()
        server.wait()


def _read(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise EOFError("the process that starts kbetl has ended")
        parts += part
    return parts


def _serve(connection: socket.socket) -> None:
    """Forks for each request, one at a time, and sends how each ended; a child leaves by `SystemExit`."""
    for name in PRELOADED:
        import_module(name)
    gc.freeze()  # what a child leaves behind is not searched through at its end
    while True:
        try:
            length = int.from_bytes(_read(connection, 8), "big")
        except EOFError:
            return
        first, streams, _, _ = socket.recv_fds(connection, 1, 3)
        arguments, folder, environment = json.loads(first + _read(connection, length - 1))
        child = os.fork()
        if child == 0:
            connection.close()
            _become(arguments, folder, environment, streams)
        for stream in streams:
            os.close(stream)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(status.to_bytes(4, "big", signed=True))


def _become(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    from kbetl.__main__ import main

    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.path[0] = folder
    sys.argv = ["kbetl", *arguments]
    main()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as served:
        _serve(served)
