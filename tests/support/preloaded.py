"""`kbetl` in processes forked from one that has its libraries loaded: what a command costs is its own work.

One process forks for all workers of the tests. The libraries of the Hub read their settings from the
environment when they are imported, each into one module; a forked process reads those anew.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self

ROOT = Path(__file__).parents[2]
ADDRESS = "TESTS_PRELOADED_ADDRESS"
"""The variable that tells the workers where the process listens."""
PRELOADED = (
    "aiohttp",
    "datasets",
    "genai_prices.data",
    "huggingface_hub.hf_api",
    "huggingface_hub.hf_file_system",
    "jinja2.sandbox",
    "jsonschema",
    "kbetl.batch",
    "kbetl.cli",
    "kbetl.demo",
    "kbetl.inference",
    "kbetl.synth",
    "pandas",
    "pyarrow.parquet",
    "sqlite_utils",
    "tabulate",
    "tenacity",
    "transformers.models.auto.tokenization_auto",
)
SETTINGS = ("huggingface_hub.constants", "datasets.config")


def run_preloaded(
    arguments: list[str],
    folder: Path,
    environment: Mapping[str, str],
    input: str = "",
    *,
    timeout_s: float = 120,
    is_merged: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs `kbetl ARGUMENTS` in a folder, with this environment alone; as `subprocess.run` gives it.

    `is_merged`: standard error goes to standard output. Raises subprocess.TimeoutExpired.
    """
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        stdin.write(input.encode("utf-8"))
        stdin.seek(0)
        streams = [stdin.fileno(), out.fileno(), (out if is_merged else err).fileno()]
        with Forked(arguments, folder, environment, streams) as process:
            status = process.wait(timeout_s)
        return subprocess.CompletedProcess(arguments, status, _text(out), _text(err))


class Forked:
    """A command that runs; the methods are those of `subprocess.Popen`.

    `streams` are the descriptors of its standard input, output and error. `stdout` and `stderr` are None:
    `Piped` has them.
    """

    stdout: IO[str] | None = None
    stderr: IO[str] | None = None

    def __init__(
        self, arguments: list[str], folder: Path, environment: Mapping[str, str], streams: list[int]
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        request = json.dumps([arguments, str(folder), dict(environment)]).encode()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(start())
        socket.send_fds(self._connection, [len(request).to_bytes(8, "big")], streams)
        self._connection.sendall(request)
        self.pid = _read_number(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kills it if it still runs."""
        self.kill()
        self.wait()
        self._connection.close()

    def poll(self) -> int | None:
        """The status that it ended with; None if it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = _read_number(self._connection)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The status that it ended with. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Does nothing if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Piped(Forked):
    """One without standard input, whose output is read while it runs."""

    stdout: IO[str]
    stderr: IO[str]

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        out, err = os.pipe(), os.pipe()
        self.stdout, self.stderr = (os.fdopen(reading, encoding="utf-8") for reading, _ in (out, err))
        with open(os.devnull, "rb") as nothing, os.fdopen(out[1], "wb") as o, os.fdopen(err[1], "wb") as e:
            super().__init__(arguments, folder, environment, [nothing.fileno(), o.fileno(), e.fileno()])

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.stdout.close()
        self.stderr.close()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is left of both streams, when it has ended. Raises subprocess.TimeoutExpired."""
        with ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()  # so that both streams end
                raise
            out, err = (each.result() for each in reading)
        return out, err


def start() -> str:
    """Starts the process that forks, if there is none yet; gives its address.

    It ends with the process that started it.
    """
    if ADDRESS not in os.environ:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        address = f"{folder}/socket"
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(64)
            server = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())],
                env={**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )
        atexit.register(_stop, server)
        os.environ[ADDRESS] = address
    return os.environ[ADDRESS]


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.communicate()


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8")


def _read_number(connection: socket.socket) -> int:
    return int.from_bytes(_read(connection, 4), "big", signed=True)


def _send_number(connection: socket.socket, number: int) -> None:
    connection.sendall(number.to_bytes(4, "big", signed=True))


def _read(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise EOFError("the process that starts kbetl has ended")
        parts += part
    return parts


def _serve(listener: socket.socket) -> None:
    """Forks for each request and sends the child's id and how it ended."""
    _preload()
    ended, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, ended, sys.stdin], [], [])
        if sys.stdin in ready:  # whoever started this process has ended
            return
        if ended in ready:
            ended.recv(4096)
            _report(running)
        if listener in ready:
            connection, _ = listener.accept()
            length, streams, _, _ = socket.recv_fds(connection, 8, 3)
            request = _read(connection, int.from_bytes(length, "big"))
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                for inherited in (listener, ended, wakes, connection, *running.values()):
                    inherited.close()
                _become(*json.loads(request), streams)
            for stream in streams:
                os.close(stream)
            _send_number(connection, child)
            running[child] = connection


def _preload() -> None:
    from kbetl.huggingface import quiet_imports

    quiet_imports(is_quiet=True)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # what a child leaves behind is not searched through at its end


def _report(running: dict[int, socket.socket]) -> None:
    """Tells of the children that have ended."""
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with running.pop(child) as connection, contextlib.suppress(OSError):  # who asked may have given up
            _send_number(connection, os.waitstatus_to_exitcode(status))


def _become(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    from kbetl.__main__ import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for name in SETTINGS:
        importlib.reload(sys.modules[name])
    sys.path[0] = folder
    sys.argv = ["kbetl", *arguments]
    try:
        main()
    except SystemExit as leaving:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
        # the interpreter's own end would clear away, for 0.15 s, what was preloaded
        os._exit(int(leaving.code or 0))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as served:
        _serve(served)
